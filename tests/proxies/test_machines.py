"""The case of two machines, as docs/deployment.md sets it up, in two network namespaces."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import write_certificate
from tests.faults.harness import PATIENCE, Peer, eventually
from tests.faults.networks import inside, ip, plain_network
from tests.proxies.harness import DEPLOY, directives
from tests.running import Server

UNITS = DEPLOY / "systemd"
ADDRESSES = ("10.0.0.1", "10.0.0.2")
PROCESSES = (1, 2)
CLONE_NEWNET = 0x40000000

T = TypeVar("T")


def within(namespace: str, make: Callable[[], T]) -> T:
    """Call a function in a network namespace: sockets that it makes stay in there."""

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/run/netns", namespace).open() as file:
            if libc.setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    # In a thread that ends with it: the others stay where they are.
    with ThreadPoolExecutor(1, initializer=enter) as threads:
        return threads.submit(make).result()


def setting(name: str, key: str) -> str:
    """The last value of a key in a unit, or part of one."""
    values = re.findall(rf"^{key}=(.*)$", (UNITS / name).read_text(), re.MULTILINE)
    return str(values[-1])


# What systemd does for a process: its socket as descriptor 3, and what tells that it is there.
ACTIVATE = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); "
    "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='pinghub', LISTEN_PID=str(os.getpid())); "
    "os.execv(sys.executable, [sys.executable, '-m', 'pinghub', *sys.argv[2:]])"
)


class TwoMachineTests(SynchronousTestCase):
    """Two processes on each of two machines, and nginx on both, with the same configuration."""

    def setUp(self) -> None:
        network = plain_network()
        self.addCleanup(network.close)
        self.machines = dict(zip(ADDRESSES, (network.server, network.client), strict=True))
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.directory.chmod(0o755)
        self.certificate = self.directory / "pem"
        write_certificate(self.certificate)
        self.servers = {}
        for address, namespace in self.machines.items():
            ip("-n", namespace, "address", "add", f"{address}/24", "dev", network.link)
            for number in PROCESSES:
                self.servers[address, number] = self.start_server(address, number)
        for address in ADDRESSES:
            self.start_nginx(address)

    def start_server(self, address: str, number: int) -> Server:
        """A process as the units start it, with a socket as systemd would hold it."""
        where = setting("private-socket.conf", "ListenStream").replace(ADDRESSES[0], address)
        host, _, port = where.replace("%i", str(number)).partition(":")
        namespace = self.machines[address]
        listener = within(namespace, lambda: socket.create_server((host, int(port))))
        command = setting("private-service.conf", "ExecStart").replace("%i", str(number))
        command = command.replace(ADDRESSES[0], address)
        name, _, value = setting("private-service.conf", "Environment").partition("=")
        with listener:
            server = Server(
                *shlex.split(command)[1:],
                addr=False,
                command=[
                    *inside(namespace),
                    sys.executable,
                    "-c",
                    ACTIVATE,
                    str(listener.fileno()),
                ],
                environment={**os.environ, name: value},
            )
            server.pass_fds = (listener.fileno(),)
            server.__enter__()
        self.addCleanup(server.kill)
        return server

    def start_nginx(self, address: str) -> None:
        """The proxy of a machine, with the servers that the page lists."""
        directory = self.directory / address
        directory.mkdir()
        text = (DEPLOY / "nginx" / "machines.conf").read_text()
        for old, new in {
            "/run/nginx.pid": f"{directory}/nginx.pid",
            "/var/log/nginx": str(directory),
            "/etc/ssl/certs/ws.example.com.pem": str(self.certificate),
            "/etc/ssl/private/ws.example.com.key": str(self.certificate),
        }.items():
            self.assertIn(old, text)
            text = text.replace(old, new)
        path = directory / "nginx.conf"
        path.write_text(text)
        command = ["nginx", "-p", str(directory), "-c", str(path), "-g", "daemon off;"]
        process = subprocess.Popen([*inside(self.machines[address]), *command])
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.terminate)
        eventually(lambda: self.accepts(address), PATIENCE, "nginx")

    def accepts(self, address: str) -> bool:
        """Whether the proxy of a machine takes connections."""
        with contextlib.suppress(ConnectionRefusedError):
            self.connect(address).close()
            return True
        return False

    def connect(self, address: str) -> Peer:
        """A connection to the proxy of a machine, from the other one."""
        (source,) = set(ADDRESSES) - {address}
        plain = within(
            self.machines[source], lambda: socket.create_connection((address, 443), PATIENCE)
        )
        context = ssl.create_default_context(cafile=str(self.certificate))
        peer = Peer(context.wrap_socket(plain, server_hostname="localhost"))
        self.addCleanup(peer.close)
        return peer

    def test_one_bus(self) -> None:
        """It does not matter which machine a client or a publisher comes to."""
        channels = [f"/channel/{number}" for number in range(40)]
        peers = {(path, where): self.connect(where) for path in channels for where in ADDRESSES}
        for (path, _), peer in peers.items():
            peer.upgrade(path)
        for where in ADDRESSES:
            publisher = self.connect(where)
            for path in channels:
                body = f"{path} by {where}".encode()
                self.assertEqual(publisher.post(path, body), (200, 2))
                for client in ADDRESSES:
                    self.assertEqual(peers[path, client].message(), body)

    def test_a_dead_machine(self) -> None:
        """The channels of a dead process are refused loudly; all others go on."""
        channels = [f"/channel/{number}" for number in range(40)]
        for path in channels:
            self.connect(ADDRESSES[0]).upgrade(path)
        for number in PROCESSES:
            self.servers[ADDRESSES[1], number].kill()
        publisher = self.connect(ADDRESSES[0])
        answers = Counter(publisher.post(path, b"x") for path in channels)
        self.assertEqual(set(answers), {(200, 1), (502, -1)})
        self.assertGreater(min(answers.values()), 8)

    def test_the_rest(self) -> None:
        """All but the servers is as in ``nginx.conf``, tested elsewhere."""
        self.assertEqual(directives("nginx/machines.conf"), directives("nginx/nginx.conf"))
