"""A Redis in memory, as far as Pinghub uses it: an implementation of its publishing, not a mock.

It answers in order and one command at a time, as Redis does, and does what tests ask of it: stop,
die, refuse, forget who we are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

DENIED = b"-NOPERM this user has no permissions to access one of the channels\r\n"


class Transport:
    """One end of a connection; bytes take a turn of the reactor to the other end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.open = True
        self.written = 0
        self.far: Any = None
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        self.written += len(data)
        self._clock.callLater(0, self._arrive, data)

    def _arrive(self, data: bytes) -> None:
        if self.far.open:
            self.far.protocol.dataReceived(data)

    def abortConnection(self) -> None:
        self._clock.callLater(0, self.lose, connectionDone)

    loseConnection = abortConnection

    def lose(self, reason: Failure) -> None:
        """Lose the connection, at both ends."""
        for end in (self, self.far):
            if end.open:
                end.open = False
                end.protocol.connectionLost(reason)


class Session:
    """A connection, as the Redis sees it."""

    def __init__(self, redis: MemoryRedis, transport: Transport) -> None:
        self._redis = redis
        self.transport = transport
        self._reader = hiredis.Reader()
        self.subscribed: dict[bytes, None] = {}
        self.known = not redis.password

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        self.work()

    def work(self) -> None:
        """Execute what has arrived, unless the Redis is stopped."""
        while not self._redis.stopped and (command := self._reader.gets()) is not False:
            self._redis.commands.append(tuple(command))
            answer = self._execute(*command)
            if answer:
                self.transport.write(answer)

    def connectionLost(self, reason: Failure) -> None:
        self._redis.sessions.remove(self)

    def _execute(self, word: bytes, *arguments: bytes) -> bytes:
        name = word.decode().lower()
        if name in self._redis.errors:
            error = self._redis.errors[name]
            return error and b"-%b\r\n" % error
        if not self.known and name != "auth":
            return b"-NOAUTH Authentication required.\r\n"
        if self.subscribed and name not in ("subscribe", "unsubscribe", "ping"):
            return b"-ERR only (P)SUBSCRIBE / PING are allowed in this context\r\n"
        answer: Callable[..., bytes] = getattr(self, f"do_{name}")
        return answer(*arguments)

    def do_auth(self, *login: bytes) -> bytes:
        self.known = login == self._redis.password
        return b"+OK\r\n" if self.known else b"-WRONGPASS invalid username-password pair\r\n"

    def do_ping(self, *argument: bytes) -> bytes:
        if self.subscribed:
            return array(b"pong", *(argument or (b"",)))
        return b"+PONG\r\n"

    def do_role(self) -> bytes:
        return b"*3\r\n$%d\r\n%b\r\n:0\r\n*0\r\n" % (len(self._redis.role), self._redis.role)

    def do_sentinel(self, _: bytes, name: bytes) -> bytes:
        master = self._redis.masters.get(name)
        return array(*master) if master else b"*-1\r\n"

    def do_publish(self, channel: bytes, payload: bytes) -> bytes:
        if channel in self._redis.denied:
            return DENIED
        return b":%d\r\n" % self._redis.publish(channel, payload)

    def do_subscribe(self, *channels: bytes) -> bytes:
        if self._redis.denied.intersection(channels):
            return DENIED
        self.subscribed |= dict.fromkeys(channels)
        confirmed = (each for each in channels if each not in self._redis.unconfirmed)
        return b"".join(confirmation(b"subscribe", each) for each in confirmed)

    def do_unsubscribe(self, *channels: bytes) -> bytes:
        for each in channels:
            del self.subscribed[each]
        return b"".join(confirmation(b"unsubscribe", each) for each in channels)


def array(*words: bytes) -> bytes:
    """Some words, in RESP."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


def confirmation(kind: bytes, channel: bytes) -> bytes:
    """What answers a subscription."""
    return b"*3\r\n" + array(kind, channel)[4:] + b":1\r\n"


@implementer(IStreamClientEndpoint)
class MemoryRedis:
    """The Redis, which is the endpoint to connect to as well.

    Args:
        clock: what tests advance.

    Attributes:
        commands: all that it has executed.
        sessions: the connections that are open.
        stopped: whether it does nothing.
        refusing: whether it refuses connections.
        hanging: whether attempts to connect come to nothing.
        password: what AUTH has to say; empty for no password.
        role: what ROLE says.
        masters: what a sentinel says, by name.
        unconfirmed: channels whose subscriptions are not confirmed.
        denied: channels that nobody may use.
        errors: commands that are answered with an error; not at all, with an empty one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.commands: list[tuple[bytes, ...]] = []
        self.sessions: list[Session] = []
        self.stopped = self.refusing = self.hanging = False
        self.password: tuple[bytes, ...] = ()
        self.role = b"master"
        self.masters: dict[bytes, tuple[bytes, bytes]] = {}
        self.unconfirmed: set[bytes] = set()
        self.denied: set[bytes] = set()
        self.errors: dict[str, bytes] = {}
        self.attempts = 0

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.attempts += 1
        if self.refusing:
            return fail(ConnectionRefusedError())
        if self.hanging:
            return Deferred()
        near, far = Transport(self._clock), Transport(self._clock)
        near.far, far.far = far, near
        far.protocol = Session(self, far)
        self.sessions.append(far.protocol)
        near.protocol = protocolFactory.buildProtocol(None)
        near.protocol.makeConnection(near)
        return succeed(near.protocol)

    def publish(self, channel: bytes, payload: bytes) -> int:
        """Publish, whoever does; to how many."""
        receivers = [each for each in self.sessions if channel in each.subscribed]
        for each in receivers:
            each.transport.write(array(b"message", channel, payload))
        return len(receivers)

    def stop(self) -> None:
        """Do nothing, as at SIGSTOP."""
        self.stopped = True

    def resume(self) -> None:
        """Do all that was asked meanwhile, as at SIGCONT."""
        self.stopped = False
        for each in tuple(self.sessions):
            each.work()

    def kill(self) -> None:
        """End all connections, and refuse new ones."""
        self.refusing = True
        self.cut()

    def cut(self, receiving: bool | None = None) -> None:
        """End all connections, or those that receive, or those that do not."""
        for each in tuple(self.sessions):
            if receiving in (None, bool(each.subscribed)):
                each.transport.lose(Failure(ConnectionLost() if receiving else ConnectionDone()))

    def names(self) -> set[bytes]:
        """All channels that anybody has subscribed to; not the names that servers have."""
        return {name for each in self.sessions for name in each.subscribed if b"\0" not in name}

    def count(self, word: str) -> int:
        """How often a command was executed."""
        return sum(each[0].decode() == word for each in self.commands)
