"""What is counted and measured, as plain numbers: the hot path does no more than add.

The names of reasons are fixed here and in ``errors.py``; nothing that a peer said becomes a key.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

SECONDS = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
"""The upper bounds of the buckets of all histograms, in seconds; one more has no bound."""


class CloseReason(StrEnum):
    """Why the server ended a subscription; the keys of ``Stats.evictions``."""

    BACKLOG = "backlog"
    STALLED = "stalled"
    TOTAL_BACKLOG = "total-backlog"
    PING_TIMEOUT = "ping-timeout"
    CONTROL_FLOOD = "control-flood"
    CLOSE_TIMEOUT = "close-timeout"
    FAULT = "fault"


@dataclass
class Stats:
    """What happened since the start.

    Attributes:
        published: messages that reached at least one subscriber, or another server.
        dropped: messages to channels nobody listens to.
        posted: messages that came by POST.
        sent: messages that came from a subscriber.
        programmed: messages of the program that Pinghub is embedded in.
        received_bytes: the size of all messages published here, without frames.
        deliveries: messages handed to a subscriber, counted once for each.
        delivered_bytes: the size of these, with frames.
        subscriptions: subscribers that came.
        evictions: subscribers that the server gave up, by reason.
        refusals: requests that were refused, by ``Refusal.label``.
        failures: websockets that were failed for what they sent, by close code.
        relayed: messages that came from the backplane, and had subscribers here.
        foreign: what came from the backplane and is no message: not text, empty or too large.
        gaps: how often an instance of the backplane was lost while channels needed it.
    """

    published: int = 0
    dropped: int = 0
    posted: int = 0
    sent: int = 0
    programmed: int = 0
    received_bytes: int = 0
    deliveries: int = 0
    delivered_bytes: int = 0
    subscriptions: int = 0
    evictions: Counter[CloseReason] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    failures: Counter[int] = field(default_factory=Counter)
    relayed: int = 0
    foreign: int = 0
    gaps: int = 0


class Histogram:
    """How often a duration was how long.

    Attributes:
        counts: how often, for each bucket; the last one is for all above ``SECONDS``.
        sum: all durations together, in seconds.
    """

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count a duration; one below zero, because a clock was set back, counts as zero."""
        seconds = max(0.0, seconds)
        self.counts[bisect_left(SECONDS, seconds)] += times
        self.sum += seconds * times


class Timings:
    """How long the ways of messages take.

    Messages are measured in all turns of the reactor while it has little to do, and in a random
    share of them, some 200 a second, when there are more.

    Attributes:
        fan_out: what one turn of the reactor spends on handing messages out.
        latency: from when a message was taken, off a POST or a websocket, until it was written
            to the socket of its last subscriber, or queued for who does not read. What arrived
            in one turn counts from its first message, and to the end of the turn in which it
            was handed out.
        lag: how much later than it should the reactor comes to what it has to do.
    """

    def __init__(self) -> None:
        self.fan_out = Histogram()
        self.latency = Histogram()
        self.lag = Histogram()

    def handed_out(self, arrivals: Iterable[float], now: float) -> None:
        """Count messages that were handed out in a turn, by when they had arrived."""
        for arrival, times in Counter(arrivals).items():
            self.latency.observe(now - arrival, times)
