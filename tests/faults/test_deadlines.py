"""Peers that send one byte per second."""

from __future__ import annotations

import heapq
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass

from pinghub.testing import CLOSE, TEXT, client_frame, http_request, parse_frame
from tests.faults.harness import FaultTests, Peer, scale
from tests.running import Server

PEERS = 200
PACE = 1.0
"""Seconds between two bytes."""


@dataclass(eq=False)
class Slow:
    """A peer that sends a byte now and then.

    Attributes:
        peer: its connection.
        begun: when its deadline began.
        left: what it is going to send.
        received: what it has got.
        cut: when it was told that it is too late.
        ended: whether the server has ended the stream.
    """

    peer: Peer
    begun: float
    left: bytes
    received: bytes = b""
    cut: float = 0.0
    ended: bool = False

    def send_one(self) -> None:
        """Send the next byte."""
        self.peer.try_to_send(self.left[:1])
        self.left = self.left[1:]

    def read(self) -> None:
        """Take what has come, or the end."""
        try:
            data = self.peer.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self.cut = self.cut or time.monotonic()
        self.received += data
        self.ended = not data


class DeadlineTests(FaultTests):
    """No byte prolongs a deadline."""

    DEADLINE = scale(2.0, 10.0)

    def assert_cut(
        self, what: str, begin: Callable[[Server], Slow], is_answer: Callable[[bytes], bool]
    ) -> None:
        """Slow peers are cut at their deadline, and told why; others are served well.

        Args:
            what: what they are slow with.
            begin: makes one of them.
            is_answer: whether they have been told what they should be.
        """
        server = self.server(f"--head-timeout={self.DEADLINE}", f"--body-timeout={self.DEADLINE}")
        prober = self.round_trips(server)
        lives: list[float] = []

        def attack() -> float:
            with prober.window() as window:
                slow = [begin(server) for _ in range(PEERS)]
                self.drip(slow)
            for each in slow:
                self.assertTrue(each.ended, f"slow {what} are cut")
                self.assertTrue(is_answer(each.received), each.received)
            lives.extend(each.cut - each.begun for each in slow)
            return window().p99

        bound = self.bound_of(prober, 20)
        p99 = self.least_of(attack, bound)
        latest, earliest = self.DEADLINE + 1, self.DEADLINE - 1
        self.figure("R8", f"cut of 200 slow {what}, latest", max(lives), latest, "s")
        self.figure("R8", f"cut of 200 slow {what}, earliest", min(lives), earliest, "s", True)
        self.figure("R8", f"another's round trip beside slow {what}, p99", p99, bound, "ms")

    def test_heads(self) -> None:
        """R8: 200 heads of one byte per second are answered 408 in time."""

        def begin(server: Server) -> Slow:
            begun = time.monotonic()
            return Slow(self.peer(server), begun, http_request("POST", "/a", b"x" * 100))

        self.assert_cut("heads", begin, _is_408)

    def test_bodies(self) -> None:
        """R8: 200 bodies of one byte per second are answered 408 in time."""

        def begin(server: Server) -> Slow:
            peer = self.peer(server)
            head, blank, body = http_request("POST", "/a", b"x" * 100).partition(b"\r\n\r\n")
            begun = time.monotonic()
            peer.send(head + blank)
            return Slow(peer, begun, body)

        self.assert_cut("bodies", begin, _is_408)

    def test_frames(self) -> None:
        """R8: 200 messages of one byte per second are answered with close 1008 in time."""

        def begin(server: Server) -> Slow:
            peer = self.subscriber(server)
            frame = client_frame(TEXT, b"x" * 100)
            begun = time.monotonic()
            peer.send(frame[:1])
            return Slow(peer, begun, frame[1:])

        self.assert_cut("frames", begin, _is_1008)

    def drip(self, slow: list[Slow]) -> None:
        """Send a byte for each of them every second, evenly spread, until all are cut."""
        start = time.monotonic()
        # When to send for whom; the number decides between equals.
        due = [(start + PACE * number / len(slow), number) for number in range(len(slow))]
        heapq.heapify(due)
        with selectors.DefaultSelector() as selector:
            for each in slow:
                selector.register(each.peer.socket, selectors.EVENT_READ, each)
            while selector.get_map() and due and due[0][0] < start + 30:
                for key, _ in selector.select(max(0.0, due[0][0] - time.monotonic())):
                    key.data.read()
                    if key.data.ended:
                        selector.unregister(key.fileobj)
                        key.data.peer.close()
                while due and due[0][0] <= time.monotonic():
                    when, number = heapq.heappop(due)
                    if not slow[number].ended and slow[number].left:
                        slow[number].send_one()
                        heapq.heappush(due, (when + PACE, number))


def _is_408(received: bytes) -> bool:
    return received.startswith(b"HTTP/1.1 408 ")


def _is_1008(received: bytes) -> bool:
    parsed = parse_frame(received)
    return parsed is not None and (parsed[0].opcode, parsed[0].code, parsed[1]) == (
        CLOSE,
        1008,
        b"",
    )
