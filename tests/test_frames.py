"""The bytes of frames, and the quick lane for those that everyone sends."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pinghub.frames import (
    EMPTY_TEXT,
    PING,
    QUICK,
    CloseCode,
    Control,
    close_frame,
    plain_control,
    plain_texts,
    pong_frame,
    text_frame,
)
from pinghub.testing import TEXT, client_frame

BOUNDARIES = (0, 1, 124, 125, 126, 127, 128, 255, 256, 65_534, 65_535, 65_536, 65_537, 200_000)
LENGTHS = st.sampled_from(BOUNDARIES) | st.integers(0, 70_000)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=150)


@dataclass(frozen=True)
class Parsed:
    """A frame as RFC 6455 section 5.2 draws it, field by field."""

    fin: int
    reserved: int
    opcode: int
    masked: int
    length_bytes: int
    payload: bytes


def parse_first(data: bytes) -> tuple[Parsed, bytes]:
    """Read the first frame of some data; the frame and what follows it."""
    bits = f"{data[0]:08b}{data[1]:08b}"
    length, length_bytes = int(bits[9:], 2), 0
    if length >= 126:
        length_bytes = {126: 2, 127: 8}[length]
        length = int(data[2 : 2 + length_bytes].hex(), 16)
    start = 2 + length_bytes
    payload, rest = data[start : start + length], data[start + length :]
    if len(payload) != length:
        raise ValueError(f"announces {length} bytes and has {len(payload)}")
    flags = int(bits[0]), int(bits[1:4], 2), int(bits[4:8], 2), int(bits[8])
    return Parsed(*flags, length_bytes, payload), rest


def parse(data: bytes) -> Parsed:
    """Read a frame that has to end where the data ends."""
    frame, rest = parse_first(data)
    if rest:
        raise ValueError(f"followed by {len(rest)} bytes")
    return frame


def shortest(length: int) -> int:
    """How many bytes of extended length a payload needs: the minimal number (RFC 6455)."""
    return 0 if length <= 125 else 2 if length <= 65_535 else 8


class TextFrameTests(SynchronousTestCase):
    """Messages."""

    def check(self, payload: bytes) -> None:
        """A text frame is final, unmasked and has the shortest header that fits."""
        expected = Parsed(1, 0, 1, 0, shortest(len(payload)), payload)
        self.assertEqual(parse(text_frame(payload)), expected, f"{len(payload)} bytes")

    def test_example_of_the_standard(self) -> None:
        """The unmasked text message of RFC 6455 section 5.7 comes out as printed there."""
        self.assertEqual(text_frame(b"Hello"), bytes.fromhex("81 05 48 65 6c 6c 6f"))

    def test_lengths_around_each_form_of_the_header(self) -> None:
        """The three forms of the length are used where the standard wants them."""
        for length in BOUNDARIES:
            self.check(b"x" * length)

    @settings(deadline=None, max_examples=150)
    @given(length=LENGTHS, fill=st.integers(0, 255))
    def test_any_length(self, length: int, fill: int) -> None:
        """Every payload comes back from an independent parser, whatever its length."""
        self.check(bytes((fill,)) * length)

    @settings(deadline=None, max_examples=50)
    @given(texts=st.lists(TEXTS, max_size=8))
    def test_joined_frames_stay_apart(self, texts: list[str]) -> None:
        """Frames can be joined into one write: each says where it ends."""
        rest = b"".join(text_frame(text.encode()) for text in texts)
        found = []
        while rest:
            frame, rest = parse_first(rest)
            found.append(frame.payload.decode())
        self.assertEqual(found, texts)


class CloseFrameTests(SynchronousTestCase):
    """Last words."""

    def test_code_and_reason(self) -> None:
        """A close frame carries the code in network order, and the reason in UTF-8."""
        frame = parse(close_frame(CloseCode.GOING_AWAY, "b\u00fas"))
        self.assertEqual(frame, Parsed(1, 0, 8, 0, 0, b"\x03\xe9b\xc3\xbas"))
        self.assertEqual(close_frame(1000), b"\x88\x02\x03\xe8")
        self.assertEqual(close_frame(None), b"\x88\x00")

    def test_reason_is_cut_between_characters(self) -> None:
        """A control frame has at most 125 bytes; a cut reason stays valid UTF-8."""
        cases = {
            "x" * 123: "x" * 123,
            "x" * 124: "x" * 123,
            "x" * 122 + "\u00e9": "x" * 122,
            "x" * 121 + "\u00e9": "x" * 121 + "\u00e9",
            "x" * 120 + "\U0001f389": "x" * 120,
        }
        for reason, expected in cases.items():
            payload = parse(close_frame(1001, reason)).payload
            self.assertEqual(payload[2:].decode(), expected)

    @settings(deadline=None, max_examples=100)
    @given(code=st.integers(1000, 4999), reason=TEXTS)
    def test_any_reason(self, code: int, reason: str) -> None:
        """Whatever the reason: a valid control frame, with as much of it as fits."""
        frame = parse(close_frame(code, reason))
        self.assertEqual((frame.fin, frame.opcode, frame.masked, frame.length_bytes), (1, 8, 0, 0))
        self.assertEqual(frame.payload[:2], bytes(divmod(code, 256)))
        text = frame.payload[2:].decode()
        self.assertTrue(reason.startswith(text))
        following = reason[len(text) : len(text) + 1]
        self.assertTrue(not following or len((text + following).encode()) > 123)


class ConstantTests(SynchronousTestCase):
    """What never changes."""

    def test_empty_text(self) -> None:
        """The answer to a heartbeat is an empty text message."""
        self.assertEqual(parse(EMPTY_TEXT), Parsed(1, 0, 1, 0, 0, b""))

    def test_ping(self) -> None:
        """A ping is an empty, final frame of opcode 9."""
        self.assertEqual(parse(PING), Parsed(1, 0, 9, 0, 0, b""))

    def test_pong(self) -> None:
        """A pong is a final frame of opcode 10, with what was in the ping."""
        self.assertEqual(parse(pong_frame(b"x" * 125)), Parsed(1, 0, 10, 0, 0, b"x" * 125))

    def test_close_codes(self) -> None:
        """The close codes are those that RFC 6455 registers under their names."""
        self.assertEqual(
            {code.name: code.value for code in CloseCode},
            {
                "NORMAL": 1000,
                "GOING_AWAY": 1001,
                "PROTOCOL_ERROR": 1002,
                "UNSUPPORTED_DATA": 1003,
                "INVALID_PAYLOAD": 1007,
                "POLICY_VIOLATION": 1008,
                "MESSAGE_TOO_BIG": 1009,
                "INTERNAL_ERROR": 1011,
                "TRY_AGAIN_LATER": 1013,
            },
        )


class PlainTextTests(SynchronousTestCase):
    """The messages that need no parser."""

    def check(self, *texts: bytes, rest: bytes = b"", most: int = 100) -> None:
        """These are read, and what follows them is left."""
        data = b"".join(client_frame(TEXT, text) for text in texts)
        self.assertEqual(plain_texts(data + rest, 1 << 20, most), (list(texts), len(data)))

    def test_any_number(self) -> None:
        """All plain messages at the front are read, up to the number wanted."""
        self.check()
        self.check(b"", b"x", "Füße".encode(), b"", b"x" * 1000)
        self.check(b"1", b"2", rest=client_frame(TEXT, b"3"), most=2)
        self.check(rest=client_frame(TEXT, b"3"), most=0)

    @given(st.lists(st.tuples(st.binary(min_size=4, max_size=4), TEXTS), max_size=8))
    @settings(max_examples=300, deadline=None)
    def test_any_text(self, parts: list[tuple[bytes, str]]) -> None:
        """Whatever the text and the mask."""
        data = b"".join(client_frame(TEXT, text.encode(), mask=mask) for mask, text in parts)
        texts = [text.encode() for _, text in parts]
        self.assertEqual(plain_texts(data, 1 << 20, 100), (texts, len(data)))

    def test_lengths_around_each_form_of_the_header(self) -> None:
        """The short lengths and those of two bytes, up to the longest that is quick."""
        for length in (0, 1, 125, 126, 127, 255, 256, QUICK - 1, QUICK):
            self.check(b"x" * length)
        for length in (QUICK + 1, 65_535, 65_536):
            self.check(rest=client_frame(TEXT, b"x" * length))

    def test_too_large(self) -> None:
        """A message above the bound is not plain; one at the bound is."""
        frame = client_frame(TEXT, b"x" * 10)
        self.assertEqual(plain_texts(frame, 10, 9), ([b"x" * 10], len(frame)))
        self.assertEqual(plain_texts(frame, 9, 9), ([], 0))

    def test_incomplete(self) -> None:
        """A frame is read when its last byte is there, and not before."""
        for length in (0, 1, 125, 126, 300):
            frame = client_frame(TEXT, b"y" * length)
            for size in range(len(frame)):
                self.check(b"x", rest=frame[:size])

    def test_whatever_is_unusual(self) -> None:
        """A frame that is not plain is left where it is, and so is all that follows."""
        long = b"x" * 126
        for name, frame in {
            "a fragment": client_frame(TEXT, b"x", fin=False),
            "a continuation": client_frame(0x0, b"x"),
            "binary": client_frame(0x2, b"x"),
            "close": client_frame(0x8),
            "ping": client_frame(0x9),
            "a reserved bit": bytes([0xC1]) + client_frame(TEXT, b"x")[1:],
            "unmasked": text_frame(b"x" * 6),
            "unmasked and long": text_frame(long),
            "two bytes for 125": bytes([0x81, 0xFE, 0, 125]) + client_frame(TEXT, b"x" * 125)[2:],
            "eight bytes for 126": bytes([0x81, 0xFF]) + bytes(7) + client_frame(TEXT, long)[3:],
            "invalid UTF-8": client_frame(TEXT, b"\xff"),
            "half a character": client_frame(TEXT, "ü".encode()[:1]),
            "a surrogate": client_frame(TEXT, b"\xed\xa0\x80"),
        }.items():
            rest = frame + client_frame(TEXT, b"behind")
            for before in ((), (b"before",)):
                with self.subTest(name):
                    self.check(*before, rest=rest)


class PlainControlTests(SynchronousTestCase):
    """The control frames that need no parser."""

    def test_each_kind(self) -> None:
        """A close, a ping or a pong is read, and what follows it is left."""
        for opcode in Control:
            for payload in (b"", b"\x03\xe8", b"x" * 125):
                frame = client_frame(opcode, payload)
                for rest in (b"", b"\x8a", client_frame(opcode, b"later")):
                    found = plain_control(frame + rest)
                    self.assertEqual(found, (opcode, payload, len(frame)))

    def test_incomplete(self) -> None:
        """A frame is read when its last byte is there, and not before."""
        for payload in (b"", b"\x03\xe8", b"x" * 125):
            frame = client_frame(Control.PONG, payload)
            for size in range(len(frame)):
                self.assertIsNone(plain_control(frame[:size]))

    def test_whatever_is_unusual(self) -> None:
        """What has to be judged is left."""
        ping = client_frame(Control.PING, b"x")
        for name, frame in {
            "a text": client_frame(TEXT, b"x"),
            "a fragment": client_frame(Control.PING, b"x", fin=False),
            "a reserved bit": bytes([0xC9]) + ping[1:],
            "another opcode": client_frame(0xB),
            "unmasked": pong_frame(b"x" * 20),
            "too long": client_frame(Control.PING, b"x" * 126),
            "two bytes for 1": bytes([0x89, 0xFE, 0, 1]) + ping[2:],
            "half a close code": client_frame(Control.CLOSE, b"x"),
        }.items():
            with self.subTest(name):
                self.assertIsNone(plain_control(frame))
