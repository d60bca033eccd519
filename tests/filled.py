"""A port where nobody accepts, and no more can wait: attempts to connect get no answer."""

from __future__ import annotations

import contextlib
import socket


class FilledListener:
    """A listening socket with a full backlog.

    Attributes:
        port: its port, on loopback.
    """

    def __init__(self) -> None:
        self._sockets = [socket.socket()]
        self._sockets[0].bind(("127.0.0.1", 0))
        self._sockets[0].listen(0)
        self.port: int = self._sockets[0].getsockname()[1]
        for _ in range(3):
            waiting = socket.socket()
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(("127.0.0.1", self.port))
            self._sockets.append(waiting)

    def close(self) -> None:
        """Let it go."""
        for each in self._sockets:
            each.close()
