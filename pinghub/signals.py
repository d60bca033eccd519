"""What the process does when it gets a signal.

Twisted stops its reactor at the first SIGTERM or SIGINT, ignores the second, ends the process
by the same signal afterwards, and dies of SIGHUP. Here the first stops the reactor and with it
drains the server, the second ends the drain, the exit status is 0, and SIGHUP opens log files anew.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any


class Signals:
    """Takes over SIGTERM, SIGINT and SIGHUP while the server runs.

    Args:
        reactor: told to stop at the first signal.
        hurry: called at the second.
        hangup: called at each SIGHUP.
        note: logs one line.
    """

    def __init__(
        self,
        reactor: Any,
        hurry: Callable[[], None],
        hangup: Callable[[], None],
        note: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._hurry = hurry
        self._hangup = hangup
        self._note = note
        self._before: dict[int, Any] = {}
        self._stopping = False

    def start(self) -> None:
        """Take over as soon as the reactor runs: it installs handlers of its own then."""
        self._reactor.callWhenRunning(self._install)

    def stop(self) -> None:
        """Put back what was there before."""
        while self._before:
            number, handler = self._before.popitem()
            if handler is not None:  # None is a handler that was not set from Python.
                signal.signal(number, handler)

    def _install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        # The reactor may be in the middle of anything: act in a turn of its own.
        self._reactor.callFromThread(self._act, number)

    def _act(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._hangup()
        elif self._stopping:
            self._note("Received a second signal: stopping at once")
            self._hurry()
        else:
            self._stopping = True
            self._note("Received a signal: stopping")
            self._reactor.stop()
