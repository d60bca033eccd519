"""Requests that came together, of which some wait for a slow backplane, in memory."""

from __future__ import annotations

from pinghub.testing import TEXT, MemoryServer, Peer, client_frame, http_request, upgrade_request
from tests.memory_bus import BusTests

PLAIN = http_request("POST", "/a", b"x")
PARSED = http_request("POST", "/a", b"x", {"Origin": "https://example.com"})


class PipelinedTests(BusTests):
    """A server, and a broker that can be stopped."""

    def setUp(self) -> None:
        super().setUp()
        self.only = self.redis()
        self.bus = self.server(ping_interval=0.0, stall_timeout=60.0)

    def ask(self, data: bytes) -> Peer:
        """A client that has sent something, while the broker was stopped."""
        self.only.stop()
        peer = self.bus.connect()
        peer.send(data)
        self.assertEqual(peer.take(), b"")
        return peer

    def answer(self) -> None:
        """The broker answers."""
        self.only.resume()
        self.turn()


class UpgradeTests(PipelinedTests):
    """A handshake behind a POST."""

    def test_no_deadline_is_left(self) -> None:
        """A websocket is not ended by a deadline of the connection that it was before."""
        reader = self.subscribe(self.bus, "/b")
        for post in (PLAIN, PARSED):
            peer = self.ask(post + upgrade_request("/b"))
            self.answer()
            self.assertEqual([peer.response().status for _ in range(2)], [200, 101])
            self.pass_time(self.bus.manager.limits.keepalive_timeout - 1)
            peer.transport.room = 0
            self.only.publish(b"pinghub:0:/b", b"x" * 60_000)
            self.pass_time(2)
            peer.transport.room = None
            self.pass_time(1)
            self.assertEqual([len(text) for text in peer.texts()], [60_000])
            self.assertFalse(peer.transport.disconnected)
            self.assertEqual([len(text) for text in reader.texts()], [60_000])

    def test_behind_a_slice(self) -> None:
        """Nor does the websocket rest because there were many requests before it."""
        count = self.bus.manager.limits.request_slice
        for post in (PLAIN, PARSED):
            frame = client_frame(TEXT, b"y")
            peer = self.ask(post * count + upgrade_request("/b") + frame)
            for _ in range(5):
                self.answer()
            statuses = [peer.response().status for _ in range(count + 1)]
            self.assertEqual(statuses, [200] * count + [101])
            self.assertEqual(peer.texts(), ["y"])
            self.assertTrue(peer.transport.reading)


class BoundTests(PipelinedTests):
    """Two reasons not to read on at a time."""

    def test_answers_are_read_while_others_are_owed(self) -> None:
        """A client that reads its answers is not read from before the broker has its messages."""
        bus = self.server(ping_interval=0.0, publish_window=20_000, backplane_timeout=60.0)
        peer = bus.connect(room=100)
        while len(peer.transport.dataBuffer) + peer.transport._tempDataLen < 64 * 1024 - 200:
            peer.send(PLAIN)
            self.turn()
        self.only.stop()
        peer.send(PLAIN * 3)
        peer.send(http_request("POST", "/a", b"x" * 60_000))
        self.assertFalse(peer.transport.reading)
        # So much is answered that the answers fill their queue, and no more.
        session = next(
            each for each in self.only.sessions if each.transport.far.protocol._unanswered
        )
        for _ in range(3):
            session.transport.write(b":1\r\n")
        self.turn()
        peer.take()
        self.assertFalse(peer.transport.reading)
        self.only.resume()
        self.turn()
        self.assertTrue(peer.transport.reading)


class HalfClosedTests(PipelinedTests):
    """A client that sends several requests and closes its half."""

    def test_posts(self) -> None:
        """Each is published and answered, however it was read; then the connection ends."""
        for data, count in (
            (PLAIN * 5, 5),
            (PARSED * 5, 5),
            ((PLAIN + PARSED) * 3, 6),
            (PLAIN * 40, 40),
            (PARSED * 40, 40),
        ):
            peer = self.ask(data)
            peer.close()
            for _ in range(6):
                self.answer()
            answers = [peer.response().status for _ in range(count)]
            self.assertEqual(answers, [200] * count)
            self.assertTrue(peer.transport.disconnected)

    def test_half_a_request(self) -> None:
        """What is no whole request is not waited for."""
        peer = self.ask(PARSED + PARSED[:-1])
        peer.close()
        self.answer()
        self.assertEqual(peer.response().status, 200)
        self.assertTrue(peer.transport.disconnected)

    def test_a_handshake(self) -> None:
        """Who is gone does not become a subscriber."""
        for post in (PLAIN, PARSED):
            peer = self.ask(post + upgrade_request("/b"))
            peer.close()
            self.answer()
            self.assertEqual(peer.response().status, 200)
            self.pass_time(1)
            self.assertTrue(peer.transport.disconnected)
            self.assertEqual(len(self.bus.manager), 0)

    def test_without_a_backplane(self) -> None:
        """The same holds where nothing waits but for its turn."""
        server = MemoryServer()
        for post in (PLAIN, PARSED):
            peer = server.connect()
            peer.send(post * 40)
            peer.close()
            server.run(0.1)
            self.assertEqual([peer.response().status for _ in range(40)], [200] * 40)
            self.assertTrue(peer.transport.disconnected)
