"""What a websocket handshake has to look like (RFC 6455 section 4.2.1), as a pure function.

It is checked here, once, before anything of it reaches the websocket library, so that a
refusal is an HTTP answer like any other.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pinghub.errors import BadRequest, Refusal, UpgradeRequired

Values = Callable[[bytes], list[bytes]]
"""Looks up the values of all header lines of one name."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PLAIN_HEAD = re.compile(
    rb"GET (/[!-~]*) HTTP/1\.1\r\n(?:[A-Za-z0-9!#$%&'*+.^_`|~-]+: [!-~][ -~]*\r\n)+\r\n"
)
# These change what follows the head, or what comes before the answer.
_NOT_PLAIN = (b"content-length", b"transfer-encoding", b"expect")


@dataclass(frozen=True)
class Handshake:
    """What is needed of a handshake.

    Attributes:
        key: the Sec-WebSocket-Key.
        subprotocol: the first subprotocol that was offered, if any was.
    """

    key: bytes
    subprotocol: bytes | None


class PlainHandshake(NamedTuple):
    """A handshake that needs no parser.

    Attributes:
        target: the request target.
        origins: the values of its Origin header lines.
        forwarded: the values of its X-Forwarded-For header lines.
        handshake: what was read from the others.
        end: how many bytes it took.
    """

    target: bytes
    origins: list[bytes]
    forwarded: list[bytes]
    handshake: Handshake
    end: int


def plain_handshake(data: bytes, longest: int, most: int) -> PlainHandshake | None:
    """Read the handshake at the front of what a client sent, if it is a good and plain one.

    Plain is a complete head in visible ASCII, with each field in one line. Whatever is not plain,
    and whatever has to be refused, is not judged here.

    Args:
        data: what was received, from the beginning of a request.
        longest: how many bytes a head may have.
        most: how many fields.
    """
    head = _PLAIN_HEAD.match(data, 0, longest)
    if head is None:
        return None
    lines = head[0].split(b"\r\n")[1:-2]
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b": ")
        fields.setdefault(name.lower(), []).append(value.strip())

    def values(name: bytes) -> list[bytes]:
        return fields.get(name, [])

    if len(lines) > most or any(map(values, _NOT_PLAIN)) or not asks_for_websocket(values):
        return None
    try:
        handshake = read_handshake(values, b"HTTP/1.1")
    except Refusal:
        return None
    origins, forwarded = values(b"origin"), values(b"x-forwarded-for")
    return PlainHandshake(head[1], origins, forwarded, handshake, head.end())


def asks_for_websocket(values: Values) -> bool:
    """Whether a GET wants to become a websocket."""
    return b"websocket" in _tokens(values(b"upgrade"))


def read_handshake(values: Values, version: bytes) -> Handshake:
    """Check a handshake.

    Args:
        values: the header lines.
        version: the protocol of the request line, such as ``HTTP/1.1``.

    Raises:
        BadRequest: it is malformed, or carries a body.
        UpgradeRequired: it asks for another version of the protocol than 13.
    """
    if version != b"HTTP/1.1":
        raise BadRequest("A websocket handshake has to be HTTP/1.1.")
    if b"upgrade" not in _tokens(values(b"connection")):
        raise BadRequest("A websocket handshake needs the header Connection: Upgrade.")
    if len(values(b"host")) != 1:
        raise BadRequest("A websocket handshake needs one Host header.")
    if has_body(values):
        raise BadRequest("A websocket handshake has no body.")
    _check_version(values(b"sec-websocket-version"))
    keys = values(b"sec-websocket-key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise BadRequest("A websocket handshake needs one Sec-WebSocket-Key of 16 bytes.")
    return Handshake(keys[0], _subprotocol(values(b"sec-websocket-protocol")))


def accepted(key: bytes) -> bytes:
    """The answer to a handshake in which nothing was left to agree on.

    Args:
        key: the Sec-WebSocket-Key.
    """
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % b64encode(digest)
    )


def has_body(values: Values) -> bool:
    """Whether a request announces a body that is not empty."""
    lengths = values(b"content-length")
    return bool(values(b"transfer-encoding")) or any(each.strip(b"0") for each in lengths)


def _check_version(versions: list[bytes]) -> None:
    if len(versions) != 1:
        raise BadRequest("A websocket handshake needs one Sec-WebSocket-Version header.")
    if versions[0] != b"13":
        raise UpgradeRequired("This server speaks version 13 of the websocket protocol.")


def _subprotocol(lines: list[bytes]) -> bytes | None:
    offered = [each.strip() for line in lines for each in line.split(b",")]
    offered = [each for each in offered if each]
    if not all(_TOKEN.fullmatch(each) for each in offered):
        raise BadRequest("A websocket subprotocol has to be a token.")
    return offered[0] if offered else None


def _tokens(lines: list[bytes]) -> set[bytes]:
    return {each.strip().lower() for line in lines for each in line.split(b",")}
