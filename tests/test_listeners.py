"""Listening: the forms of an address, and faults at the start."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pinghub import listeners as listeners_module
from pinghub.channels import ChannelManager
from pinghub.errors import ConfigurationError, ListenError
from pinghub.listeners import Listeners
from pinghub.logs import Log
from pinghub.testing import MemoryServer
from tests.helpers import take_port


def make_listeners(reactor: Any, *addresses: str) -> Listeners:
    """Listeners for some values of ``--addr``."""
    manager = ChannelManager(MemoryReactorClock())
    log = Log(manager.clock, manager.limits)
    return Listeners(reactor, manager, log, "--addr", addresses)


class ListenersTests(SynchronousTestCase):
    """On a reactor in memory."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.site = MemoryServer().site

    def listeners(self, *addresses: str) -> Listeners:
        """Listeners on that reactor."""
        return make_listeners(self.reactor, *addresses)

    def test_listens(self) -> None:
        """It listens on all its addresses, with a backlog of 1024."""
        listeners = self.listeners("127.0.0.1:8081", "tcp:8082", "/run/pinghub.sock")
        listeners.listen(self.site)
        self.assertEqual([each[0] for each in self.reactor.tcpServers], [8081, 8082])
        self.assertEqual([each[2] for each in self.reactor.tcpServers], [1024, 1024])
        self.assertEqual(self.reactor.unixServers[0][0], "/run/pinghub.sock")
        self.assertEqual(len(listeners.addresses), 3)

    def test_bad_addresses(self) -> None:
        """A description that no endpoint understands is refused, with its reason."""
        for addr, word in {
            "tcp:x": "x",
            "nonsense:1:2": "nonsense",
            "tcp:8081:color=red": "give",
            "systemd:domain=INET:index=7": "no such socket",
            "stdio:": "give",
            "ssl:8443:privateKey=/no/such.pem": "/no/such.pem",
            "tcp": "give",
        }.items():
            error = self.assertRaises(ConfigurationError, self.listeners, addr)
            self.assertIn(word, str(error))
            self.assertIn(f"--addr={addr}", str(error))
            self.assertNotIn("\n", str(error))

    def test_a_port_that_is_taken(self) -> None:
        """An address that is taken: one line that names it; nothing listens."""
        listeners = self.listeners("127.0.0.1:8081", "127.0.0.1:8082")
        take_port(self, self.reactor, 8082)
        error = self.assertRaises(ListenError, listeners.listen, self.site)
        self.assertEqual(
            error.code,
            "pinghub: --addr=127.0.0.1:8082: cannot listen: address already in use",
        )
        self.assertIsInstance(error, SystemExit)
        self.assertEqual(listeners.addresses, [])

    def test_an_endpoint_that_takes_its_time(self) -> None:
        """An endpoint that does not listen at once is refused."""

        @implementer(IStreamServerEndpoint)
        class Later:
            def listen(self, factory: object) -> Deferred[Any]:
                return Deferred()

        self.patch(listeners_module, "serverFromString", lambda *_: Later())
        error = self.assertRaises(ListenError, self.listeners("tcp:1").listen, self.site)
        self.assertIn("at once", str(error))

    def test_an_error_without_words(self) -> None:
        """An error that says nothing is named at least."""

        def fail(*_: object) -> None:
            raise KeyError

        self.patch(listeners_module, "serverFromString", fail)
        self.assertIn(
            "KeyError", str(self.assertRaises(ConfigurationError, self.listeners, "tcp:1"))
        )


class UnixTests(SynchronousTestCase):
    """Unix sockets."""

    def setUp(self) -> None:
        self.site = MemoryServer().site

    def listeners(self, path: str) -> Listeners:
        """Listeners on the real reactor, which is not run."""
        from twisted.internet import reactor

        return make_listeners(reactor, path)

    def test_a_stale_socket_is_replaced(self) -> None:
        """A stale socket file is replaced; ``unix:`` descriptions likewise."""
        for form in ("{}", "unix:{}:mode=600"):
            path = self.mktemp_short()
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(path)
            listeners = self.listeners(form.format(path))
            listeners.listen(self.site)
            self.assertEqual(listeners.addresses, [path])
            listeners.close()

    def test_a_live_socket_is_an_error(self) -> None:
        """A live socket is an error, and stays."""
        path = self.mktemp_short()
        with socket.socket(socket.AF_UNIX) as live:
            live.bind(path)
            live.listen()
            error = self.assertRaises(ListenError, self.listeners(path).listen, self.site)
            self.assertIn("another server listens there", str(error))
        self.assertTrue(os.path.exists(path))

    def test_something_else_is_an_error(self) -> None:
        """A file that is no socket is not removed."""
        path = self.mktemp_short()
        with open(path, "w") as file:
            file.write("precious")
        error = self.assertRaises(ListenError, self.listeners(path).listen, self.site)
        self.assertIn("not a socket", str(error))
        self.assertTrue(os.path.exists(path))

    def test_a_directory_that_does_not_exist(self) -> None:
        """An unwritable socket path is one line that names it."""
        path = self.mktemp_short() + "/no/such/directory"
        error = self.assertRaises(ListenError, self.listeners(path).listen, self.site)
        self.assertIn("no such file or directory", str(error))
        self.assertIn(path, str(error))

    def mktemp_short(self) -> str:
        """A path short enough for a socket's name."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        return directory + "/s"
