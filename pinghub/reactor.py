"""Twisted's epoll reactor, without a log context for each event.

Twisted handles each event in a context that names the connection, for old log observers that
have no other way to learn it. The lines of Pinghub name their connection themselves; setting up
what nobody reads takes a tenth of the time of a message.

The ``pinghub`` command uses it where there is epoll; under twistd it is ``--reactor=pinghub``.
"""

from __future__ import annotations

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor


class Reactor(EPollReactor):
    """Twisted's epoll reactor; only how it waits and hands out events is its own."""

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events, and handle those that are there.

        Args:
            timeout: for how many seconds at most; None for as long as it takes.
        """
        # Twisted's own names; tests/test_reactor.py would notice if they changed.
        events = self._poller.poll(-1 if timeout is None else timeout, len(self._selectables))
        for descriptor, event in events:
            # An event of this turn may have closed another's descriptor.
            selectable = self._selectables.get(descriptor)
            if selectable is not None:
                self._doReadOrWrite(selectable, descriptor, event)

    doIteration = doPoll


def install() -> None:
    """Make it the reactor of this process.

    Raises:
        ReactorAlreadyInstalledError: there is one already.
    """
    installReactor(Reactor())
