"""How often a peer may do something: a token bucket."""

from __future__ import annotations

from pinghub.sweep import Clock


class Rate:
    """Allows so many events per second, and as many at once after a quiet second.

    Args:
        clock: tells the time.
        per_second: how many events are allowed; below 1, one event every so many seconds.
    """

    __slots__ = ("_clock", "_last", "_per_second", "_room", "_tokens")

    def __init__(self, clock: Clock, per_second: float) -> None:
        self._clock = clock
        self._per_second = per_second
        self._room = max(per_second, 1.0)
        self._tokens = self._room
        self._last = clock.seconds()

    def allows(self) -> bool:
        """Count an event; whether it is within the rate."""
        now = self._clock.seconds()
        self._tokens += (now - self._last) * self._per_second
        self._last = now
        self._tokens = min(self._tokens, self._room)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
