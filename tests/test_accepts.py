"""Listeners that cannot accept."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pinghub.accepts import GuardedSocket, guard_accepts
from pinghub.limits import Limits
from pinghub.logs import Log
from pinghub.testing import MemoryReactor

LIMITS = Limits()


class Listener:
    """A listening socket whose ``accept`` does what the test says."""

    backlog = 5

    def __init__(self) -> None:
        self.error: int | None = None

    def accept(self) -> tuple[str, str]:
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        return "connection", "address"


class Port:
    """A listening port."""

    def __init__(self) -> None:
        self.socket: Any = Listener()
        self.connected = True
        self.reading = True
        self.numberAccepts = 100
        self.turns: list[int] = []

    def doRead(self) -> None:
        self.turns.append(self.numberAccepts)
        self.numberAccepts += 20

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True


class Lines:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def emit(self, level: object, form: str, line: str, **fields: object) -> None:
        self.lines.append(line)


class AcceptTests(SynchronousTestCase):
    """A port that is guarded."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.port = Port()
        self.listener = self.port.socket
        self.lines = Lines()
        logger: Any = self.lines
        guard_accepts(self.port, self.clock, LIMITS, Log(self.clock, LIMITS, logger))

    def test_accepting(self) -> None:
        """Connections are accepted as ever, and everything else is the socket's own."""
        self.assertEqual(self.port.socket.accept(), ("connection", "address"))
        self.assertEqual(self.port.socket.backlog, 5)

    def test_a_few_at_a_time(self) -> None:
        """However many wait, and for how many turns, a turn accepts a few."""
        for _ in range(5):
            self.port.doRead()
        self.assertEqual(self.port.turns, [LIMITS.accept_slice] * 5)
        self.port.numberAccepts = 1
        self.port.doRead()
        self.assertEqual(self.port.turns[-1], 1)

    def test_ports_of_twisted(self) -> None:
        """Twisted's ports have the bound that is moved here, and keep to it."""
        reactor: Any = MemoryReactor()
        port: Any = tcp.Port(
            0, Factory.forProtocol(Protocol), interface="127.0.0.1", reactor=reactor
        )
        port.startListening()
        self.addCleanup(port.socket.close)
        self.assertGreater(port.numberAccepts, LIMITS.accept_slice)
        guard_accepts(port, self.clock, LIMITS, Log(self.clock, LIMITS))
        address = ("127.0.0.1", port.getHost().port)
        accepted: list[object] = []
        port.factory.buildProtocol = accepted.append
        for _ in range(LIMITS.accept_slice + 1):
            self.addCleanup(socket.create_connection(address).close)
        port.doRead()
        self.assertEqual(len(accepted), LIMITS.accept_slice)
        port.doRead()
        self.assertEqual(len(accepted), LIMITS.accept_slice + 1)

    def test_exhausted(self) -> None:
        """Where the system is exhausted the listener rests, says so, and tries again."""
        for error in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
            self.listener.error = error
            self.assertRaises(BlockingIOError, self.port.socket.accept)
            self.assertFalse(self.port.reading)
            self.clock.advance(0.09)
            self.assertFalse(self.port.reading)
            self.clock.advance(0.02)
            self.assertTrue(self.port.reading)
            self.clock.advance(5)
        self.assertEqual(len(self.lines.lines), 4)
        self.assertIn(os.strerror(errno.EMFILE), self.lines.lines[0])

    def test_one_line(self) -> None:
        """A lasting exhaustion is a line every five seconds."""
        self.listener.error = errno.ENFILE
        for _ in range(100):
            self.assertRaises(BlockingIOError, self.port.socket.accept)
            self.clock.advance(0.11)
        self.assertEqual(len(self.lines.lines), 3)

    def test_other_errors(self) -> None:
        """Other errors are Twisted's."""
        self.listener.error = errno.ECONNABORTED
        error = self.assertRaises(OSError, self.port.socket.accept)
        self.assertEqual(error.errno, errno.ECONNABORTED)
        self.assertTrue(self.port.reading)

    def test_closed_meanwhile(self) -> None:
        """A port that was closed while it rested stays closed."""
        self.listener.error = errno.EMFILE
        self.assertRaises(BlockingIOError, self.port.socket.accept)
        self.port.connected = False
        self.clock.advance(1)
        self.assertFalse(self.port.reading)

    def test_ports_without_a_socket(self) -> None:
        """A port that has no socket is left alone."""
        port = object()
        guard_accepts(port, self.clock, LIMITS, Log(self.clock, LIMITS))
        self.assertFalse(hasattr(port, "socket"))

    def test_guarded_once(self) -> None:
        """The guard is a wrapper that Twisted takes for the socket."""
        self.assertIsInstance(self.port.socket, GuardedSocket)
