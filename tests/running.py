"""A Pinghub in a process of its own, for tests that need real sockets."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
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
        output: the lines it has logged.
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
        self._news = threading.Condition()
        self._silent = False
        self._collector = threading.Thread(target=self._collect, daemon=True)

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
        self._collector.start()
        try:
            self.addresses = self.wait_for(LISTENING)[1].split(", ")
        except BaseException:
            self.kill()
            raise
        port = re.search(r":(\d+)$", self.addresses[0])
        self.port = int(port[1]) if port else 0
        return self

    def _collect(self) -> None:
        # A pipe that nobody reads would block the server once it is full.
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.output.append(line.decode(errors="replace"))
                self._news.notify_all()
        with self._news:
            self._silent = True
            self._news.notify_all()

    def wait_for(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Wait until a line of the log matches; raise if the server ends before it does."""
        seen = 0
        deadline = time.monotonic() + START_SECONDS
        with self._news:
            while True:
                for line in self.output[seen:]:
                    if match := pattern.search(line):
                        return match
                seen = len(self.output)
                left = deadline - time.monotonic()
                if self._silent or left < 0:
                    raise AssertionError(f"no {pattern.pattern!r}: " + "".join(self.output))
                self._news.wait(left)

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
        """Wait for the end of the process; return its exit status."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._finish()
        return self.process.returncode

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.wait()
        self._finish()

    def _finish(self) -> None:
        self._collector.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
