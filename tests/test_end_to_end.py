"""Pinghub in processes of its own, on real sockets."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pinghub.testing import (
    BINARY,
    CLOSE,
    TEXT,
    Frame,
    client_frame,
    http_request,
    parse_frame,
    upgrade_request,
)
from tests.certificates import write_certificate
from tests.running import Server

PATIENCE = 10.0


class Wire:
    """A client on a real socket, which reads what comes and notices how it ends."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self.socket = connection
        self._received = b""

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def until(self, end: bytes) -> bytes:
        """Read up to and including some bytes."""
        while end not in self._received:
            self._more()
        found, _, self._received = self._received.partition(end)
        return found + end

    def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        while len(self._received) < size:
            self._more()
        found, self._received = self._received[:size], self._received[size:]
        return found

    def rest(self) -> bytes:
        """Read to the end of the stream; a reset raises."""
        data = self._received
        while piece := self.socket.recv(65536):
            data += piece
        return data

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"the server ended the stream behind {self._received!r}")
        self._received += data

    def frame(self) -> Frame:
        """Read one frame."""
        while (parsed := parse_frame(self._received)) is None:
            self._more()
        frame, self._received = parsed
        return frame

    def upgrade(self, path: str, **headers: str) -> None:
        """Open a websocket."""
        self.send(upgrade_request(path, headers))
        head = self.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class EndToEndTests(SynchronousTestCase):
    """Servers and clients that are gone when a test is over."""

    def server(self, *options: str, **more: object) -> Server:
        """A running server."""
        server = Server(*options, **more)  # type: ignore[arg-type]
        server.__enter__()
        self.addCleanup(server.stop)
        return server

    def connect(self, server: Server) -> Wire:
        """A connection to it."""
        return self.wire(socket.create_connection(("127.0.0.1", server.port), PATIENCE))

    def wire(self, connection: socket.socket) -> Wire:
        """A client on a socket."""
        wire = Wire(connection)
        self.addCleanup(wire.close)
        return wire

    def subscriber(self, server: Server, path: str = "/a") -> Wire:
        """A subscriber."""
        wire = self.connect(server)
        wire.upgrade(path)
        return wire

    def post(self, server: Server, path: str, body: bytes) -> int:
        """POST; how many it was handed to."""
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request("POST", path, body)
        response = connection.getresponse()
        self.assertEqual((response.status, response.read()), (200, b"OK\n"))
        connection.close()
        return int(response.headers["Pinghub-Subscribers"])

    def directory(self) -> Path:
        """A directory with a short name, for unix sockets."""
        path = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, path)
        return Path(path)

    def refused(self, *command: str, **environment: str) -> str:
        """Run a command that must fail before it listens: its one line of complaint."""
        done = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            timeout=30,
            env={**os.environ, **environment},
            cwd=self.directory(),
        )
        output = (done.stdout + done.stderr).decode()
        self.assertNotEqual(done.returncode, 0, output)
        self.assertNotIn("Traceback", output)
        # twistd logs its own start before, and what is written to the standard error.
        complaints = [line for line in output.splitlines() if "twistd_unix" not in line]
        self.assertEqual(len(complaints), 1, output)
        return complaints[0].rpartition("[stderr#error] ")[2]


class ServingTests(EndToEndTests):
    """The main job."""

    def test_subscribe_and_publish(self) -> None:
        """Subscribers of a path get what is POSTed to it and what each of them sends."""
        server = self.server()
        first, second = self.subscriber(server), self.subscriber(server)
        self.assertEqual(self.post(server, "/a", b"posted"), 2)
        first.send(client_frame(TEXT, b"sent"))
        for wire in (first, second):
            self.assertEqual([wire.frame().payload, wire.frame().payload], [b"posted", b"sent"])

    def test_the_start_is_one_line(self) -> None:
        """One line at start says where it listens and under which origin rule; one at stop."""
        server = self.server("-origin=https://a.example", "-origin=https://*.b.example")
        self.assertEqual(server.stop(), 0)
        lines = [line.split("] ")[1].strip() for line in server.output]
        self.assertEqual(
            lines,
            [
                f"Listening on 127.0.0.1:{server.port}; "
                "allowed origins: https://a.example, https://*.b.example",
                "Received a signal: stopping",
                "Stopped",
            ],
        )

    def test_two_servers(self) -> None:
        """Two servers on one machine do not collide on anything."""
        directory = str(self.directory())
        first, second = self.server(cwd=directory), self.server(cwd=directory)
        self.assertNotEqual(first.port, second.port)
        one, two = self.subscriber(first), self.subscriber(second)
        self.assertEqual(self.post(first, "/a", b"one"), 1)
        self.assertEqual(self.post(second, "/a", b"two"), 1)
        self.assertEqual((one.frame().payload, two.frame().payload), (b"one", b"two"))
        self.assertEqual(os.listdir(directory), [])

    def test_everything_behind_the_head_arrives(self) -> None:
        """From one frame to a megabyte of them behind the handshake: delivered in order."""
        server = self.server("--max-backlog=8m")
        for count in (1, 1000, 20000):
            wire = self.connect(server)
            payloads = [b"%d" % number + b"x" * 50 for number in range(count)]
            wire.send(upgrade_request("/a"))
            wire.send(b"".join(client_frame(TEXT, each) for each in payloads))
            self.assertIn(b" 101 ", wire.until(b"\r\n\r\n"))
            self.assertEqual([wire.frame().payload for _ in payloads], payloads)

    def test_slow_readers_are_evicted_and_the_others_lose_nothing(self) -> None:
        """A reader that stalls is evicted; a healthy one receives every message."""
        server = self.server("--max-backlog=256k")
        healthy = self.subscriber(server)
        stalled = socket.socket()
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", server.port))
        self.wire(stalled).upgrade("/a")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        counts = []
        for number in range(120):
            connection.request("POST", "/a", b"%04d" % number + b"x" * 60_000)
            response = connection.getresponse()
            response.read()
            counts.append(response.headers["Pinghub-Subscribers"])
            self.assertEqual(healthy.frame().payload[:4], b"%04d" % number)
        connection.close()
        self.assertEqual((counts[0], counts[-1]), ("2", "1"))
        with self.assertRaises(ConnectionResetError):
            while stalled.recv(65536):
                pass


class EndTests(EndToEndTests):
    """The peer sees why: no bare reset."""

    def test_413_while_the_body_is_on_its_way(self) -> None:
        """A client that sends a large body all the same reads its 413."""
        server = self.server()
        wire = self.connect(server)
        wire.send(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n")
        wire.send(b"x" * 3_000_000)
        answer = wire.rest()
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer)

    def test_close_codes_while_the_peer_sends(self) -> None:
        """A client that goes on sending reads the close frame, then the end."""
        server = self.server()
        for data, code in (
            (client_frame(BINARY, b"x"), 1003),
            (client_frame(TEXT, b"\xff"), 1007),
            (client_frame(TEXT, b"x" * 65537)[:100], 1009),
            (b"\xff\xff", 1002),
        ):
            wire = self.subscriber(server)
            wire.send(data + b"x" * 500_000)
            frame = wire.frame()
            self.assertEqual((frame.opcode, frame.code), (CLOSE, code))
            self.assertEqual(wire.rest(), b"")

    def test_half_closed_post(self) -> None:
        """A client that closes its half behind the request gets its answer."""
        wire = self.connect(self.server())
        wire.send(http_request("POST", "/a", b"x"))
        wire.socket.shutdown(socket.SHUT_WR)
        self.assertTrue(wire.rest().startswith(b"HTTP/1.1 200 OK"))


class StoppingTests(EndToEndTests):
    """Signals."""

    def test_sigterm_and_sigint(self) -> None:
        """SIGTERM or SIGINT: pending messages, then close 1001 to everyone; exit 0."""
        for number in (signal.SIGTERM, signal.SIGINT):
            server = self.server()
            wires = [self.subscriber(server) for _ in range(5)]
            self.post(server, "/a", b"last words")
            server.process.send_signal(number)
            for wire in wires:
                self.assertEqual(wire.frame().payload, b"last words")
                close = wire.frame()
                self.assertEqual((close.opcode, close.code), (CLOSE, 1001))
                wire.send(client_frame(CLOSE, b"\x03\xe9"))
                self.assertEqual(wire.rest(), b"")
            self.assertEqual(server.wait(4), 0)

    def test_stop_listening_first(self) -> None:
        """While it drains nobody can connect, and open connections are answered 503."""
        server = self.server()
        publisher, subscriber = self.connect(server), self.subscriber(server)
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(subscriber.frame().code, 1001)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        publisher.send(http_request("POST", "/a", b"x"))
        answer = publisher.rest()
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 "), answer)
        self.assertIn(b"\r\nRetry-After: ", answer)

    def test_who_does_not_answer_is_aborted(self) -> None:
        """Drain: whoever is left after ``--drain`` seconds is aborted; exit 0."""
        server = self.server("--drain=1s")
        self.subscriber(server)
        begun = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - begun, 2)

    def test_a_second_signal(self) -> None:
        """A second signal exits at once."""
        server = self.server("--drain=1h")
        self.subscriber(server)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(re.compile("Received a signal: stopping"))
        begun = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - begun, 1.5)
        self.assertIn("stopping at once", "".join(server.output))

    def test_sighup(self) -> None:
        """SIGHUP does not kill."""
        server = self.server()
        wire = self.subscriber(server)
        server.process.send_signal(signal.SIGHUP)
        self.assertEqual(self.post(server, "/a", b"still there"), 1)
        self.assertEqual(wire.frame().payload, b"still there")

    def test_start_again_after_a_kill(self) -> None:
        """Killed and started again it listens at once, on its port and its socket."""
        path = str(self.directory() / "p.sock")
        first = self.server(f"--addr={path}")
        self.subscriber(first)
        first.kill()
        second = self.server(f"--addr=127.0.0.1:{first.port}", f"--addr={path}", addr=False)
        self.assertEqual(second.addresses, [f"127.0.0.1:{first.port}", path])


class AddressTests(EndToEndTests):
    """Where it can listen."""

    def test_all_interfaces(self) -> None:
        """``:PORT``: all interfaces, IPv4 and IPv6."""
        server = self.server("-addr=:0", addr=False)
        for host in ("127.0.0.1", "127.1.2.3", "::1"):
            if ":" in host and not _has_ipv6():
                continue
            wire = self.wire(socket.create_connection((host, server.port), PATIENCE))
            wire.send(http_request("POST", "/a", b"x"))
            self.assertIn(b"200 OK", wire.until(b"OK\n"))

    def test_localhost(self) -> None:
        """A host name is resolved."""
        server = self.server("-addr=localhost:0", addr=False)
        self.assertEqual(server.addresses, [f"127.0.0.1:{server.port}"])

    def test_unix_socket(self) -> None:
        """An absolute path is a unix socket, and it is gone when the server stops."""
        path = self.directory() / "p.sock"
        for form in ("{}", "unix:{}:mode=600"):
            server = self.server("-addr", form.format(path), addr=False)
            for _ in range(2):
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(str(path))
                wire = self.wire(connection)
                wire.upgrade("/a")
                wire.send(client_frame(TEXT, b"x"))
                self.assertEqual(wire.frame().payload, b"x")
                wire.close()
            self.assertEqual(server.stop(), 0)
            self.assertFalse(path.exists())

    def test_several(self) -> None:
        """``--addr`` is repeatable; all share the channels."""
        path = self.directory() / "p.sock"
        server = self.server("-addr=127.0.0.1:0", f"-addr={path}")
        self.assertEqual(len(server.addresses), 3)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        wire = self.wire(connection)
        wire.upgrade("/a")
        self.assertEqual(self.post(server, "/a", b"x"), 1)
        self.assertEqual(wire.frame().payload, b"x")

    def test_systemd(self) -> None:
        """``systemd:domain=INET:index=0`` takes the socket that systemd hands over."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            code = (
                "import os, sys; os.dup2(int(sys.argv[1]), 3); "
                "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='pinghub.socket', "
                "LISTEN_PID=str(os.getpid())); "
                "os.execv(sys.executable, [sys.executable, '-m', 'pinghub', *sys.argv[2:]])"
            )
            fd = listener.fileno()
            server = Server(
                "-addr=systemd:domain=INET:index=0",
                command=[sys.executable, "-c", code, str(fd)],
                addr=False,
            )
            server.pass_fds = (fd,)
            server.__enter__()
            self.addCleanup(server.stop)
        self.assertEqual(server.port, port)
        wire = self.subscriber(server)
        self.post(server, "/a", b"x")
        self.assertEqual(wire.frame().payload, b"x")

    def test_proxy_protocol(self) -> None:
        """``haproxy:tcp:PORT`` reads the PROXY header and logs the client's address."""
        server = self.server(
            "-addr=haproxy:tcp:0:interface=127.0.0.1", "--log-level=debug", addr=False
        )
        wire = self.connect(server)
        wire.send(b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 80\r\n")
        wire.upgrade("/a")
        wire.send(client_frame(TEXT, b"x" * 60_000))
        self.assertEqual(wire.frame().payload, b"x" * 60_000)
        wire.send(client_frame(BINARY, b"x") + b"x" * 100_000)
        self.assertEqual(wire.frame().code, 1003)
        self.assertEqual(wire.rest(), b"")
        server.stop()
        self.assertIn("peer='192.0.2.7:4711'", "".join(server.output))


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class TLSTests(EndToEndTests):
    """TLS through ``ssl:``."""

    @contextmanager
    def tls_server(self) -> Iterator[tuple[Server, ssl.SSLContext]]:
        """A server with TLS, and a context that trusts it."""
        pem = self.directory() / "pem"
        write_certificate(pem)
        server = self.server(
            f"-addr=ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}", addr=False
        )
        yield server, ssl.create_default_context(cafile=str(pem))

    def secure(self, server: Server, context: ssl.SSLContext) -> Wire:
        """A TLS connection."""
        plain = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        return self.wire(context.wrap_socket(plain, server_hostname="localhost"))

    def test_everything_is_encrypted(self) -> None:
        """Websocket and POST work through TLS, large messages and close codes included."""
        with self.tls_server() as (server, context):
            subscriber, publisher = self.secure(server, context), self.secure(server, context)
            subscriber.upgrade("/a")
            for size in (1, 65_536):
                publisher.send(http_request("POST", "/a", b"x" * size))
                self.assertIn(b" 200 OK", publisher.until(b"OK\n"))
                self.assertEqual(subscriber.frame().payload, b"x" * size)
            for _ in range(200):
                subscriber.send(client_frame(TEXT, b"y" * 1000))
            for _ in range(200):
                self.assertEqual(subscriber.frame().payload, b"y" * 1000)
            subscriber.send(client_frame(BINARY, b"x"))
            self.assertEqual(subscriber.frame().code, 1003)
            self.assertEqual(subscriber.rest(), b"")

    def test_a_drain(self) -> None:
        """A drain closes TLS connections as it does others."""
        with self.tls_server() as (server, context):
            subscriber = self.secure(server, context)
            subscriber.upgrade("/a")
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(subscriber.frame().code, 1001)
            subscriber.send(client_frame(CLOSE, b"\x03\xe9"))
            self.assertEqual(subscriber.rest(), b"")
            self.assertEqual(server.wait(4), 0)


class BadInputTests(EndToEndTests):
    """What cannot work says so in one line, with a status that is not 0, and no traceback."""

    def test_options(self) -> None:
        """A wrong option: one line naming option, value and what is accepted."""
        for option, words in {
            "-frobnicate": ("frobnicate",),
            "-addr=nonsense": ("--addr=nonsense", "give"),
            "-addr=:99999": ("--addr=:99999", "65535"),
            "-addr=no.such.host.invalid:80": ("--addr=no.such.host.invalid:80",),
            "-addr=ssl:0:privateKey=/no/key:certKey=/no/key": ("--addr=ssl:", "/no/key"),
            "-addr=/no/such/directory/s": ("--addr=/no/such/directory/s", "no such file"),
            "-addr=192.0.2.77:0": ("--addr=192.0.2.77:0", "cannot"),
            "-addr=systemd:domain=INET:index=0": ("--addr=systemd:", "no such socket"),
            "-origin=ws.example.com": ("--origin=ws.example.com", "scheme://host"),
            "-max-message=-1": ("--max-message=-1", "bytes"),
            "-drain=soon": ("--drain=soon", "seconds"),
            "stray": ("stray",),
        }.items():
            line = self.refused("-m", "pinghub", option)
            self.assertTrue(line.startswith("pinghub: "), line)
            for word in words:
                self.assertIn(word, line)

    def test_environment(self) -> None:
        """Every option can come from the environment; a wrong one names the variable."""
        line = self.refused("-m", "pinghub", PINGHUB_MAX_MESSAGE="lots")
        self.assertIn("PINGHUB_MAX_MESSAGE=lots", line)

    def test_port_taken(self) -> None:
        """A port that is taken: one line, by whatever command."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            addr = f"--addr=127.0.0.1:{taken.getsockname()[1]}"
            for command in (
                ("-m", "pinghub"),
                ("-m", "twisted", "pinghub"),
                ("-c", "from twisted.scripts.twistd import run; run()", "-n", "pinghub"),
            ):
                line = self.refused(*command, addr)
                self.assertIn(f"{addr}: cannot listen: address already in use", line)

    def test_twistd(self) -> None:
        """A wrong option of the plugin is one line too."""
        for command in (
            ("-m", "twisted", "pinghub"),
            ("-c", "from twisted.scripts.twistd import run; run()", "-n", "pinghub"),
        ):
            for option in ("--origin=x", "--frobnicate", "--addr=nonsense"):
                self.assertTrue(self.refused(*command, option).startswith("pinghub: "))


class AdminTests(EndToEndTests):
    """The private endpoint, as a balancer sees it."""

    def test_ready_then_leaving(self) -> None:
        """It says 200, then 503 from the signal on, while the public address still serves."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        path = f"{directory}/admin"
        server = self.server(f"--admin={path}", "--stop-delay=2s")
        self.assertEqual([self.ask(path, "/healthz"), self.ask(path, "/readyz")], [200, 200])
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        while self.ask(path, "/readyz") == 200:
            self.assertLess(time.monotonic() - begun, PATIENCE)
        self.assertEqual(self.ask(path, "/healthz"), 200)
        subscriber = self.connect(server)
        subscriber.upgrade("/a")
        subscriber.send(client_frame(TEXT, b"x"))
        self.assertEqual(subscriber.frame().payload, b"x")
        self.assertEqual(subscriber.frame().code, 1001)
        self.assertGreater(time.monotonic() - begun, 2)
        subscriber.send(client_frame(CLOSE, b"\x03\xe9"))
        self.assertEqual(server.wait(PATIENCE), 0)

    def ask(self, path: str, target: str) -> int:
        """The status of an answer of the private endpoint."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(path)
            connection.sendall(http_request("GET", target))
            return int(connection.recv(4096).split()[1])


class BackplaneTests(EndToEndTests):
    """A broker that is not there."""

    def test_not_there(self) -> None:
        """The server listens and answers 503; with ``--backplane-wait`` it ends after that time."""
        url = "--backplane=unix:///nonexistent/redis.sock"
        server = self.server(url, "--backplane-wait=1s")
        publisher = self.connect(server)
        publisher.send(http_request("POST", "/a", b"x"))
        head = publisher.until(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 503 "), head)
        self.assertIn(b"\r\nRetry-After: 1\r\n", head)
        publisher.socket.close()
        self.assertEqual(server.wait(PATIENCE), 1)
        lines = [line.partition("] ")[2] for line in server.output]
        (first, last) = (line for line in lines if line.startswith("The backplane is not there"))
        self.assertIn("No such file or directory", first)
        self.assertTrue(last.startswith("The backplane is not there: see --backplane"), last)
        self.assertNotIn("Traceback", "".join(lines))
