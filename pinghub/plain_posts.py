"""The POST that everyone sends, recognised by its bytes (RFC 9112), as a pure function.

It is read here in one go, which takes a fraction of the time that a general parser needs. The
grammar is far stricter than the RFC: whatever is unusual about a request is the parser's.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pinghub.limits import Limits

_METHOD = b"POST "
_BLANK = b"\r\n\r\n"

# Nothing in it backtracks: a name ends at its colon, a value at its line.
_HEAD = re.compile(
    rb"POST (/[!-~]*+) HTTP/1\.1"
    rb"(?:\r\n[A-Za-z0-9!#$%&'*+.^_`|~-]++:[\t -~]*+)++"
    rb"\r\n\r\n"
)
# The header fields that decide what is to be done with a request, and what is its body.
_DECIDING = re.compile(
    rb"\r\n(connection|content-length|expect|host|origin|transfer-encoding|upgrade)"
    rb":[\t ]*+([^\r]*)"
)
# More digits are more than is read at once.
_LENGTH = re.compile(rb"[0-9]{1,6}[\t ]*")


class PlainPost(NamedTuple):
    """A complete POST.

    Attributes:
        target: the request target: a path that begins with a slash, and the query.
        body: the body.
        end: where the next request begins.
    """

    target: bytes
    body: bytes
    end: int


def plain_post(data: bytes, start: int, limits: Limits) -> PlainPost | None:
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
        The POST; None if it is not plain, which is no judgement of it.
    """
    if not data.startswith(_METHOD, start):
        return None
    blank = data.find(_BLANK, start, start + min(limits.head_line, limits.head_size))
    if blank < 0:
        return None
    head_end = blank + len(_BLANK)
    head = _HEAD.fullmatch(data, start, head_end)
    if head is None or data.count(b"\r\n", head.end(1), blank) > limits.head_fields:
        return None
    length = _body_length(_DECIDING.findall(data[head.end(1) : head_end].lower()))
    end = head_end + length
    if length < 0 or length > limits.max_message or end > len(data):
        return None
    return PlainPost(head[1], data[head_end:end], end)


def _body_length(fields: list[tuple[bytes, bytes]]) -> int:
    """The length of the body that the deciding fields announce; negative if not plain."""
    values = dict(fields)
    if len(values) < len(fields):  # One of them is there twice.
        return -1
    length = values.pop(b"content-length", b"")
    connection = values.pop(b"connection", b"keep-alive").rstrip(b"\t ")
    if values.keys() != {b"host"} or connection != b"keep-alive" or not _LENGTH.fullmatch(length):
        return -1
    return int(length)
