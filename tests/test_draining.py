"""Closing all connections: politely, spread, and in bounded time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pinghub.draining import drain
from pinghub.frames import CloseCode
from pinghub.limits import Limits
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

    def test_publishers(self) -> None:
        """A publisher that keeps its connection is told 503; one that is silent is closed soon."""
        server = MemoryServer()
        publisher, silent = server.connect(), server.connect()
        for peer in (publisher, silent):
            peer.send(http_request("POST", "/a", b"x"))
            self.assertEqual(peer.response().status, 200)
        done = drain(server.manager)
        server.run(0.25)
        publisher.send(http_request("POST", "/a", b"x"))
        self.assertEqual(publisher.response().status, 503)
        server.run(0.5)
        self.successResultOf(done)
        self.assertTrue(publisher.transport.disconnected and silent.transport.disconnected)

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

    def test_answers_on_their_way(self) -> None:
        """Who waits for nothing is not cut off: its last answer may not have been sent yet."""
        server = MemoryServer()
        late, peer = server.connect(), server.connect(room=0)
        late.send(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n")
        done = drain(server.manager)
        peer.send(http_request("POST", "/a", b"x"))
        late.send(b"x")
        server.run(1)
        self.successResultOf(done)
        peer.transport.room = None
        server.run(0.5)
        self.assertEqual(peer.response().status, 503)
        self.assertTrue(peer.transport.disconnected)
        self.assertFalse(peer.transport.reset)

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
