"""What the process does when it gets a signal."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

from twisted.trial.unittest import SynchronousTestCase

from pinghub.signals import Signals

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Reactor:
    """What signals need of a reactor: it starts, takes calls from outside, and stops."""

    def __init__(self) -> None:
        self.running = False
        self.stopped = 0
        self._at_start: list[Callable[[], object]] = []
        self._calls: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def callWhenRunning(self, call: Callable[[], object]) -> None:
        self._at_start.append(call)

    def callFromThread(self, call: Callable[..., object], *arguments: object) -> None:
        self._calls.append((call, arguments))

    def stop(self) -> None:
        self.stopped += 1

    def start(self) -> None:
        """Run what waits for the start."""
        while self._at_start:
            self._at_start.pop(0)()

    def turn(self) -> None:
        """Run what came from outside."""
        while self._calls:
            call, arguments = self._calls.pop(0)
            call(*arguments)


class SignalTests(SynchronousTestCase):
    """Real signals, sent to this very process."""

    def setUp(self) -> None:
        self.astray: list[int] = []
        for number in NUMBERS:
            # Whatever goes wrong here, the process that runs the tests survives it.
            self.addCleanup(signal.signal, number, signal.signal(number, self.harmless))
        self.reactor = Reactor()
        self.hurried = self.hangups = 0
        self.notes: list[str] = []
        self.signals = Signals(self.reactor, self.hurry, self.hangup, self.notes.append)

    def harmless(self, number: int, frame: FrameType | None) -> None:
        """The handler that was there before."""
        self.astray.append(number)

    def hurry(self) -> None:
        """Count the second signals."""
        self.hurried += 1

    def hangup(self) -> None:
        """Count SIGHUP."""
        self.hangups += 1

    def start(self) -> None:
        """Take over, as when the reactor runs."""
        self.signals.start()
        self.reactor.start()

    def send(self, number: int) -> None:
        """Send a signal, and let the reactor turn."""
        signal.raise_signal(number)
        self.reactor.turn()

    def test_taken_over_when_the_reactor_runs(self) -> None:
        """Handlers are installed behind those of the reactor, which installs its own first."""
        self.signals.start()
        self.assertEqual([signal.getsignal(each) for each in NUMBERS], [self.harmless] * 3)
        self.reactor.start()
        for number in NUMBERS:
            self.assertNotEqual(signal.getsignal(number), self.harmless, number)

    def test_given_back(self) -> None:
        """Stopping puts back the handlers that were there before, once."""
        self.start()
        self.signals.stop()
        self.assertEqual([signal.getsignal(each) for each in NUMBERS], [self.harmless] * 3)
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)
        self.signals.stop()
        self.assertEqual([signal.getsignal(each) for each in NUMBERS], [signal.SIG_IGN] * 3)

    def test_the_first_stops(self) -> None:
        """SIGTERM or SIGINT stops the reactor, which drains the server."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.setUp()
            self.start()
            self.send(number)
            self.assertEqual((self.reactor.stopped, self.hurried), (1, 0), number)
            self.assertEqual(self.notes, ["Received a signal: stopping"])
            self.assertEqual(self.astray, [])

    def test_the_second_hurries(self) -> None:
        """A second signal ends the drain at once, whichever the two are; so does a third."""
        self.start()
        self.send(signal.SIGTERM)
        self.send(signal.SIGINT)
        self.assertEqual((self.reactor.stopped, self.hurried), (1, 1))
        self.assertEqual(self.notes[1:], ["Received a second signal: stopping at once"])
        self.send(signal.SIGTERM)
        self.assertEqual((self.reactor.stopped, self.hurried), (1, 2))

    def test_sighup(self) -> None:
        """SIGHUP neither kills nor stops, it is told; it is no first signal either."""
        self.start()
        self.send(signal.SIGHUP)
        self.send(signal.SIGHUP)
        self.assertEqual((self.reactor.stopped, self.hurried), (0, 0))
        self.assertEqual((self.hangups, self.notes), (2, []))
        self.send(signal.SIGTERM)
        self.assertEqual((self.reactor.stopped, self.hurried), (1, 0))

    def test_in_a_turn_of_its_own(self) -> None:
        """Nothing happens inside the signal handler: the reactor may be busy with anything."""
        self.start()
        signal.raise_signal(signal.SIGTERM)
        self.assertEqual((self.reactor.stopped, self.notes), (0, []))
        self.reactor.turn()
        self.assertEqual(self.reactor.stopped, 1)

    def test_a_handler_from_elsewhere(self) -> None:
        """A handler that was not set from Python cannot be put back, and that is no error."""
        self.signals.start()
        self.reactor.start()
        self.signals._before[signal.SIGHUP] = None
        self.signals.stop()
        self.assertEqual(signal.getsignal(signal.SIGTERM), self.harmless)
