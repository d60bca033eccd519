"""Keeps one connection: connects, and again whenever it is lost or cannot be had.

Twisted's ``ClientService`` does the same, and writes a line for each attempt; a broker that is
away for an hour is logged once here. And to it a connection is good as soon as there is one: one
that is closed again at once, because the broker is full or our password is wrong, would be tried
without end and without pause.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure

from pinghub.backplane.reasons import reason_of
from pinghub.collector import Attempts
from pinghub.sweep import Clock

SHORTEST, LONGEST = 0.05, 0.25
"""The delay before the second attempt, and the longest of all, in seconds.

Up to half of each is left out at random, so that the servers do not come back together.
"""

GOOD = 1.0
"""How long a connection has to last to be a good one, in seconds."""

NEVER = float("inf")


class Connector:
    """Keeps one connection.

    Args:
        clock: the reactor, or a clock that a test advances.
        endpoint: what to connect to.
        factory: makes the protocol; whoever owns it calls ``usable`` and ``lost``.
        failed: told why an attempt failed, as text for people.
    """

    def __init__(
        self,
        clock: Clock,
        endpoint: IStreamClientEndpoint,
        factory: IProtocolFactory,
        failed: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._endpoint = endpoint
        self._factory = factory
        self._failed = failed
        self._attempts = Attempts()
        self._failures = 0
        self._usable_since = NEVER
        self._attempt: Deferred[Any] | None = None
        self._call: Any = None
        self._protocol: Any = None
        self._stopped: Deferred[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._stopped = None
        self._connect()

    def _connect(self) -> None:
        self._call = None
        self._attempts.begin()
        self._attempt = self._endpoint.connect(self._factory)
        self._attempt.addCallbacks(self._made, self._not_made)

    def usable(self) -> None:
        """The connection does what it is for: if it lasts, what went before is forgotten."""
        self._usable_since = self._clock.seconds()

    def lost(self) -> None:
        """The connection is gone: make another one."""
        self._protocol = None
        if self._clock.seconds() - self._usable_since >= GOOD:
            self._failures = 0
        self._usable_since = NEVER
        self._again()

    def stop(self) -> Deferred[None]:
        """End the connection, or the attempts, once; the result fires when that is done."""
        self._attempts.close()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._attempt is None and self._protocol is None:
            return succeed(None)
        self._stopped = Deferred()
        if self._attempt is not None:
            self._attempt.cancel()
        else:
            self._protocol.transport.abortConnection()
        return self._stopped

    def _made(self, protocol: Any) -> None:
        self._attempt = None
        self._attempts.end()
        self._protocol = protocol
        if self._stopped is not None:  # Whoever connected could not be told any more.
            protocol.transport.abortConnection()

    def _not_made(self, failure: Failure) -> None:
        self._attempt = None
        self._attempts.end()
        if self._stopped is None:
            self._failed(reason_of(failure))
        self._again()

    def _again(self) -> None:
        if self._stopped is not None:
            self._stopped.callback(None)
            return
        delay = min(LONGEST, SHORTEST * 2 ** min(self._failures, 10))
        self._failures += 1
        self._call = self._clock.callLater(delay * random.uniform(0.5, 1.0), self._connect)
