"""The POST that everyone sends, recognised by its bytes (RFC 9112), as a pure function.

It is read here in one go, which takes a fraction of the time that a general parser needs. The
grammar is far stricter than the RFC: whatever is unusual about a request is the parser's.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pinghub.limits import Limits

_BLANK = b"\r\n\r\n"

# Nothing in it backtracks: a name ends at its colon, a value at its line.
_REQUEST_LINE = re.compile(rb"POST (/[!-~]*+) HTTP/1\.1")
_FIELDS = re.compile(rb"(?:\r\n[A-Za-z0-9!#$%&'*+.^_`|~-]++:[\t -~]*+)++")
# The header fields that decide what is to be done with a request, and what is its body.
_DECIDING = re.compile(
    rb"\r\n(connection|content-length|expect|host|origin|transfer-encoding|upgrade)"
    rb":[\t ]*+([^\r]*)"
)
# More digits are more than is read at once.
_LENGTH = re.compile(rb"[0-9]{1,6}[\t ]*")


def plain_post(data: bytes, start: int, limits: Limits) -> tuple[bytes, bytes, int] | None:
    """Read the POST at some place of what a client sent, if it is a plain one.

    Plain is a POST in HTTP/1.1 for a path in ASCII, with one Host and one Content-Length, whose
    head and body have arrived and are within the limits; whose header fields are printable
    ASCII, each in one line; which has no Origin, Expect, Upgrade or Transfer-Encoding, and
    no other Connection than ``keep-alive``.

    Args:
        data: what was received.
        start: where in it the request begins.
        limits: the bounds on heads and bodies. A head has to fit into ``head_line``.

    Returns:
        The request target (a path that begins with a slash, and the query), the body, and
        where the next request begins; None if it is not plain, which is no judgement of it.
    """
    line = _REQUEST_LINE.match(data, start)
    if line is None:
        return None
    blank = data.find(_BLANK, line.end(), start + min(limits.head_line, limits.head_size))
    if blank < 0:
        return None
    length = _body_length(data[line.end() : blank], limits.head_fields)
    body = blank + len(_BLANK)
    end = body + length
    if length < 0 or length > limits.max_message or end > len(data):
        return None
    return line[1], data[body:end], end


# A publisher sends the same header fields again and again. At most 256 times ``head_line`` is
# kept: 2 MiB.
@lru_cache(maxsize=256)
def _body_length(head: bytes, most: int) -> int:
    """The length of the body that some header fields announce; negative if not plain."""
    if head.count(b"\r\n") > most or not _FIELDS.fullmatch(head):
        return -1
    fields = _DECIDING.findall(head.lower())
    values = dict(fields)
    if len(values) < len(fields):  # One of them is there twice.
        return -1
    length = values.pop(b"content-length", b"")
    connection = values.pop(b"connection", b"keep-alive").rstrip(b"\t ")
    if values.keys() != {b"host"} or connection != b"keep-alive" or not _LENGTH.fullmatch(length):
        return -1
    return int(length)
