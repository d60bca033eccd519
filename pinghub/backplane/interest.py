"""Which channels a server wants of a broker, and which it has: what to ask for, and when.

A broker is asked once for a channel, however many hold it, and in the order in which it answers:
while one question is not answered there is no other about the same channel. What is held in one
turn of the reactor is asked for at once; what is let go is told a moment later, all of it together,
and not at all if it is held again by then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum, auto
from typing import Any

from twisted.internet.defer import Deferred

from pinghub.errors import BackplaneDown, Refusal
from pinghub.sweep import Clock

LINGER = 0.02
"""How long a channel is kept that nobody holds, at most, in seconds.

So long a publisher may be told of a server that has nobody any more.
"""

MOST = 1000
"""How many channels the broker is asked about in one turn of the reactor."""

RETRY = 1.0
"""After what time a channel is asked for again that the broker did not give us, in seconds."""

Ask = Callable[[Collection[str]], None]


class Phase(Enum):
    """What a broker was told about a channel."""

    ABSENT = auto()
    JOINING = auto()
    JOINED = auto()
    LEAVING = auto()


class _Interest:
    """One channel: how many hold it, what the broker knows, and who waits for that."""

    __slots__ = ("holds", "phase", "waiting")

    def __init__(self) -> None:
        self.holds = 0
        self.phase = Phase.ABSENT
        self.waiting: list[Deferred[None]] = []


class Interests:
    """All channels of one broker.

    Bounded: it knows of those that are held, and for ``LINGER`` seconds of those that were.

    Args:
        clock: the reactor, or a clock that a test advances.
        join: asks the broker for channels.
        leave: tells it that they are not needed any more.
        complete: told when the broker has confirmed all that was held when the connection came.
    """

    def __init__(self, clock: Clock, join: Ask, leave: Ask, complete: Callable[[], None]) -> None:
        self._clock = clock
        self._join = join
        self._leave = leave
        self._complete = complete
        self._known: dict[str, _Interest] = {}
        self._connected = False
        # Channels to ask for, and to let go; those that are still to be confirmed before all are.
        self._to_join: dict[str, None] = {}
        self._to_leave: dict[str, None] = {}
        self._missing: set[str] = set()
        self._refused: dict[str, None] = {}
        self._joining: Any = None
        self._leaving: Any = None
        self._asking: Any = None

    def __len__(self) -> int:
        """How many channels it knows."""
        return len(self._known)

    def joined(self, name: str) -> bool:
        """Whether the broker has confirmed a channel, and was not told to forget it since."""
        known = self._known.get(name)
        return known is not None and known.phase is Phase.JOINED

    def held(self) -> list[str]:
        """The channels that are held."""
        return [name for name, known in self._known.items() if known.holds]

    def received(self) -> list[str]:
        """Those of them that the broker has confirmed."""
        return [name for name in self.held() if self.joined(name)]

    def hold(self, name: str) -> None:
        """Want a channel; as often as it is let go."""
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _Interest()
        known.holds += 1
        if known.phase is Phase.ABSENT and self._connected:
            self._to_join[name] = None
            self._join_soon()

    def release(self, name: str) -> None:
        """Let a channel go."""
        known = self._known[name]
        known.holds -= 1
        if known.holds:
            return
        if known.phase is Phase.ABSENT:
            self._to_join.pop(name, None)
            del self._known[name]
            self._found(name)
        elif known.phase is Phase.JOINED:
            self._leave_soon(name)

    def when_joined(self, name: str) -> Deferred[None]:
        """Wait for a channel that is held.

        Returns:
            What fires when the broker has confirmed it, and fails with ``BackplaneDown`` when the
            connection is lost before, or is not there now; with what ``refused`` was given.
        """
        waiting: Deferred[None] = Deferred()
        known = self._known[name]
        if known.phase is Phase.JOINED:
            waiting.callback(None)
        elif not self._connected:
            waiting.errback(BackplaneDown())
        else:
            known.waiting.append(waiting)
        return waiting

    def connected(self) -> None:
        """A connection is there, over which nothing was asked yet."""
        self._connected = True
        self._to_join = dict.fromkeys(self.held())
        self._missing = set(self._to_join)
        if self._missing:
            self._join_soon()
        else:
            self._complete()

    def lost(self) -> None:
        """The connection is gone, and with it what the broker knew."""
        self._connected = False
        for call in (self._joining, self._leaving, self._asking):
            if call is not None:
                call.cancel()
        self._joining = self._leaving = self._asking = None
        self._to_join, self._to_leave, self._refused, self._missing = {}, {}, {}, set()
        waiting = []
        for name, known in tuple(self._known.items()):
            waiting += known.waiting
            known.waiting, known.phase = [], Phase.ABSENT
            if not known.holds:
                del self._known[name]
        for each in waiting:
            each.errback(BackplaneDown())

    def confirmed(self, name: str, joined: bool) -> None:
        """The broker has answered: the channel is joined, or left."""
        known = self._known.get(name)
        expected = Phase.JOINING if joined else Phase.LEAVING
        if known is None or known.phase is not expected:
            return  # Nothing of ours: nobody asked for it.
        if joined:
            self._is_joined(name, known)
        else:
            self._is_left(name, known)

    def refused(self, name: str, refusal: Refusal) -> None:
        """The broker does not give us a channel: who waits hears so; for others it is asked again.

        Args:
            name: the channel.
            refusal: what who waits for it is told. With ``BackplaneDown`` it is for a moment, and
                the connection is not complete without the channel.
        """
        known = self._known.get(name)
        if known is None or known.phase is not Phase.JOINING:
            return
        known.phase = Phase.ABSENT
        waiting, known.waiting = known.waiting, []
        if not known.holds:
            del self._known[name]
        for each in waiting:
            each.errback(refusal)
        if name in self._known:
            self._ask_again(name)
        if name not in self._known or not isinstance(refusal, BackplaneDown):
            self._found(name)

    def _ask_again(self, name: str) -> None:
        self._refused[name] = None
        if self._asking is None:
            self._asking = self._clock.callLater(RETRY, self._ask_now)

    def _ask_now(self) -> None:
        self._asking = None
        names, self._refused = self._refused, {}
        for name in names:
            known = self._known.get(name)
            if known is not None and known.phase is Phase.ABSENT:
                self._to_join[name] = None
                self._join_soon()

    def _is_joined(self, name: str, known: _Interest) -> None:
        known.phase = Phase.JOINED
        waiting, known.waiting = known.waiting, []
        for each in waiting:
            each.callback(None)
        # Who waited may have let it go, and found the connection lost.
        if not known.holds and self.joined(name):
            self._leave_soon(name)
        self._found(name)

    def _found(self, name: str) -> None:
        """A channel is not missing any more."""
        if self._missing:
            self._missing.discard(name)
            if not self._missing:
                self._complete()

    def _is_left(self, name: str, known: _Interest) -> None:
        known.phase = Phase.ABSENT
        if known.holds:
            self._to_join[name] = None
            self._join_soon()
        else:
            del self._known[name]

    def _join_soon(self) -> None:
        if self._joining is None:
            self._joining = self._clock.callLater(0, self._join_now)

    def _join_now(self) -> None:
        self._joining = None
        names = list(self._to_join)[:MOST]
        for name in names:
            del self._to_join[name]
            self._known[name].phase = Phase.JOINING
        if self._to_join:
            self._join_soon()
        if names:
            self._join(names)

    def _leave_soon(self, name: str) -> None:
        self._to_leave[name] = None
        if self._leaving is None:
            self._leaving = self._clock.callLater(LINGER, self._leave_now)

    def _leave_now(self) -> None:
        self._leaving = None
        some = list(self._to_leave)[:MOST]
        names = []
        for name in some:
            del self._to_leave[name]
            known = self._known.get(name)
            if known is not None and not known.holds and known.phase is Phase.JOINED:
                known.phase = Phase.LEAVING
                names.append(name)
        if self._to_leave:
            self._leaving = self._clock.callLater(0, self._leave_now)
        if names:
            self._leave(names)
