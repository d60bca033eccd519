"""One Redis: its two connections, what goes over them, and what is done when they are lost."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from txredisapi import ResponseError

from pinghub.backplane import COST
from pinghub.backplane.connector import Connector
from pinghub.backplane.endpoints import QuietFactory
from pinghub.backplane.interest import Interests
from pinghub.backplane.links import Link, PublishLink, ReceiveLink
from pinghub.backplane.reasons import reason_of
from pinghub.backplane.urls import BrokerURL
from pinghub.channels import ChannelManager
from pinghub.errors import BackplaneDown, BackplaneFull, BackplaneLost, BackplaneRefused, Refusal
from pinghub.logs import Log

REASONS = 5
"""How many different reasons for being without a broker are logged before it is back."""


class Broker:
    """One instance of the backplane.

    Bounded: ``Limits.backplane_queue`` bytes of messages are on their way to it; further ones are
    refused until it has taken some.

    Args:
        url: where it is, and who we are to it.
        endpoint: connects to it.
        manager: the channels, which bring the bounds and the clock.
        log: where to log.
        resumed: told of the channels that may have missed messages, when it works again.

    Attributes:
        interests: the channels that are received from it, or are going to be.
        pending: how many bytes of messages are on their way to it.
        reached: whether it has ever worked.
        problem: why it does not work, for people; empty if it does.
    """

    def __init__(
        self,
        url: BrokerURL,
        endpoint: IStreamClientEndpoint,
        manager: ChannelManager,
        log: Log,
        resumed: Callable[[Collection[str]], None],
    ) -> None:
        self._url = url
        self._manager = manager
        self._log = log
        self._resumed = resumed
        publishing, receiving = QuietFactory(self._publish_link), QuietFactory(self._receive_link)
        self._publishing = Connector(manager.clock, endpoint, publishing, self._is_down)
        self._receiving = Connector(manager.clock, endpoint, receiving, self._is_down)
        self._publisher: PublishLink | None = None
        self._receiver: ReceiveLink | None = None
        # Nobody else has this name: who publishes there finds out whether we receive there.
        self._own_name = b"%b\0%b" % (url.namespace, secrets.token_hex(16).encode())
        self._has_own_name = self._came_back = False
        self._complete = False
        self._missed: dict[str, None] = {}
        self._stopping = False
        self._tried: list[Deferred[None]] = []
        # Of the time without it: since when, why, and how many channels missed it.
        self._lost_at = 0.0
        self._reasons: set[str] = set()
        self._affected = 0
        self.interests = Interests(manager.clock, self._join, self._leave, self._all_joined)
        self.pending = 0
        self.reached = False
        self.problem = f"{url.text}: it has not answered yet"

    @property
    def up(self) -> bool:
        """Whether messages go to it and come from it."""
        return self._publisher is not None and self._complete

    def start(self) -> Deferred[None]:
        """Connect; the result fires when it works, or has failed once."""
        tried: Deferred[None] = Deferred()
        self._stopping = False
        self._reasons.clear()
        self._tried.append(tried)
        self._publishing.start()
        self._receiving.start()
        return tried

    def stop(self) -> Deferred[Any]:
        """Disconnect for good; the result fires when that is done."""
        self._stopping = True
        return gatherResults([self._publishing.stop(), self._receiving.stop()])

    # Messages.

    def publish(self, name: str, payload: bytes) -> Deferred[int]:
        """Publish a message; the result is how many servers it was sent to.

        Raises:
            BackplaneDown: there is no connection.
            BackplaneFull: too many are on their way.
        """
        if self._publisher is None:
            raise BackplaneDown
        channel = self._channel(name)
        size = len(payload) + COST
        if self.pending and self.pending + size > self._manager.limits.backplane_queue:
            raise BackplaneFull
        self.pending += size
        self._manager.stats.received_bytes += len(payload)
        taken: Deferred[int] = self._publisher.publish(channel, payload)
        return taken.addCallbacks(self._taken, self._not_taken, (size,), errbackArgs=(size,))

    def _taken(self, servers: int, size: int) -> int:
        self.pending -= size
        stats = self._manager.stats
        if servers:
            stats.published += 1
        else:
            stats.dropped += 1
        return servers

    def _not_taken(self, failure: Failure, size: int) -> Failure:
        self.pending -= size
        if failure.check(ResponseError):
            reason = reason_of(failure)
            self._log.warn(
                "The backplane refused a message", instance=self._url.text, reason=reason
            )
            return Failure(_refusal(reason))
        return Failure(BackplaneLost())

    def received(self, channel: bytes, payload: bytes) -> None:
        """Hand out what somebody has published, if it is a message."""
        if self._is_message(payload):
            name = channel[len(self._url.namespace) :].decode()
            self._manager.relay(name, payload)
        elif channel == self._own_name:
            self._came_back = True
        else:
            self._manager.stats.foreign += 1
            self._log.warn("Left out what is no message", channel=channel, bytes=len(payload))

    def _is_message(self, payload: bytes) -> bool:
        """Whether something is what a server may publish; others may publish as well."""
        if not 0 < len(payload) <= self._manager.limits.max_message:
            return False
        if not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError:
                return False
        return True

    def settle(self) -> Deferred[Any]:
        """Wait for what is on its way: to the broker, and then from it."""
        publisher, receiver = self._publisher, self._receiver
        if publisher is None or receiver is None:
            return succeed(None)
        return publisher.barrier().addCallback(lambda _: receiver.barrier())

    # Channels.

    def _channel(self, name: str) -> bytes:
        return self._url.namespace + name.encode()

    def _join(self, names: Collection[str]) -> None:
        assert self._receiver is not None
        self._receiver.join([self._channel(name) for name in names])

    def _leave(self, names: Collection[str]) -> None:
        assert self._receiver is not None
        self._receiver.leave([self._channel(name) for name in names])

    def confirmed(self, channel: bytes, joined: bool) -> None:
        """The broker has answered to ``_join`` or ``_leave``."""
        if channel == self._own_name:
            assert self._receiver is not None
            self._has_own_name = True
            self._compare(self._receiver)
            return
        self.interests.confirmed(channel[len(self._url.namespace) :].decode(), joined)

    def refused(self, channel: bytes, reason: str) -> None:
        """The broker does not allow what ``_join`` asked for."""
        if channel == self._own_name:
            return  # It is not needed for anything else.
        name = channel[len(self._url.namespace) :].decode()
        self._log.warn(
            "The backplane refused a channel",
            instance=self._url.text,
            channel=name,
            reason=reason,
        )
        self.interests.refused(name, _refusal(reason))

    def _all_joined(self) -> None:
        """What was missed is over, whether we can publish already or not."""
        self._complete = True
        missed, self._missed = self._missed, {}
        self._affected += len(missed)
        if missed:
            self._resumed(missed)
        self._is_up()

    # Connections.

    def _publish_link(self) -> Link:
        return PublishLink(self, self._url, self._manager.limits, self._manager.clock)

    def _receive_link(self) -> Link:
        return ReceiveLink(self, self._url, self._manager.limits, self._manager.clock)

    def ready(self, link: Link) -> None:
        """A connection can be used."""
        if isinstance(link, ReceiveLink):
            self._receiving.usable()
            self._receiver = link
            link.join([self._own_name])
            self.interests.connected()
        else:
            assert isinstance(link, PublishLink)
            self._publishing.usable()
            self._publisher = link
            self._is_up()
            self._compare(link)

    def _compare(self, later: Link) -> None:
        """See whether both connections are at one server, and give up the earlier one if not.

        A name may mean another server by now, and both may be alive: nothing that we publish would
        come back.
        """
        publisher, receiver = self._publisher, self._receiver
        if publisher is None or receiver is None or not self._has_own_name:
            return
        earlier: Link = receiver if later is publisher else publisher
        self._came_back = False

        def compare(_: object) -> None:
            both = self._publisher is publisher and self._receiver is receiver
            if both and not self._came_back:
                earlier.fail("the other connection is at another server")

        def published(servers: int) -> None:
            # What is between us and the broker may not count. What was published is there before
            # what is asked for now.
            if not servers:
                receiver.barrier().addCallback(compare)

        # If it is not allowed, or lost, others say so.
        publisher.publish(self._own_name, b"").addCallbacks(published, lambda _: None)

    def lost(self, link: Link, reason: str) -> None:
        """A connection is gone."""
        if link is self._receiver:
            self._receiver, self._has_own_name = None, False
            self._miss()
            self.interests.lost()
        elif link is self._publisher:
            self._publisher = None
        self._is_down(reason)
        (self._receiving if isinstance(link, ReceiveLink) else self._publishing).lost()

    def _miss(self) -> None:
        """What is published from now on does not reach the channels that are held."""
        self._complete = False
        held = set(self.interests.held())
        before = [name for name in self._missed if name in held]
        missed = dict.fromkeys(before + self.interests.received())
        # Those that have missed something already are still in the same gap.
        self._manager.stats.gaps += len(missed) > len(before)
        self._missed = missed

    def _is_up(self) -> None:
        if not self.up:
            return
        if self.reached:
            self._log.info(
                "The backplane is back",
                instance=self._url.text,
                seconds=round(self._manager.clock.seconds() - self._lost_at, 1),
                channels=self._affected,
            )
        else:
            self._log.info("The backplane is there", instance=self._url.text)
        self.reached, self.problem, self._affected = True, "", 0
        self._reasons.clear()
        self._was_tried()

    def _is_down(self, reason: str) -> None:
        """Say why, each reason once until it works again."""
        if self._stopping:
            return
        lost = self.reached and not self._reasons
        if lost:
            self._lost_at = self._manager.clock.seconds()
        if reason not in self._reasons and len(self._reasons) < REASONS:
            self._reasons.add(reason)
            kind = "Lost the backplane" if lost else "The backplane is not there"
            self._log.warn(kind, instance=self._url.text, reason=reason)
        self.problem = f"{self._url.text}: {reason}"
        self._was_tried()

    def _was_tried(self) -> None:
        tried, self._tried = self._tried, []
        for each in tried:
            each.callback(None)


def _refusal(reason: str) -> Refusal:
    """What an error of a broker means: that we are not allowed something, or not now."""
    return BackplaneRefused() if reason.startswith("NOPERM") else BackplaneDown()
