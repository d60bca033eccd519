"""Deadlines of many connections, kept by one timer.

A timer per connection costs more than the connection itself, so that deadlines here are
sorted into slots of half a second and one recurring call looks at the slots that are due.

Deadlines are measured in *served* time: however long the process was stopped or busy, one
turn counts for at most two ticks. A peer is never given up for a silence that was ours: its
bytes may wait in the socket, and there is a whole tick to read them before the next turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

Expired = Callable[[], None]
ErrorHandler = Callable[[str, Exception], None]


class Clock(Protocol):
    """What is needed of a reactor (IReactorTime), or of a test's clock."""

    def seconds(self) -> float:
        """The time now, in seconds."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any:
        """Call something later; the result has ``cancel``."""


class Sweep:
    """Calls what is armed once its time is over.

    Nothing runs while nothing is armed. The number of entries is bounded by the number of
    connections: each arms a few callables, and arming one again replaces its deadline.

    Args:
        clock: the reactor, or a clock that a test advances.
        on_error: told, with one line of text, of an exception that a callable raised; the
            others are called all the same.
        tick: the resolution, in seconds: a deadline is kept to within two ticks.

    Attributes:
        turns: how many ticks were served.
        on_tick: told at each turn how late it is, in seconds.
    """

    def __init__(self, clock: Clock, on_error: ErrorHandler, tick: float = 0.5) -> None:
        self._clock = clock
        self._on_error = on_error
        self._tick = tick
        self.turns = 0
        self.on_tick: Callable[[float], None] | None = None
        self._served = 0.0
        self._last = 0.0
        self._slots: dict[int, set[Expired]] = {}
        self._slot_of: dict[Expired, int] = {}
        self._call: Any = None

    def __len__(self) -> int:
        return len(self._slot_of)

    def arm(self, expired: Expired, seconds: float) -> None:
        """Call ``expired`` after ``seconds`` of served time, once, and not before.

        Arming the same callable again replaces its deadline.
        """
        now = self._clock.seconds()
        if self._call is None:
            self._last = now
            self._call = self._clock.callLater(self._tick, self._sweep)
        # Counted from the last turn, like the time that the next one will count.
        due = self._served + min(now - self._last, 2 * self._tick) + seconds
        slot = self.turns + max(1, math.ceil(due / self._tick))
        if self._slot_of.get(expired) == slot:
            return
        self._forget(expired)
        self._slots.setdefault(slot, set()).add(expired)
        self._slot_of[expired] = slot

    def served_since(self, turns: int) -> float:
        """How many seconds were served since there were so many turns, or up to a tick more."""
        return max(0, self.turns - turns - 1) * self._tick

    def is_armed(self, expired: Expired) -> bool:
        """Whether a callable waits for its deadline."""
        return expired in self._slot_of

    def disarm(self, expired: Expired) -> None:
        """Forget a callable; nothing happens if it is not armed."""
        self._forget(expired)
        if not self._slot_of and self._call is not None:
            self._call.cancel()
            self._call = None

    def _forget(self, expired: Expired) -> None:
        slot = self._slot_of.pop(expired, None)
        if slot is None:
            return
        members = self._slots[slot]
        members.discard(expired)
        if not members:
            del self._slots[slot]

    def _sweep(self) -> None:
        now = self._clock.seconds()
        if self.on_tick is not None:
            self.on_tick(now - self._last - self._tick)
        self._served += min(now - self._last, 2 * self._tick)
        self._last = now
        self._call = self._clock.callLater(self._tick, self._sweep)
        while self._served >= self._tick:
            self._served -= self._tick
            self.turns += 1
            self._expire(self.turns)

    def _expire(self, slot: int) -> None:
        for expired in tuple(self._slots.get(slot, ())):
            # One that ran before it may have disarmed it.
            if self._slot_of.get(expired) == slot:
                self.disarm(expired)
                try:
                    expired()
                except Exception as error:
                    self._on_error("A deadline could not be kept", error)
