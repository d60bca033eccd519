"""Listening, and stopping: drain, abort, and faults at the start."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pinghub import service as service_module
from pinghub.channels import ChannelManager
from pinghub.errors import ConfigurationError, ListenError
from pinghub.frames import CloseCode
from pinghub.limits import Limits
from pinghub.service import PinghubService, drain
from pinghub.testing import CLOSE, TEXT, MemoryServer, Peer, client_frame, http_request


class DrainTests(SynchronousTestCase):
    """Closing all connections."""

    def answer_close(self, peer: Peer) -> bool:
        """Read; if there is a close frame, answer it as clients do. Whether there was one."""
        frames = peer.frames()
        closes = [each for each in frames if each.opcode == CLOSE]
        for close in closes:
            self.assertEqual(close.code, CloseCode.GOING_AWAY)
            peer.send(client_frame(CLOSE, close.payload[:2]))
            self.assertTrue(peer.transport.ended)
            self.assertFalse(peer.transport.reset)
            peer.close()
        return bool(closes)

    def test_close_1001(self) -> None:
        """Server drains: close 1001 to everyone; it ends when all have answered."""
        server = MemoryServer()
        peers = [server.subscribe("/a") for _ in range(3)]
        done = drain(server.manager)
        server.run(0.5)
        self.assertNoResult(done)
        for peer in peers:
            self.assertTrue(self.answer_close(peer))
        server.run(0.5)
        self.successResultOf(done)
        self.assertLess(server.reactor.seconds(), 1.5)
        self.assertEqual(len(server.manager.connections), 0)

    def test_nobody_connected(self) -> None:
        """A server without connections stops at once."""
        server = MemoryServer()
        done = drain(server.manager)
        server.reactor.advance(0.05)
        self.successResultOf(done)

    def test_pending_messages_first(self) -> None:
        """In-flight messages reach every healthy reader before its close frame."""
        server = MemoryServer()
        direct, behind = server.subscribe("/a"), server.subscribe("/a", room=500)
        for number in range(10):
            server.manager.publish("/a", f"{number}" * 100)
        drain(server.manager)
        server.run(0.5)
        for peer in (direct, behind):
            self.assertEqual([each.opcode for each in peer.frames()], [TEXT] * 10 + [CLOSE])

    def test_spread(self) -> None:
        """The close frames are spread over the drain time."""
        server = MemoryServer()
        peers = [server.subscribe("/a") for _ in range(200)]
        done = drain(server.manager)
        left, counts = list(peers), []
        for _ in range(12):
            closed = [peer for peer in left if self.answer_close(peer)]
            left = [peer for peer in left if peer not in closed]
            counts.append(len(closed))
            server.run(0.5)
        self.assertEqual(sum(counts), 200)
        self.assertLess(max(counts), 60)
        self.assertGreaterEqual(len([count for count in counts if count]), 6)
        self.successResultOf(done)

    def test_who_does_not_answer(self) -> None:
        """Drain: 5 s, then whoever is left is aborted."""
        server = MemoryServer(Limits(close_timeout=60))
        peers = [server.subscribe("/a"), server.subscribe("/a", room=200)]
        server.post("/a", b"x" * 1000)
        done = drain(server.manager)
        server.run(4.75)
        self.assertNoResult(done)
        server.run(0.5)
        self.successResultOf(done)
        for peer in peers:
            self.assertTrue(peer.transport.reset)
        self.assertEqual(len(server.manager.connections), 0)

    def test_requests_that_have_begun(self) -> None:
        """A request that has begun is waited for, and answered 503."""
        server = MemoryServer()
        peer, idle = server.connect(), server.connect()
        idle.send(http_request("POST", "/a", b"x"))
        peer.send(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n")
        done = drain(server.manager)
        server.run(1)
        self.assertNoResult(done)
        peer.send(b"x")
        self.assertEqual(peer.response().status, 503)
        server.run(0.5)
        self.successResultOf(done)
        self.assertTrue(idle.transport.disconnected)

    def test_one_that_cannot_be_closed(self) -> None:
        """A connection that fails while it is closed is aborted; the others are closed in peace."""
        server = MemoryServer()
        peers = [server.subscribe("/a") for _ in range(3)]
        faulty = next(iter(server.manager.connections.subscribers))
        self.patch(faulty, "close", lambda *_: 1 / 0)
        with self.assertLogs("pinghub.channels", "ERROR") as logs:
            done = drain(server.manager)
            server.run(0.5)
        self.assertEqual(len(logs.output), 1)
        self.assertEqual(sorted(self.answer_close(peer) for peer in peers), [False, True, True])
        server.run(0.5)
        self.successResultOf(done)
        self.assertEqual([peer.transport.reset for peer in peers].count(True), 1)

    def test_no_time(self) -> None:
        """With ``--drain=0`` the close frames go out and the connections are aborted."""
        server = MemoryServer(Limits(drain=0))
        peer = server.subscribe("/a")
        done = drain(server.manager)
        server.run(0.25)
        self.successResultOf(done)
        self.assertEqual([each.code for each in peer.frames()], [CloseCode.GOING_AWAY])
        self.assertTrue(peer.transport.disconnected)


class ServiceTests(SynchronousTestCase):
    """The service, on a reactor in memory."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.server = MemoryServer()

    def service(self, *addresses: str, **options: Any) -> PinghubService:
        """A service that listens on these addresses."""
        return PinghubService(
            self.server.manager, self.server.site, addresses, self.reactor, **options
        )

    def test_listens(self) -> None:
        """It listens on all its addresses, with a backlog of 1024."""
        service = self.service("127.0.0.1:8081", "tcp:8082", "/run/pinghub.sock")
        service.privilegedStartService()
        service.startService()
        self.assertEqual([each[0] for each in self.reactor.tcpServers], [8081, 8082])
        self.assertEqual([each[2] for each in self.reactor.tcpServers], [1024, 1024])
        self.assertEqual(self.reactor.unixServers[0][0], "/run/pinghub.sock")
        self.assertTrue(service.running)

    def test_start_alone_listens(self) -> None:
        """``twist`` starts services without the privileged step."""
        service = self.service("127.0.0.1:8081")
        service.startService()
        self.assertEqual(len(self.reactor.tcpServers), 1)

    def test_stop(self) -> None:
        """Stopping stops to listen first, then drains; it can start again."""
        service = self.service("127.0.0.1:8081")
        service.startService()
        peer = self.server.subscribe("/a")
        stopped = service.stopService()
        self.assertEqual(service.addresses, [])
        self.assertTrue(self.server.manager.connections.draining)
        self.assertNoResult(stopped)
        self.server.run(4)
        self.successResultOf(stopped)
        self.assertTrue(peer.transport.disconnected)
        self.assertFalse(self.server.manager.connections.draining)
        service.startService()
        self.assertEqual(len(self.reactor.tcpServers), 2)

    def test_hurry(self) -> None:
        """A drain can be ended at once; before and after it, that does nothing."""
        service = self.service("127.0.0.1:8081")
        service.startService()
        peer = self.server.subscribe("/a")
        service.hurry()
        self.assertFalse(peer.transport.disconnected)
        stopped = service.stopService()
        service.hurry()
        self.server.run(0.25)
        self.successResultOf(stopped)
        self.assertTrue(peer.transport.disconnected)
        service.hurry()

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
            error = self.assertRaises(ConfigurationError, self.service, addr)
            self.assertIn(word, str(error))
            self.assertIn(f"--addr={addr}", str(error))
            self.assertNotIn("\n", str(error))

    def test_a_port_that_is_taken(self) -> None:
        """An address that is taken: one line that names it; nothing listens."""
        service = self.service("127.0.0.1:8081", "127.0.0.1:8082")
        listen = self.reactor.listenTCP

        def taken(port: int, *arguments: Any, **options: Any) -> Any:
            if port == 8082:
                reason = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
                raise CannotListenError("127.0.0.1", port, reason)
            return listen(port, *arguments, **options)

        self.patch(self.reactor, "listenTCP", taken)
        error = self.assertRaises(ListenError, service.privilegedStartService)
        self.assertEqual(
            error.code,
            "pinghub: --addr=127.0.0.1:8082: cannot listen: address already in use",
        )
        self.assertIsInstance(error, SystemExit)
        self.assertEqual(service.addresses, [])

    def test_an_endpoint_that_takes_its_time(self) -> None:
        """An endpoint that does not listen at once is refused."""

        @implementer(IStreamServerEndpoint)
        class Later:
            def listen(self, factory: object) -> Deferred[Any]:
                return Deferred()

        self.patch(service_module, "serverFromString", lambda *_: Later())
        error = self.assertRaises(ListenError, self.service("tcp:1").privilegedStartService)
        self.assertIn("at once", str(error))

    def test_an_error_without_words(self) -> None:
        """An error that says nothing is named at least."""

        def fail(*_: object) -> None:
            raise KeyError

        self.patch(service_module, "serverFromString", fail)
        self.assertIn("KeyError", str(self.assertRaises(ConfigurationError, self.service, "tcp:1")))


class UnixTests(SynchronousTestCase):
    """Unix sockets."""

    def service(self, path: str) -> PinghubService:
        """A service on the real reactor, which is not run."""
        from twisted.internet import reactor

        manager = ChannelManager(MemoryReactorClock())
        return PinghubService(manager, MemoryServer().site, [path], reactor)

    def test_a_stale_socket_is_replaced(self) -> None:
        """A stale socket file is replaced; ``unix:`` descriptions likewise."""
        for form in ("{}", "unix:{}:mode=600"):
            path = self.mktemp_short()
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(path)
            service = self.service(form.format(path))
            service.privilegedStartService()
            self.assertEqual(service.addresses, [path])
            service._public.close()

    def test_a_live_socket_is_an_error(self) -> None:
        """A live socket is an error, and stays."""
        path = self.mktemp_short()
        with socket.socket(socket.AF_UNIX) as live:
            live.bind(path)
            live.listen()
            error = self.assertRaises(ListenError, self.service(path).privilegedStartService)
            self.assertIn("another server listens there", str(error))
        self.assertTrue(os.path.exists(path))

    def test_something_else_is_an_error(self) -> None:
        """A file that is no socket is not removed."""
        path = self.mktemp_short()
        with open(path, "w") as file:
            file.write("precious")
        error = self.assertRaises(ListenError, self.service(path).privilegedStartService)
        self.assertIn("not a socket", str(error))
        self.assertTrue(os.path.exists(path))

    def test_a_directory_that_does_not_exist(self) -> None:
        """An unwritable socket path is one line that names it."""
        path = self.mktemp_short() + "/no/such/directory"
        error = self.assertRaises(ListenError, self.service(path).privilegedStartService)
        self.assertIn("no such file or directory", str(error))
        self.assertIn(path, str(error))

    def mktemp_short(self) -> str:
        """A path short enough for a socket's name."""
        import shutil
        import tempfile

        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        return directory + "/s"
