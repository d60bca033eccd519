"""The websocket side: every row of the contract, in memory."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pinghub.channels import Channel
from pinghub.frames import CloseCode
from pinghub.limits import Limits
from pinghub.outbox import Outbox
from pinghub.stats import CloseReason
from pinghub.testing import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frame,
    MemoryServer,
    Peer,
    client_frame,
    http_request,
    upgrade_request,
)
from pinghub.websocket import SubscriberProtocol

CONTINUATION = 0x0


def fragments(parts: Iterable[bytes]) -> bytes:
    """A text message in several frames."""
    frames = list(parts)
    data = b""
    for index, part in enumerate(frames):
        opcode = CONTINUATION if index else TEXT
        data += client_frame(opcode, part, fin=index == len(frames) - 1)
    return data


class WebsocketTests(SynchronousTestCase):
    """A server in memory."""

    def server(self, limits: Limits | None = None, **options: Any) -> MemoryServer:
        """A server that has to be clean when the test is over."""
        server = MemoryServer(limits, **options)
        self.addCleanup(self.check_clean, server)
        return server

    def check_clean(self, server: MemoryServer) -> None:
        """Nothing is kept for connections that have ended."""
        for connection in list(server.manager.connections.subscribers):
            connection.abort()
        server.reactor.turn()
        manager = server.manager
        self.assertEqual(len(manager), 0)
        self.assertEqual((manager.backlog.size, len(manager.backlog)), (0, 0))
        self.assertEqual(len(manager.connections.subscribers), 0)

    def assert_closed(self, peer: Peer, code: CloseCode) -> None:
        """The peer sees a close frame of that code, then the end of the stream, no reset."""
        frames = peer.frames()
        self.assertEqual([(each.opcode, each.code) for each in frames[-1:]], [(CLOSE, code)])
        self.assertTrue(peer.transport.ended)
        self.assertFalse(peer.transport.reset)


class HandshakeTests(WebsocketTests):
    """Opening."""

    def test_switching_protocols(self) -> None:
        """GET with ``Upgrade: websocket``: 101 with the accept key of RFC 6455, no version."""
        peer = self.server().connect()
        key = base64.b64encode(b"0123456789abcdef").decode()
        peer.send(upgrade_request("/a", {"Sec-WebSocket-Key": key}))
        response = peer.response()
        digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        self.assertEqual(response.status, 101)
        self.assertEqual(
            response.headers,
            {
                "upgrade": "WebSocket",
                "connection": "Upgrade",
                "sec-websocket-accept": base64.b64encode(digest).decode(),
            },
        )

    def test_the_first_subprotocol_is_echoed(self) -> None:
        """Requested subprotocols: the first one offered is echoed."""
        for offered, echoed in {
            "token.abc": "token.abc",
            "one, two": "one",
            "one,one": "one",
            ", two": "two",
        }.items():
            peer = self.server().connect()
            peer.send(upgrade_request("/a", {"Sec-WebSocket-Protocol": offered}))
            response = peer.response()
            self.assertEqual(response.headers["sec-websocket-protocol"], echoed, offered)

    def test_compression_is_declined(self) -> None:
        """permessage-deflate offers: declined."""
        peer = self.server().connect()
        offer = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
        peer.send(upgrade_request("/a", offer))
        response = peer.response()
        self.assertEqual(response.status, 101)
        self.assertNotIn("sec-websocket-extensions", response.headers)

    def test_subscribed_with_the_101(self) -> None:
        """A subscriber receives the messages published after its 101 went out."""
        server = self.server()
        peer = server.connect()
        peer.deliver(upgrade_request("/a"))
        self.assertEqual(server.manager.publish("/a", "first"), 1)
        server.reactor.turn()
        self.assertEqual(peer.response().status, 101)
        self.assertEqual(peer.texts(), ["first"])

    def test_nothing_from_before(self) -> None:
        """A subscriber receives nothing that was published before its 101 went out."""
        server = self.server()
        early = server.subscribe("/a")
        server.manager.publish("/a", "before")
        peer = server.connect()
        peer.deliver(upgrade_request("/a"))
        server.manager.publish("/a", "after")
        server.reactor.turn()
        self.assertEqual(peer.response().status, 101)
        self.assertEqual(peer.texts(), ["after"])
        self.assertEqual(early.texts(), ["before", "after"])

    def test_frames_behind_the_head(self) -> None:
        """Frames sent together with the handshake are delivered, all of them and in order."""
        for count in (1, 10, 1500):
            server = self.server()
            peer = server.connect()
            texts = [f"message {number}" for number in range(count)]
            data = b"".join(client_frame(TEXT, text.encode()) for text in texts)
            peer.send(upgrade_request("/a") + data)
            self.assertEqual(peer.response().status, 101)
            self.assertEqual(peer.texts(), texts)
            peer.send_text("still read")
            self.assertEqual(peer.texts(), ["still read"])

    def test_the_http_connection_is_released(self) -> None:
        """Once it is a websocket, the connection counts as one, and has no HTTP deadline."""
        server = self.server()
        peer = server.subscribe("/a")
        self.assertEqual(len(server.manager.connections), 1)
        self.assertEqual(len(server.manager.connections.requesters), 0)
        self.assertFalse(peer.transport.disconnected)
        peer.close()
        self.assertEqual(len(server.manager.connections), 0)
        self.assertEqual(len(server.manager.sweep), 0)

    def test_gone_before_the_answer(self) -> None:
        """A peer that is gone when the 101 is written is no subscriber."""
        server = self.server()
        peer = server.connect()
        peer.transport.broken = True
        peer.send(upgrade_request("/a"))
        self.assertEqual(len(server.manager), 0)
        server.reactor.turn()
        self.assertEqual(len(server.manager.connections), 0)

    def test_behind_an_answer(self) -> None:
        """A 101 comes behind what was answered before on the same connection."""
        peer = self.server().connect()
        peer.send(http_request("POST", "/a", b"x") + upgrade_request("/a"))
        self.assertEqual([peer.response().status for _ in range(2)], [200, 101])
        peer.send_text("x")
        self.assertEqual(peer.texts(), ["x"])

    def test_light(self) -> None:
        """Messages, heartbeats and the ordinary end need nothing of Autobahn's parser."""
        server = self.server(Limits(ping_interval=1))
        peer = server.subscribe("/a")
        (subscriber,) = server.manager.connections.subscribers
        peer.send_text("x")
        for opcode in (PING, PONG, TEXT):
            peer.send(client_frame(opcode))
        server.run(3)
        peer.send(client_frame(PONG))
        peer.send(client_frame(CLOSE, b"\x03\xe8"))
        self.assert_closed(peer, CloseCode.NORMAL)
        self.assertNotIn("utf8validator", vars(subscriber))
        self.assertLess(len(vars(subscriber)), 15)


class MessageTests(WebsocketTests):
    """Text messages and what is none."""

    def test_broadcast(self) -> None:
        """A text message is broadcast to every subscriber of the channel, the sender included."""
        server = self.server()
        sender, other, stranger = (server.subscribe(path) for path in ("/a", "/a", "/b"))
        sender.send_text("hello")
        self.assertEqual(sender.texts(), ["hello"])
        self.assertEqual(other.texts(), ["hello"])
        self.assertEqual(stranger.texts(), [])

    def test_one_order(self) -> None:
        """Every subscriber receives every message in the same order, whoever sent it and how."""
        server = self.server()
        peers = [server.subscribe("/a") for _ in range(3)]
        for number in range(30):
            peers[number % 3].deliver(client_frame(TEXT, b"%d" % number))
            if number % 5 == 0:
                server.post("/a", b"posted %d" % number)
        server.reactor.turn()
        seen = [peer.texts() for peer in peers]
        self.assertEqual(len(seen[0]), 36)
        self.assertEqual(seen[0], seen[1])
        self.assertEqual(seen[0], seen[2])

    def test_an_empty_message_is_a_heartbeat(self) -> None:
        """Empty text message: an empty text frame back to the sender alone."""
        server = self.server()
        sender, other = server.subscribe("/a"), server.subscribe("/a")
        sender.send_text("")
        self.assertEqual(sender.frames(), [Frame(TEXT, b"")])
        self.assertEqual(other.frames(), [])

    def test_a_heartbeat_does_not_overtake(self) -> None:
        """The answer to a heartbeat comes behind the messages sent before it."""
        peer = self.server().subscribe("/a")
        peer.send(client_frame(TEXT, b"1") + client_frame(TEXT) + client_frame(TEXT, b"2"))
        self.assertEqual(peer.texts(), ["1", "", "2"])

    def test_a_fragmented_message(self) -> None:
        """A message in fragments arrives as one, with control frames between them answered."""
        server = self.server()
        peer = server.subscribe("/a")
        ping = client_frame(PING, b"between")
        peer.send(
            client_frame(TEXT, "Fü".encode()[:2], fin=False)
            + ping
            + client_frame(CONTINUATION, "Füße".encode()[2:])
        )
        self.assertEqual(peer.frames(), [Frame(PONG, b"between"), Frame(TEXT, "Füße".encode())])

    def test_byte_by_byte(self) -> None:
        """A message may arrive in any number of segments."""
        peer = self.server().subscribe("/a")
        for byte in client_frame(TEXT, "Grüße 🦶".encode()):
            peer.send(bytes([byte]))
        self.assertEqual(peer.texts(), ["Grüße 🦶"])

    def test_binary(self) -> None:
        """Binary message: close 1003, before any of it has arrived."""
        peer = self.server().subscribe("/a")
        peer.send(client_frame(BINARY, b"x" * 100)[:6])
        self.assert_closed(peer, CloseCode.UNSUPPORTED_DATA)

    def test_invalid_utf8(self) -> None:
        """Invalid UTF-8: close 1007."""
        for payload in (b"\xff", b"ok \xc3", b"\xed\xa0\x80"):
            server = self.server()
            peer, other = server.subscribe("/a"), server.subscribe("/a")
            peer.send(client_frame(TEXT, payload))
            self.assert_closed(peer, CloseCode.INVALID_PAYLOAD)
            self.assertEqual(other.frames(), [])

    def test_the_largest_message(self) -> None:
        """Larger than ``--max-message``: close 1009; 65 536 bytes are not."""
        server = self.server()
        peer = server.subscribe("/a")
        peer.send_text("x" * 65536)
        self.assertEqual([len(text) for text in peer.texts()], [65536])
        peer.send(client_frame(TEXT, b"x" * 65537)[:14])
        self.assert_closed(peer, CloseCode.MESSAGE_TOO_BIG)

    def test_too_large_in_fragments(self) -> None:
        """The bound holds for the whole message, not for each fragment."""
        peer = self.server(Limits(max_message=100)).subscribe("/a")
        peer.send(fragments([b"x" * 60, b"x" * 41]))
        self.assert_closed(peer, CloseCode.MESSAGE_TOO_BIG)

    def test_fragments_are_bounded(self) -> None:
        """Fragments of one message: 64; more of them close 1009, empty ones too."""
        peer = self.server().subscribe("/a")
        peer.send(fragments([b"x"] * 64))
        self.assertEqual(peer.texts(), ["x" * 64])
        peer.send(fragments([b""] * 65))
        self.assert_closed(peer, CloseCode.MESSAGE_TOO_BIG)

    def test_each_message_has_its_own_fragments(self) -> None:
        """Fragments are counted for each message anew."""
        peer = self.server().subscribe("/a")
        for _ in range(3):
            peer.send(fragments([b"x"] * 64))
        self.assertEqual(peer.texts(), ["x" * 64] * 3)

    def test_a_message_that_does_not_end(self) -> None:
        """A message in parts: 20 s in total, then close 1008."""
        server = self.server(Limits(ping_interval=0))
        whole, begun = server.subscribe("/a"), server.subscribe("/a")
        begun.send(client_frame(TEXT, b"never", fin=False))
        for _ in range(19):
            server.run(1)
            begun.send(client_frame(CONTINUATION, b"ending", fin=False))
        self.assertEqual(begun.frames(), [])
        server.run(2)
        self.assert_closed(begun, CloseCode.POLICY_VIOLATION)
        self.assertFalse(whole.transport.ended)

    def test_a_message_that_ends_in_time(self) -> None:
        """A message that arrives in parts and in time leaves no deadline behind."""
        server = self.server()
        peer = server.subscribe("/a")
        for _ in range(3):
            peer.send(client_frame(TEXT, b"in ", fin=False))
            server.run(15)
            peer.send(client_frame(CONTINUATION, b"time"))
            server.run(10)
        self.assertEqual(peer.texts(), ["in time"] * 3)
        self.assertFalse(peer.transport.ended)

    def test_a_deadline_for_each_message(self) -> None:
        """One message that arrives in time after the other is no message that takes too long."""
        server = self.server(Limits(ping_interval=0))
        peer = server.subscribe("/a")
        for data in (client_frame(TEXT, b"x"), client_frame(TEXT, b"x" * 9000)):
            peer.send(data[:3])
            for _ in range(50):
                server.run(1)
                # The end of one and the beginning of the next, always in one segment.
                peer.send(data[3:] + data[:3])
            peer.send(data[3:])
            self.assertEqual(len(peer.texts()), 51)
        peer.send(client_frame(TEXT, b"x", fin=False))
        for _ in range(19):
            server.run(1)
            # The pongs are complete, the message is not.
            peer.send(client_frame(PONG) + client_frame(CONTINUATION, b"x", fin=False)[:-1])
            peer.send(client_frame(CONTINUATION, b"x", fin=False)[-1:])
        server.run(2)
        self.assert_closed(peer, CloseCode.POLICY_VIOLATION)

    def test_protocol_errors(self) -> None:
        """Protocol error: close 1002."""
        unmasked = bytes([0x81, 1]) + b"x"
        for name, data in {
            "unmasked": unmasked,
            "reserved bit": bytes([0x80 | 0x40 | TEXT]) + client_frame(TEXT, b"x")[1:],
            "reserved opcode": client_frame(0x3, b"x"),
            "continuation of nothing": client_frame(CONTINUATION, b"x"),
            "fragmented ping": client_frame(PING, b"x", fin=False),
            "close code out of range": client_frame(CLOSE, (999).to_bytes(2, "big")),
            "close payload of one byte": client_frame(CLOSE, b"x"),
        }.items():
            peer = self.server().subscribe("/a")
            peer.send(data)
            with self.subTest(name):
                self.assert_closed(peer, CloseCode.PROTOCOL_ERROR)

    def test_control_payload(self) -> None:
        """Control frame payload: 125 bytes, then 1002 before it is accumulated."""
        peer = self.server().subscribe("/a")
        peer.send(client_frame(PING, b"x" * 125))
        self.assertEqual(peer.frames(), [Frame(PONG, b"x" * 125)])
        for announced in (126, 0x10000, 1 << 40):
            peer = self.server().subscribe("/a")
            size = (
                bytes([0x80 | 126]) + announced.to_bytes(2, "big")
                if announced < 0x10000
                else (bytes([0x80 | 127]) + announced.to_bytes(8, "big"))
            )
            peer.send(bytes([0x80 | PING]) + size)
            self.assert_closed(peer, CloseCode.PROTOCOL_ERROR)

    def test_many_tiny_frames(self) -> None:
        """A large read full of tiny frames is parsed in linear time."""
        server = self.server(Limits(max_message=10, max_backlog=1 << 20))
        peer = server.subscribe("/a")
        peer.send(client_frame(TEXT, b"x") * 9000)
        self.assertEqual(len(peer.texts()), 9000)

    def test_a_flood_gives_way(self) -> None:
        """Frames of one client in one turn: 100; those of another do not wait for the rest."""
        for name, message in {
            "plain": client_frame(TEXT, b"x"),
            "in fragments": fragments([b"x", b""]),
        }.items():
            server = self.server()
            flooder, other = server.subscribe("/flood"), server.subscribe("/other")
            flooder.deliver(message * 300)
            other.deliver(client_frame(TEXT, b"y"))
            self.assertFalse(flooder.transport.reading)
            with self.subTest(name):
                self.assertIn(server.manager.stats.published, (51, 52, 101))
                server.reactor.turn()
                self.assertEqual(server.manager.stats.published, 301)
                self.assertTrue(flooder.transport.reading)
                self.assertEqual(flooder.texts(), ["x"] * 300)

    def test_a_flood_that_ends(self) -> None:
        """What is not parsed yet when a connection fails, or is lost, is forgotten."""
        server = self.server()
        failing, lost = server.subscribe("/a"), server.subscribe("/b")
        failing.deliver(client_frame(TEXT, b"x") * 150 + client_frame(BINARY) * 150)
        # With TLS, bytes that were read before may still arrive.
        failing.deliver(client_frame(TEXT, b"y"))
        lost.deliver(client_frame(TEXT, b"x") * 150)
        lost.close()
        server.reactor.turn()
        self.assert_closed(failing, CloseCode.UNSUPPORTED_DATA)
        self.assertTrue(failing.transport.reading)
        self.assertEqual(server.manager.stats.published, 250)

    def test_a_flood_that_is_evicted(self) -> None:
        """A flood of heartbeats that reads no answers ends at the bound, in the middle."""
        server = self.server(Limits(max_message=1024, max_backlog=2048))
        peer = server.subscribe("/a", room=200)
        peer.deliver(client_frame(TEXT) * 5000)
        server.reactor.turn()
        self.assertTrue(peer.transport.reset)
        self.assertEqual(server.manager.stats.evictions, {CloseReason.BACKLOG: 1})

    def test_a_fault_in_the_middle_of_a_flood(self) -> None:
        """A fault while the rest is parsed ends the connection, and is logged."""
        server = self.server()
        peer = server.subscribe("/a")
        peer.deliver(client_frame(TEXT, b"x") * 150)

        def fail(channel: Channel, payload: bytes) -> int:
            raise RuntimeError

        self.patch(Channel, "publish", fail)
        server.reactor.turn()
        self.assertTrue(peer.transport.reset)
        self.assertEqual(server.manager.stats.evictions, {CloseReason.FAULT: 1})
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_post_only(self) -> None:
        """A text message on a channel that takes POSTs only: close 1008."""
        server = self.server(post_only=["/news/*", "/exact"])
        for path in ("/news/today", "/news/a/b", "/exact"):
            peer = server.subscribe(path)
            peer.send_text("")
            self.assertEqual(peer.texts(), [""])
            self.assertEqual(server.post(path, b"posted").headers["pinghub-subscribers"], "1")
            self.assertEqual(peer.texts(), ["posted"])
            peer.send_text("mine")
            self.assert_closed(peer, CloseCode.POLICY_VIOLATION)
        peer = server.subscribe("/exact/not")
        peer.send_text("mine")
        self.assertEqual(peer.texts(), ["mine"])

    def test_publish_rate(self) -> None:
        """Publishes of one client: with ``--max-publish-rate``, more close 1008."""
        server = self.server(Limits(max_publish_rate=5))
        peer, other = server.subscribe("/a"), server.subscribe("/a")
        for _ in range(3):
            peer.send(client_frame(TEXT, b"x") * 5)
            server.run(1)
        self.assertEqual(len(other.texts()), 15)
        peer.send(client_frame(TEXT, b"x") * 6)
        self.assertEqual(len(peer.frames()), 15 + 5 + 1)
        self.assertTrue(peer.transport.ended)
        self.assertEqual(len(other.texts()), 5)


class PingTests(WebsocketTests):
    """Pings in both directions."""

    def test_a_ping_is_answered(self) -> None:
        """A ping is answered with its payload, behind the messages before it."""
        peer = self.server().subscribe("/a")
        peer.send(client_frame(TEXT, b"1") + client_frame(PING, b"p") + client_frame(PONG, b"q"))
        self.assertEqual(peer.frames(), [Frame(TEXT, b"1"), Frame(PONG, b"p")])

    def test_ping_flood(self) -> None:
        """Client pings: 20 per second, then the client is dropped and counted."""
        server = self.server()
        peer = server.subscribe("/a")
        for _ in range(3):
            peer.send(client_frame(PING) * 20)
            server.run(1)
        self.assertEqual(len(peer.frames()), 60)
        peer.send(client_frame(PING) * 21)
        self.assertTrue(peer.transport.reset)
        self.assertEqual(server.manager.stats.evictions, {CloseReason.CONTROL_FLOOD: 1})

    def test_pong_flood(self) -> None:
        """Client pongs: a few that nobody asked for are none, a flood of them is dropped."""
        server = self.server()
        peer = server.subscribe("/a")
        peer.send(client_frame(PONG, b"unasked") * 20)
        self.assertFalse(peer.transport.disconnected)
        peer.send(client_frame(PONG, b"unasked"))
        self.assertTrue(peer.transport.reset)
        self.assertEqual(server.manager.stats.evictions, {CloseReason.CONTROL_FLOOD: 1})

    def test_one_pong_pending(self) -> None:
        """One pong pending: while it waits to be sent, further pings get none."""
        server = self.server()
        peer = server.subscribe("/a", room=200)
        server.post("/a", b"x" * 300)
        peer.send(client_frame(PING, b"1") + client_frame(PING, b"2") + client_frame(PING, b"3"))
        peer.send(client_frame(PING, b"4"))
        self.assertEqual([each.payload for each in peer.frames()], [b"x" * 300, b"1"])
        peer.send(client_frame(PING, b"5"))
        self.assertEqual(peer.frames(), [Frame(PONG, b"5")])

    def test_the_server_pings(self) -> None:
        """A ping is sent every ``--ping-interval``; who answers stays."""
        server = self.server()
        peer = server.subscribe("/a")
        pings = 0
        for _ in range(300):
            server.run(1)
            for frame in peer.frames():
                self.assertEqual(frame, Frame(PING, b""))
                pings += 1
                peer.send(client_frame(PONG))
        self.assertIn(pings, (10, 11))
        self.assertFalse(peer.transport.disconnected)

    def test_no_pong(self) -> None:
        """No pong within ``--ping-timeout``: dropped and counted."""
        server = self.server()
        peer = server.subscribe("/a")
        server.run(27 / 2 + 29)
        self.assertFalse(peer.transport.disconnected)
        server.run(27 / 2 + 3)
        self.assertTrue(peer.transport.reset)
        self.assertEqual(server.manager.subscribers("/a"), 0)
        self.assertEqual(server.manager.stats.evictions, {CloseReason.PING_TIMEOUT: 1})

    def test_any_byte_is_a_sign_of_life(self) -> None:
        """A peer whose messages arrive is alive, though its pong may be late."""
        server = self.server()
        peer = server.subscribe("/a")
        for _ in range(20):
            server.run(10)
            peer.send_text("x")
        self.assertFalse(peer.transport.disconnected)

    def test_a_lagging_reactor(self) -> None:
        """A subscriber is never dropped because the reactor itself lagged."""
        server = self.server()
        peer = server.subscribe("/a")
        server.run(30)
        self.assertEqual(peer.frames(), [Frame(PING, b"")])
        server.reactor.advance(300)
        peer.send(client_frame(PONG))
        server.run(20)
        self.assertFalse(peer.transport.disconnected)

    def test_a_backlog_is_not_pinged(self) -> None:
        """While bytes wait, the stall clock watches; no ping queues behind them."""
        server = self.server(Limits(ping_interval=5, stall_timeout=10))
        peer = server.subscribe("/a", room=100)
        for _ in range(12):
            server.post("/a", b"x" * 300)
            server.run(1)
            peer.read(300)
        texts = [each.opcode for each in peer.frames()]
        self.assertEqual(texts, [TEXT] * 12)

    def test_without_pings(self) -> None:
        """``--ping-interval=0`` turns pings off."""
        server = self.server(Limits(ping_interval=0))
        peer = server.subscribe("/a")
        server.run(300)
        self.assertEqual(peer.frames(), [])
        self.assertFalse(peer.transport.disconnected)
        self.assertEqual(len(server.manager.sweep), 0)


class FailingOutbox(Outbox):
    """An outbox that raises."""

    def __init__(self) -> None:
        """Nothing is needed."""

    def send(self, data: bytes) -> None:
        raise RuntimeError("out of order")

    def close(self) -> None:
        """Nothing waits."""


class CloseTests(WebsocketTests):
    """Closing, from both sides."""

    def test_the_peer_closes(self) -> None:
        """A close frame is answered with its code; the peer sees the end of the stream."""
        server = self.server()
        peer = server.subscribe("/a")
        peer.send(client_frame(CLOSE, (3456).to_bytes(2, "big") + b"bye"))
        self.assertEqual(peer.frames(), [Frame(CLOSE, (3456).to_bytes(2, "big") + b"bye")])
        self.assertTrue(peer.transport.ended)
        self.assertEqual(server.manager.subscribers("/a"), 0)

    def test_the_peer_closes_without_a_code(self) -> None:
        """An empty close frame is answered with an empty one."""
        peer = self.server().subscribe("/a")
        peer.send(client_frame(CLOSE))
        self.assertEqual(peer.frames(), [Frame(CLOSE, b"")])
        self.assertTrue(peer.transport.ended)

    def test_messages_before_the_close(self) -> None:
        """What was published before a close frame arrives before its answer."""
        server = self.server()
        peer, other = server.subscribe("/a"), server.subscribe("/a")
        peer.send(client_frame(TEXT, b"last") + client_frame(CLOSE, b"\x03\xe8"))
        self.assertEqual([each.opcode for each in peer.frames()], [TEXT, CLOSE])
        self.assertEqual(other.texts(), ["last"])

    def test_nothing_after_the_close(self) -> None:
        """After a close frame no message is sent, and none is taken."""
        server = self.server()
        peer, other = server.subscribe("/a"), server.subscribe("/a")
        peer.send(client_frame(CLOSE, b"\x03\xe8") + client_frame(TEXT, b"too late"))
        peer.send_text("later")
        server.post("/a", b"posted")
        self.assertEqual([each.opcode for each in peer.frames()], [CLOSE])
        self.assertEqual(other.texts(), ["posted"])

    def test_input_is_discarded_after_a_failure(self) -> None:
        """After a failure the input is discarded for a bounded moment, then dropped."""
        server = self.server()
        peer = server.subscribe("/a")
        peer.send(client_frame(BINARY, b"x") + b"garbage" * 1000)
        self.assert_closed(peer, CloseCode.UNSUPPORTED_DATA)
        peer.send(b"more garbage" * 10000)
        self.assertTrue(peer.transport.reading)
        server.run(2.5)
        self.assertFalse(peer.transport.disconnected)
        server.run(1.5)
        self.assertTrue(peer.transport.disconnected)
        self.assertEqual(len(server.manager.sweep), 0)

    def test_closing_always_ends(self) -> None:
        """Close handshake: 3 s, then the connection is aborted, read or not."""
        server = self.server()
        unread, backlog = server.subscribe("/a"), server.subscribe("/a", room=100)
        server.post("/a", b"x" * 1000)
        backlog.send(client_frame(CLOSE, b"\x03\xe8"))
        self.assertEqual(server.manager.subscribers("/a"), 1)
        server.run(2.5)
        self.assertFalse(backlog.transport.disconnected)
        server.run(1.5)
        self.assertTrue(backlog.transport.reset)
        self.assertEqual(server.manager.stats.evictions, {CloseReason.CLOSE_TIMEOUT: 1})
        self.assertFalse(unread.transport.disconnected)

    def test_a_second_violation_does_not_prolong_the_end(self) -> None:
        """A violation during the close handshake ends it; the deadline stays."""
        server = self.server(Limits(max_age=10))
        peer = server.subscribe("/a")
        server.run(11)
        self.assertEqual([each.code for each in peer.frames()], [CloseCode.GOING_AWAY])
        peer.send(b"\xff\xff\xff\xff\xff\xff")
        self.assertTrue(peer.transport.ended)
        server.run(4)
        self.assertTrue(peer.transport.disconnected)

    def test_age(self) -> None:
        """Age of a connection, with jitter: close 1001, and the peer may answer in peace."""
        server = self.server(Limits(max_age=100))
        peers = [server.subscribe("/a") for _ in range(20)]
        ages: dict[int, float] = {}
        for _ in range(110):
            server.run(1)
            for index, peer in enumerate(peers):
                for frame in peer.frames():
                    if frame.opcode == PING:
                        peer.send(client_frame(PONG))
                    elif frame.opcode == CLOSE:
                        self.assertEqual(frame.code, CloseCode.GOING_AWAY)
                        ages[index] = server.reactor.seconds()
                        peer.send(client_frame(CLOSE, frame.payload[:2]))
                        self.assertTrue(peer.transport.ended)
                        self.assertFalse(peer.transport.reset)
                        peer.close()
        self.assertEqual(len(ages), 20)
        self.assertGreaterEqual(min(ages.values()), 90)
        self.assertLessEqual(max(ages.values()), 102)
        self.assertGreater(len(set(ages.values())), 1)
        self.assertEqual(server.manager.stats.evictions, {})

    def test_published_while_closing(self) -> None:
        """What the peer sent before it saw our close frame is still published."""
        server = self.server(Limits(max_age=100))
        peer = server.subscribe("/a")
        for protocol in list(server.manager.connections.subscribers):
            protocol.go_away()
        other = server.subscribe("/a")
        peer.send(client_frame(TEXT, b"crossed") + client_frame(TEXT) + client_frame(PING))
        self.assertEqual(other.texts(), ["crossed"])
        self.assertEqual([each.opcode for each in peer.frames()], [CLOSE])

    def test_the_peer_vanishes(self) -> None:
        """A connection that is lost leaves its channel at once."""
        server = self.server()
        peer = server.subscribe("/a")
        peer.close()
        self.assertEqual(len(server.manager), 0)
        self.assertEqual(server.post("/a", b"x").headers["pinghub-subscribers"], "0")

    def test_a_write_finds_the_connection_lost(self) -> None:
        """A fan-out that finds a connection lost drops it and goes on."""
        server = self.server()
        lost, other = server.subscribe("/a"), server.subscribe("/a")
        lost.transport.broken = True
        self.assertEqual(server.post("/a", b"x").status, 200)
        self.assertEqual(other.texts(), ["x"])
        self.assertEqual(server.manager.subscribers("/a"), 1)

    def test_closing_twice(self) -> None:
        """A connection that is closing is not told to close again."""
        server = self.server()
        peer = server.subscribe("/a")
        for _ in range(2):
            for protocol in server.manager.connections.subscribers:
                protocol.go_away()
        self.assertEqual([each.code for each in peer.frames()], [CloseCode.GOING_AWAY])

    def test_a_fault_while_delivering(self) -> None:
        """A connection that fails to take a message is dropped; the others get it."""
        server = self.server()
        faulty, healthy = server.subscribe("/a"), server.subscribe("/a")
        (protocol,) = (
            each
            for each in server.manager.connections.subscribers
            if isinstance(each, SubscriberProtocol) and each.transport is faulty.transport
        )
        outbox, protocol._outbox = protocol._outbox, FailingOutbox()
        self.addCleanup(outbox.close)
        self.assertEqual(server.post("/a", b"x").headers["pinghub-subscribers"], "2")
        self.assertEqual(healthy.texts(), ["x"])
        self.assertTrue(faulty.transport.reset)
        self.assertEqual(server.manager.stats.evictions, {CloseReason.FAULT: 1})
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_unsubscribed_by_others(self) -> None:
        """A connection whose subscription the site's own code ended goes on."""
        server = self.server()
        peer = server.subscribe("/a")
        (protocol,) = server.manager.connections.subscribers
        assert isinstance(protocol, SubscriberProtocol)
        self.assertTrue(server.manager.unsubscribe("/a", protocol))
        peer.send(client_frame(PING, b"still there?"))
        self.assertEqual(peer.frames(), [Frame(PONG, b"still there?")])


class EvictionTests(WebsocketTests):
    """Slow consumers."""

    def test_backlog(self) -> None:
        """Reader too slow: backlog above 1 MiB: evicted and counted, the connection aborted."""
        server = self.server()
        slow, healthy = server.subscribe("/a", room=1000), server.subscribe("/a")
        received = 0
        for _ in range(18):
            server.post("/a", b"x" * 60_000)
            received += len(healthy.texts())
        self.assertEqual(received, 18)
        self.assertTrue(slow.transport.reset)
        self.assertEqual(server.manager.stats.evictions, {CloseReason.BACKLOG: 1})
        self.assertEqual(server.manager.subscribers("/a"), 1)

    def test_stalled(self) -> None:
        """Reader too slow: stalled for 10 s with anything pending: evicted and counted."""
        server = self.server()
        slow, healthy = server.subscribe("/a", room=100), server.subscribe("/a")
        server.post("/a", b"x" * 1000)
        server.run(9)
        self.assertEqual(server.manager.subscribers("/a"), 2)
        server.run(2.5)
        self.assertTrue(slow.transport.reset)
        self.assertEqual(server.manager.stats.evictions, {CloseReason.STALLED: 1})
        self.assertEqual(healthy.texts(), ["x" * 1000])

    def test_total_backlog(self) -> None:
        """Backlog of all subscribers: 256 MiB by default; the largest is evicted first."""
        limits = Limits(max_message=1000, max_backlog=2000, max_total_backlog=5000)
        server = self.server(limits)
        peers = [server.subscribe(path, room=1) for path in ("/a", "/b", "/b", "/b")]
        server.post("/a", b"x" * 1000)
        server.post("/a", b"x" * 500)
        server.post("/b", b"x" * 1000)
        server.post("/b", b"x" * 200)
        self.assertTrue(peers[0].transport.reset)
        self.assertEqual(server.manager.stats.evictions, {CloseReason.TOTAL_BACKLOG: 1})
        self.assertEqual([peer.transport.reset for peer in peers[1:]], [False] * 3)

    def test_backlog_is_shared(self) -> None:
        """Frames that wait are shared between subscribers, not copied."""
        server = self.server()
        for _ in range(5):
            server.subscribe("/a").transport.room = 0
        server.post("/a", b"x" * 60_000)
        waiting = [
            protocol._outbox._queue[-1].obj  # type: ignore[attr-defined]
            for protocol in server.manager.connections.subscribers
        ]
        self.assertEqual(len({id(each) for each in waiting}), 1)
