"""Deadlines of many connections, kept by one timer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pinghub.sweep import Sweep

STEP = 0.125


class SweepTests(SynchronousTestCase):
    """A sweep whose clock runs as a reactor does that is never late."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.errors: list[tuple[str, Exception]] = []
        self.sweep = Sweep(self.clock, lambda *error: self.errors.append(error))
        self.expired: list[tuple[str, float]] = []

    def callback(self, name: str = "it") -> Callable[[], None]:
        """A callable that notes when it was called."""
        return lambda: self.expired.append((name, self.clock.seconds()))

    def kept(self) -> int:
        """How many entries the containers of the sweep have, whatever they are called."""
        containers = (each for each in vars(self.sweep).values() if isinstance(each, dict | set))
        return sum(len(each) for each in containers)

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.pump([STEP] * round(seconds / STEP))

    def test_how_late_it_is(self) -> None:
        """Each turn tells how late it is."""
        late: list[float] = []
        self.sweep.on_tick = late.append
        self.sweep.arm(self.callback(), 10.0)
        self.clock.advance(0.5)
        self.clock.advance(0.75)
        self.assertEqual(late, [0.0, 0.25])

    def test_kept_to_within_two_ticks(self) -> None:
        """A deadline is never early and at most two ticks late, whenever it was armed."""
        self.sweep.arm(lambda: None, 1000)
        for phase in range(8):
            for seconds in (0.5, 1.0, 2.5, 10.0):
                self.run_for(phase * STEP)
                self.expired.clear()
                start = self.clock.seconds()
                self.sweep.arm(self.callback(), seconds)
                self.run_for(seconds + 1.0)
                case = f"{seconds} s, armed at {start}"
                self.assertEqual(len(self.expired), 1, case)
                elapsed = self.expired[0][1] - start
                self.assertGreaterEqual(elapsed, seconds, case)
                self.assertLessEqual(elapsed, seconds + 1.0, case)

    def test_served_since(self) -> None:
        """What was served since a turn is counted in whole ticks, and never too much."""
        self.sweep.arm(lambda: None, 1000)
        for phase in range(8):
            self.run_for(STEP)
            start, turns = self.clock.seconds(), self.sweep.turns
            self.assertEqual(self.sweep.served_since(turns), 0, phase)
            self.run_for(10.0)
            served = self.sweep.served_since(turns)
            elapsed = self.clock.seconds() - start
            self.assertLessEqual(served, elapsed, phase)
            self.assertGreaterEqual(served, elapsed - 1.0, phase)

    def test_never_early(self) -> None:
        """A deadline of any length is not early, even when turns come late."""
        for seconds in (0.5, 0.6, 0.9, 1.0, 1.7):
            for late in (0.0, 0.1, 0.4):
                for phase in (0.0, 0.3, 0.49, 0.55):
                    self.setUp()
                    self.sweep.arm(lambda: None, 1000)
                    self.clock.advance(0.5 + late)
                    # Between two turns, of which the second may be late.
                    self.clock.rightNow += phase
                    start = self.clock.seconds()
                    self.sweep.arm(self.callback(), seconds)
                    self.clock.advance(0)
                    self.clock.pump([0.01] * 400)
                    elapsed = self.expired[0][1] - start
                    case = f"{seconds} s, {late} s late, armed {phase} s after a turn: {elapsed}"
                    self.assertGreaterEqual(elapsed, seconds - 1e-9, case)
                    self.assertLessEqual(elapsed, seconds + 1.0, case)

    def test_once(self) -> None:
        """What has expired is forgotten."""
        it = self.callback()
        self.sweep.arm(it, 1)
        self.assertTrue(self.sweep.is_armed(it))
        self.run_for(10)
        self.assertEqual(len(self.expired), 1)
        self.assertFalse(self.sweep.is_armed(it))
        self.assertEqual(len(self.sweep), 0)

    def test_arming_again_replaces(self) -> None:
        """Arming again moves the deadline, in both directions."""
        it = self.callback()
        self.sweep.arm(it, 2)
        self.run_for(1)
        self.sweep.arm(it, 5)
        self.assertEqual(len(self.sweep), 1)
        self.run_for(4.5)
        self.assertEqual(self.expired, [])
        self.sweep.arm(it, 1)
        self.run_for(2)
        self.assertEqual(len(self.expired), 1)
        self.run_for(10)
        self.assertEqual(len(self.expired), 1)

    def test_methods_are_equal(self) -> None:
        """A method can be armed and disarmed by looking it up again."""
        self.sweep.arm(self.nothing, 1)
        self.assertTrue(self.sweep.is_armed(self.nothing))
        self.sweep.disarm(self.nothing)
        self.assertEqual(len(self.sweep), 0)

    def nothing(self) -> None:
        """A bound method is a new object at each look-up."""

    def test_disarm(self) -> None:
        """What is disarmed does not expire; its neighbours do; disarming again is nothing."""
        first, second = self.callback("first"), self.callback("second")
        self.sweep.arm(first, 1)
        self.sweep.arm(second, 1)
        self.sweep.disarm(first)
        self.sweep.disarm(first)
        self.assertEqual(len(self.sweep), 1)
        self.run_for(5)
        self.assertEqual([name for name, _ in self.expired], ["second"])

    def due_together(self, then: Callable[[Callable[[], None]], None]) -> None:
        """Let three be due together; whichever comes first does something to each."""

        def callback(name: str) -> Callable[[], None]:
            def expired() -> None:
                self.expired.append((name, self.clock.seconds()))
                for each in callbacks:
                    then(each)

            return expired

        callbacks = [callback(name) for name in "abc"]
        for each in callbacks:
            self.sweep.arm(each, 1)
        self.run_for(2)

    def test_disarmed_by_another(self) -> None:
        """Of those that are due together, one may disarm the others."""
        self.due_together(self.sweep.disarm)
        self.assertEqual((len(self.expired), len(self.sweep)), (1, 0))

    def test_put_off_by_another(self) -> None:
        """Of those that are due together, one may put off the others."""
        self.due_together(lambda each: self.sweep.arm(each, 60))
        self.assertEqual((len(self.expired), len(self.sweep)), (1, 3))

    def test_armed_by_itself(self) -> None:
        """A callable that arms itself comes again, each time after its full time."""

        def again() -> None:
            self.expired.append(("again", self.clock.seconds()))
            self.sweep.arm(again, 2)

        self.sweep.arm(again, 2)
        self.run_for(10)
        times = [time for _, time in self.expired]
        self.assertIn(len(times), (4, 5))
        for before, after in pairwise(times):
            self.assertIn(after - before, (2.0, 2.5))

    def test_nothing_runs_while_nothing_is_armed(self) -> None:
        """There is one timer while anything is armed, and none otherwise."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        first, second = self.callback(), self.callback()
        self.sweep.arm(first, 1)
        self.sweep.arm(second, 60)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.run_for(2)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.sweep.disarm(second)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.sweep.arm(first, 1)
        self.run_for(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_kept(self) -> None:
        """What expired, was disarmed or was armed again leaves nothing behind."""
        callbacks = [self.callback() for _ in range(20)]
        for number, each in enumerate(callbacks):
            self.sweep.arm(each, 1 + number)
            self.sweep.arm(each, 10 + number)
        self.assertEqual(len(self.sweep), 20)
        for each in callbacks[:10]:
            self.sweep.disarm(each)
        self.run_for(40)
        self.assertEqual(len(self.expired), 10)
        self.assertEqual(self.kept(), 0)

    def test_idle_time_does_not_count(self) -> None:
        """Time that passed while nothing was armed shortens no deadline."""
        self.sweep.arm(self.callback(), 1)
        self.run_for(2)
        self.clock.advance(3600)
        start = self.clock.seconds()
        self.sweep.arm(self.callback(), 2)
        self.run_for(5)
        self.assertGreaterEqual(self.expired[1][1] - start, 2.0)

    def test_a_stopped_process_is_no_silence(self) -> None:
        """However long the process was stopped, a turn counts for at most two ticks."""
        self.sweep.arm(self.callback(), 10)
        for _ in range(8):
            self.clock.advance(3600)
        self.assertEqual(self.expired, [])
        self.run_for(3)
        self.assertEqual(len(self.expired), 1)

    def test_a_busy_reactor_still_keeps_deadlines(self) -> None:
        """Turns that are late by up to a tick count in full."""
        self.sweep.arm(self.callback(), 10)
        start = self.clock.seconds()
        self.clock.pump([0.9] * 20)
        self.assertEqual(len(self.expired), 1)
        self.assertLessEqual(self.expired[0][1] - start, 12)

    def test_a_callable_that_raises(self) -> None:
        """A callable that raises is reported; the others due with it are called."""
        broken = ValueError("broken")

        def fail() -> None:
            raise broken

        for number in range(5):
            self.sweep.arm(self.callback(str(number)), 1)
            self.sweep.arm(fail, 1)
        self.run_for(2.5)
        self.assertEqual(sorted(name for name, _ in self.expired), list("01234"))
        self.assertEqual([error for _, error in self.errors], [broken])
        self.assertEqual(len(self.sweep), 0)

    def test_tick(self) -> None:
        """The resolution can be chosen."""
        sweep = Sweep(self.clock, lambda *error: None, tick=0.125)
        sweep.arm(self.callback(), 0.25)
        self.run_for(0.125)
        self.assertEqual(self.expired, [])
        self.run_for(0.375)
        self.assertEqual(len(self.expired), 1)

    @settings(deadline=None, max_examples=60)
    @given(
        plan=st.lists(
            st.tuples(
                st.integers(0, 4),
                st.sampled_from(["arm", "disarm"]),
                st.integers(1, 12),
                st.integers(0, 10),
            ),
            max_size=25,
        )
    )
    def test_any_plan(self, plan: list[tuple[int, str, int, int]]) -> None:
        """However a few are armed and disarmed, each expires in time, or not at all."""
        self.setUp()  # for each plan anew
        callbacks = [self.callback(str(number)) for number in range(5)]
        due: dict[str, tuple[float, float]] = {}
        for number, what, ticks, steps in plan:
            now = self.clock.seconds()
            if what == "arm":
                self.sweep.arm(callbacks[number], ticks / 2)
                due[str(number)] = (now + ticks / 2, now + ticks / 2 + 1.0)
            else:
                self.sweep.disarm(callbacks[number])
                due.pop(str(number), None)
            self.run_for(steps * STEP)
            for name, time in self.expired:
                earliest, latest = due.pop(name)
                self.assertTrue(earliest <= time <= latest, (name, time, earliest, latest))
            self.expired.clear()
            for name, (_, latest) in due.items():
                self.assertLess(self.clock.seconds(), latest + STEP, name)
            self.assertEqual(len(self.sweep), len(due))
