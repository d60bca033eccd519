"""How connections are accepted: a few in a turn, and not while the system has none to give.

A listener of Twisted accepts 100 connections in a turn, and 20 more in each turn after which others
still wait. When all clients come back at once, that makes turns of a fifth of a second, in which no
message is delivered. Here it stays with a few; the others wait in the backlog, in order.

When the system cannot give another connection, Twisted tries again at once, for ever, and logs
every time; where it runs out of descriptors of its own it accepts the waiting connections only to
drop them. Here a listener that finds the system exhausted rests for a moment. Who waits in its
backlog is served once there is room.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from pinghub.limits import Limits
from pinghub.logs import Log
from pinghub.sweep import Clock

REST = 0.1
"""How long a listener rests, in seconds."""

QUIET = 5.0
"""How long nothing more is logged about it, in seconds."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class GuardedSocket:
    """A listening socket that tells when it cannot accept, and then has nobody waiting.

    Args:
        listener: the listening socket; everything but ``accept`` is its own.
        exhausted: called with the error when the system is exhausted.
    """

    def __init__(self, listener: Any, exhausted: Callable[[OSError], None]) -> None:
        self._listener = listener
        self._exhausted = exhausted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def accept(self) -> Any:
        """Accept a connection (``socket.accept``)."""
        try:
            return self._listener.accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._exhausted(error)
            # What a socket says when nobody waits: the caller leaves its loop.
            raise BlockingIOError(errno.EWOULDBLOCK, "nobody waits") from None


def guard_accepts(port: Any, clock: Clock, limits: Limits, log: Log) -> None:
    """Let a listening port of Twisted take few at a time, and rest when the system is exhausted.

    Args:
        port: what ``listen`` of an endpoint came to; one without a socket is left alone.
        clock: the reactor.
        limits: the bounds; ``accept_slice`` is how many are taken in a turn.
        log: where to log.
    """
    if not hasattr(port, "socket"):
        return

    quiet_until = 0.0

    def rest(error: OSError) -> None:
        nonlocal quiet_until
        if clock.seconds() >= quiet_until:
            quiet_until = clock.seconds() + QUIET
            log.info("Cannot accept connections, trying again soon", reason=error.strerror)
        port.stopReading()
        clock.callLater(REST, go_on)

    def go_on() -> None:
        if port.connected:
            port.startReading()

    accept = port.doRead

    def accept_some() -> None:
        # Twisted has moved the bound after the last turn.
        port.numberAccepts = min(port.numberAccepts, limits.accept_slice)
        accept()

    port.doRead = accept_some
    port.socket = GuardedSocket(port.socket, rest)
