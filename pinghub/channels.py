"""The hub: channels, their subscribers, and the path of a message.

A message is framed once and appended to what is pending for its channel. At the end of the
reactor turn the pending frames are joined into a batch, and the same bytes are handed to every
subscriber; a large fan-out takes several turns, and the next batch waits for its end. There is
one thread, one pending list per channel and one batch, so that all subscribers see one order,
whoever published and however.

This module knows no I/O: a subscriber is anything with a ``deliver`` method.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from random import random
from typing import Any, Protocol

from pinghub.clients import Clients
from pinghub.connections import Connections
from pinghub.errors import MessageTooLarge, NotText
from pinghub.frames import CloseCode, text_frame
from pinghub.limits import Limits
from pinghub.outbox import TotalBacklog
from pinghub.proxies import TrustedProxies
from pinghub.stats import CloseReason, Stats, Timings
from pinghub.sweep import Clock, ErrorHandler, Sweep

MEASURED = 100
"""How many turns are measured between two ticks of the sweep, about.

Looking at the clock in each would cost messages with one subscriber several percent.
"""


class Subscriber(Protocol):
    """Whoever receives the messages of a channel."""

    def deliver(self, frames: bytes) -> None:
        """Take one or more complete, unmasked text frames.

        It has to return at once and must not raise. There is no backpressure: a subscriber
        that cannot keep up has to bound what it queues and leave.
        """


class Closeable(Subscriber, Protocol):
    """A subscriber that is ours to close, as websockets are.

    Subscribers of a program are not, whatever methods they have: when their channel is closed they
    are unsubscribed, and where messages may be missing they stay. One that is to be closed has to
    say so.

    Attributes:
        closeable: True.
    """

    closeable: bool

    def close(self, code: CloseCode, reason: str, /) -> None:
        """End, behind all that was delivered; it is unsubscribed then."""


class Upstream(Protocol):
    """Where messages come from that are published at other servers."""

    def subscribe(self, name: str, /) -> None:
        """Somebody listens to that channel here, who did not before."""

    def unsubscribe(self, name: str, /) -> None:
        """Nobody listens to it here any more."""

    def settle(self) -> Any:
        """Wait for the messages that are on their way.

        Returns:
            A Deferred that fires when they are here, or will not come; it can be cancelled.
        """


def _log_error(text: str, error: Exception) -> None:
    logging.getLogger(__name__).error(text, exc_info=error)


class Channel:
    """One channel, as long as someone listens to it.

    Two things may be under way: a *batch*, frames that are being handed to all who were
    subscribed when it began, and *pending* frames, which are the next batch. What is pending is
    bounded by ``Limits.join_at``: at the bound everything is handed out at once.

    Attributes:
        name: its name.
        messages: how many messages it had.
    """

    __slots__ = (
        "_arrival",
        "_batch",
        "_batch_arrival",
        "_batch_late",
        "_flushing",
        "_joined",
        "_manager",
        "_owed",
        "_pending",
        "_pending_late",
        "_pending_size",
        "_subscribers",
        "messages",
        "name",
    )

    def __init__(self, name: str, manager: ChannelManager) -> None:
        self.name = name
        self._manager = manager
        # A dictionary is an ordered set: members leave in constant time.
        self._subscribers: dict[Subscriber, None] = {}
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._batch: list[bytes] = []
        self._joined = b""
        # Who is still to get the batch; the next one is the last.
        self._owed: dict[Subscriber, None] = {}
        # Who must not get the first so many frames, because they came later or have them.
        self._pending_late: dict[Subscriber, int] = {}
        self._batch_late: dict[Subscriber, int] = {}
        self._flushing = False
        # When the first of the pending frames was taken, and that of the batch; 0 if it is not
        # measured.
        self._arrival = self._batch_arrival = 0.0
        self.messages = 0

    def __len__(self) -> int:
        return len(self._subscribers)

    def __iter__(self) -> Iterator[Subscriber]:
        """Whoever is subscribed; nobody may come or go meanwhile."""
        return iter(self._subscribers)

    def __contains__(self, subscriber: object) -> bool:
        return subscriber in self._subscribers

    def publish(self, payload: bytes) -> int:
        """Publish one message to all who are subscribed now.

        Args:
            payload: the message: valid UTF-8, not empty, within ``Limits.max_message``. The
                callers have checked it.

        Returns:
            How many subscribers it is handed to.
        """
        frame = text_frame(payload)
        if not self._pending:
            self._arrival = self._manager.schedule(self)
        self._pending.append(frame)
        self._pending_size += len(frame)
        self.messages += 1
        if self._pending_size >= self._manager.join_at:
            self.flush()
        return len(self._subscribers)

    def flush(self) -> None:
        """Hand out all that is under way, now."""
        while self.has_work and not self._flushing:
            self.hand_out(len(self._owed) or len(self._subscribers))

    @property
    def has_work(self) -> bool:
        """Whether anything is under way."""
        return bool(self._owed or self._pending)

    def hand_out(self, most: int) -> int:
        """Hand the batch, or the next one, to some of the subscribers it is owed to.

        A subscriber that raises is unsubscribed and reported; the others do not notice.

        Args:
            most: the number of subscribers.

        Returns:
            How many got it.
        """
        if not self._owed:
            self._begin_batch()
        owed, given, apart = self._owed, 0, 0
        data, count, late = self._joined, len(self._batch), self._batch_late
        self._flushing = True
        try:
            # Who leaves meanwhile, or catches up, is owed nothing any more.
            while owed and given < most:
                subscriber, _ = owed.popitem()
                given += 1
                if subscriber in late:
                    apart += 1
                    self._give(subscriber)
                else:
                    self._deliver(subscriber, data)
        finally:
            self._flushing = False
        self._count(given - apart, data, count)
        if not owed:
            self._end_batch()
        return given

    def _begin_batch(self) -> None:
        self._batch, self._pending = self._pending, []
        self._batch_late, self._pending_late = self._pending_late, {}
        self._pending_size = 0
        self._batch_arrival = self._arrival
        self._joined = b"".join(self._batch)
        if self._batch:
            self._owed = dict.fromkeys(reversed(self._subscribers))

    def _end_batch(self) -> None:
        # A message is forgotten once it is handed out.
        self._batch, self._batch_late, self._joined = [], {}, b""
        if self._batch_arrival:
            self._manager.arrivals.append(self._batch_arrival)

    def _give(self, subscriber: Subscriber) -> None:
        late = self._batch_late.get(subscriber, 0)
        count = len(self._batch) - late
        if count:
            data = b"".join(self._batch[late:]) if late else self._joined
            self._count(1, data, count)
            self._deliver(subscriber, data)

    def _count(self, subscribers: int, data: bytes, frames: int) -> None:
        stats = self._manager.stats
        stats.deliveries += subscribers * frames
        stats.delivered_bytes += subscribers * len(data)

    def _deliver(self, subscriber: Subscriber, data: bytes) -> None:
        try:
            subscriber.deliver(data)
        except Exception as error:
            self._manager.fault(self.name, subscriber, error)

    def catch_up(self, subscriber: Subscriber) -> None:
        """Give one subscriber now what is under way for it, ahead of the others.

        For whatever must not overtake a message: an answer to this subscriber, or its end.
        """
        if subscriber not in self._subscribers or not self.has_work:
            return
        if subscriber in self._owed:
            del self._owed[subscriber]
            self._give(subscriber)
        late = self._pending_late.get(subscriber, 0)
        frames = self._pending[late:]
        if frames:
            self._pending_late[subscriber] = len(self._pending)
            data = b"".join(frames)
            self._count(1, data, len(frames))
            self._deliver(subscriber, data)

    def add(self, subscriber: Subscriber) -> bool:
        """Add a subscriber, from the next message on; whether it was not there."""
        if subscriber in self._subscribers:
            return False
        self._subscribers[subscriber] = None
        if self._pending:
            self._pending_late[subscriber] = len(self._pending)
        return True

    def remove(self, subscriber: Subscriber) -> bool:
        """Remove a subscriber; whether it was there. What is under way does not reach it."""
        if subscriber not in self._subscribers:
            return False
        del self._subscribers[subscriber]
        self._owed.pop(subscriber, None)
        self._pending_late.pop(subscriber, None)
        return True


class ChannelManager:
    """All channels of one reactor, and what their connections share.

    There is one manager per reactor; it is handed to the resources, sites and services that
    use it. Whatever bounds all of them together lives here.

    Args:
        clock: the reactor, or a clock that a test advances.
        limits: every bound.
        on_error: told, with one line of text, of an exception that a subscriber raised.
        proxies: whose word about a client's address is taken; nobody's when absent.

    Attributes:
        clock: as given.
        limits: as given.
        join_at: how many pending bytes are handed out at once.
        stats: what happened since the start.
        connections: who is connected, and how many may be.
        clients: how many connections each client has.
        proxies: as given.
        sweep: the deadlines of all connections.
        backlog: the bound on what waits for all subscribers together.
        timings: how long things take, if ``measure`` was called.
        arrivals: of the messages that were handed out in this turn, as far as that is measured.
        upstream: told which channels have subscribers, if other servers have some as well.
    """

    def __init__(
        self,
        clock: Clock,
        limits: Limits | None = None,
        on_error: ErrorHandler = _log_error,
        proxies: TrustedProxies | None = None,
    ) -> None:
        self.clock = clock
        self.limits = limits or Limits()
        self.join_at = self.limits.join_at
        self.stats = Stats()
        self.connections = Connections(self.limits.max_connections)
        self.clients = Clients(self.limits.max_connections_per_address)
        self.proxies = proxies or TrustedProxies()
        self.sweep = Sweep(clock, on_error)
        self.backlog = TotalBacklog(self.limits.max_total_backlog)
        self.upstream: Upstream | None = None
        self._on_error = on_error
        self._channels: dict[str, Channel] = {}
        # Channels with something under way, in the order of their turns.
        self._scheduled: dict[Channel, None] = {}
        self._call: Any = None
        self.timings: Timings | None = None
        # How many turns there were since the last tick of the sweep, and the share of them to
        # measure.
        self._turns = 0
        self._share = 0.0
        self.arrivals: list[float] = []
        # When this turn began to take messages; 0 if it is not measured.
        self._arrival = 0.0

    def __len__(self) -> int:
        return len(self._channels)

    def names(self) -> list[str]:
        """The names of all channels, the oldest first."""
        return list(self._channels)

    def measure(self) -> Timings:
        """Measure from now on how long things take."""
        if self.timings is None:
            self.timings = Timings()
            self._share = 1.0
            self.sweep.on_tick = self._tick
        return self.timings

    def _tick(self, late: float) -> None:
        assert self.timings is not None
        self.timings.lag.observe(late)
        self._share = MEASURED / max(MEASURED, self._turns)
        self._turns = 0

    def channel(self, name: str) -> Channel | None:
        """The channel of that name, if someone listens to it."""
        return self._channels.get(name)

    def subscribers(self, name: str) -> int:
        """How many listen to a channel."""
        channel = self._channels.get(name)
        return len(channel) if channel else 0

    def subscribe(self, name: str, subscriber: Subscriber) -> bool:
        """Subscribe: every message published from now on is delivered, none from before.

        Args:
            name: the channel; it comes to exist with its first subscriber.
            subscriber: whom to deliver to; it has to be hashable.

        Returns:
            Whether it was not subscribed before.

        Raises:
            ValueError: no channel can have that name.
        """
        channel = self._channels.get(name)
        if channel is None:
            _check_name(name, self.limits)
            channel = self._channels[name] = Channel(name, self)
            if self.upstream is not None:
                self.upstream.subscribe(name)
        return channel.add(subscriber)

    def unsubscribe(self, name: str, subscriber: Subscriber) -> bool:
        """Unsubscribe; whether it was subscribed. With its last subscriber the channel ends.

        Messages published just now may not have been delivered yet, and then never are;
        ``Channel.catch_up`` first if they matter.
        """
        channel = self._channels.get(name)
        if channel is None or not channel.remove(subscriber):
            return False
        if not channel:
            del self._channels[name]
            if self.upstream is not None:
                self.upstream.unsubscribe(name)
        return True

    def publish(self, name: str, message: str | bytes) -> int:
        """Publish a message to the subscribers of this process.

        With a backplane between several, ``Backplane.publish`` reaches all of them.

        Args:
            name: the channel.
            message: the text; bytes have to be UTF-8. An empty one is not broadcast: it
                stands for a heartbeat.

        Returns:
            How many subscribers it is handed to; 0 if nobody listens, and it is forgotten.

        Raises:
            NotText: the message is not valid Unicode.
            MessageTooLarge: it is longer than ``Limits.max_message`` bytes.
            ValueError: no channel can have that name.
        """
        payload = self.checked(message)
        if not payload:
            return 0
        if name not in self._channels:
            _check_name(name, self.limits)
        self.stats.programmed += 1
        return self.publish_checked(name, payload)

    def checked(self, message: str | bytes) -> bytes:
        """The payload of a message that may be published.

        Raises:
            NotText: the message is not valid Unicode.
            MessageTooLarge: it is longer than ``Limits.max_message`` bytes.
        """
        payload = _payload(message)
        if len(payload) > self.limits.max_message:
            raise MessageTooLarge(self.limits.max_message)
        return payload

    def publish_checked(self, name: str, payload: bytes) -> int:
        """Publish a message that is known to be good.

        Args:
            name: the channel; one that was made by ``pinghub.names`` or is subscribed.
            payload: valid UTF-8, not empty, within ``Limits.max_message``.

        Returns:
            How many subscribers it is handed to.
        """
        channel, stats = self._channels.get(name), self.stats
        stats.received_bytes += len(payload)
        if channel is None:
            stats.dropped += 1
            return 0
        stats.published += 1
        return channel.publish(payload)

    def relay(self, name: str, payload: bytes) -> int:
        """Hand out a message that was published, and counted, at some server.

        Args:
            name: the channel.
            payload: valid UTF-8, not empty, within ``Limits.max_message``.

        Returns:
            How many subscribers it is handed to.
        """
        channel = self._channels.get(name)
        if channel is None:
            return 0
        self.stats.relayed += 1
        return channel.publish(payload)

    def schedule(self, channel: Channel) -> float:
        """Hand out what a channel has under way at the end of this reactor turn.

        Returns:
            When this turn began to take messages; 0 if it is not measured.
        """
        self._scheduled[channel] = None
        if self._call is None:
            self._begin_turn()
        return self._arrival

    def _begin_turn(self) -> None:
        self._call = self.clock.callLater(0, self._end_of_turn)
        self._turns += 1
        self._arrival = self.clock.seconds() if random() < self._share else 0.0

    def _end_of_turn(self) -> None:
        """Hand out up to ``Limits.fanout_slice`` deliveries; the rest in the next turns.

        Channels take turns, so that a large one gives way to others and to everything else
        that the reactor has to do.
        """
        began = self.clock.seconds() if self._arrival else 0.0
        try:
            self._take_turns(self.limits.fanout_slice)
        finally:
            # Not before: what is scheduled meanwhile must not ask for a turn of its own.
            self._call = None
            if self._scheduled:
                self._begin_turn()
        if began or self.arrivals:
            self._measure_turn(began)

    def _measure_turn(self, began: float) -> None:
        assert self.timings is not None
        now = self.clock.seconds()
        if began:
            self.timings.fan_out.observe(now - began)
        self.timings.handed_out(self.arrivals, now)
        self.arrivals.clear()

    def _take_turns(self, left: int) -> None:
        for channel in tuple(self._scheduled):
            if left <= 0:
                return
            del self._scheduled[channel]
            left -= channel.hand_out(left)
            if channel.has_work:
                self._scheduled[channel] = None

    def flush(self) -> None:
        """Hand out all that is under way in all channels now."""
        for channel in tuple(self._scheduled):
            channel.flush()

    def fault(self, name: str, subscriber: Subscriber, error: Exception) -> None:
        """Give up a subscriber that raised; the rest of the fan-out goes on."""
        self.unsubscribe(name, subscriber)
        self.stats.evictions[CloseReason.FAULT] += 1
        self.report("A subscriber failed to take a message and was unsubscribed", error)

    def report(self, text: str, error: Exception) -> None:
        """Tell of an exception that stays with the one connection that it concerns."""
        self._on_error(text, error)


def _payload(message: str | bytes) -> bytes:
    try:
        if isinstance(message, str):
            return message.encode()
        if not message.isascii():
            message.decode()
    except UnicodeError:
        raise NotText from None
    return message


def _check_name(name: str, limits: Limits) -> None:
    if not name.startswith("/") or len(name) > limits.channel_name or not _is_unicode(name):
        raise ValueError(
            f"a channel name is valid Unicode, begins with a slash and has at most "
            f"{limits.channel_name} characters: {name[:80]!r}"
        )


def _is_unicode(text: str) -> bool:
    """Whether a text can be encoded: Python's may contain half a surrogate pair."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
