"""The reactor of the ``pinghub`` command, on real sockets."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import main
from twisted.internet.abstract import FileDescriptor
from twisted.internet.epollreactor import EPollReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pinghub.reactor import Reactor


class End(FileDescriptor):
    """One end of a connection, which notes what happens to it."""

    def __init__(self, tests: ReactorTests, end: socket.socket) -> None:
        super().__init__(tests.reactor)
        self.socket = end
        self.events: list[str] = []
        self.closes: End | None = None
        self.error: Exception | None = None

    def fileno(self) -> int:
        return self.socket.fileno()

    def doRead(self) -> object:
        self.events.append(f"read {self.socket.recv(100)!r}")
        if self.closes is not None:
            self.closes.stopReading()
            self.closes.socket.close()
        if self.error is not None:
            raise self.error
        return None

    def doWrite(self) -> object:
        self.events.append("write")
        self.stopWriting()
        return None

    def connectionLost(self, reason: Failure) -> None:
        self.events.append(f"lost: {type(reason.value).__name__}")


class ReactorTests(SynchronousTestCase):
    """It does what Twisted's does; each test would pass with either."""

    kind: type[EPollReactor] = Reactor

    def setUp(self) -> None:
        self.reactor: Any = self.kind()
        self.addCleanup(self.reactor._poller.close)
        for wakes in self.reactor.removeAll():
            self.addCleanup(wakes.connectionLost, None)

    def ends(self) -> tuple[End, socket.socket]:
        """A connection: the reactor's end, which reads, and the other one."""
        pair = socket.socketpair()
        for each in pair:
            self.addCleanup(each.close)
        end = End(self, pair[0])
        end.startReading()
        return end, pair[1]

    def test_reads(self) -> None:
        """What has arrived is read, and nothing else happens."""
        (one, peer), (other, _) = self.ends(), self.ends()
        peer.send(b"hello")
        self.reactor.doIteration(None)
        self.reactor.doIteration(0)
        self.assertEqual((one.events, other.events), (["read b'hello'"], []))

    def test_writes(self) -> None:
        """Who wants to write is told that it can."""
        end, _ = self.ends()
        end.startWriting()
        self.reactor.doIteration(0)
        self.reactor.doIteration(0)
        self.assertEqual(end.events, ["write"])

    def test_waits(self) -> None:
        """Without events it returns when it was told to."""
        end, _ = self.ends()
        self.reactor.doIteration(0.01)
        self.assertEqual(end.events, [])

    def test_a_connection_that_ends(self) -> None:
        """The end of a connection is passed on."""
        end, peer = self.ends()
        end.stopReading()
        end.startWriting()
        peer.close()
        self.reactor.doIteration(0)
        self.assertEqual(end.events, [f"lost: {main.CONNECTION_LOST.__class__.__name__}"])

    def test_a_fault(self) -> None:
        """A handler that raises loses its connection and is logged; the others do not notice."""
        (one, its_peer), (other, peer) = self.ends(), self.ends()
        one.error = ValueError("a fault")
        its_peer.send(b"hello")
        peer.send(b"hello")
        self.reactor.doIteration(0)
        self.assertEqual(one.events, ["read b'hello'", "lost: ValueError"])
        self.assertEqual(other.events, ["read b'hello'"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_closed_in_the_same_turn(self) -> None:
        """An event of a connection that another has closed in this turn is forgotten."""
        (one, its_peer), (other, peer) = self.ends(), self.ends()
        one.closes, other.closes = other, one
        its_peer.send(b"hello")
        peer.send(b"hello")
        self.reactor.doIteration(0)
        self.assertEqual(sorted(one.events + other.events), ["read b'hello'"])


class TwistedsReactorTests(ReactorTests):
    """The same with Twisted's own."""

    kind = EPollReactor
