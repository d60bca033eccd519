"""One connection, made again whenever it is lost."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pinghub.backplane.connector import GOOD, LONGEST, SHORTEST, Connector
from pinghub.collector import Attempts
from tests.redis_in_memory import MemoryRedis


class ConnectorTests(SynchronousTestCase):
    """Attempts, and the time between them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = MemoryRedis(self.clock)
        self.problems: list[str] = []
        self.made: list[Any] = []
        test = self

        class Connection(Protocol):
            def connectionMade(self) -> None:
                test.made.append(self)

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                test.connector.lost()

        self.connector = Connector(
            self.clock, self.endpoint, Factory.forProtocol(Connection), self.problems.append
        )

    def delay(self) -> float:
        """How long it takes until the next attempt."""
        attempts, begun = self.endpoint.attempts, self.clock.seconds()
        while self.endpoint.attempts == attempts:
            self.clock.advance(0.001)
            self.assertLess(self.clock.seconds() - begun, 2)
        return self.clock.seconds() - begun

    def test_at_once(self) -> None:
        """It connects when it is started."""
        self.connector.start()
        self.assertEqual((len(self.made), self.problems), (1, []))

    def test_delays(self) -> None:
        """Delays double up to the longest; up to a half of each is left out."""
        self.endpoint.refusing = True
        self.connector.start()
        for failures in range(12):
            most = min(LONGEST, SHORTEST * 2**failures)
            delay = self.delay()
            self.assertGreater(delay, most / 2 - 0.002)
            self.assertLess(delay, most + 0.002)
        self.assertEqual(set(self.problems), {"Connection was refused by other side"})
        self.assertEqual(len(self.problems), 13)

    def test_back_within_a_second(self) -> None:
        """However long it was away: it is connected again half a second after it is back."""
        self.endpoint.refusing = True
        self.connector.start()
        for _ in range(3600):
            self.clock.advance(1)
        self.endpoint.refusing = False
        self.assertLess(self.delay(), LONGEST + 0.002)
        self.assertEqual(len(self.made), 1)

    def test_lost(self) -> None:
        """A connection that was good for a while is made again soon."""
        self.connector.start()
        for _ in range(20):
            self.connector.usable()
            self.clock.advance(GOOD + 0.01)
            self.endpoint.cut()
            self.assertLess(self.delay(), SHORTEST + 0.002)

    def test_good_for_a_moment(self) -> None:
        """One that is lost again and again is tried ever later, whatever it was good for."""
        self.connector.start()
        for _ in range(6):
            self.connector.usable()
            self.clock.advance(GOOD / 2)
            self.endpoint.cut()
            delay = self.delay()
        self.assertGreater(delay, LONGEST / 2 - 0.002)

    def test_made_all_the_same(self) -> None:
        """A connection that comes though the attempt was cancelled is ended, and that is all."""
        connect = self.endpoint.connect

        def too_late(factory: Any) -> Deferred[Any]:
            return Deferred(
                lambda attempt: attempt.callback(self.successResultOf(connect(factory)))
            )

        self.patch(self.endpoint, "connect", too_late)
        self.connector.start()
        stopped = self.connector.stop()
        self.assertNoResult(stopped)
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.assertEqual(self.endpoint.sessions, [])
        self.clock.advance(10)
        self.assertEqual(self.endpoint.attempts, 1)

    def test_cycles(self) -> None:
        """The collector knows when an attempt is under way, which leaves cycles."""
        log: list[str] = []
        for name in ("begin", "end", "close"):
            self.patch(Attempts, name, lambda _, name=name: log.append(name))
        self.endpoint.refusing = True
        self.connector.start()
        self.delay()
        self.assertEqual(log, ["begin", "end"] * 2)
        self.endpoint.refusing = False
        self.delay()
        self.endpoint.refusing, self.endpoint.hanging = False, True
        self.endpoint.cut()
        self.delay()
        self.assertEqual(log, [*["begin", "end"] * 3, "begin"])
        self.connector.stop()
        self.assertEqual(log[-2:], ["close", "end"])

    def test_good_for_nothing(self) -> None:
        """One that is closed as soon as it is made is like none: it is tried ever later."""
        self.connector.start()
        for _ in range(6):
            self.endpoint.cut()
            delay = self.delay()
        self.assertGreater(delay, LONGEST / 2 - 0.002)

    def test_stop(self) -> None:
        """Stopped, it ends the connection, and makes no other."""
        self.connector.start()
        stopped = self.connector.stop()
        self.assertNoResult(stopped)
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.clock.advance(5)
        self.assertEqual(self.endpoint.attempts, 1)

    def test_stop_between_attempts(self) -> None:
        """Stopped while it waits, it waits no longer."""
        self.endpoint.refusing = True
        self.connector.start()
        self.successResultOf(self.connector.stop())
        self.clock.advance(5)
        self.assertEqual(self.endpoint.attempts, 1)

    def test_stop_an_attempt(self) -> None:
        """Stopped in the middle of an attempt, it gives that up, and has no problem with it."""
        self.endpoint.hanging = True
        self.connector.start()
        self.successResultOf(self.connector.stop())
        self.clock.advance(5)
        self.assertEqual((self.endpoint.attempts, self.problems), (1, []))

    def test_never_started(self) -> None:
        """What was never started is stopped at once."""
        self.successResultOf(self.connector.stop())

    def test_start_again(self) -> None:
        """Stopped, it can be started again."""
        self.connector.start()
        self.connector.stop()
        self.clock.advance(0)
        self.connector.start()
        self.assertEqual(len(self.made), 2)
        self.endpoint.cut()
        self.delay()
        self.assertEqual(len(self.made), 3)
