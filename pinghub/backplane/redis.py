"""One channel on several servers, by way of Redis or Valkey: the backplane for many.

Each instance executes its commands in one thread, which makes the one order of a channel: all
servers receive its messages as that thread published them, and hand out nothing else. Several
instances share the channels between them; a channel is always at the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from pinghub.backplane import State
from pinghub.backplane.broker import Broker
from pinghub.backplane.endpoints import broker_endpoint
from pinghub.backplane.urls import BrokerURL
from pinghub.channels import ChannelManager
from pinghub.closing import Closing, is_closeable
from pinghub.errors import BackplaneDown
from pinghub.frames import CloseCode
from pinghub.logs import Log

MISSED = "messages may be missing: reconnect"


class RedisBackplane:
    """The backplane of a server that shares its channels with others.

    Args:
        urls: the instances, in an order that is the same for all servers.
        manager: the channels. It is told of the backplane, as its ``upstream``.
        reactor: the reactor.
        log: where to log; a log of its own when absent.
        close_on_gap: whether subscribers are closed with 1013 when they may have missed messages,
            once they would get messages again.
        endpoint: makes the endpoint of an instance, of the reactor and a URL.

    Raises:
        ConfigurationError: a file that a URL names cannot be used.
    """

    counts = "Pinghub-Servers"
    immediate = False

    def __init__(
        self,
        urls: Sequence[BrokerURL],
        manager: ChannelManager,
        reactor: Any,
        log: Log | None = None,
        *,
        close_on_gap: bool = False,
        endpoint: Callable[[Any, BrokerURL], IStreamClientEndpoint] = broker_endpoint,
    ) -> None:
        self._manager = manager
        self._close_on_gap = close_on_gap
        log = log or Log(manager.clock, manager.limits)
        self._brokers = [
            Broker(url, endpoint(reactor, url), manager, log, self._resumed) for url in urls
        ]
        manager.upstream = self

    def publish(self, name: str, payload: bytes, /) -> Deferred[int]:
        """Publish a message (see ``Backplane``); the result is how many servers it was sent to."""
        return self._broker(name).publish(name, payload)

    def subscribe(self, name: str, /) -> None:
        """Hold a channel (see ``Backplane``)."""
        self._broker(name).interests.hold(name)

    def unsubscribe(self, name: str, /) -> None:
        """Let it go (see ``Backplane``)."""
        self._broker(name).interests.release(name)

    def subscribed(self, name: str, /) -> bool:
        """Whether it is received (see ``Backplane``)."""
        return self._broker(name).interests.joined(name)

    def when_subscribed(self, name: str, /) -> Deferred[None]:
        """Wait until it is (see ``Backplane``)."""
        waiting = self._broker(name).interests.when_joined(name)
        seconds, clock = self._manager.limits.backplane_timeout, self._manager.clock
        return waiting.addTimeout(seconds, clock, _too_late)  # type: ignore[arg-type]

    def settle(self) -> Deferred[Any]:
        """Wait for what is on its way (see ``Upstream``)."""
        return gatherResults([each.settle() for each in self._brokers], consumeErrors=True)

    def state(self) -> State:
        """How it is (see ``Backplane``)."""
        brokers = self._brokers
        return State(
            instances=len(brokers),
            up=sum(each.up for each in brokers),
            reached=sum(each.reached for each in brokers),
            pending=sum(each.pending for each in brokers),
            problem=next((each.problem for each in brokers if each.problem), ""),
        )

    def start(self) -> Deferred[Any]:
        """Connect (see ``Backplane``)."""
        return gatherResults([each.start() for each in self._brokers])

    def stop(self) -> Deferred[Any]:
        """Disconnect (see ``Backplane``)."""
        return gatherResults([each.stop() for each in self._brokers])

    def _broker(self, name: str) -> Broker:
        brokers = self._brokers
        return brokers[instance_of(name, len(brokers)) if len(brokers) > 1 else 0]

    def _resumed(self, names: Collection[str]) -> None:
        """Some channels are received again, which may have missed messages."""
        if not self._close_on_gap:
            return
        channels = [channel for name in names if (channel := self._manager.channel(name))]
        subscribers = [
            (channel.name, each) for channel in channels for each in channel if is_closeable(each)
        ]
        Closing(self._manager, subscribers, CloseCode.TRY_AGAIN_LATER, MISSED).step()


def _too_late(outcome: object, seconds: float) -> Failure:
    return Failure(BackplaneDown())


def instance_of(name: str, instances: int) -> int:
    """Which of so many instances has a channel; the same on every server, in every version.

    With one instance more, each of the others gives it an equal part of its channels, and none
    moves between them (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm").
    """
    key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
    found, following = 0, 0
    while following < instances:
        found = following
        key = (key * 2862933555777941757 + 1) % 2**64
        following = (found + 1) * 2**31 // ((key >> 33) + 1)
    return found
