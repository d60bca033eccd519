"""How a server closes its connections before it stops."""

from __future__ import annotations

import math
from collections import deque
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from pinghub.channels import ChannelManager
from pinghub.connections import Connection

STEP = 0.05
"""How often a drain closes some more connections, in seconds."""

LINGER = 0.5
"""How long connections are kept that wait for a further request, in seconds.

Who publishes all the time is told with 503 that the server stops, instead of finding its
connection closed and not knowing what became of its last message.
"""

SPREAD = 0.8
"""The share of the drain time in which connections are told to close.

The rest is for the last of them to answer.
"""

SETTLE = 1.0
"""How long to wait for messages that are on their way to us from other servers, in seconds."""


class Drain:
    """Closes all connections of a manager, politely and in bounded time.

    Requests are answered 503 from now on. What is on its way from other servers is waited for,
    ``SETTLE`` seconds at most. Then what is pending is flushed, and subscribers get a close frame
    1001, spread over the time so that they do not all come back at once. It is over when nobody is
    left who waits for anything; after ``Limits.drain`` seconds whoever is left is aborted.

    Args:
        manager: whose connections to close.
    """

    def __init__(self, manager: ChannelManager) -> None:
        self._connections = manager.connections
        self._manager = manager
        self._seconds = manager.limits.drain
        self._left: deque[Connection] = deque()
        self._done: Deferred[None] = Deferred()
        self._loop = LoopingCall(self._step)
        self._loop.clock = cast(IReactorTime, manager.clock)
        self._settling: Deferred[None] | None = None

    def start(self) -> Deferred[None]:
        """Begin; the result fires when all connections are closed."""
        self._connections.draining = True
        self._start = self._last = self._manager.clock.seconds()
        if self._manager.upstream is None:
            self._begin()
        else:
            self._settle(self._manager.upstream.settle())
        return self._done

    def _settle(self, settling: Deferred[None]) -> None:
        self._settling = settling
        call = self._manager.clock.callLater(min(SETTLE, self._seconds), settling.cancel)

        def settled(_: object) -> None:
            if call.active():
                call.cancel()
            self._begin()

        settling.addBoth(settled)

    def _begin(self) -> None:
        self._settling = None
        self._manager.flush()
        self._left.extend(self._connections.subscribers)
        self._loop.start(STEP)

    def hurry(self) -> None:
        """Abort whoever is left now, or as soon as it has begun."""
        self._seconds = 0.0
        if self._settling is not None:
            self._settling.cancel()
        elif self._loop.running:
            self._finish()

    def _step(self) -> None:
        now = self._manager.clock.seconds()
        elapsed, step, self._last = now - self._start, now - self._last, now
        for _ in range(self._due(elapsed, max(step, STEP))):
            self._tell(self._left.popleft())
        if elapsed >= self._seconds:
            self._finish()
        elif not self._busy() and (elapsed >= LINGER or not self._connections.requesters):
            self._part()

    def _tell(self, connection: Connection) -> None:
        try:
            connection.go_away()
        except Exception as error:
            self._manager.report("A connection could not be closed politely", error)
            connection.abort()

    def _due(self, elapsed: float, step: float) -> int:
        """How many to tell now: at least one, and all when their time is over."""
        time_left = max(0.0, self._seconds * SPREAD - elapsed)
        return math.ceil(len(self._left) * step / (time_left + step))

    def _busy(self) -> bool:
        return bool(self._connections.subscribers) or any(
            each.busy for each in self._connections.requesters
        )

    def _part(self) -> None:
        """Close what only waits for further requests; its last answers may be on their way."""
        for connection in self._connections.requesters:
            connection.go_away()
        self._end()

    def _finish(self) -> None:
        for connection in (*self._connections.subscribers, *self._connections.requesters):
            connection.abort()
        self._end()

    def _end(self) -> None:
        self._loop.stop()
        # Connections are lost in the next turn of the reactor; be behind it.
        self._manager.clock.callLater(STEP, self._done.callback, None)


def drain(manager: ChannelManager) -> Deferred[None]:
    """Close all connections of a manager, for sites that stop by themselves.

    See ``Drain`` for what happens; the result fires when it is over.
    """
    return Drain(manager).start()
