"""Proxies and servers that are gone when a test is over, and clients of a proxy."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import write_certificate
from tests.faults.harness import PATIENCE, Peer, eventually
from tests.running import Server

WHO_IS_THERE = "who is there?"
"""What is posted to find the owner of a channel."""

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
_numbers = itertools.count(secrets.randbelow(1000))


def directives(path: str) -> list[str]:
    """What a configuration of nginx says, without its comments and without the servers."""
    said = (line.strip() for line in (DEPLOY / path).read_text().splitlines())
    left_out = ("#", "server 127.0.0.1:", "server 10.0.0.", "server unix:")
    return [line for line in said if line and not line.startswith(left_out)]


def free_port() -> int:
    """A port of loopback on which nobody listens now, and that nobody else is given.

    The kernel gives out ports from 32768 on; until ours is listened on, it could give that to any
    connection. Below, each of the tests' processes has a thousand of its own.
    """
    first = 10_000 + os.getpid() % 20 * 1000
    for _ in range(1000):
        port = first + next(_numbers) % 1000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


class Proxy:
    """A proxy with a configuration from ``deploy``, as a process of its own.

    Args:
        source: the configuration file.
        changes: the ports and paths that are replaced in it; each has to be there.
        command: how to start it; ``{}`` stands for the file.
        certificate: what clients trust.
        port: where it listens.
    """

    def __init__(
        self,
        source: Path,
        changes: Mapping[str, str],
        command: list[str],
        certificate: Path,
        port: int,
    ) -> None:
        self._source = source
        self._changes = dict(changes)
        self._command = command
        self.directory = certificate.parent
        self.port = port
        self.context = ssl.create_default_context(cafile=str(certificate))

    def configure(self, changes: Mapping[str, str] | None = None) -> str:
        """Write the configuration, with further replacements; the file's path."""
        self._changes.update(changes or {})
        text = self._source.read_text()
        for old, new in self._changes.items():
            assert old in text, f"{self._source.name} has no {old}"
            text = text.replace(old, new)
        path = self.directory / self._source.name
        path.write_text(text)
        return str(path)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        path = self.configure()
        self.log = self.directory / "proxy.log"
        output = self.log.open("wb")
        self.process = subprocess.Popen(
            [each.replace("{}", path) for each in self._command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        output.close()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), PATIENCE).close()
                return
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(self.log.read_text()) from None
                time.sleep(0.02)

    def stop(self) -> None:
        """End it, with everything that it has open."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)

    def connect(self, source: str = "127.0.0.1", receive_buffer: int | None = None) -> Peer:
        """A connection to it, with TLS.

        Args:
            source: from which address of loopback.
            receive_buffer: how much the client's kernel takes (SO_RCVBUF).
        """
        plain = socket.socket()
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(PATIENCE)
        plain.bind((source, 0))
        plain.connect(("127.0.0.1", self.port))
        return Peer(self.context.wrap_socket(plain, server_hostname="localhost"))


class ProxyTests(SynchronousTestCase):
    """Three servers, and a proxy in front of them; what the proxy is, its subclasses say."""

    SERVERS = 3
    SOURCE: str  # the configuration, below ``deploy``
    COMMAND: tuple[str, ...]

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.directory.chmod(0o755)
        self.certificate = self.directory / "pem"
        write_certificate(self.certificate)
        self.admin_ports: dict[Server, int] = {}
        self.servers = [self.server() for _ in range(self.SERVERS)]
        self.port = free_port()
        command = [each.replace("{directory}", str(self.directory)) for each in self.COMMAND]
        source = DEPLOY / self.SOURCE
        self.proxy = Proxy(source, self.changes(), command, self.certificate, self.port)
        self.proxy.start()
        self.addCleanup(self.proxy.stop)

    def options(self) -> list[str]:
        """Further options of the servers."""
        return []

    def changes(self) -> dict[str, str]:
        """The ports and paths that are replaced in the configuration."""
        return {}

    def server(self, port: int = 0, admin_port: int = 0) -> Server:
        """A running server, on ports of its own unless they are given."""
        admin_port = admin_port or free_port()
        addresses = (f"--addr=127.0.0.1:{port}", f"--admin=127.0.0.1:{admin_port}")
        server = Server(*addresses, *self.options(), addr=False)
        server.__enter__()
        self.addCleanup(server.kill)
        self.admin_ports[server] = admin_port
        return server

    def server_lines(self, servers: Sequence[Server]) -> dict[str, str]:
        """The replacements that put servers into the configuration."""
        return {}

    def reload(self) -> None:
        """Let the proxy read its configuration again, and wait until it has."""

    def use(self, servers: Sequence[Server]) -> None:
        """Change the set of servers."""
        self.proxy.configure(self.server_lines(servers))
        self.reload()

    def connect(self, source: str = "127.0.0.1", receive_buffer: int | None = None) -> Peer:
        """A connection to the proxy."""
        peer = self.proxy.connect(source, receive_buffer)
        self.addCleanup(peer.close)
        return peer

    def subscribe(self, path: str) -> Peer:
        """A subscriber, through the proxy."""
        peer = self.connect()
        peer.upgrade(path)
        return peer

    def read_to_the_end(self, peer: Peer) -> None:
        """Read until a connection is closed, whether the proxy does that with an end or a reset."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            peer.rest()

    def owners(self, path: str) -> list[Server]:
        """The servers on which a channel has subscribers."""
        found = []
        for server in self.servers:
            if server.process.returncode is None:
                peer = Peer(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
                _, count = peer.post(path, WHO_IS_THERE.encode())
                peer.close()
                found += [server] * bool(count)
        return found


class NginxTests(ProxyTests):
    """With nginx in front."""

    SOURCE = "nginx/nginx.conf"
    COMMAND = ("nginx", "-p", "{directory}", "-c", "{}", "-g", "daemon off;")

    def reload(self) -> None:
        # Until no old worker accepts any more.
        pid = self.proxy.process.pid
        old = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.assertTrue(old)
        self.proxy.process.send_signal(signal.SIGHUP)
        eventually(lambda: not any(map(accepts, old)), PATIENCE, "the old workers shut down")

    def changes(self) -> dict[str, str]:
        directory, port = self.directory, self.port
        changes = {
            "/run/nginx.pid": f"{directory}/nginx.pid",
            "/var/log/nginx": str(directory),
            "/etc/ssl/certs/ws.example.com.pem": str(self.certificate),
            "/etc/ssl/private/ws.example.com.key": str(self.certificate),
            "listen 443": f"listen 127.0.0.1:{port}",
            "listen [::]:443": f"listen [::1]:{port}",
        }
        return changes | self.server_lines(self.servers)

    def server_lines(self, servers: Sequence[Server]) -> dict[str, str]:
        old = [f"        server 127.0.0.1:{number} max_fails=0;\n" for number in (8081, 8082, 8083)]
        new = [f"        server 127.0.0.1:{each.port} max_fails=0;\n" for each in servers]
        return {"".join(old): "".join(new)}


def accepts(worker: str) -> bool:
    """Whether a worker of nginx accepts connections; its title says when it does not."""
    try:
        return b"shutting down" not in Path(f"/proc/{worker}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


class HAProxyTests(ProxyTests):
    """With HAProxy in front."""

    SOURCE = "haproxy/haproxy.cfg"
    # -W: with a master, which can be told to read the configuration again.
    COMMAND = ("haproxy", "-W", "-f", "{}")

    def reload(self) -> None:
        done = b"Loading success."
        before = self.proxy.log.read_bytes().count(done)
        self.proxy.process.send_signal(signal.SIGUSR2)
        eventually(lambda: self.proxy.log.read_bytes().count(done) > before, PATIENCE, "the reload")

    def changes(self) -> dict[str, str]:
        changes = {
            "bind :443": f"bind 127.0.0.1:{self.port}",
            "/etc/haproxy/ws.example.com.pem": str(self.certificate),
        }
        if os.geteuid():  # Nobody else can give up being root; nginx says so, and goes on.
            changes |= {"user haproxy": "", "group haproxy": "", "chroot /var/lib/haproxy": ""}
        return changes | self.server_lines(self.servers)

    def server_lines(self, servers: Sequence[Server]) -> dict[str, str]:
        names = ("one  ", "two  ", "three")
        old = [
            f"    server {name} 127.0.0.1:808{number} id {number} port 908{number}\n"
            for number, name in enumerate(names, 1)
        ]
        new = []
        for server in servers:
            number = self.servers.index(server) + 1
            address = f"127.0.0.1:{server.port} id {number} port {self.admin_ports[server]}"
            new.append(f"    server s{number} {address}\n")
        return {"".join(old): "".join(new)}
