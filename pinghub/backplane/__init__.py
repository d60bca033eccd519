"""The backplane: what carries a message from its publisher to the servers of its subscribers.

Websockets and POSTs publish to a backplane, and a handshake waits for it; which one it is they do
not know. ``InProcess`` is for a server that has all subscribers of its channels itself, and is the
default. ``redis.py`` has the one for several servers behind a balancer that cannot hash.

What a backplane promises:

* One order for each channel: all servers hand out its messages in the same one. A server hands
  out nothing that did not come back from the backplane, its own messages included.
* A message that is published after ``when_subscribed`` has fired reaches this server. Where it
  cannot keep that, because something between the servers fails, it counts a gap
  (``Stats.gaps``).
* At most once: it stores nothing, and sends nothing twice.
* Bounded: what is on its way in bytes, whatever is waited for in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred, succeed

from pinghub.channels import ChannelManager, Upstream

COST = 1024
"""What a message on its way takes besides its payload, in bytes; bounds count it as well."""


@dataclass(frozen=True)
class State:
    """How a backplane is.

    Attributes:
        instances: how many instances it has, each for a share of the channels.
        up: how many of these work.
        reached: how many of these have worked since the start.
        pending: bytes that were published, and not yet taken by an instance.
        problem: which instance does not work and why, for people; empty if all do.
    """

    instances: int = 0
    up: int = 0
    reached: int = 0
    pending: int = 0
    problem: str = ""

    @property
    def ready(self) -> bool:
        """Whether it is of any use: one instance that fails leaves the others their channels."""
        return self.up > 0 or not self.instances


class Backplane(Upstream, Protocol):
    """What is needed of a backplane.

    ``subscribe`` and ``unsubscribe`` come in pairs: a channel is received while somebody holds it.
    The manager holds each channel that has subscribers, and a handshake the one it waits for.

    Attributes:
        counts: what ``publish`` counts, as the name of a header field.
        immediate: whether ``publish`` always knows at once, and returns a number.
    """

    counts: str
    immediate: bool

    def publish(self, name: str, payload: bytes, /) -> int | Deferred[int]:
        """Publish a message.

        Args:
            name: the channel.
            payload: valid UTF-8, not empty, within ``Limits.max_message``.

        Returns:
            To how many it is handed (see ``counts``); now, or when that is known. A Deferred fails
            with ``BackplaneDown`` if the message was not published, with ``BackplaneLost`` if that
            is not known, and with ``BackplaneRefused`` if it is not allowed.

        Raises:
            BackplaneDown: it cannot be published now.
            BackplaneFull: too many messages are on their way.
        """

    def subscribed(self, name: str, /) -> bool:
        """Whether whatever is published on a channel from now on is received."""

    def when_subscribed(self, name: str, /) -> Deferred[None]:
        """Wait until it is; somebody has to hold the channel meanwhile.

        Returns:
            What fires then, or fails with ``BackplaneDown``, after ``Limits.backplane_timeout``
            at the latest; with ``BackplaneRefused`` if the channel is not allowed.
        """

    def state(self) -> State:
        """How it is."""

    def start(self) -> Deferred[None]:
        """Begin to connect; the result fires when each instance works, or failed once."""

    def stop(self) -> Deferred[None]:
        """Disconnect for good; the result fires when that is done."""


class InProcess:
    """The backplane of a server that has all subscribers of its channels itself.

    Args:
        manager: the channels.
    """

    counts = "Pinghub-Subscribers"
    immediate = True

    def __init__(self, manager: ChannelManager) -> None:
        # No method of our own: it would cost each message a call.
        self.publish = manager.publish_checked

    def subscribe(self, name: str, /) -> None:
        """Nothing: all messages are published here."""

    def unsubscribe(self, name: str, /) -> None:
        """Nothing, as well."""

    def subscribed(self, name: str, /) -> bool:
        """Always."""
        return True

    def when_subscribed(self, name: str, /) -> Deferred[None]:
        """At once."""
        return succeed(None)

    def settle(self) -> Deferred[None]:
        """At once: nothing is on its way."""
        return succeed(None)

    def state(self) -> State:
        """It has no instances that could fail."""
        return State()

    def start(self) -> Deferred[None]:
        """Nothing to connect."""
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Nothing to disconnect."""
        return succeed(None)
