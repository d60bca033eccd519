"""The garbage collector, and what it has not to do."""

from __future__ import annotations

import functools
import gc
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from pinghub import collector
from pinghub.collector import PATIENCE, ROUNDS, YOUNGEST, Attempts, freeze_survivors, tune_collector
from pinghub.testing import BINARY, CLOSE, TEXT, MemoryServer, client_frame, http_request


class CycleTests(SynchronousTestCase):
    """Connections that have ended are freed by their reference counts."""

    def setUp(self) -> None:
        self.server = MemoryServer()

    def assert_no_cycles(self, connection: Callable[[], None]) -> None:
        """A connection leaves nothing for the collector."""
        connection()
        self.server.run(5)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for _ in range(3):
            connection()
        self.server.run(5)
        self.addCleanup(gc.garbage.clear)
        self.addCleanup(gc.set_debug, gc.get_debug())
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = Counter(type(each).__name__ for each in gc.garbage)
        self.assertEqual(kinds, {}, "left behind by three connections")

    def test_a_subscriber_that_vanishes(self) -> None:
        """A websocket that is lost leaves no cycle."""

        def connection() -> None:
            peer = self.server.subscribe("/a")
            peer.send_text("x")
            peer.close()

        self.assert_no_cycles(connection)

    def test_a_subscriber_that_closes(self) -> None:
        """A websocket that is closed leaves no cycle."""

        def connection() -> None:
            peer = self.server.subscribe("/a")
            peer.send(client_frame(TEXT, b"x") + client_frame(CLOSE, b"\x03\xe8"))
            peer.close()

        self.assert_no_cycles(connection)

    def test_a_subscriber_that_fails(self) -> None:
        """A websocket that is failed leaves no cycle."""

        def connection() -> None:
            peer = self.server.subscribe("/a")
            peer.send(client_frame(BINARY, b"x"))
            peer.close()

        self.assert_no_cycles(connection)

    def test_a_subscriber_that_is_evicted(self) -> None:
        """A websocket that is evicted leaves no cycle."""

        def connection() -> None:
            self.server.subscribe("/a", room=200)
            for _ in range(20):
                self.server.post("/a", b"x" * 65_536)

        self.assert_no_cycles(connection)

    def test_a_publisher(self) -> None:
        """An HTTP connection leaves no cycle, however it ends."""

        def connection() -> None:
            self.server.post("/a", b"x")
            self.server.post("/a", b"x", Connection="close")
            peer = self.server.connect()
            peer.send(http_request("POST", "/a", b"x") + b"nonsense\r\n\r\n")
            peer.close()

        self.assert_no_cycles(connection)

    def test_a_request_without_an_end(self) -> None:
        """An HTTP connection with half a request, or a refused one, leaves no cycle."""

        def post(fields: str, body: str) -> bytes:
            return f"POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}".encode()

        def vanish(data: bytes) -> None:
            peer = self.server.connect()
            peer.send(data)
            peer.close()

        def wait(data: bytes) -> None:
            self.server.connect().send(data)
            self.server.run(60)

        unfinished = post("Content-Length: 100", "half of")
        for name, end, data in (
            ("half a head", vanish, unfinished[:30]),
            ("half a body", vanish, unfinished),
            ("half a chunk", vanish, post("Transfer-Encoding: chunked", "5\r\nab")),
            ("no chunk", vanish, post("Transfer-Encoding: chunked", "zz\r\nab")),
            ("too large", vanish, post("Content-Length: 100000", "x")),
            ("too late", wait, unfinished),
        ):
            with self.subTest(name):
                self.assert_no_cycles(functools.partial(end, data))


class TuningTests(SynchronousTestCase):
    """The collector of this very process, which gets it back as it was."""

    def setUp(self) -> None:
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        callbacks = list(gc.callbacks)
        self.addCleanup(gc.callbacks.__setitem__, slice(None), callbacks)
        gc.callbacks[:] = [each for each in callbacks if each is not freeze_survivors]
        self.addCleanup(gc.unfreeze)

    def test_tuned(self) -> None:
        """Tuning it twice is tuning it once; what there is now is never looked at again."""
        before = len(gc.callbacks)
        tune_collector()
        tune_collector()
        self.assertEqual(len(gc.callbacks), before + 1)
        self.assertEqual(gc.get_threshold(), (YOUNGEST, ROUNDS, ROUNDS))
        self.assertGreater(gc.get_freeze_count(), 1000)

    def test_survivors(self) -> None:
        """What survives a second collection is set aside; what survives one is not yet."""
        tune_collector()
        gc.disable()
        self.addCleanup(gc.enable)
        frozen = gc.get_freeze_count()
        kept: list[list[int]] = [[] for _ in range(100)]
        gc.collect(0)
        self.assertEqual(gc.get_freeze_count(), frozen)
        gc.collect(1)
        self.assertGreaterEqual(gc.get_freeze_count(), frozen + len(kept))

    def attempts(self) -> tuple[Attempts, Callable[[int], bool]]:
        """Somebody who connects, and a function that collects: whether that set something aside."""
        tune_collector()
        gc.disable()
        self.addCleanup(gc.enable)
        self.now = 0.0
        self.patch(collector, "time", SimpleNamespace(monotonic=lambda: self.now))
        kept: list[list[int]] = []

        def collect(generation: int) -> bool:
            frozen = gc.get_freeze_count()
            kept.extend([] for _ in range(100))
            gc.collect(generation)
            return gc.get_freeze_count() > frozen

        attempts = Attempts()
        self.addCleanup(attempts.close)
        return attempts, collect

    def test_attempts(self) -> None:
        """While somebody connects nothing is set aside, nor before what that left is collected."""
        attempts, collect = self.attempts()
        self.assertTrue(collect(1))
        for _ in range(2):
            attempts.begin()
            self.assertEqual([collect(1), collect(2), collect(1)], [False] * 3)
            attempts.end()
            self.assertEqual([collect(1), collect(0), collect(2)], [False] * 3)
            self.assertTrue(collect(1))
        attempts.begin()
        self.assertFalse(collect(1))
        attempts.close()
        self.assertTrue(collect(1))

    def test_short_attempts(self) -> None:
        """An attempt during which nothing was collected makes no difference."""
        attempts, collect = self.attempts()
        for generation in (1, 2):
            attempts.begin()
            collect(0)
            attempts.end()
            self.assertTrue(collect(generation))

    def test_attempts_without_end(self) -> None:
        """It is a broker that is away for long: now and then all that there is is set aside."""
        attempts, collect = self.attempts()
        attempts.begin()
        for _ in range(3):
            self.now += PATIENCE
            self.assertFalse(collect(2))
            self.now += 1
            self.assertFalse(collect(1))
            self.assertTrue(collect(2))
            self.assertFalse(collect(2))

    def test_two_without_end(self) -> None:
        """Several of them hold it up no longer than one, whenever each began."""
        attempts, collect = self.attempts()
        other = Attempts()
        self.addCleanup(other.close)
        attempts.begin()
        self.now += PATIENCE / 2
        other.begin()
        outcomes = []
        for _ in range(40):
            self.now += PATIENCE / 10
            outcomes.append(collect(2))
        self.assertEqual([number for number, each in enumerate(outcomes) if each], [10, 21, 32])

    def test_attempts_untuned(self) -> None:
        """Where the collector is not tuned there is nothing to be careful with."""
        before = list(gc.callbacks)
        attempts = Attempts()
        attempts.begin()
        self.assertEqual(gc.callbacks, before)
        attempts.end()
        attempts.close()

    def test_begin(self) -> None:
        """Nothing is done when a collection begins."""
        frozen = gc.get_freeze_count()
        freeze_survivors("start", {"generation": 1})
        self.assertEqual(gc.get_freeze_count(), frozen)
