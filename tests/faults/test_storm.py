"""All clients come back at once, as they do when a server or a network has been away."""

from __future__ import annotations

from contextlib import ExitStack

from tests.faults.harness import FaultTests, scale
from tests.faults.masses import need_descriptors
from tests.faults.storm import storm


class StormTests(FaultTests):
    """Connections that arrive faster than they can be served."""

    COUNT = scale(2000, 10_000)

    def test_a_storm(self) -> None:
        """Thousands connect within a second: all are served, and messages are not held up."""
        need_descriptors(self.COUNT)
        server = self.server()
        prober = self.round_trips(server)
        bound = self.bound_of(prober, 25)

        def p99() -> float:
            storms = ExitStack()
            with storms:
                with prober.window() as latency:
                    outcome = storms.enter_context(storm(server.port, self.COUNT))
                print(outcome, latency())
                self.assertEqual(outcome.opened, self.COUNT)
                self.assertLessEqual(outcome.begun, 1.5)
                return latency().p99

        least = self.least_of(p99, bound)
        self.figure("R18", f"round trip, storm of {self.COUNT}, p99", least, bound, "ms")
