"""Readers that stall: what they cost in memory, and what the others notice of them."""

from __future__ import annotations

import statistics
import time

from tests.faults.harness import (
    FULL,
    MIB,
    SMALL_BUFFER,
    Crowd,
    FaultTests,
    Latency,
    PeakMemory,
    Peer,
    eventually,
    numbered,
    scale,
    until_hung_up,
)
from tests.running import Server

READERS = 50
MESSAGES = 400
LARGE = 64 * 1024
FILLING = 80
"""So many large messages fill the kernel's buffers (tcp_wmem ends at 4 MiB) and some more."""


class MemoryTests(FaultTests):
    """Nothing but the bounds decides how much memory stalled readers take."""

    def grow(self, channels: int, what: str, bound: float) -> float:
        """Publish to stalled readers until all are evicted.

        Args:
            channels: how many channels they are spread over.
            what: names the figure.
            bound: how much the memory may grow, in MiB.

        Returns:
            By how much it has grown at the most.
        """
        server = self.server()
        publisher = self.peer(server)
        # Buffers of the process itself get their size before anybody is stalled.
        healthy = self.crowd(server, "/warm", 1)
        for number in range(50):
            publisher.post("/warm", numbered(number, LARGE))
        self.assertTrue(healthy.wait_for(50))

        stalled = [self.stalled(server, f"/{number % channels}") for number in range(READERS)]
        paths = [f"/{number}" for number in range(channels)]
        counts: dict[str, int] = {}
        message = numbered(0, LARGE)
        peak = PeakMemory(server.process.pid)
        for _ in range(MESSAGES):
            for path in paths:
                status, counts[path] = publisher.post(path, message)
                self.assertEqual(status, 200)
            # The full form goes on. Nothing is gained by much more than the bound.
            if (not any(counts.values()) and not FULL) or peak.growth > 3 * bound * MIB:
                break
        grown = peak.growth / MIB
        self.figure("R1", f"RSS, 50 stalled readers of {what}", grown, bound, "MiB")
        self.assertEqual(set(counts.values()), {0}, "all are evicted")
        self.assertEqual(len(until_hung_up(stalled, 5)), READERS)
        return grown

    def test_one_channel(self) -> None:
        """R1: readers of one channel that stall share the bytes that wait for them."""
        self.grow(1, "one channel", 8)

    def test_a_channel_for_each(self) -> None:
        """R1: readers of as many channels take up their backlogs and little more."""
        grown = self.grow(READERS, "50 channels", 66)
        # Less would mean that the backlogs were never full.
        self.figure("R1", "RSS, backlogs of 50 channels", grown, 32, "MiB", at_least=True)


class EvictionTests(FaultTests):
    """Who stalls is evicted; the others do not notice."""

    def gather(self, server: Server) -> tuple[list[Peer], Crowd]:
        """Stalled readers, and as many healthy ones between them.

        A few of the healthy ones have small buffers: they lag behind a burst, and catch up.
        """
        stalled, healthy = [], []
        for number in range(READERS):
            healthy.append(
                self.subscriber(server, "/a", SMALL_BUFFER if number % 20 == 1 else None)
            )
            stalled.append(self.stalled(server))
        crowd = Crowd(healthy)
        crowd.__enter__()
        self.addCleanup(crowd.__exit__, None, None, None)
        return stalled, crowd

    def assert_complete(self, crowd: Crowd, count: int) -> None:
        """Everybody has got so many messages, in order, and is still there."""
        self.assertTrue(crowd.wait_for(count))
        for reader in crowd.readers:
            self.assertEqual(reader.numbers, list(range(count)))

    def publish(self, publisher: Peer, number: int) -> int:
        """POST a large message; how many it was handed to."""
        status, subscribers = publisher.post("/a", numbered(number, LARGE))
        self.assertEqual(status, 200)
        return subscribers

    def test_backlog(self) -> None:
        """R2: with the default bounds the backlog evicts, and healthy readers lose nothing."""
        server = self.server()
        publisher = self.peer(server)
        stalled, crowd = self.gather(server)
        evicted = MESSAGES
        for number in range(MESSAGES):
            subscribers = self.publish(publisher, number)
            self.assertGreaterEqual(subscribers, READERS)
            if subscribers == READERS:
                evicted = min(evicted, number)
            # Healthy is who keeps up.
            self.assertTrue(crowd.wait_for(number - 4))
        self.assert_complete(crowd, MESSAGES)
        self.figure("R2", "64 KiB messages until all are evicted", evicted, FILLING, "messages")
        self.assertEqual(len(until_hung_up(stalled, 5)), READERS)

    def test_stall(self) -> None:
        """R2: who takes nothing is evicted in time, and healthy readers lose nothing."""
        stall = scale(2.0, 10.0)
        options = (f"--stall-timeout={stall}", "--max-backlog=64m", "--max-total-backlog=8g")
        server = self.server(*options)
        publisher = self.peer(server)
        stalled, crowd = self.gather(server)
        begun = time.monotonic()
        for number in range(FILLING):
            self.assertEqual(self.publish(publisher, number), 2 * READERS)
        filled = time.monotonic()
        # They are stalled now at the latest. The rest goes on beside them.
        for number in range(FILLING, MESSAGES):
            self.publish(publisher, number)
            self.assertTrue(crowd.wait_for(number - FILLING))
        gone = until_hung_up(stalled, stall + 10)
        self.assert_complete(crowd, MESSAGES)
        self.assertEqual(len(gone), READERS)
        latest, earliest = max(gone.values()) - filled, min(gone.values()) - begun
        self.figure("R2", "eviction, after the stall at the latest", latest, stall + 1, "s")
        self.figure("R2", "eviction, after the stall at the earliest", earliest, stall, "s", True)
        self.assertEqual(self.publish(publisher, MESSAGES), READERS)


class LatencyTests(FaultTests):
    """Healthy readers are served as fast as ever."""

    HEALTHY = 10
    INTERVAL = 0.005

    def setUp(self) -> None:
        self.bus = self.server("--stall-timeout=1h", "--max-backlog=64m", "--max-total-backlog=8g")
        self.publisher = self.peer(self.bus)

    def test_latency(self) -> None:
        """R3: messages arrive as fast beside stalled readers with a backlog as without."""
        self.window(stalled=0)  # Warms up.
        ratio = self.least_of(self.ratio, 2)
        self.figure("R3", "p99 beside 50 stalled readers / without", ratio, 2, "x")

    def ratio(self) -> float:
        """The medians of alternating windows, as a ratio."""
        alone, beside = [], []
        for _ in range(scale(5, 15)):
            alone.append(self.window(stalled=0).p99)
            beside.append(self.window(stalled=READERS).p99)
        return statistics.median(beside) / statistics.median(alone)

    def window(self, stalled: int) -> Latency:
        """Publish small messages at a steady pace: how long each took to each reader.

        Measured from when a message was due: what delays the publisher counts as well.
        """
        # They come first, in every fan-out.
        others = [self.stalled(self.bus) for _ in range(stalled)]
        for _ in range(FILLING):
            self.publish(numbered(0, LARGE))
        with Crowd([self.subscriber(self.bus) for _ in range(self.HEALTHY)]) as crowd:
            count = scale(150, 400)
            start = time.monotonic()
            for number in range(count):
                self.pass_time(start + number * self.INTERVAL - time.monotonic())
                subscribers = self.publish(numbered(number, 1024))
                self.assertEqual(subscribers, stalled + self.HEALTHY)
            self.assertTrue(crowd.wait_for(count))
        took = []
        for reader in crowd.readers:
            self.assertEqual(reader.numbers, list(range(count)))
            took += [when - start - n * self.INTERVAL for n, when in enumerate(reader.times)]
        for peer in [*others, *(reader.peer for reader in crowd.readers)]:
            peer.close()
        eventually(lambda: self.publish(numbered(0)) == 0, 5, "the readers are gone")
        return Latency.of(took)

    def publish(self, message: bytes) -> int:
        """Publish a message; how many subscribers it was handed to."""
        status, subscribers = self.publisher.post("/a", message)
        self.assertEqual(status, 200)
        return subscribers
