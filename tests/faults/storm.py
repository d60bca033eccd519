"""Many websockets that are opened as fast as one process can, in a process of its own."""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pinghub.connections import raise_descriptor_limit
from pinghub.testing import upgrade_request
from tests.faults.harness import PATIENCE
from tests.faults.places import ROOT

ANSWERED = b"\r\n\r\n"


@dataclass
class Outcome:
    """What came of a storm.

    Attributes:
        opened: connections that got a 101.
        begun: seconds in which all of them were begun.
        seconds: seconds until the last of them was open.
    """

    opened: int
    begun: float
    seconds: float


@contextmanager
def storm(port: int, count: int) -> Iterator[Outcome]:
    """Open so many websockets from another process; they are closed when the block is left.

    The connections are begun one behind the other, and none waits for one before it.
    """
    command = [sys.executable, "-m", "tests.faults.storm", str(port), str(count)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        opened, begun, seconds = process.stdout.readline().split()
        yield Outcome(int(opened), float(begun), float(seconds))


class Storm:
    """The connections.

    Args:
        address: host and port of the server.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._selector = selectors.DefaultSelector()
        self._request = upgrade_request("/storm")
        self._answers: dict[socket.socket, bytes] = {}
        self.opened = 0

    def begin(self) -> None:
        """Begin to connect; what has become of the others is looked at now and then."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(self._address)
        self._answers[connection] = b""
        self._selector.register(connection, selectors.EVENT_WRITE)
        if len(self._answers) % 100 == 0:
            self.look(0)

    def look(self, seconds: float) -> None:
        """Send and receive what can be."""
        for key, mask in self._selector.select(seconds):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            if mask & selectors.EVENT_WRITE:
                connection.sendall(self._request)
                self._selector.modify(connection, selectors.EVENT_READ)
            else:
                self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        data = connection.recv(4096)
        answer = self._answers[connection] = self._answers[connection] + data
        assert data and b"HTTP/1.1 101 ".startswith(answer[:13]), answer
        if answer.endswith(ANSWERED):
            self._selector.unregister(connection)
            self.opened += 1


def main() -> None:
    """Open them, print what came of it, and close them when nobody wants them any more."""
    port, count = map(int, sys.argv[1:])
    raise_descriptor_limit()
    all_of_them = Storm(("127.0.0.1", port))
    start = time.monotonic()
    for _ in range(count):
        all_of_them.begin()
    begun = time.monotonic() - start
    while all_of_them.opened < count and time.monotonic() < start + 2 * PATIENCE:
        all_of_them.look(1.0)
    print(all_of_them.opened, begun, time.monotonic() - start, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
