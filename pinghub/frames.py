"""The bytes of frames (RFC 6455 section 5.2), as pure functions.

A server does not mask, so that one frame is the same for every subscriber: it is made once
and its bytes are shared. Of what clients send, only the frames that everyone sends are read here;
whatever is unusual about a frame is the parser's.
"""

from __future__ import annotations

from enum import IntEnum

_FIN = 0x80
_TEXT = 0x1
_PLAIN = bytes([_FIN | _TEXT])
_MASKED = 0x80
_LONGEST_CONTROL = 125

QUICK = 8192
"""The longest message that ``plain_texts`` reads; unmasking longer ones is quicker elsewhere."""


class Control(IntEnum):
    """The opcodes of control frames (RFC 6455 section 5.5)."""

    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


_CONTROLS = {bytes([_FIN | each]): each for each in Control}


class CloseCode(IntEnum):
    """The close codes that Pinghub sends (RFC 6455 section 7.4.1, and its IANA registry)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013


def text_frame(payload: bytes) -> bytes:
    """Frame a text message, unfragmented.

    Args:
        payload: the message, valid UTF-8; not checked here.
    """
    return _frame(_TEXT, payload)


def pong_frame(payload: bytes) -> bytes:
    """Make the answer to a ping of that payload."""
    return _frame(Control.PONG, payload)


def close_frame(code: int | None, reason: str = "") -> bytes:
    """Make a close frame.

    Args:
        code: the close code; None for a frame without one, and without a reason.
        reason: why, for people; cut to the 123 bytes that fit (RFC 6455 section 5.5).
    """
    if code is None:
        return _frame(Control.CLOSE, b"")
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return _frame(Control.CLOSE, code.to_bytes(2, "big") + text)


def plain_texts(data: bytes, largest: int, most: int) -> tuple[list[bytes], int]:
    """Read the plain text messages at the front of what a client sent.

    Plain is a complete text message in one masked frame, with its length in the shortest form
    and of at most ``QUICK`` bytes, in valid UTF-8. The first frame that is not plain ends the
    search; it is not judged here.

    Args:
        data: what was received, from the beginning of a frame, outside of a message.
        largest: how many bytes a message may have.
        most: how many messages to read.

    Returns:
        The messages, and how many bytes of ``data`` they took.
    """
    largest = min(largest, QUICK)
    texts: list[bytes] = []
    end = 0
    while len(texts) < most and data[end : end + 1] == _PLAIN:
        start, length = _payload(data, end)
        after = start + length
        if not 0 <= length <= largest or after > len(data):
            break
        text = _unmasked(data[start - 4 : start], data[start:after])
        if not _is_text(text):
            break
        texts.append(text)
        end = after
    return texts, end


def plain_control(data: bytes) -> tuple[Control, bytes, int] | None:
    """Read the control frame at the front of what a client sent, if it is a complete one.

    Args:
        data: what was received, from the beginning of a frame.

    Returns:
        The opcode, the payload, and how many bytes of ``data`` it took; None for anything but
        a whole masked close, ping or pong that needs no judgement.
    """
    opcode = _CONTROLS.get(data[:1])
    start, length = _payload(data, 0)
    end = start + length
    if opcode is None or not 0 <= length <= _LONGEST_CONTROL or end > len(data):
        return None
    if opcode is Control.CLOSE and length == 1:
        return None
    return opcode, _unmasked(data[start - 4 : start], data[start:end]), end


def _payload(data: bytes, frame: int) -> tuple[int, int]:
    """Where the payload of a masked frame starts, and its length; negative if unclear."""
    length = int.from_bytes(data[frame + 1 : frame + 2]) - _MASKED
    if length < 126:
        return frame + 6, length
    extended = int.from_bytes(data[frame + 2 : frame + 4])
    return frame + 8, extended if length == 126 and extended > 125 else -1


def _unmasked(mask: bytes, payload: bytes) -> bytes:
    # As one long number: a loop over bytes takes a hundred times as long.
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(
        size, "little"
    )


def _is_text(payload: bytes) -> bool:
    if payload.isascii():  # as mostly, and without making a string
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _frame(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((_FIN | opcode, length)) + payload
    if length < 0x10000:
        return bytes((_FIN | opcode, 126)) + length.to_bytes(2, "big") + payload
    return bytes((_FIN | opcode, 127)) + length.to_bytes(8, "big") + payload


EMPTY_TEXT = text_frame(b"")
"""The answer to a heartbeat: an empty text message."""

PING = _frame(Control.PING, b"")
"""What the server sends to see whether a subscriber is alive."""
