"""The bytes of server frames (RFC 6455 section 5.2), as pure functions.

A server does not mask, so that one frame is the same for every subscriber: it is made once
and its bytes are shared.
"""

from __future__ import annotations

from enum import IntEnum

_FIN = 0x80
_TEXT = 0x1
_CLOSE = 0x8
_PING = 0x9


class CloseCode(IntEnum):
    """The close codes that Pinghub sends (RFC 6455 section 7.4.1)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011


def text_frame(payload: bytes) -> bytes:
    """Frame a text message, unfragmented.

    Args:
        payload: the message, valid UTF-8; not checked here.
    """
    return _frame(_TEXT, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """Make a close frame.

    Args:
        code: the close code.
        reason: why, for people; cut to the 123 bytes that fit (RFC 6455 section 5.5).
    """
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return _frame(_CLOSE, code.to_bytes(2, "big") + text)


def _frame(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((_FIN | opcode, length)) + payload
    if length < 0x10000:
        return bytes((_FIN | opcode, 126)) + length.to_bytes(2, "big") + payload
    return bytes((_FIN | opcode, 127)) + length.to_bytes(8, "big") + payload


EMPTY_TEXT = text_frame(b"")
"""The answer to a heartbeat: an empty text message."""

PING = _frame(_PING, b"")
"""What the server sends to see whether a subscriber is alive."""
