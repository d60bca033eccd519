"""Messages at the bound, above it, and without end."""

from __future__ import annotations

from collections.abc import Callable

from pinghub.limits import Limits
from pinghub.testing import CLOSE, PING, TEXT, client_frame
from tests.faults.harness import MIB, FaultTests, PeakMemory, Peer

LIMIT = Limits().max_message
FRAGMENTS = Limits().max_fragments
CONTINUATION = 0x0
EIGHT_GIB = (8 << 30).to_bytes(8, "big") + bytes(4)
"""The length of a frame, and its mask."""
ENDLESS = b"x" * (4 * MIB)
"""What a peer sends of a message that claims to be larger."""


class LimitTests(FaultTests):
    """The bound holds to the byte, the peer is told, and nothing is collected."""

    def setUp(self) -> None:
        self.bus = self.server()
        self.reader = self.subscriber(self.bus)

    def assert_received(self, payload: bytes) -> None:
        """The reader has got a message."""
        self.assertEqual(self.reader.message(), payload)

    def figure_of(self, what: str, legal: Callable[[], None], attack: Callable[[], None]) -> None:
        """Measure how much memory an attack takes, and that the server goes on.

        Args:
            what: what the attack is.
            legal: uses what is allowed to the full, so that buffers have their size.
            attack: does not.
        """
        for _ in range(3):
            legal()
        peak = PeakMemory(self.bus.process.pid)
        attack()
        self.figure("R7", f"RSS, {what}", peak.growth / MIB, 1, "MiB")
        legal()


class WebsocketTests(LimitTests):
    """Messages by websocket."""

    def taken(self, *frames: bytes, payload: bytes) -> None:
        """A peer sends frames, which are one message that everybody gets."""
        peer = self.subscriber(self.bus)
        peer.send(b"".join(frames))
        self.assertEqual(peer.message(), payload)
        self.assert_received(payload)
        peer.close()

    def closed(self, *pieces: bytes, code: int = 1009) -> None:
        """A peer sends all this, and reads why that was too much, then the end."""
        peer = self.subscriber(self.bus)
        for piece in pieces:
            peer.send(piece)
        close = peer.frame()
        self.assertEqual((close.opcode, close.code), (CLOSE, code), close)
        self.assertEqual(peer.rest(), b"")
        peer.close()

    def test_size(self) -> None:
        """R7: a message at the limit passes; one above, or of 8 GiB, is answered 1009."""
        half = b"x" * (LIMIT // 2)
        first = client_frame(TEXT, half, fin=False)

        def legal() -> None:
            for size in (LIMIT - 1, LIMIT):
                self.taken(client_frame(TEXT, b"x" * size), payload=b"x" * size)
            self.taken(first, client_frame(CONTINUATION, half), payload=half + half)

        def attack() -> None:
            self.closed(client_frame(TEXT, b"x" * (LIMIT + 1)))
            self.closed(first, client_frame(CONTINUATION, half + b"x"))
            self.closed(bytes((0x80 | TEXT, 0xFF)) + EIGHT_GIB, ENDLESS)
            self.closed(first, bytes((0x80 | CONTINUATION, 0xFF)) + EIGHT_GIB, ENDLESS)
            self.closed(bytes((0x80 | PING, 0xFF)) + EIGHT_GIB, ENDLESS, code=1002)

        self.figure_of("messages above the limit, frames of 8 GiB", legal, attack)

    def test_fragments(self) -> None:
        """R7: 64 fragments pass; one more, or a million empty ones, are answered 1009."""

        def fragments(count: int, content: bytes) -> bytes:
            first = client_frame(TEXT, content, fin=False)
            middle = client_frame(CONTINUATION, content, fin=False)
            return first + middle * (count - 2) + client_frame(CONTINUATION, content)

        def legal() -> None:
            self.taken(fragments(FRAGMENTS, b"xy"), payload=b"xy" * FRAGMENTS)

        def attack() -> None:
            self.closed(fragments(FRAGMENTS + 1, b"x"))
            self.closed(fragments(1_000_000, b""))

        self.figure_of("65 fragments, and a million empty ones", legal, attack)


class PostTests(LimitTests):
    """Messages by POST."""

    def begun(self, head: str, *pieces: bytes) -> Peer:
        """A peer that has sent a head, with these fields, and what comes behind it."""
        peer = self.peer(self.bus)
        peer.send(f"POST /a HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
        for piece in pieces:
            peer.send(piece)
        return peer

    def taken(self, head: str, *pieces: bytes, payload: bytes) -> None:
        """A peer POSTs a message that the reader gets."""
        peer = self.begun(head, *pieces)
        self.assertEqual(peer.response()[0], 200)
        self.assert_received(payload)
        peer.close()

    def refused(self, head: str, *pieces: bytes) -> None:
        """A peer POSTs too much: it reads 413, nothing before it, then the end."""
        peer = self.begun(head, *pieces)
        self.assertEqual(peer.response()[0], 413)
        self.assertEqual(peer.rest(), b"")
        peer.close()

    def test_length(self) -> None:
        """R7: a body at the limit passes; a longer one is answered 413, whatever it sends."""

        def length(size: int | str) -> str:
            return f"Content-Length: {size}"

        def legal() -> None:
            for size in (LIMIT - 1, LIMIT):
                self.taken(length(size), b"x" * size, payload=b"x" * size)

        def attack() -> None:
            self.refused(length(LIMIT + 1), b"x" * (LIMIT + 1))
            self.refused(length(10**9), ENDLESS)
            self.refused(length("9" * 5000), ENDLESS)

        self.figure_of("POSTs above the limit, by length", legal, attack)

    def test_chunked(self) -> None:
        """R7: chunks up to the limit pass; with the one too much comes 413."""
        chunked = "Transfer-Encoding: chunked"

        def chunk(data: bytes) -> bytes:
            return b"%x\r\n%b\r\n" % (len(data), data)

        def legal() -> None:
            for size in (LIMIT - 1, LIMIT):
                pieces = chunk(b"x" * 1000), chunk(b"x" * (size - 1000)), b"0\r\n\r\n"
                self.taken(chunked, *pieces, payload=b"x" * size)

        def attack() -> None:
            self.refused(chunked, chunk(b"x" * LIMIT), chunk(b"x"), b"0\r\n\r\n")
            self.refused(chunked, chunk(b"x" * (LIMIT + 1)), b"0\r\n\r\n")
            self.refused(chunked, chunk(b"x") * 200_000)
            self.refused(chunked, b"%x\r\n" % (8 << 30), ENDLESS)

        self.figure_of("POSTs above the limit, in chunks", legal, attack)

    def test_expect(self) -> None:
        """R7: who asks first hears 100 for a body at the limit, and at once 413 for more."""

        def asking(size: int) -> str:
            return f"Content-Length: {size}\r\nExpect: 100-continue"

        def legal() -> None:
            peer = self.begun(asking(LIMIT))
            self.assertIn(b" 100 ", peer.until(b"\r\n\r\n"))
            peer.send(b"x" * LIMIT)
            self.assertEqual(peer.response()[0], 200)
            self.assert_received(b"x" * LIMIT)
            peer.close()

        def attack() -> None:
            self.refused(asking(LIMIT + 1))
            self.refused(asking(100 * 10**9))
            self.refused(asking(100 * 10**9), ENDLESS)

        self.figure_of("POSTs above the limit, that ask first", legal, attack)
