"""Requests that wait for something, in memory: POSTs and handshakes of a slow backplane."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from pinghub.draining import Drain, drain
from pinghub.errors import BackplaneDown, BackplaneLost
from pinghub.origins import OriginPolicy
from pinghub.resource import PinghubResource
from pinghub.site import PinghubRequest, PinghubSite
from pinghub.stats import CloseReason
from pinghub.testing import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Peer,
    client_frame,
    http_request,
    upgrade_request,
)
from tests.memory_bus import BusTests


class WaitingTests(BusTests):
    """A server, and a broker that takes its time."""

    def setUp(self) -> None:
        super().setUp()
        self.only = self.redis()
        self.bus = self.server()

    def slow(self) -> None:
        """Nothing is answered from now on."""
        self.only.stop()

    def answer(self) -> None:
        """All is answered that was asked."""
        self.only.resume()
        self.turn()

    def ask(self, request: bytes) -> Peer:
        """A client that waits for the answer to a request."""
        self.slow()
        peer = self.bus.connect()
        peer.send(request)
        self.assertEqual(peer.take(), b"")
        return peer


class StreamRequest(Request):
    """A request of HTTP/2 in this respect: it has no transport."""

    @property
    def transport(self) -> None:
        """None, whatever it is set to."""

    @transport.setter
    def transport(self, transport: object) -> None:
        pass


class PostTests(WaitingTests):
    """POSTs."""

    def test_answered_later(self) -> None:
        """The answer comes when it is known, and is like any other."""
        peer = self.ask(http_request("POST", "/a", b"x"))
        self.answer()
        answer = peer.response()
        self.assertEqual((answer.status, answer.body), (200, b"OK\n"))
        self.assertEqual(answer.headers["pinghub-servers"], "0")
        self.assertEqual(answer.headers["content-type"], "text/plain; charset=utf-8")
        self.assertEqual(answer.headers["content-length"], "3")

    def test_pipelined(self) -> None:
        """What comes behind it waits as well, and is answered in order."""
        peer = self.ask(http_request("POST", "/a", b"1") * 2 + http_request("PUT", "/a"))
        for status in (200, 200, 405):
            self.answer()
            self.assertEqual(peer.response().status, status)

    def test_pipelined_while_it_is_lost(self) -> None:
        """If the broker is lost meanwhile, what comes behind is refused as well, and at once."""
        lost, down = (f"{refusal()}\n".encode() for refusal in (BackplaneLost, BackplaneDown))
        # With an Origin a request is the parser's, which reads one at a time.
        for headers, expected in (({}, [lost] * 3), ({"Origin": "https://a"}, [lost, down, down])):
            peer = self.ask(http_request("POST", "/a", b"1", headers) * 3)
            self.only.kill()
            self.turn()
            answers = [peer.response() for _ in range(3)]
            self.assertEqual([answer.body for answer in answers], expected)
            self.assertEqual({answer.headers["retry-after"] for answer in answers}, {"1"})
            self.assertEqual(self.bus.backplane.state().pending, 0)
            self.only.stopped = self.only.refusing = False
            self.pass_time(1)
        counts = {"backplane-lost": 4, "backplane-down": 2}
        self.assertEqual(self.bus.manager.stats.refusals, counts)

    def test_gone(self) -> None:
        """A client that has left is not answered; its message was published all the same."""
        reader = self.subscribe(self.bus, "/a")
        peer = self.ask(http_request("POST", "/a", b"x"))
        peer.transport.connectionLost(Failure(ConnectionLost()))
        self.answer()
        self.assertEqual(reader.texts(), ["x"])

    def test_half_closed(self) -> None:
        """A client that closes its half gets its answer, and then the end."""
        peer = self.ask(http_request("POST", "/a", b"x"))
        peer.close()
        self.assertFalse(peer.transport.ended)
        self.answer()
        self.assertEqual(peer.response().status, 200)
        self.assertTrue(peer.transport.ended)

    def test_cors(self) -> None:
        """A page learns how many servers got its message."""
        site = PinghubSite(
            PinghubResource(
                self.bus.manager,
                origins=OriginPolicy(["https://a.b"]),
                backplane=self.bus.backplane,
            ),
            self.bus.manager,
        )
        self.bus.site = site
        peer = self.ask(http_request("POST", "/a", b"x", {"Origin": "https://a.b"}))
        self.answer()
        headers = peer.response().headers
        self.assertEqual(headers["access-control-allow-origin"], "https://a.b")
        self.assertEqual(headers["access-control-expose-headers"], "Pinghub-Servers")

    def test_console(self) -> None:
        """The page of such a server says that POSTs are counted by servers."""
        page = self.bus.request("GET", "/a").body
        self.assertIn(b'data-counts="server"', page)

    def test_in_somebody_elses_site(self) -> None:
        """All of it holds in any site."""
        root = Resource()
        root.putChild(b"live", PinghubResource(self.bus.manager, backplane=self.bus.backplane))
        site = Site(root, reactor=self.reactor)
        site.startFactory()
        self.addCleanup(site.stopFactory)
        self.bus.site = site
        for site.requestFactory in (StreamRequest, Request):
            peer = self.ask(http_request("POST", "/live/a", b"x"))
            self.answer()
            self.assertEqual(peer.response().status, 200)
        early = client_frame(TEXT, b"early")
        reader = self.ask(upgrade_request("/live/a") + early)
        self.answer()
        self.answer()
        self.assertEqual(reader.response().status, 101)
        self.assertEqual(reader.texts(), ["early"])

    def test_an_answer_that_cannot_be_sent(self) -> None:
        """If not even a refusal can be sent, the connection ends: nobody waits for ever."""

        def write(request: Any, data: bytes) -> None:
            raise RuntimeError("no")

        self.patch(PinghubRequest, "write", write)
        for kill in (False, True):
            peer = self.ask(http_request("POST", "/a", b"x", {"Origin": "https://a"}))
            if kill:
                self.only.kill()
            self.answer()
            self.assertTrue(peer.transport.reset)
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
            self.assertEqual(len(self.bus.manager.connections), 0)


class HandshakeTests(WaitingTests):
    """Handshakes."""

    def test_answered_later(self) -> None:
        """The 101 comes when the broker has confirmed, with and without a subprotocol."""
        for headers in ({}, {"Sec-WebSocket-Protocol": "one, two"}):
            path = f"/{len(headers)}"
            peer = self.ask(upgrade_request(path, headers))
            self.assertEqual(len(self.bus.manager.connections.requesters), 1)
            self.answer()
            answer = peer.response()
            self.assertEqual(answer.status, 101)
            self.assertEqual(
                answer.headers.get("sec-websocket-protocol"), "one" if headers else None
            )
            self.assertEqual(len(self.bus.manager.connections.requesters), 0)
            peer.send_text("x")
            self.turn()
            self.assertEqual(peer.texts(), ["x"])
            peer.close()
        self.assertEqual(len(self.bus.manager.connections), 0)

    def test_early_frames(self) -> None:
        """Frames that come behind the head, with it or later, are taken in order."""
        frames = [client_frame(TEXT, b"%d" % number) for number in range(6)]
        peer = self.ask(upgrade_request("/a") + frames[0] + frames[1][:3])
        peer.send(frames[1][3:])
        for frame in frames[2:]:
            peer.send(frame)
        self.answer()
        self.answer()
        self.assertEqual(peer.response().status, 101)
        self.assertEqual(peer.texts(), [str(number) for number in range(6)])

    def test_many_early_frames(self) -> None:
        """A client that sends on and on is not read meanwhile, and is read again then."""
        frame = client_frame(TEXT, b"x" * 1000)
        peer = self.ask(upgrade_request("/a"))
        sent = 0
        while peer.transport.reading:
            peer.send(frame)
            sent += 1
            self.assertLess(sent, 100)
        self.answer()
        self.assertTrue(peer.transport.reading)
        for _ in range(5):
            self.turn()
        self.assertEqual(peer.response().status, 101)
        self.assertEqual(len(peer.texts()), sent)

    def test_half_closed(self) -> None:
        """A client that closes its half is not waited for."""
        peer = self.ask(upgrade_request("/a"))
        peer.close()
        self.answer()
        self.assertEqual(len(self.bus.manager), 0)
        self.assertTrue(peer.transport.disconnected)
        self.assertEqual(len(self.bus.manager.connections), 0)

    def test_draining(self) -> None:
        """A server that stops meanwhile answers 503."""
        peer = self.ask(upgrade_request("/a"))
        self.bus.manager.connections.draining = True
        self.answer()
        self.assertEqual(peer.response().status, 503)
        self.assertEqual(len(self.bus.manager), 0)

    def test_the_channel_is_there_already(self) -> None:
        """Who comes to a channel that the server has waits for nothing."""
        self.subscribe(self.bus, "/a")
        self.slow()
        peer = self.bus.connect()
        peer.send(upgrade_request("/a"))
        self.assertEqual(peer.response().status, 101)

    def test_no_cycles(self) -> None:
        """A websocket that had to wait is freed when it ends, without the collector."""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        peer = self.ask(upgrade_request("/a"))
        http = weakref.ref(peer.transport.protocol)
        self.answer()
        peer.response()
        self.assertIsNone(http())
        websocket = weakref.ref(peer.transport.protocol)
        peer.transport.connectionLost(Failure(ConnectionLost()))
        self.assertIsNone(websocket())

    def test_no_cycles_of_a_refusal(self) -> None:
        """The same where it is refused, because the broker is lost, or was before."""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for lost_before in (False, True):
            if lost_before:
                peer = self.bus.connect()
                peer.send(upgrade_request("/a"))
            else:
                peer = self.ask(upgrade_request("/a"))
                self.only.kill()
                self.turn()
            self.assertEqual(peer.response().status, 503)
            http = weakref.ref(peer.transport.protocol)
            peer.transport.connectionLost(Failure(ConnectionLost()))
            self.assertIsNone(http())


class PublisherTests(WaitingTests):
    """Websockets that publish."""

    def test_a_window(self) -> None:
        """A publisher that is faster than the broker is read no further, and loses nothing."""
        bus = self.server(publish_window=20_000)
        peer = self.subscribe(bus, "/a")
        self.slow()
        texts = [f"{number}".ljust(3000, ".") for number in range(10)]
        for text in texts:
            if peer.transport.reading:
                peer.send_text(text)
        self.assertFalse(peer.transport.reading)
        self.assertLess(bus.backplane.state().pending, 20_000 + 5000)
        self.assertGreater(bus.backplane.state().pending, 20_000)
        self.answer()
        self.assertTrue(peer.transport.reading)
        self.assertEqual(peer.texts(), texts[:5])

    def test_what_was_read_already(self) -> None:
        """What was read when the window was full is published later, in order."""
        bus = self.server(publish_window=20_000)
        peer = self.subscribe(bus, "/a")
        self.slow()
        texts = [f"{number}".ljust(9000, ".") for number in range(10)]  # Too long for the lane.
        peer.send(b"".join(client_frame(TEXT, text.encode()) for text in texts))
        self.assertLess(bus.backplane.state().pending, 20_000 + 11_000)
        for _ in range(10):
            self.answer()
        self.assertEqual(peer.texts(), texts)
        self.assertEqual(bus.manager.stats.sent, 10)

    def test_lost_while_it_is_full(self) -> None:
        """If the broker is lost then, the publisher is closed with 1013, and read to its end."""
        bus = self.server(publish_window=2000)
        peer = self.subscribe(bus, "/a")
        self.slow()
        peer.send_text("x" * 3000)
        peer.send_text("y")
        self.assertFalse(peer.transport.reading)
        self.only.kill()
        self.turn()
        (close,) = peer.frames()
        self.assertEqual((close.opcode, close.code), (CLOSE, 1013))
        self.assertTrue(peer.transport.reading)
        self.assertEqual(bus.manager.stats.failures, {1013: 1})

    def test_gone_meanwhile(self) -> None:
        """A publisher that has left is not closed again, whatever becomes of its message."""
        for kill in (False, True):
            bus = self.server()
            peer = self.subscribe(bus, "/a")
            self.slow()
            peer.send_text("x")
            peer.close()
            if kill:
                self.only.kill()
            self.answer()
            self.assertEqual(bus.manager.stats.failures, {})
            bus.backplane.stop()
            self.turn()
            self.only.refusing = False
            self.assertEqual(len(bus.manager.sweep), 0)

    def held(self, **limits: Any) -> Peer:
        """A publisher that is not read, because the broker does not answer for long."""
        self.bus = self.server(backplane_timeout=600.0, publish_window=2000, **limits)
        peer = self.subscribe(self.bus, "/a")
        self.hold(peer)
        return peer

    def hold(self, peer: Peer) -> None:
        """Let a publisher fill its window."""
        self.slow()
        peer.send_text("x" * 3000)
        peer.send(client_frame(TEXT, b"y") + client_frame(TEXT, b"z")[:3])
        self.assertFalse(peer.transport.reading)

    def test_not_pinged_while_it_is_not_read(self) -> None:
        """Who is not read is not pinged; afterwards it is, and has to answer."""
        peer = self.held(ping_interval=5, ping_timeout=3)
        self.pass_time(30)
        self.assertEqual(peer.frames(), [])
        self.assertFalse(peer.transport.disconnected)
        self.answer()
        self.assertTrue(peer.transport.reading)
        peer.send(client_frame(TEXT, b"z")[3:])
        self.turn()
        self.assertEqual([len(text) for text in peer.texts()], [3000, 1, 1])
        self.pass_time(6)
        self.assertEqual([frame.opcode for frame in peer.frames()], [PING])
        self.pass_time(4)
        self.assertTrue(peer.transport.reset)
        self.assertEqual(self.bus.manager.stats.evictions, {CloseReason.PING_TIMEOUT: 1})

    def test_pinged_before_it_is_not_read(self) -> None:
        """A ping that is not answered yet has its whole time when the publisher is read again."""
        bus = self.bus = self.server(
            backplane_timeout=600.0, publish_window=2000, ping_interval=5, ping_timeout=3
        )
        peer = self.subscribe(bus, "/a")
        websocket = peer.transport.protocol
        self.slow()
        self.pass_time(0.5)
        for _ in range(2):
            websocket.onMessage(b"x" * 3000, False)  # All that arrives is a sign of life.
        while not peer.frames():
            self.pass_time(0.5)
        self.assertTrue(websocket._full)
        websocket.consumeData()
        self.assertFalse(peer.transport.reading)
        self.pass_time(60)
        self.assertFalse(peer.transport.disconnected)
        self.answer()
        self.assertTrue(peer.transport.reading)
        peer.take()
        self.pass_time(2.5)
        self.assertFalse(peer.transport.disconnected)
        self.pass_time(1.5)
        self.assertTrue(peer.transport.reset)

    def test_half_a_message_while_it_is_not_read(self) -> None:
        """Half a message that was read has its whole time when the publisher is read again."""
        peer = self.held(ping_interval=0, body_timeout=2)
        self.pass_time(30)
        self.answer()
        self.pass_time(1.5)
        self.assertEqual([frame.opcode for frame in peer.frames()], [TEXT, TEXT])
        self.pass_time(1.5)
        self.assertEqual([frame.code for frame in peer.frames()], [1008])

    def test_no_ping_behind_the_end(self) -> None:
        """What arrives after our close frame does not let us ping, nor wait for a pong."""
        bus = self.server(ping_interval=1, ping_timeout=30, close_timeout=20)
        peer = self.subscribe(bus, "/a")
        self.pass_time(2)
        self.assertEqual([frame.opcode for frame in peer.frames()], [PING])
        peer.transport.protocol.go_away()
        peer.send(client_frame(PONG))
        self.pass_time(10)
        self.assertEqual([frame.opcode for frame in peer.frames()], [CLOSE])

    def test_a_fault(self) -> None:
        """Whatever else becomes of a message ends the connection, and is logged."""
        for gone in (False, True):
            handed: Deferred[int] = Deferred()
            bus = self.server()
            peer = self.subscribe(bus, "/a")
            peer.transport.protocol.factory.publish = lambda *_, handed=handed: handed
            peer.send_text("x")
            if gone:
                peer.close()
            handed.errback(ZeroDivisionError())
            self.turn()
            self.assertTrue(peer.transport.disconnected)
            self.assertEqual(bus.manager.stats.evictions, {} if gone else {CloseReason.FAULT: 1})
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class DrainTests(WaitingTests):
    """A server that stops."""

    def test_what_is_on_its_way(self) -> None:
        """What was published anywhere before reaches every reader before its close frame."""
        other = self.server()
        reader = self.subscribe(self.bus, "/a")
        self.slow()
        poster = other.connect()
        poster.send(http_request("POST", "/a", b"x"))
        done = drain(self.bus.manager)
        self.pass_time(0.5)
        self.assertEqual(reader.frames(), [])
        self.answer()
        self.pass_time(0.1)
        message, *_ = reader.frames()
        self.assertEqual(message.payload, b"x")
        self.pass_time(6)
        self.successResultOf(done)

    def test_a_broker_that_hangs(self) -> None:
        """It is waited for a second, and the drain ends in its time."""
        reader = self.subscribe(self.bus, "/a")
        self.slow()
        done = drain(self.bus.manager)
        self.pass_time(0.9)
        self.assertEqual(reader.frames(), [])
        self.pass_time(0.2)
        self.assertEqual([frame.code for frame in reader.frames()], [1001])
        self.pass_time(4)
        self.successResultOf(done)

    def test_hurry(self) -> None:
        """Who is in a hurry waits for no broker."""
        self.subscribe(self.bus, "/a")
        self.slow()
        draining = Drain(self.bus.manager)
        done = draining.start()
        draining.hurry()
        self.pass_time(0.1)
        self.successResultOf(done)
