"""A Pinghub in a process of its own, for tests that need real sockets."""

from __future__ import annotations

import re
import select
import signal
import subprocess
import sys
import time
from types import TracebackType

LISTENING = re.compile(r"Listening on (.*?);")
START_SECONDS = 20.0


class Server:
    """``python -m pinghub`` on a free port of loopback, as a context manager.

    Args:
        options: command line options added to ``-addr=127.0.0.1:0``; an ``-addr`` among
            them takes its place.
        command: what to run instead of ``python -m pinghub``.
        addr: whether to ask for a free port of 127.0.0.1.
        environment: the environment of the process; inherited when absent.

    Attributes:
        process: the running process.
        output: the lines it logged until it listened.
        addresses: what it said that it listens on.
        port: the port of the first of them, 0 for a unix socket.
    """

    def __init__(
        self,
        *options: str,
        command: list[str] | None = None,
        addr: bool = True,
        environment: dict[str, str] | None = None,
        cwd: str | None = None,
    ) -> None:
        base = command or [sys.executable, "-m", "pinghub"]
        own = ["--addr=127.0.0.1:0"] if addr else []
        self.arguments = [*base, *own, *options]
        self.environment = environment
        self.cwd = cwd
        self.output: list[str] = []
        self.addresses: list[str] = []
        self.port = 0
        self.pass_fds: tuple[int, ...] = ()

    def __enter__(self) -> Server:
        self.process = subprocess.Popen(
            self.arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            cwd=self.cwd,
            pass_fds=self.pass_fds,
        )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.kill()
            raise
        return self

    def _wait_until_it_listens(self) -> None:
        assert self.process.stdout is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self.process.stdout], [], [], 0.2)
            if not ready:
                continue
            line = self.process.stdout.readline().decode()
            if not line:
                break
            self.output.append(line)
            found = LISTENING.search(line)
            if found:
                self.addresses = found[1].split(", ")
                port = re.search(r":(\d+)$", self.addresses[0])
                self.port = int(port[1]) if port else 0
                return
        raise AssertionError("the server did not start: " + "".join(self.output))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def http(self, path: str = "/") -> str:
        """The http URL of a channel."""
        return f"http://127.0.0.1:{self.port}{path}"

    def ws(self, path: str = "/") -> str:
        """The websocket URL of a channel."""
        return f"ws://127.0.0.1:{self.port}{path}"

    def stop(self, number: int = signal.SIGTERM, seconds: float = 10.0) -> int:
        """Send a signal, wait for the end, and return the exit status."""
        if self.process.returncode is not None:
            return self.process.returncode
        self.process.send_signal(number)
        return self.wait(seconds)

    def wait(self, seconds: float = 10.0) -> int:
        """Collect the output until the end of the process; return its exit status."""
        try:
            rest, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        if rest:
            self.output.extend(rest.decode(errors="replace").splitlines(keepends=True))
        return self.process.returncode

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.communicate()
