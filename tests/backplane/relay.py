"""A network between servers and their broker that can be slow, silent, or cut."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress

PIECE = 1 << 16


class Relay:
    """Passes bytes on, in both directions, in a thread of its own.

    Args:
        port: where to.

    Attributes:
        port: where it listens.
        delay: how long everything is kept, in seconds.
        silent: whether nothing is passed on, and nothing closed: as a network that is gone.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self.delay = 0.0
        self.silent = False
        self._ends: dict[socket.socket, socket.socket] = {}
        self._kept: deque[tuple[float, socket.socket, bytes]] = deque()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and close everything."""
        self._stopped.set()
        self._thread.join()
        self.cut()
        self._listener.close()

    def cut(self) -> None:
        """Close all connections."""
        for each in tuple(self._ends):
            self._close(each)

    def _run(self) -> None:
        while not self._stopped.is_set():
            for key, _ in self._selector.select(0.005):
                with suppress(OSError, KeyError):
                    if key.fileobj is self._listener:
                        self._accept()
                    else:
                        assert isinstance(key.fileobj, socket.socket)
                        self._read(key.fileobj)
            while self._kept and self._kept[0][0] <= time.monotonic():
                _, end, data = self._kept.popleft()
                with suppress(OSError):
                    end.sendall(data)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        if self.silent:  # Packets get lost: there is nobody at the other end.
            self._ends[near] = near
            return
        try:
            far = socket.create_connection(("127.0.0.1", self._target), 1)
        except OSError:
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            self._ends[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _read(self, end: socket.socket) -> None:
        data = end.recv(PIECE)
        other = self._ends[end]
        if self.silent:
            if not data:
                self._selector.unregister(end)
        elif data:
            self._kept.append((time.monotonic() + self.delay, other, data))
        else:
            self._close(end)

    def _close(self, end: socket.socket) -> None:
        other = self._ends.pop(end, None)
        for each in {end, other} - {None}:
            assert each is not None
            self._ends.pop(each, None)
            with suppress(KeyError, ValueError):
                self._selector.unregister(each)
            each.close()
