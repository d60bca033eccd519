"""The access log, a line for each request in the combined format that web servers have.

A websocket has its line when it opens, with status 101. What a peer sent is escaped as nginx does
it, and cut.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from twisted.web.http import datetimeToLogString

from pinghub.arrivals import host_of
from pinghub.logwriter import LogWriter
from pinghub.proxies import TrustedProxies
from pinghub.sweep import Clock

FIELD = 1000
"""How many characters of a request line or header field are written; one escape takes four."""

MOST = 200
"""How many lines wait at most."""

DELAY = 0.1
"""How long they wait at most, in seconds."""

_HARMFUL = re.compile(rb"[^ !#-\[\]-~]")
_FIELDS = re.compile(rb"(?i)\r\n(referer|user-agent|x-forwarded-for):[\t ]*([^\r]*)")


class AccessLog:
    """Writes the lines, some at a time: to wake the writer for each would cost more than the line.

    Bounded: at most ``MOST`` lines wait, for ``DELAY`` seconds. What the writer cannot take it
    leaves out.

    Args:
        writer: where to.
        proxies: whose word about a client's address is taken.
        clock: the reactor, or a clock that a test advances.
    """

    def __init__(self, writer: LogWriter, proxies: TrustedProxies, clock: Clock) -> None:
        self._writer = writer
        self._proxies = proxies
        self._clock = clock
        self._lines: list[str] = []
        self._call: Any = None

    def flush(self) -> None:
        """Hand all lines to the writer."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
        if self._lines:
            self._writer.write("".join(self._lines))
            self._lines.clear()

    def finish(self) -> None:
        """Hand all lines to the writer, and wait a moment until they are written."""
        self.flush()
        self._writer.finish()

    def reopen(self) -> None:
        """Open the file anew, for the lines to come."""
        self.flush()
        self._writer.reopen()

    def request(self, request: Any, status: int | None = None) -> None:
        """Write a line for a request of twisted.web.

        Args:
            request: the request, which has been answered.
            status: the status, if the request does not know it.
        """
        headers = request.requestHeaders

        def value(name: bytes) -> bytes:
            found: list[bytes] = headers.getRawHeaders(name, [])
            return found[0] if found else b""

        self._write(
            request.transport,
            headers.getRawHeaders(b"x-forwarded-for", []),
            b" ".join((request.method, request.uri, request.clientproto)),
            f"{status or request.code} {request.sentLength}",
            _tail(value(b"referer"), value(b"user-agent")),
        )

    def plain(self, transport: Any, line: bytes, head: bytes, answer: bytes) -> None:
        """Write a line for a request that no request object was made for.

        Args:
            transport: where it came from.
            line: its first line.
            head: the rest of its head.
            answer: the answer; if it is empty, it was 101.
        """
        status, size = b"101", 0
        if answer:
            status, size = answer[9:12], len(answer) - answer.index(b"\r\n\r\n") - 4
        forwarded, tail = _fields(head)
        self._write(transport, forwarded, line, f"{status.decode()} {size}", tail)

    def refused(self, transport: Any, status: int, size: int) -> None:
        """Write a line for what never became a request."""
        self._write(transport, (), b"-", f"{status} {size}", _tail(b"", b""))

    def _write(
        self, transport: Any, forwarded: Sequence[bytes], line: bytes, result: str, tail: str
    ) -> None:
        client = self._proxies.client(host_of(transport), forwarded)
        now = _date(int(time.time()))
        self._lines.append(f'{client or "-"} - - {now} "{_escaped(line)}" {result} {tail}\n')
        if len(self._lines) >= MOST:
            self.flush()
        elif self._call is None:
            self._call = self._clock.callLater(DELAY, self.flush)


# A publisher sends the same header fields again and again. At most 256 times ``head_line`` is
# kept: 2 MiB.
@lru_cache(maxsize=256)
def _fields(head: bytes) -> tuple[list[bytes], str]:
    """What is needed of a head: X-Forwarded-For, and the end of the line."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in _FIELDS.findall(head):
        found.setdefault(name.lower(), []).append(value.rstrip(b"\t "))
    referer, agent = (found.get(name, [b""])[0] for name in (b"referer", b"user-agent"))
    return found.get(b"x-forwarded-for", []), _tail(referer, agent)


def _tail(referer: bytes, agent: bytes) -> str:
    return f'"{_escaped(referer or b"-")}" "{_escaped(agent or b"-")}"'


def _escaped(data: bytes) -> str:
    """Bytes of a peer as harmless text: whatever is not plain ASCII, quotes and backslashes."""
    text = _HARMFUL.sub(lambda found: b"\\x%02X" % ord(found[0]), data[:FIELD])
    return text[:FIELD].decode("ascii")


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    date: str = datetimeToLogString(second)
    return date
