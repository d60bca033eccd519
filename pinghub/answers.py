"""Answers of one connection that take some time, sent in the order of their requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred


class Answers:
    """What a pipelining client is owed (RFC 9112 section 9.3.2).

    Bounded by whoever adds: ``size`` says how much there is.

    Args:
        write: sends bytes.
        changed: told when some were sent.

    Attributes:
        size: what all that is still to be sent was said to take, in bytes.
    """

    def __init__(self, write: Callable[[bytes], None], changed: Callable[[], None]) -> None:
        self._write = write
        self._changed = changed
        # For each its size, and the answer as soon as there is one.
        self._owed: deque[tuple[int, list[bytes]]] = deque()
        self._open = True
        self.size = 0

    def add(self, answer: bytes | Deferred[bytes], size: int) -> None:
        """Send an answer behind all others, when it is there.

        Args:
            answer: the answer; a Deferred must not fail.
            size: above 0; how much this takes until then, in bytes.
        """
        place: list[bytes] = []
        self._owed.append((size, place))
        self.size += size
        if isinstance(answer, bytes):
            self._came(answer, place)
        else:
            answer.addCallback(self._came, place)

    def close(self) -> None:
        """Send nothing more: the connection is gone."""
        self._open = False
        self._owed.clear()
        self.size = 0

    def _came(self, answer: bytes, place: list[bytes]) -> None:
        place.append(answer)
        if not self._open:
            return
        ready = []
        while self._owed and self._owed[0][1]:
            size, place = self._owed.popleft()
            self.size -= size
            ready += place
        if ready:
            self._write(b"".join(ready))
            self._changed()
