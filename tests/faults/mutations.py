"""Requests, handshakes and frames that are almost good.

Everything is chosen by a ``random.Random``: the same seed makes the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

from pinghub.testing import BINARY, CLOSE, PING, PONG, TEXT, client_frame

CHANNELS = (b"/a", b"/a/b", b"/", b"/%61", b"//a", b"/a?b=c", b"/\xc3\xa4", b"/a%2Fb;c")

# Bytes that mean something to one parser or another.
BYTES = b"\x00\t\n\x0b\r\x1b\x1c \"%'(),/:;=?@[]\x7f\x80\x85\xa0\xc3\xff"
NUMBERS = (
    b"-1",
    b"+5",
    b"0",
    b"00",
    b"1e3",
    b"0x10",
    b"1_0",
    b"65536",
    b"65537",
    b"4294967296",
    b"18446744073709551616",
    b"9" * 5000,
    b"\xd9\xa1",
    b"3, 3",
    b"",
)
FIELDS = (
    b"Content-Length: 3",
    b"Content-Length: 99999",
    b"Content-Length: " + b"9" * 5000,
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Expect: 100-continue",
    b"Expect: \xff",
    b"Connection: close",
    b"Connection: keep-alive, Upgrade",
    b"Connection: ,;,",
    b"Upgrade: h2c",
    b"Upgrade: websocket, websocket",
    b"Sec-WebSocket-Version: 8",
    b"Sec-WebSocket-Key: x",
    b"Sec-WebSocket-Protocol: a, b",
    b"Sec-WebSocket-Protocol: ,\x85,",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    b"Sec-WebSocket-Extensions: ;;=,",
    b"Content-Type: application/x-www-form-urlencoded",
    b"Content-Type: multipart/form-data; boundary*=x",
    b"Content-Type: multipart/form-data",
    b"Content-Type: text/plain; charset=\x85",
    b"Origin: null",
    b"Origin: http://[::1",
    b"Origin: \x1b[31m",
    b"Host: [",
    b"Host:",
    b"Cookie: " + b"a=b; " * 1000,
    b"X-Forwarded-For: 1\x852",
    b" folded",
    b": no name",
    b"no colon",
    b"Range: bytes=0-1, 2-",
    b"If-Modified-Since: yesterday",
    b"Accept-Encoding: gzip",
    b"Authorization: Basic \xff",
)


def upgrade(choose: random.Random) -> bytes:
    """A handshake, with frames behind it."""
    lines = [
        b"GET %s HTTP/1.1" % choose.choice(CHANNELS),
        b"Host: example.com",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    return b"\r\n".join([*lines, b"", b""]) + frames(choose)


def post(choose: random.Random) -> bytes:
    """A POST, by length or in chunks."""
    body = text(choose)
    head = b"POST %s HTTP/1.1\r\nHost: example.com\r\n" % choose.choice(CHANNELS)
    if choose.random() < 0.5:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunks = [body[start : start + 7] for start in range(0, len(body), 7)]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"


def other_request(choose: random.Random) -> bytes:
    """A request of another method."""
    method = choose.choice((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"CONNECT", b"TRACE"))
    version = choose.choice((b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9"))
    return b"%s %s %s\r\nHost: h\r\n\r\n" % (method, choose.choice(CHANNELS), version)


def text(choose: random.Random) -> bytes:
    """A message."""
    size = choose.choice((0, 1, 5, 20, 125, 126, 127, 300, 300, 65_535, 65_536, 65_537))
    return b"x" * size if choose.random() < 0.7 else "ä€😀".encode() * (size // 9)


def frames(choose: random.Random) -> bytes:
    """Some frames."""
    return b"".join(frame(choose) for _ in range(choose.randrange(5)))


def frame(choose: random.Random) -> bytes:
    """A frame or two, good in themselves."""
    opcode = choose.choice((TEXT, TEXT, TEXT, TEXT, BINARY, PING, PING, PONG, CLOSE, 0, 3, 11))
    if opcode == TEXT and choose.random() < 0.3:
        parts = choose.choice((2, 3, 64, 65))
        first = client_frame(TEXT, b"x", fin=False)
        return first + client_frame(0, b"x", fin=False) * (parts - 2) + client_frame(0, b"x")
    if opcode == CLOSE:
        code = choose.choice((1000, 1001, 1005, 1006, 1015, 999, 3000, 5000, 0, 65_535))
        return client_frame(CLOSE, code.to_bytes(2, "big") + text(choose)[:123])
    payload = text(choose)
    return client_frame(opcode, payload if opcode < 8 else payload[:125], fin=choose.random() < 0.9)


def clean(choose: random.Random) -> bytes:
    """What one client sends on one connection, without a fault."""
    before = choose.choices((post, other_request), k=choose.choice((0, 0, 1, 2)))
    last = choose.choice((upgrade, upgrade, upgrade, post, other_request))
    return b"".join(make(choose) for make in (*before, last))


# Faults.


def flip_bits(data: bytearray, choose: random.Random) -> None:
    """Flip one bit or some."""
    for _ in range(choose.choice((1, 1, 1, 8))):
        data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)


def set_byte(data: bytearray, choose: random.Random) -> None:
    """Overwrite a byte with one that means something."""
    data[choose.randrange(len(data))] = choose.choice(BYTES)


def insert_byte(data: bytearray, choose: random.Random) -> None:
    """Insert a byte that means something."""
    data.insert(choose.randrange(len(data)), choose.choice(BYTES))


def insert_noise(data: bytearray, choose: random.Random) -> None:
    """Insert random bytes."""
    start = choose.randrange(len(data))
    data[start:start] = choose.randbytes(choose.choice((1, 2, 8, 200)))


def delete_piece(data: bytearray, choose: random.Random) -> None:
    """Delete some bytes."""
    start, end = piece(data, choose)
    del data[start:end]


def double_piece(data: bytearray, choose: random.Random) -> None:
    """Double some bytes."""
    start, end = piece(data, choose)
    data[start:start] = data[start:end] * choose.choice((1, 1, 1, 100))


def swap_pieces(data: bytearray, choose: random.Random) -> None:
    """Exchange what is before a place with what comes behind it."""
    start, end = piece(data, choose)
    middle = choose.randint(start, end)
    data[start:end] = data[middle:end] + data[start:middle]


def cut_off(data: bytearray, choose: random.Random) -> None:
    """Leave out the rest."""
    del data[choose.randrange(len(data)) :]


def change_number(data: bytearray, choose: random.Random) -> None:
    """Put another number in the place of one."""
    digits = [place for place, byte in enumerate(data[:2000]) if byte in b"0123456789"]
    if digits:
        start = end = choose.choice(digits)
        while end < len(data) and data[end] in b"0123456789":
            end += 1
        data[start:end] = choose.choice(NUMBERS)


def add_field(data: bytearray, choose: random.Random) -> None:
    """Insert a header field."""
    ends = [place for place in range(min(len(data), 2000)) if data[place : place + 2] == b"\r\n"]
    if ends:
        place = choose.choice(ends)
        data[place:place] = b"\r\n" + choose.choice(FIELDS)


def change_line_end(data: bytearray, choose: random.Random) -> None:
    """Put something else in the place of a line end."""
    ends = [place for place in range(min(len(data), 2000)) if data[place : place + 2] == b"\r\n"]
    if ends:
        place = choose.choice(ends)
        data[place : place + 2] = choose.choice(
            (b"\n", b"\r", b"\r\r\n", b"", b"\r\n\r\n", b"\x85")
        )


def change_frame(data: bytearray, choose: random.Random) -> None:
    """Change the head of the first frame: flags, opcode, mask, length."""
    start = data.rfind(b"\r\n\r\n") + 4
    if 4 <= start < len(data) - 2:
        data[start + choose.randrange(2)] = choose.randrange(256)


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits,
    set_byte,
    insert_byte,
    insert_noise,
    delete_piece,
    double_piece,
    swap_pieces,
    cut_off,
    change_number,
    add_field,
    add_field,
    change_line_end,
    change_frame,
    change_frame,
)


def piece(data: bytearray, choose: random.Random) -> tuple[int, int]:
    """Where some of the bytes are."""
    start = choose.randrange(len(data))
    return start, min(len(data), start + choose.choice((1, 2, 4, 30, 200)))


def mutated(choose: random.Random) -> bytes:
    """What one client sends on one connection, with a fault or some."""
    data = bytearray(clean(choose))
    for _ in range(choose.choice((0, 1, 1, 1, 2, 3, 6))):
        if data:
            choose.choice(MUTATIONS)(data, choose)
    return bytes(data)


def segments(data: bytes, choose: random.Random) -> list[bytes]:
    """The same in the pieces in which a network may deliver it."""
    if len(data) < 2 or choose.random() < 0.5:
        return [data]
    count = min(len(data) - 1, choose.choice((1, 2, 5, 20)))
    cuts = sorted(choose.sample(range(1, len(data)), count))
    return [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]
