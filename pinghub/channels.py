"""The hub: channels, their subscribers, and the path of a message.

A message is framed once and appended to what is pending for its channel. At the end of the
reactor turn the pending frames are joined, and the same bytes are handed to every subscriber.
There is one thread, one pending list per channel and one flush, so that all subscribers see
one order, whoever published and however.

This module knows no I/O: a subscriber is anything with a ``deliver`` method.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from pinghub.connections import Connections
from pinghub.errors import MessageTooLarge, NotText
from pinghub.frames import text_frame
from pinghub.limits import Limits
from pinghub.outbox import TotalBacklog
from pinghub.sweep import Clock, Sweep


class Subscriber(Protocol):
    """Whoever receives the messages of a channel."""

    def deliver(self, frames: bytes) -> None:
        """Take one or more complete, unmasked text frames.

        It has to return at once and must not raise. There is no backpressure: a subscriber
        that cannot keep up has to bound what it queues and leave.
        """


class CloseReason(StrEnum):
    """Why the server ended a subscription; the keys of ``Stats.evictions``."""

    BACKLOG = "backlog"
    STALLED = "stalled"
    TOTAL_BACKLOG = "total-backlog"
    PING_TIMEOUT = "ping-timeout"
    PING_FLOOD = "ping-flood"
    CLOSE_TIMEOUT = "close-timeout"
    FAULT = "fault"


@dataclass
class Stats:
    """What happened since the start.

    Attributes:
        published: messages that reached at least one subscriber.
        dropped: messages to channels nobody listens to.
        deliveries: messages handed to a subscriber, counted once for each.
        evictions: subscribers that the server gave up, by reason.
    """

    published: int = 0
    dropped: int = 0
    deliveries: int = 0
    evictions: Counter[CloseReason] = field(default_factory=Counter)


ErrorHandler = Callable[[str, Exception], None]


def _log_error(text: str, error: Exception) -> None:
    logging.getLogger(__name__).error(text, exc_info=error)


class Channel:
    """One channel, as long as someone listens to it.

    What is pending is bounded by ``Limits.join_size``: at the bound it is handed out at once
    instead of at the end of the reactor turn.

    Attributes:
        name: its name.
    """

    __slots__ = (
        "_flushing",
        "_late",
        "_manager",
        "_pending",
        "_pending_size",
        "_subscribers",
        "name",
    )

    def __init__(self, name: str, manager: ChannelManager) -> None:
        self.name = name
        self._manager = manager
        # A dictionary is an ordered set: members leave in constant time.
        self._subscribers: dict[Subscriber, None] = {}
        self._pending: list[bytes] = []
        self._pending_size = 0
        # Who came while frames were pending, and how many of them are not theirs.
        self._late: dict[Subscriber, int] = {}
        self._flushing = False

    def __len__(self) -> int:
        return len(self._subscribers)

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
            self._manager.schedule(self)
        self._pending.append(frame)
        self._pending_size += len(frame)
        self._manager.stats.published += 1
        if self._pending_size >= self._manager.limits.join_size:
            self.flush()
        return len(self._subscribers)

    def flush(self) -> None:
        """Hand what is pending to the subscribers, in order.

        A subscriber that raises is unsubscribed and reported; the others do not notice.
        """
        if self._flushing or not self._pending:
            return
        frames, self._pending = self._pending, []
        late, self._late = self._late, {}
        self._pending_size = 0
        self._flushing = True
        try:
            self._hand_out(frames, late)
        finally:
            self._flushing = False

    def _hand_out(self, frames: list[bytes], late: dict[Subscriber, int]) -> None:
        joined = frames[0] if len(frames) == 1 else b"".join(frames)
        deliveries = 0
        for subscriber in tuple(self._subscribers):
            missed = late.get(subscriber, 0) if late else 0
            data = b"".join(frames[missed:]) if missed else joined
            deliveries += len(frames) - missed
            if not data:
                continue
            try:
                subscriber.deliver(data)
            except Exception as error:
                self._manager.fault(self.name, subscriber, error)
        self._manager.stats.deliveries += deliveries

    def add(self, subscriber: Subscriber) -> bool:
        """Add a subscriber, from the next message on; whether it was not there."""
        if subscriber in self._subscribers:
            return False
        self._subscribers[subscriber] = None
        if self._pending:
            self._late[subscriber] = len(self._pending)
        return True

    def remove(self, subscriber: Subscriber) -> bool:
        """Remove a subscriber; whether it was there. What is pending does not reach it."""
        if subscriber not in self._subscribers:
            return False
        del self._subscribers[subscriber]
        self._late.pop(subscriber, None)
        return True


class ChannelManager:
    """All channels of one reactor, and what their connections share.

    There is one manager per reactor; it is handed to the resources, sites and services that
    use it. Whatever bounds all of them together lives here.

    Args:
        clock: the reactor, or a clock that a test advances.
        limits: every bound.
        on_error: told, with one line of text, of an exception that a subscriber raised.

    Attributes:
        clock: as given.
        limits: as given.
        stats: what happened since the start.
        connections: who is connected, and how many may be.
        sweep: the deadlines of all connections.
        backlog: the bound on what waits for all subscribers together.
    """

    def __init__(
        self,
        clock: Clock,
        limits: Limits | None = None,
        on_error: ErrorHandler = _log_error,
    ) -> None:
        self.clock = clock
        self.limits = limits or Limits()
        self.stats = Stats()
        self.connections = Connections(self.limits.max_connections)
        self.sweep = Sweep(clock)
        self.backlog = TotalBacklog(self.limits.max_total_backlog)
        self._on_error = on_error
        self._channels: dict[str, Channel] = {}
        # Channels with something pending, at most one entry each; flushed in this turn.
        self._scheduled: list[Channel] = []
        self._call: Any = None

    def __len__(self) -> int:
        return len(self._channels)

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
        return channel.add(subscriber)

    def unsubscribe(self, name: str, subscriber: Subscriber) -> bool:
        """Unsubscribe; whether it was subscribed. With its last subscriber the channel ends.

        Messages published in this reactor turn may not have been delivered yet, and then
        never are; ``Channel.flush`` first if they matter.
        """
        channel = self._channels.get(name)
        if channel is None or not channel.remove(subscriber):
            return False
        if not channel:
            del self._channels[name]
        return True

    def publish(self, name: str, message: str | bytes) -> int:
        """Publish a message.

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
        payload = _payload(message)
        if len(payload) > self.limits.max_message:
            raise MessageTooLarge(self.limits.max_message)
        if not payload:
            return 0
        if name not in self._channels:
            _check_name(name, self.limits)
        return self.publish_checked(name, payload)

    def publish_checked(self, name: str, payload: bytes) -> int:
        """Publish a message that is known to be good.

        Args:
            name: the channel; one that was made by ``pinghub.names`` or is subscribed.
            payload: valid UTF-8, not empty, within ``Limits.max_message``.

        Returns:
            How many subscribers it is handed to.
        """
        channel = self._channels.get(name)
        if channel is None:
            self.stats.dropped += 1
            return 0
        return channel.publish(payload)

    def schedule(self, channel: Channel) -> None:
        """Flush a channel at the end of this reactor turn."""
        self._scheduled.append(channel)
        if self._call is None:
            self._call = self.clock.callLater(0, self._end_of_turn)

    def _end_of_turn(self) -> None:
        self._call = None
        self.flush()

    def flush(self) -> None:
        """Hand out all that is pending in all channels now."""
        scheduled, self._scheduled = self._scheduled, []
        for channel in scheduled:
            channel.flush()

    def fault(self, name: str, subscriber: Subscriber, error: Exception) -> None:
        """Give up a subscriber that raised; the rest of the fan-out goes on."""
        self.unsubscribe(name, subscriber)
        self.stats.evictions[CloseReason.FAULT] += 1
        self._on_error("A subscriber failed to take a message and was unsubscribed", error)


def _payload(message: str | bytes) -> bytes:
    try:
        if isinstance(message, str):
            return message.encode()
        message.decode()
    except UnicodeError:
        raise NotText from None
    return message


def _check_name(name: str, limits: Limits) -> None:
    if not name.startswith("/") or len(name) > limits.channel_name:
        raise ValueError(
            f"a channel name begins with a slash and has at most {limits.channel_name} "
            f"characters: {name[:80]!r}"
        )
