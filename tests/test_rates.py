"""How often a peer may do something."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pinghub.rates import Rate


class RateTests(SynchronousTestCase):
    """A token bucket that holds one second's worth."""

    def setUp(self) -> None:
        self.clock = Clock()

    def allowed(self, rate: Rate, events: int) -> int:
        """How many of some events that come at once are allowed."""
        return sum(rate.allows() for _ in range(events))

    def test_a_burst(self) -> None:
        """As many events as in one second may come at once, and no more."""
        self.assertEqual(self.allowed(Rate(self.clock, 20), 50), 20)

    def test_refill(self) -> None:
        """What was used comes back with time, in proportion."""
        rate = Rate(self.clock, 20)
        self.allowed(rate, 50)
        self.clock.advance(0.25)
        self.assertEqual(self.allowed(rate, 50), 5)
        self.clock.advance(0.5)
        self.assertEqual(self.allowed(rate, 50), 10)

    def test_quiet_time_is_not_saved(self) -> None:
        """After a quiet hour no more may come at once than after a quiet second."""
        rate = Rate(self.clock, 20)
        self.clock.advance(3600)
        self.assertEqual(self.allowed(rate, 50), 20)

    def test_refused_events_cost_nothing(self) -> None:
        """Whoever keeps on trying gets the same rate as whoever waits."""
        rate = Rate(self.clock, 4)
        self.allowed(rate, 4)
        allowed = 0
        for _ in range(32):
            self.clock.advance(0.125)
            allowed += self.allowed(rate, 10)
        self.assertEqual(allowed, 16)

    def test_below_one_per_second(self) -> None:
        """A rate of 0.5 is one event every two seconds, the first one at once."""
        rate = Rate(self.clock, 0.5)
        self.assertEqual(self.allowed(rate, 3), 1)
        self.clock.advance(1.5)
        self.assertEqual(self.allowed(rate, 3), 0)
        self.clock.advance(0.5)
        self.assertEqual(self.allowed(rate, 3), 1)
        self.clock.advance(600)
        self.assertEqual(self.allowed(rate, 3), 1)

    @settings(deadline=None, max_examples=100)
    @given(
        per_second=st.sampled_from([0.25, 1.0, 3.0, 20.0]),
        steps=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 40)), max_size=20),
    )
    def test_never_above(self, per_second: float, steps: list[tuple[float, int]]) -> None:
        """Over any time, no more events pass than the rate allows, and one burst."""
        clock = Clock()
        rate = Rate(clock, per_second)
        passed = 0
        for seconds, events in steps:
            clock.advance(seconds)
            passed += self.allowed(rate, events)
            bound = clock.seconds() * per_second + max(per_second, 1.0)
            self.assertLessEqual(passed, bound + 1e-6)
