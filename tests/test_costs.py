"""What work costs in system calls, function calls and memory: none of them knows a clock.

A cost is the difference between much and little of the same work, for one unit of it, so that
what comes once does not count. A bound lies between the cost and twice the cost: whoever makes
something cheaper lowers the bound as well.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pinghub.limits import Limits
from pinghub.outbox import PIECE
from pinghub.testing import (
    TEXT,
    MemoryReactor,
    MemoryServer,
    MemoryTransport,
    client_frame,
    http_request,
    upgrade_request,
)

LITTLE, MUCH = 100, 300
MESSAGE = b"x" * 100
FRAME = client_frame(TEXT, MESSAGE)
POST = http_request("POST", "/a", MESSAGE)

Work = Callable[[], None]


class CostTests(SynchronousTestCase):
    """The kernel is a fake that counts, and keeps nothing of what it is given for good."""

    def setUp(self) -> None:
        self.counts: Counter[str] = Counter()
        self.discard = False
        keep = MemoryTransport.send

        def send(transport: MemoryTransport, data: bytes) -> int:
            self.counts["writes"] += 1
            return len(data) if self.discard else keep(transport, data)

        self.patch(MemoryTransport, "send", send)
        for name in ("addWriter", "removeWriter"):
            self.patch(MemoryReactor, name, self.counted(getattr(MemoryReactor, name)))

    def counted(self, method: Callable[..., None]) -> Callable[..., None]:
        """A method that counts as a registration with the reactor."""

        def counted(reactor: MemoryReactor, writer: Any) -> None:
            self.counts["registrations"] += 1
            method(reactor, writer)

        return counted

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        """Count calls of functions written in Python and in C."""
        if event in ("call", "c_call"):
            self.counts["calls"] += 1

    def counts_of(self, work: Work) -> Counter[str]:
        """What some work costs."""
        self.discard = True
        self.counts.clear()
        before = sys.getprofile()
        sys.setprofile(self.profile)
        try:
            work()
        finally:
            sys.setprofile(before)
            self.discard = False
        return self.counts.copy()

    def assert_costs(self, prepare: Callable[[int], Work], **bounds: float) -> None:
        """One more unit of the work that ``prepare`` makes costs at most so much."""
        little, much = self.counts_of(prepare(LITTLE)), self.counts_of(prepare(MUCH))
        for name, bound in bounds.items():
            cost = (much[name] - little[name]) / (MUCH - LITTLE)
            self.assertLessEqual(cost, bound, name)

    def peak(self, work: Work) -> int:
        """The most memory that some work takes at a time, in bytes."""
        self.discard = True
        gc.collect()
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            self.discard = False

    def assert_takes(
        self, prepare: Callable[[int], Work], size: float, little: int = LITTLE, much: int = MUCH
    ) -> None:
        """One more unit of the work that ``prepare`` makes takes at most so many bytes."""
        self.peak(prepare(little))  # the first time takes more
        more = self.peak(prepare(much)) - self.peak(prepare(little))
        self.assertLessEqual(more / (much - little), size)

    def server(self, subscribers: int, room: int | None = None) -> MemoryServer:
        """A server with subscribers of one channel, in whose kernel buffers is some room."""
        server = MemoryServer(Limits(ping_interval=0))
        for _ in range(subscribers):
            server.subscribe("/a", room)
        return server

    def fan_out(self, messages: int) -> Callable[[int], Work]:
        """Messages of one turn, to so many subscribers."""

        def prepare(count: int) -> Work:
            server = self.server(count)

            def work() -> None:
                for _ in range(messages):
                    server.manager.publish("/a", MESSAGE)
                server.reactor.turn()

            return work

        return prepare

    def test_a_delivery(self) -> None:
        """A delivery is one system call and a handful of function calls."""
        self.assert_costs(self.fan_out(1), writes=1, registrations=0, calls=11)

    def test_deliveries_of_a_turn(self) -> None:
        """Sixteen messages of one turn cost a subscriber what one of them does."""
        self.assert_costs(self.fan_out(16), writes=1, registrations=0, calls=11)

    def test_websocket_messages(self) -> None:
        """A message that arrives alone costs one write to each subscriber, its sender."""

        def prepare(count: int) -> Work:
            peer = self.server(0).subscribe("/a")

            def work() -> None:
                for _ in range(count):
                    peer.send(FRAME)

            return work

        self.assert_costs(prepare, writes=1, registrations=0, calls=110)

    def test_websocket_messages_in_one_segment(self) -> None:
        """Messages that arrive together are read and answered together."""

        def prepare(count: int) -> Work:
            peer = self.server(0).subscribe("/a")
            return lambda: peer.send(FRAME * count)

        self.assert_costs(prepare, writes=0.015, registrations=0, calls=40)

    def posts(self, request: bytes) -> Callable[[int], Work]:
        """So many requests, one after the other, on one connection."""

        def prepare(count: int) -> Work:
            peer = self.server(0).connect()

            def work() -> None:
                for _ in range(count):
                    peer.send(request)

            return work

        return prepare

    def test_posts(self) -> None:
        """A POST on a connection that is kept alive is answered by one write."""
        self.assert_costs(self.posts(POST), writes=1, registrations=0, calls=120)

    def test_unusual_posts(self) -> None:
        """A POST that has to go through twisted.web costs several times as much, and no more."""
        request = http_request("POST", "/a", MESSAGE, {"Origin": "http://example.com"})
        self.assert_costs(self.posts(request), writes=1, registrations=4, calls=700)

    def test_pipelined_posts(self) -> None:
        """The answers to sixteen POSTs of one segment are joined."""

        def prepare(count: int) -> Work:
            peer = self.server(0).connect()
            return lambda: peer.send(POST * count)

        self.assert_costs(prepare, writes=0.07, registrations=0, calls=60)

    def test_handshakes(self) -> None:
        """A subscriber that comes costs one write."""

        def prepare(count: int) -> Work:
            server = self.server(0)
            request = upgrade_request("/a")

            def work() -> None:
                for _ in range(count):
                    server.connect().send(request)

            return work

        self.assert_costs(prepare, writes=1, registrations=0, calls=400)

    def test_memory_of_a_delivery(self) -> None:
        """A message is not copied for those who take it."""
        self.assert_takes(self.message(1000), 60)

    def test_memory_of_a_backlog(self) -> None:
        """Of a message that waits, a piece is copied for each subscriber; the rest is shared."""
        self.assert_takes(self.message(65536, room=200), 1.4 * PIECE)

    def message(self, size: int, room: int | None = None) -> Callable[[int], Work]:
        """A message of some size, to so many subscribers."""

        def prepare(count: int) -> Work:
            server = self.server(count, room)

            def work() -> None:
                self.discard = room is None
                server.manager.publish("/a", b"x" * size)
                server.reactor.turn()

            return work

        return prepare

    def test_memory_of_a_subscriber(self) -> None:
        """A subscriber takes some KiB, its end of the fake connection included."""

        def prepare(count: int) -> Work:
            server = self.server(0)
            request = upgrade_request("/a")

            def work() -> None:
                peers = [server.connect() for _ in range(count)]
                for peer in peers:
                    peer.send(request)

            return work

        self.assert_takes(prepare, 9000)

    def test_memory_of_posts(self) -> None:
        """A POST leaves nothing behind."""

        def prepare(count: int) -> Work:
            peer = self.server(1).connect()

            def work() -> None:
                for _ in range(count):
                    peer.send(POST)

            return work

        self.assert_takes(prepare, 10)

    def test_memory_of_a_post(self) -> None:
        """The body of a POST is copied a few times on its way to a subscriber."""

        def prepare(size: int) -> Work:
            peer = self.server(1).connect()
            request = http_request("POST", "/a", b"x" * size)
            return lambda: peer.send(request)

        self.assert_takes(prepare, 6, 10_000, 60_000)

    def test_memory_of_a_websocket_message(self) -> None:
        """A message is copied a few times on its way from one websocket to the others."""

        def prepare(size: int) -> Work:
            peer = self.server(0).subscribe("/a")
            frame = client_frame(TEXT, b"x" * size)
            return lambda: peer.send(frame)

        self.assert_takes(prepare, 8, 1000, 8000)
        self.assert_takes(prepare, 4.5, 10_000, 60_000)
