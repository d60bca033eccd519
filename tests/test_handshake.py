"""What a websocket handshake has to look like."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pinghub.errors import BadRequest, Refusal, UpgradeRequired
from pinghub.handshake import (
    Handshake,
    accepted,
    asks_for_websocket,
    has_body,
    plain_handshake,
    read_handshake,
)

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


class Head:
    """The header lines of a request: by name, in any number.

    Args:
        lines: what differs from a good handshake; None leaves a header out.
    """

    def __init__(self, lines: dict[bytes, list[bytes] | None] | None = None) -> None:
        good: dict[bytes, list[bytes] | None] = {
            b"host": [b"example.com"],
            b"upgrade": [b"websocket"],
            b"connection": [b"Upgrade"],
            b"sec-websocket-key": [KEY],
            b"sec-websocket-version": [b"13"],
        }
        self._lines = good | (lines or {})

    def __call__(self, name: bytes) -> list[bytes]:
        return self._lines.get(name) or []


class AskingTests(SynchronousTestCase):
    """Whether a GET wants to become a websocket."""

    def test_upgrade_tokens(self) -> None:
        """The Upgrade header is a list, its tokens come in any case and in any line."""
        asking = (
            [b"websocket"],
            [b"WebSocket"],
            [b"h2c, websocket"],
            [b"h2c", b" websocket "],
        )
        for lines in asking:
            self.assertTrue(asks_for_websocket(Head({b"upgrade": lines})), lines)
        for lines in ([], [b""], [b"h2c"], [b"websockets"], [b"web socket"], [b"websocket/13"]):
            self.assertFalse(asks_for_websocket(Head({b"upgrade": lines})), lines)


class AnswerTests(SynchronousTestCase):
    """The 101."""

    def test_example_of_the_standard(self) -> None:
        """The answer to the key of RFC 6455 section 1.3."""
        lines = accepted(KEY).split(b"\r\n")
        self.assertEqual(lines[0], b"HTTP/1.1 101 Switching Protocols")
        self.assertIn(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", lines)
        self.assertEqual(lines[-2:], [b"", b""])


class PlainTests(SynchronousTestCase):
    """The handshakes that need no parser."""

    FIELDS = (
        b"Host: h\r\nConnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nOrigin: http://h\r\n"
        b"Cookie: a=b; c=d \r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
    )
    GOOD = b"GET /a?b HTTP/1.1\r\n" + FIELDS + b"\r\n"

    def test_good(self) -> None:
        """A head as browsers send it is read, and what follows it is left."""
        for rest in (b"", b"\r\n", self.GOOD):
            plain = plain_handshake(self.GOOD + rest, 1000, 7)
            assert plain is not None
            self.assertEqual(plain[:2], (b"/a?b", [b"http://h"]))
            self.assertEqual(plain.handshake, Handshake(KEY, None))
            self.assertEqual(plain.end, len(self.GOOD))

    def test_incomplete(self) -> None:
        """A head is read when its last byte is there, and not before."""
        for size in range(len(self.GOOD)):
            self.assertIsNone(plain_handshake(self.GOOD[:size], 1000, 100))

    def test_bounds(self) -> None:
        """A head above a bound is not plain; one at it is."""
        size = len(self.GOOD)
        self.assertIsNotNone(plain_handshake(self.GOOD, size, 7))
        self.assertIsNone(plain_handshake(self.GOOD, size - 1, 7))
        self.assertIsNone(plain_handshake(self.GOOD, size, 6))

    def test_whatever_is_unusual(self) -> None:
        """What is not plain, not a handshake, or to be refused, is left."""
        for old, new in (
            (b"GET", b"POST"),
            (b"GET", b"\r\nGET"),
            (b"/a", b"http://h/a"),
            (b"/a", b"/\xc3\xbc"),
            (b"HTTP/1.1", b"HTTP/1.0"),
            (b"Host: h", b"Host: h\r\nHost: h"),
            (b"Host: h", b"Host:h"),
            (b"Host: h", b"Host: h\r\n folded"),
            (b"Host: h", b"Host: h\r\nX: \xfc"),
            (b"Host: h", b"Host: h\r\nX y: z"),
            (b"Host: h", b"Host: h\nX: y"),
            (b"Host: h", b"Host: h\r\nContent-Length: 0"),
            (b"Host: h", b"Host: h\r\nTransfer-Encoding: chunked"),
            (b"Host: h", b"Host: h\r\nExpect: 100-continue"),
            (b"WebSocket\r", b"h2c\r"),
            (b"Version: 13", b"Version: 8"),
            (KEY, KEY[1:]),
            (self.FIELDS, b""),
        ):
            with self.subTest(new):
                self.assertIn(old, self.GOOD)
                self.assertIsNone(plain_handshake(self.GOOD.replace(old, new, 1), 1000, 100))


class BodyTests(SynchronousTestCase):
    """Whether a request announces a body."""

    def test_announced_bodies(self) -> None:
        """A length above 0 and any transfer coding announce a body; nothing else does."""
        none: tuple[dict[bytes, list[bytes] | None], ...] = (
            {},
            {b"content-length": [b"0"]},
            {b"content-length": [b"000"]},
            {b"content-length": [b"0", b"0"]},
        )
        for lines in none:
            self.assertFalse(has_body(Head(lines)), lines)
        some: tuple[dict[bytes, list[bytes] | None], ...] = (
            {b"content-length": [b"1"]},
            {b"content-length": [b"10"]},
            {b"content-length": [b"0", b"1"]},
            {b"transfer-encoding": [b"chunked"]},
            {b"transfer-encoding": [b"chunked"], b"content-length": [b"0"]},
        )
        for lines in some:
            self.assertTrue(has_body(Head(lines)), lines)


class ReadTests(SynchronousTestCase):
    """Good and bad handshakes."""

    def refused(
        self, lines: dict[bytes, list[bytes] | None], version: bytes = b"HTTP/1.1"
    ) -> Refusal:
        """The refusal of a handshake that differs from a good one."""
        try:
            handshake = read_handshake(Head(lines), version)
        except Refusal as refusal:
            self.assertEqual(refusal.text.splitlines(), [refusal.text], lines)
            return refusal
        self.fail(f"{lines} in {version!r} is taken for {handshake}")

    def test_good(self) -> None:
        """Of a good handshake the key and the first subprotocol are kept."""
        self.assertEqual(read_handshake(Head(), b"HTTP/1.1"), Handshake(KEY, None))

    def test_connection_tokens(self) -> None:
        """The Connection header is a list, as Firefox sends it."""
        for lines in ([b"keep-alive, Upgrade"], [b"UPGRADE"], [b"keep-alive", b"upgrade"]):
            head = Head({b"connection": lines})
            self.assertEqual(read_handshake(head, b"HTTP/1.1"), Handshake(KEY, None))

    def test_malformed(self) -> None:
        """A malformed handshake is answered 400, with a line that says what it lacks."""
        cases: list[tuple[dict[bytes, list[bytes] | None], str]] = [
            ({b"connection": None}, "Connection: Upgrade"),
            ({b"connection": [b"keep-alive"]}, "Connection: Upgrade"),
            ({b"connection": [b"upgraded"]}, "Connection: Upgrade"),
            ({b"host": None}, "Host"),
            ({b"host": [b"a", b"b"]}, "Host"),
            ({b"content-length": [b"5"]}, "no body"),
            ({b"transfer-encoding": [b"chunked"]}, "no body"),
            ({b"sec-websocket-version": None}, "Sec-WebSocket-Version"),
            ({b"sec-websocket-version": [b"13", b"13"]}, "Sec-WebSocket-Version"),
            ({b"sec-websocket-key": None}, "Sec-WebSocket-Key"),
            ({b"sec-websocket-key": [KEY, KEY]}, "Sec-WebSocket-Key"),
            ({b"sec-websocket-key": [b""]}, "Sec-WebSocket-Key"),
            ({b"sec-websocket-key": [KEY[:-1]]}, "Sec-WebSocket-Key"),
            ({b"sec-websocket-key": [KEY + b"="]}, "Sec-WebSocket-Key"),
            ({b"sec-websocket-key": [b"A" + KEY]}, "Sec-WebSocket-Key"),
            ({b"sec-websocket-key": [b"*" + KEY[1:]]}, "Sec-WebSocket-Key"),
            ({b"sec-websocket-key": [KEY + b"\n"]}, "Sec-WebSocket-Key"),
            ({b"sec-websocket-protocol": [b"a b"]}, "subprotocol"),
            ({b"sec-websocket-protocol": [b"good", b"b\xe9d"]}, "subprotocol"),
            ({b"sec-websocket-protocol": [b"a\r\nSet-Cookie: x"]}, "subprotocol"),
            ({b"sec-websocket-protocol": [b'"quoted"']}, "subprotocol"),
        ]
        for lines, text in cases:
            refusal = self.refused(lines)
            self.assertIsInstance(refusal, BadRequest, lines)
            self.assertIn(text, refusal.text, lines)

    def test_http_version(self) -> None:
        """A handshake is HTTP/1.1: older and newer ones are answered 400."""
        for version in (b"HTTP/1.0", b"HTTP/2", b""):
            refusal = self.refused({}, version)
            self.assertIsInstance(refusal, BadRequest, version)
            self.assertIn("HTTP/1.1", refusal.text)

    def test_other_versions(self) -> None:
        """Other versions of the protocol than 13 are answered 426 with the one we speak."""
        for version in (b"8", b"12", b"14", b"013", b"13, 8", b"", b"x"):
            refusal = self.refused({b"sec-websocket-version": [version]})
            self.assertIsInstance(refusal, UpgradeRequired, version)
            self.assertEqual(refusal.headers["Sec-WebSocket-Version"], "13")
            self.assertEqual(refusal.status, 426)

    def test_first_subprotocol(self) -> None:
        """The first subprotocol offered is the one, in whatever lines they come."""
        cases: list[tuple[list[bytes], bytes | None]] = [
            ([b"chat"], b"chat"),
            ([b"chat, other"], b"chat"),
            ([b"chat", b"other"], b"chat"),
            ([b"token.abc-_~!"], b"token.abc-_~!"),
            ([b" , chat"], b"chat"),
            ([b""], None),
            ([b" , "], None),
        ]
        for lines, expected in cases:
            handshake = read_handshake(Head({b"sec-websocket-protocol": lines}), b"HTTP/1.1")
            self.assertEqual(handshake.subprotocol, expected, lines)

    @settings(deadline=None, max_examples=200)
    @given(
        name=st.sampled_from(
            [b"connection", b"host", b"sec-websocket-key", b"sec-websocket-protocol"]
        ),
        lines=st.lists(st.binary(max_size=30) | st.sampled_from([KEY, b"13", b"Upgrade"])),
    )
    def test_whatever_comes(self, name: bytes, lines: list[bytes]) -> None:
        """No header line gets past the check with bytes that could become another line."""
        try:
            handshake = read_handshake(Head({name: lines}), b"HTTP/1.1")
        except Refusal:
            return
        for echoed in (handshake.key, handshake.subprotocol or b""):
            self.assertFalse(set(echoed) & set(b"\r\n\0 ,"), echoed)
