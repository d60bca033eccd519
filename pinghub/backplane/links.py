"""The two connections to a broker: one publishes, the other receives.

A connection on which something was subscribed takes no other commands (RESP2), so that there have
to be two. Both are watched: a broker that says nothing for ``Limits.backplane_timeout`` is given
up, whether it hangs, is stopped, or the network between us is gone and nobody has told us.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Any, Protocol

import hiredis
import txredisapi
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pinghub.backplane.urls import BrokerURL
from pinghub.limits import Limits
from pinghub.sweep import Clock

LOOKS = 3
"""How often it is looked for a sign of life within ``Limits.backplane_timeout``."""


class NotMasterError(Exception):
    """A server that the sentinels named has another role by now."""


class Owner(Protocol):
    """Who is told what becomes of a connection."""

    def ready(self, link: Any) -> None:
        """It can be used."""

    def lost(self, link: Any, reason: str) -> None:
        """It is gone, whether it was ready or not."""


class Receiver(Owner, Protocol):
    """Who receives."""

    def received(self, channel: bytes, payload: bytes) -> None:
        """Something was published, by whoever."""

    def confirmed(self, channel: bytes, joined: bool) -> None:
        """A channel is subscribed, or not any more."""


class Link(txredisapi.RedisProtocol):  # type: ignore[misc]  # it is untyped
    """One connection, from its handshake to its end.

    Args:
        owner: told what becomes of it.
        url: who we are, and whom we expect.
        limits: the bounds.
        clock: the reactor, or a clock that a test advances.
    """

    def __init__(self, owner: Any, url: BrokerURL, limits: Limits, clock: Clock) -> None:
        # Names and messages stay bytes, and look like numbers only by chance.
        super().__init__(charset=None, convertNumbers=False)
        self._owner = owner
        self._url = url
        self._limits = limits
        self._clock = clock
        self._introduced = self._heard = self._asked = False
        self._problem = ""
        self._call: Any = None
        self._due = 0.0

    def connectionMade(self) -> None:
        """Say who we are, and see whether it is a broker that answers."""
        super().connectionMade()
        self._watch()
        self._introduce().addCallbacks(self._accepted, self._refused)

    @inlineCallbacks
    def _introduce(self) -> Any:
        if self._url.password:
            yield self.auth(self._url.password, self._url.user or None)
        if self._url.name:
            role = yield self.role()
            if role[0] != b"master":
                raise NotMasterError(f"it is no master any more: {role[0]!r}")
        yield self.ping()

    def _accepted(self, _: object) -> None:
        self._introduced = True
        self.introduced()

    def introduced(self) -> None:
        """The broker knows us."""
        self._owner.ready(self)

    def _refused(self, failure: Failure) -> None:
        self.fail(failure.getErrorMessage())

    def fail(self, problem: str) -> None:
        """Give the connection up.

        Args:
            problem: why, for people.
        """
        if not self._problem:
            self._problem = problem
            self.transport.abortConnection()

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Take what the broker says; what is no answer ends the connection."""
        self._heard = True
        try:
            super().dataReceived(data)
        except txredisapi.InvalidData as error:
            self.fail(f"this is no Redis: {error}")
            return
        if self._reader.len() > self._limits.backplane_reply:
            self.fail("an answer is too large")

    def connectionLost(self, why: Failure = connectionDone) -> None:
        """Tell who waits, and the owner."""
        self._call.cancel()
        self._introduced = False
        # Before those who wait for an answer hear of it, and would say no more than that.
        self._problem = self._problem or why.getErrorMessage()
        super().connectionLost(why)
        self._owner.lost(self, self._problem)

    # Signs of life.

    def _watch(self) -> None:
        period = self._limits.backplane_timeout / LOOKS
        self._due = self._clock.seconds() + period
        self._call = self._clock.callLater(period, self._look)

    def _look(self) -> None:
        period = self._limits.backplane_timeout / LOOKS
        late = self._clock.seconds() - self._due > period / 2
        heard, self._heard = self._heard, False
        self._watch()
        if heard:
            self._asked = False
        elif late:
            pass  # We were not there to hear it: it may wait in the socket.
        elif not self._asked:
            self._asked = True
            if self._introduced:  # Before, there is a question already.
                self.ask()
        else:
            self.fail(f"nothing came within {self._limits.backplane_timeout:g} s")

    def ask(self) -> None:
        """Ask for a sign of life."""
        self._say(b"PING")

    def _say(self, *words: bytes) -> None:
        self.transport.write(hiredis.pack_command(words))  # type: ignore[arg-type]


class PublishLink(Link):
    """The connection that publishes.

    Answers are matched to questions here: for each, the client's own way makes four more objects
    than the one that is waited for, and takes three times as long.
    """

    def __init__(self, owner: Owner, url: BrokerURL, limits: Limits, clock: Clock) -> None:
        super().__init__(owner, url, limits, clock)
        # In the order in which the broker answers.
        self._waiting: deque[Deferred[Any]] = deque()

    def publish(self, channel: bytes, payload: bytes) -> Deferred[int]:
        """Publish a message.

        Returns:
            How many connections it was sent to. It fails with ``ResponseError`` if the broker
            refuses it, and with ``ConnectionError`` if the connection is lost (``txredisapi``).
        """
        return self._question(b"PUBLISH", channel, payload)

    def ask(self) -> None:
        """Ask for a sign of life."""
        self.barrier().addErrback(lambda _: None)  # Lost: the owner is told.

    def barrier(self) -> Deferred[None]:
        """Wait until all that was published by now was taken."""
        return self._question(b"PING")

    def _question(self, *words: bytes) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self._waiting.append(answer)
        self._say(*words)
        return answer

    def replyReceived(self, reply: Any) -> None:
        """Take an answer (a hook of ``txredisapi``)."""
        if not self._introduced:
            super().replyReceived(reply)
        elif not self._waiting:
            self.fail("an answer to no question")
        elif isinstance(reply, Exception):
            self._waiting.popleft().errback(reply)
        else:
            self._waiting.popleft().callback(reply)

    def connectionLost(self, why: Failure = connectionDone) -> None:
        """Tell the owner, and who waits."""
        super().connectionLost(why)
        # Only now: some of them have something else to publish.
        for each in self._waiting:
            each.errback(txredisapi.ConnectionError("Lost connection"))


class ReceiveLink(Link):
    """The connection that receives.

    It is ready when it has subscribed to the name of all names, which is no channel's.
    """

    _owner: Receiver

    def __init__(self, owner: Receiver, url: BrokerURL, limits: Limits, clock: Clock) -> None:
        super().__init__(owner, url, limits, clock)
        self._barriers: list[Deferred[None]] = []

    def introduced(self) -> None:
        """Receive from now on."""
        self.join([self._url.namespace])

    def join(self, channels: Collection[bytes]) -> None:
        """Subscribe to channels; ``confirmed`` is called for each."""
        self._say(b"SUBSCRIBE", *channels)

    def leave(self, channels: Collection[bytes]) -> None:
        """Unsubscribe from channels; ``confirmed`` is called for each."""
        self._say(b"UNSUBSCRIBE", *channels)

    def barrier(self) -> Deferred[None]:
        """Wait for all that the broker has sent by now; or for the end of the connection."""
        barrier: Deferred[None] = Deferred()
        self._barriers.append(barrier)
        self._say(b"PING", b"barrier")
        return barrier

    def replyReceived(self, reply: Any) -> None:
        """Take what the broker sends by itself (a hook of ``txredisapi``)."""
        if not self._introduced:
            super().replyReceived(reply)
        elif isinstance(reply, list):
            self._pushed(*reply)
        else:  # A subscription that is not allowed.
            self.fail(str(reply))

    def _pushed(self, kind: bytes, subject: bytes, what: Any = None) -> None:
        if kind == b"message":
            self._owner.received(subject, what)
        elif kind == b"pong":
            if subject:
                self._barriers.pop(0).callback(None)
        elif subject == self._url.namespace:
            self._owner.ready(self)
        else:
            self._owner.confirmed(subject, kind == b"subscribe")

    def connectionLost(self, why: Failure = connectionDone) -> None:
        """Tell the owner, and who waits."""
        super().connectionLost(why)
        for each in self._barriers:
            each.callback(None)
