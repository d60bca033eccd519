"""Unix sockets that somebody else holds."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from pinghub.adopted import AdoptedUnixPort, AdoptingReactor


class AdoptedTests(SynchronousTestCase):
    """A socket in a directory, held by the test."""

    def setUp(self) -> None:
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        self.path = directory / "s"
        self.held = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.held.close)
        self.held.bind(str(self.path))
        self.path.chmod(0o640)
        self.held.listen(100)
        self.reactor = MemoryReactorClock()

    def adopt(self) -> Any:
        """A port that listens on it, and no longer needs the descriptor it was given."""
        self.held.setblocking(False)
        factory = Factory.forProtocol(Protocol)
        return AdoptingReactor(self.reactor).adoptStreamPort(
            self.held.fileno(), socket.AF_UNIX, factory
        )

    def connect(self) -> socket.socket:
        """A client."""
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.settimeout(5)
        client.connect(str(self.path))
        return client

    def test_accepts(self) -> None:
        """Connections are taken from it; it says where it listens."""
        port = self.adopt()
        self.assertIsInstance(port, AdoptedUnixPort)
        self.assertEqual(port.getHost().name, os.fsencode(self.path))
        self.assertIn(port, self.reactor.getReaders())
        self.connect()
        port.doRead()
        self.assertEqual(len(self.reactor.getReaders()), 2)

    def test_left_as_it_was(self) -> None:
        """Its file, its rights and its queue are the holder's; it outlives us."""
        port = self.adopt()
        waiting = [self.connect() for _ in range(60)]  # more than Twisted's queue of 50
        port.connectionLost(None)
        self.assertFalse(port.connected)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o640)
        waiting.append(self.connect())
        for _ in waiting:
            self.held.accept()[0].close()

    def test_others(self) -> None:
        """Everything else is the reactor's own business."""
        adopted: list[tuple[Any, ...]] = []
        self.patch(self.reactor, "adoptStreamPort", lambda *arguments: adopted.append(arguments))
        reactor = AdoptingReactor(self.reactor)
        reactor.adoptStreamPort(7, socket.AF_INET, Factory())
        self.assertEqual(adopted[0][:2], (7, socket.AF_INET))
        self.assertEqual(reactor.seconds(), self.reactor.seconds())
