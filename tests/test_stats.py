"""What is counted and measured."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pinghub.stats import SECONDS, Histogram, Timings


class HistogramTests(SynchronousTestCase):
    """Durations, in buckets."""

    def test_buckets(self) -> None:
        """A duration belongs to the first bucket that it does not exceed."""
        histogram = Histogram()
        for seconds in (0.0, SECONDS[0], 0.0011, 0.0025, 1.0, 1.1, 1000.0):
            histogram.observe(seconds)
        self.assertEqual(histogram.counts[0], 2)
        self.assertEqual(histogram.counts[SECONDS.index(0.0025)], 2)
        self.assertEqual(histogram.counts[-2:], [1, 2])
        self.assertAlmostEqual(histogram.sum, SECONDS[0] + 0.0036 + 1002.1)

    def test_times(self) -> None:
        """One duration may count several times."""
        histogram = Histogram()
        histogram.observe(0.5, 3)
        self.assertEqual((sum(histogram.counts), histogram.sum), (3, 1.5))

    def test_a_clock_that_is_set_back(self) -> None:
        """What seems to have ended before it began took no time."""
        histogram = Histogram()
        histogram.observe(-5.0)
        self.assertEqual((histogram.counts[0], histogram.sum), (1, 0.0))


class TimingsTests(SynchronousTestCase):
    """How long messages take."""

    def test_handed_out(self) -> None:
        """Each message counts, from its own arrival."""
        timings = Timings()
        timings.handed_out([1.0, 2.0, 1.0], 3.0)
        self.assertEqual(timings.latency.counts[SECONDS.index(1.0)], 1)
        self.assertEqual(timings.latency.counts[-1], 2)
        self.assertEqual(timings.latency.sum, 5.0)
