"""The two connections to a broker: one publishes, the other receives.

A connection on which something was subscribed takes no other commands (RESP2), so that there have
to be two. Both are watched: a broker that was asked something, and says nothing for
``Limits.backplane_timeout``, is given up, whether it hangs, is stopped, or the network between us
is gone and nobody has told us. Where there is nothing to ask it is asked for a sign of life.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Collection
from typing import Any, Protocol

import hiredis
import txredisapi
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pinghub.backplane.reasons import reason_of
from pinghub.backplane.urls import BrokerURL
from pinghub.limits import Limits
from pinghub.sweep import Clock

LOOKS = 5
"""How often it is looked for a sign of life within ``Limits.backplane_timeout``."""

NEVER = float("inf")


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

    def refused(self, channel: bytes, reason: str) -> None:
        """A channel may not be subscribed."""


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
        self._introduced = self._heard = False
        self._problem = ""
        # What the broker has not answered yet, in the order of its answers.
        self._unanswered: deque[Any] = deque()
        self._call: Any = None
        # When it is looked next, and since when the broker has not answered.
        self._due = 0.0
        self._silent_since = NEVER

    def connectionMade(self) -> None:
        """Say who we are, and see whether it is a broker that answers."""
        super().connectionMade()
        self._asked()
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
        self.fail(reason_of(failure))

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
        self._silent_since = NEVER
        try:
            super().dataReceived(data)
        except txredisapi.InvalidData as error:
            self.fail(f"this is no Redis: {error}")
            return
        if self._reader.len() > self._limits.backplane_reply + self._limits.max_message:
            self.fail("an answer is too large")
        if self._unanswered or not self._introduced:
            self._asked()  # It has all of its time for the next answer.

    def connectionLost(self, why: Failure = connectionDone) -> None:
        """Tell who waits, and the owner."""
        if self._call.active():
            self._call.cancel()
        self._call = None  # It has a method of ours, which is a cycle.
        connector = getattr(_raw(self.transport), "connector", None)
        if connector is not None:
            self._clock.callLater(0, _let_go, connector)  # It is told of the end as well.
        self._introduced = False
        # Before those who wait for an answer hear of it, and would say no more than that.
        self._problem = self._problem or reason_of(why)
        super().connectionLost(why)
        self._owner.lost(self, self._problem)

    # Signs of life.

    def _watch(self) -> None:
        now = self._clock.seconds()
        period = self._limits.backplane_timeout / LOOKS
        self._due = min(now + period, max(self._given_up_at(), now))
        self._call = self._clock.callLater(self._due - now, self._look)

    def _given_up_at(self) -> float:
        return self._silent_since + self._limits.backplane_timeout

    def _look(self) -> None:
        now = self._clock.seconds()
        late = now - self._due > self._limits.backplane_timeout / LOOKS / 2
        heard, self._heard = self._heard, False
        if self._silent_since == NEVER:
            if not heard:
                self.barrier().addErrback(lambda _: None)  # Lost: the owner is told.
        elif late:
            # We were not there to hear it: what it said may wait in the socket.
            self._silent_since = now
        elif now >= self._given_up_at():
            self.fail(f"nothing came within {self._limits.backplane_timeout:g} s")
            return
        self._watch()

    @abstractmethod
    def barrier(self) -> Deferred[None]:
        """Ask for a sign of life, which comes behind all that is on its way."""

    def _say(self, *words: bytes) -> None:
        self._asked()
        self.transport.write(hiredis.pack_command(words))  # type: ignore[arg-type]

    def _asked(self) -> None:
        """There is something to answer from now on, if there was not before."""
        if self._silent_since == NEVER:
            self._silent_since = self._clock.seconds()


def _raw(transport: Any) -> Any:
    """The transport that has the socket: it may be wrapped in TLS."""
    return getattr(transport, "transport", transport)


def _let_go(connector: Any) -> None:
    """Break the cycles of a client's transport and factory with what has connected them.

    They would keep what could not be sent, for ever where ``collector.py`` does its work.
    """
    connector.transport = connector.factory = None


class PublishLink(Link):
    """The connection that publishes.

    Answers are matched to questions here: for each, the client's own way makes four more objects
    than the one that is waited for, and takes three times as long.
    """

    _unanswered: deque[Deferred[Any]]

    def publish(self, channel: bytes, payload: bytes) -> Deferred[int]:
        """Publish a message.

        Returns:
            How many connections it was sent to. It fails with ``ResponseError`` if the broker
            refuses it, and with ``ConnectionError`` if the connection is lost (``txredisapi``).
        """
        return self._question(b"PUBLISH", channel, payload)

    def barrier(self) -> Deferred[None]:
        """Wait until all that was published by now was taken."""
        return self._question(b"PING")

    def _question(self, *words: bytes) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self._unanswered.append(answer)
        self._say(*words)
        return answer

    def replyReceived(self, reply: Any) -> None:
        """Take an answer (a hook of ``txredisapi``)."""
        if not self._introduced:
            super().replyReceived(reply)
        elif not self._unanswered:
            self.fail("an answer to no question")
        elif isinstance(reply, Exception):
            self._unanswered.popleft().errback(reply)
        else:
            self._unanswered.popleft().callback(reply)

    def connectionLost(self, why: Failure = connectionDone) -> None:
        """Tell the owner, and who waits."""
        super().connectionLost(why)
        # Only now: some of them have something else to publish.
        for each in self._unanswered:
            each.errback(txredisapi.ConnectionError("Lost connection"))


class _Command:
    """A command that is not answered yet: an answer to each channel, or just one."""

    __slots__ = ("barrier", "channels", "left", "name")

    def __init__(
        self,
        name: bytes,
        channels: Collection[bytes] = (),
        barrier: Deferred[None] | None = None,
    ) -> None:
        self.name = name
        self.channels = channels
        self.barrier = barrier
        self.left = len(channels) or 1

    def answered(self) -> None:
        """Nobody need wait for it any more."""
        if self.barrier is not None:
            self.barrier.callback(None)


class ReceiveLink(Link):
    """The connection that receives.

    It is ready when it has subscribed to the name of all names, which is no channel's.
    """

    _owner: Receiver
    _unanswered: deque[_Command]

    def introduced(self) -> None:
        """Receive from now on."""
        self.join([self._url.namespace])

    def join(self, channels: Collection[bytes]) -> None:
        """Subscribe to channels; ``confirmed`` or ``refused`` is called for each."""
        self._command(_Command(b"SUBSCRIBE", channels), *channels)

    def leave(self, channels: Collection[bytes]) -> None:
        """Unsubscribe from channels; ``confirmed`` is called for each."""
        self._command(_Command(b"UNSUBSCRIBE", channels), *channels)

    def barrier(self) -> Deferred[None]:
        """Wait for all that the broker has sent by now; or for the end of the connection."""
        barrier: Deferred[None] = Deferred()
        if self._introduced:
            self._command(_Command(b"PING", barrier=barrier))
        else:
            barrier.callback(None)
        return barrier

    def _command(self, command: _Command, *arguments: bytes) -> None:
        self._unanswered.append(command)
        self._say(command.name, *arguments)

    def replyReceived(self, reply: Any) -> None:
        """Take what the broker sends by itself (a hook of ``txredisapi``)."""
        if not self._introduced:
            super().replyReceived(reply)
        elif isinstance(reply, list):
            self._pushed(*reply)
        else:
            self._not_allowed(str(reply))

    def _pushed(self, kind: bytes, subject: bytes, what: Any = None) -> None:
        if kind == b"message":
            self._owner.received(subject, what)
            return
        if not self._unanswered:
            self.fail("an answer to no question")
            return
        command = self._unanswered[0]
        command.left -= 1
        if not command.left:
            self._unanswered.popleft()
        if kind == b"pong":
            command.answered()
        elif subject == self._url.namespace:
            self._owner.ready(self)
        else:
            self._owner.confirmed(subject, kind == b"subscribe")

    def _not_allowed(self, reason: str) -> None:
        """A command was refused as a whole: one channel of it is enough for that."""
        command = self._unanswered.popleft() if self._unanswered else _Command(b"")
        if command.name == b"PING":
            command.answered()  # Any answer is a sign of life.
            return
        if command.name != b"SUBSCRIBE":
            self.fail(reason)
            return
        for channel in command.channels:
            if len(command.channels) > 1:
                self.join([channel])
            elif channel == self._url.namespace:
                self.fail(reason)
            else:
                self._owner.refused(channel, reason)

    def connectionLost(self, why: Failure = connectionDone) -> None:
        """Tell the owner, and who waits."""
        super().connectionLost(why)
        for each in self._unanswered:
            each.answered()
