"""Answers without a request object; those that take some time in the order of their requests."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString

from pinghub.errors import InternalError


def plain_answer(status: HTTPStatus, field: bytes, line: str) -> bytes:
    """An answer without a request object; the date and a ``Vary`` are to be filled in.

    It has its header fields in the order in which twisted.web writes those of ``text_answer``.
    """
    body = line.encode() + b"\n"
    return b"".join(
        (
            b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()),
            b"Server: pinghub\r\nDate: %b\r\n%b",
            field,
            b"Content-Type: text/plain; charset=utf-8\r\n",
            b"Content-Length: %d\r\n\r\n" % len(body),
            body,
        )
    )


PLAIN_FAULT = plain_answer(InternalError.status, b"", InternalError().text)


@lru_cache(maxsize=1)
def http_date(second: int) -> bytes:
    """The date for an answer, which most others of that second have as well."""
    date: bytes = datetimeToString(second)
    return date


class Answers:
    """What a pipelining client is owed (RFC 9112 section 9.3.2).

    Bounded by whoever adds: ``size`` says how much there is.

    Args:
        write: sends bytes.
        changed: told when some were sent.

    Attributes:
        size: what all that is still to be sent was said to take, in bytes.
    """

    _log = Logger()

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
            answer: the answer; a Deferred that fails is answered 500, and logged.
            size: above 0; how much this takes until then, in bytes.
        """
        place: list[bytes] = []
        self._owed.append((size, place))
        self.size += size
        if isinstance(answer, bytes):
            self._came(answer, place)
        else:
            arguments = (place,)
            answer.addCallbacks(self._came, self._failed, arguments, {}, arguments)

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

    def _failed(self, failure: Failure, place: list[bytes]) -> None:
        # Without any answer, all that come behind it would wait for ever.
        self._log.failure("An answer could not be made", failure)
        self._came(PLAIN_FAULT % (http_date(int(time.time())), b""), place)
