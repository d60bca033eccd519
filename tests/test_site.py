"""The HTTP front: every bound, and refusals that arrive."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from pinghub.limits import Limits
from pinghub.resource import PinghubResource
from pinghub.site import PinghubSite
from pinghub.testing import (
    TEXT,
    MemoryServer,
    Peer,
    client_frame,
    http_request,
    upgrade_request,
)

POST = b"POST /a HTTP/1.1\r\nHost: h\r\n"


class SiteTests(SynchronousTestCase):
    """A server in memory, and assertions about refusals."""

    def setUp(self) -> None:
        self.server = MemoryServer()

    def assert_refused(self, peer: Peer, status: int, words: str = "") -> None:
        """The peer gets one line of text and the end of the stream, and no reset."""
        response = peer.response()
        self.assertEqual(response.status, status)
        self.assertEqual(response.headers["connection"], "close")
        self.assertEqual(response.headers["content-type"], "text/plain; charset=utf-8")
        self.assertEqual(response.body.count(b"\n"), 1)
        self.assertIn(words, response.body.decode())
        self.assertTrue(peer.transport.ended)
        self.assertFalse(peer.transport.reset)
        self.assertEqual(peer.take(), b"")

    def assert_nothing_left(self) -> None:
        """No connection and no deadline is kept."""
        self.assertEqual(len(self.server.manager.connections), 0)
        self.assertEqual(len(self.server.manager.sweep), 0)


class HeadTests(SiteTests):
    """Request heads."""

    def test_request_line(self) -> None:
        """One line of a request head: 8 KiB; a longer request line is 414."""
        peer = self.server.connect()
        peer.send(b"POST /?" + b"x" * (8192 - 16) + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual(peer.response().status, 200)
        for end in (b" HTTP/1.1\r\n", b""):
            peer = self.server.connect()
            peer.send(b"POST /?" + b"x" * 8192 + end)
            self.assert_refused(peer, 414, "line")

    def test_header_line(self) -> None:
        """One line of a request head: 8 KiB; a longer header line is 431."""
        for end in (b"\r\n\r\n", b""):
            peer = self.server.connect()
            peer.send(POST + b"X: " + b"x" * 8192 + end)
            self.assert_refused(peer, 431, "line")

    def test_head_size(self) -> None:
        """A request head: 16 KiB in total, then 431."""
        field = b"X: " + b"x" * 4000 + b"\r\n"
        peer = self.server.connect()
        peer.send(POST + field * 4 + b"\r\n")
        self.assertEqual(peer.response().status, 200)
        peer = self.server.connect()
        peer.send(POST + field * 5 + b"\r\n")
        self.assert_refused(peer, 431, "head")

    def test_head_size_counts_for_each_request(self) -> None:
        """The head of a second request is measured anew."""
        field = b"X: " + b"x" * 4000 + b"\r\n"
        peer = self.server.connect()
        for _ in range(3):
            peer.send(POST + field * 3 + b"\r\n")
            self.assertEqual(peer.response().status, 200)

    def test_header_fields(self) -> None:
        """Header fields of a request: 100, then 431."""
        peer = self.server.connect()
        for _ in range(2):
            peer.send(POST + b"X: y\r\n" * 99 + b"\r\n")
            self.assertEqual(peer.response().status, 200)
        peer.send(POST + b"X: y\r\n" * 100 + b"\r\n")
        self.assert_refused(peer, 431, "fields")

    def test_last_field_too_many(self) -> None:
        """The bound holds for the last header field too."""
        peer = self.server.connect()
        peer.send(POST + b"X: y\r\n" * 99 + b"Content-Length: 5\r\n\r\nhello")
        self.assert_refused(peer, 431)

    def test_malformed(self) -> None:
        """What is no HTTP is 400, in one line, and the connection ends."""
        for data in (
            b"nonsense\r\n\r\n",
            b"GET / HTTP/3.0\r\n\r\n",
            b"GET /a b HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\r\n",
            POST + b"no colon\r\n\r\n",
            POST + b"bad name : x\r\n\r\n",
            POST + b"X: \x00\r\n\r\n",
            POST + b"Content-Length: x\r\n\r\n",
            POST + b"Content-Length: -1\r\n\r\n",
            POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            POST + b"Transfer-Encoding: gzip\r\n\r\n",
            POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
            POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n",
        ):
            peer = self.server.connect()
            peer.send(data)
            with self.subTest(data):
                self.assert_refused(peer, 400, "malformed")
            peer.close()
        self.assert_nothing_left()

    def test_a_header_in_two_lines(self) -> None:
        """A folded header is one header field."""
        peer = self.server.connect()
        peer.send(POST + b"X: a\r\n b\r\nContent-Length: 1\r\n\r\nx")
        self.assertEqual(peer.response().status, 200)

    def test_no_version_in_any_answer(self) -> None:
        """No version list and no path reaches a client."""
        for data in (b"nonsense\r\n\r\n", POST + b"\r\n", b"GET / HTTP/1.1\r\n\r\n"):
            peer = self.server.connect()
            peer.send(data)
            self.assertEqual(peer.response().headers["server"], "pinghub")


class LaneTests(SiteTests):
    """Handshakes that are read at once."""

    def test_a_message_that_looks_like_a_handshake(self) -> None:
        """Only the first bytes of a connection are looked at: a body may be whatever it likes."""
        server = MemoryServer()
        subscriber, peer = server.subscribe("/a"), server.connect()
        head = upgrade_request("/a")
        peer.send(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(head))
        peer.send(head)
        self.assertEqual(peer.response().status, 200)
        self.assertEqual(subscriber.texts(), [head.decode()])

    def test_who_wants_to_see_every_request(self) -> None:
        """A site or a resource that is derived from ours gets every request."""
        seen = []

        class Watching(PinghubResource):
            def render(self, request: Any) -> bytes | int:
                seen.append(request.uri)
                return super().render(request)

        class Derived(PinghubSite):
            pass

        server = MemoryServer()
        plain = server.site
        for site in (PinghubSite(Watching(server.manager), server.manager), plain):
            server.site = site
            server.subscribe("/a")
        self.assertEqual(seen, [b"/a"])
        server.site = Derived(Watching(server.manager), server.manager)
        server.subscribe("/b")
        self.assertEqual(seen, [b"/a", b"/b"])


class DeadlineTests(SiteTests):
    """Absolute deadlines: a byte now and then does not prolong them."""

    def test_head(self) -> None:
        """A request head: 10 s in total, then 408."""
        peer = self.server.connect()
        for byte in b"POST /a H":
            self.server.run(1)
            peer.send(bytes([byte]))
        self.assertFalse(peer.transport.ended)
        self.server.run(2)
        self.assert_refused(peer, 408, "in time")

    def test_head_in_lines(self) -> None:
        """A head that comes line by line has the same deadline."""
        peer = self.server.connect()
        peer.send(POST)
        for _ in range(9):
            self.server.run(1)
            peer.send(b"X: y\r\n")
        self.assertFalse(peer.transport.ended)
        self.server.run(2)
        self.assert_refused(peer, 408)

    def test_nothing_at_all(self) -> None:
        """A connection on which nothing arrives is closed without a word."""
        peer = self.server.connect()
        self.server.run(9)
        self.assertFalse(peer.transport.ended)
        self.server.run(2)
        self.assertTrue(peer.transport.ended)
        self.assertEqual(peer.take(), b"")

    def test_body(self) -> None:
        """A POST body: 20 s in total, then 408."""
        peer = self.server.connect()
        peer.send(POST + b"Content-Length: 100\r\n\r\n")
        for _ in range(19):
            self.server.run(1)
            peer.send(b"x")
        self.assertFalse(peer.transport.ended)
        self.server.run(2)
        self.assert_refused(peer, 408)

    def test_chunked_body(self) -> None:
        """A chunked body has the same deadline."""
        peer = self.server.connect()
        peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(19):
            self.server.run(1)
            peer.send(b"1\r\nx\r\n")
        self.server.run(2)
        self.assert_refused(peer, 408)

    def test_keep_alive(self) -> None:
        """Keep-alive between requests: 75 s, then the connection is closed."""
        peer = self.server.connect()
        for _ in range(3):
            peer.send(http_request("POST", "/a", b"x"))
            self.assertEqual(peer.response().status, 200)
            self.server.run(70)
        self.assertFalse(peer.transport.ended)
        self.server.run(6.5)
        self.assertTrue(peer.transport.ended)
        self.assertEqual(peer.take(), b"")

    def test_requests_keep_a_connection(self) -> None:
        """The idle time begins anew with each answer, at whatever moment that comes."""
        for quarters in range(300, 320):
            peer = self.server.connect()
            peer.send(http_request("POST", "/a", b"x"))
            self.server.run(quarters / 4 - 10)
            peer.send(http_request("POST", "/a", b"x"))
            self.server.run(75)
            self.assertFalse(peer.transport.ended, quarters)
            self.server.run(1)
            self.assertTrue(peer.transport.ended, quarters)

    def test_the_second_head_has_its_own_deadline(self) -> None:
        """The time for a head begins with its first byte, after however long a pause."""
        peer = self.server.connect()
        peer.send(http_request("POST", "/a", b"x"))
        peer.response()
        self.server.run(60)
        peer.send(b"POST")
        self.server.run(9)
        self.assertFalse(peer.transport.ended)
        self.server.run(2)
        self.assert_refused(peer, 408)

    def test_a_peer_that_does_not_close(self) -> None:
        """After a refusal, input is discarded for 3 s; then the connection is aborted."""
        peer = self.server.connect()
        peer.send(b"nonsense\r\n\r\n")
        self.assert_refused(peer, 400)
        peer.send(b"x" * 100_000)
        self.server.run(2.5)
        self.assertFalse(peer.transport.disconnected)
        self.server.run(1.5)
        self.assertTrue(peer.transport.disconnected)
        self.assert_nothing_left()


class BodyTests(SiteTests):
    """Bodies that are not taken."""

    def test_by_length(self) -> None:
        """413 as soon as it is known: from Content-Length, before the body is read."""
        for digits in (6, 12, 18, 19, 5000):
            peer = self.server.connect()
            peer.send(POST + b"Content-Length: " + b"9" * digits + b"\r\n\r\n")
            self.assert_refused(peer, 413, "65536")

    def test_one_byte_more(self) -> None:
        """65 536 bytes are taken, 65 537 are not, by length."""
        peer = self.server.connect()
        peer.send(POST + b"Content-Length: 65537\r\n\r\n")
        self.assert_refused(peer, 413)
        peer = self.server.connect()
        peer.send(POST + b"Content-Length: 65536\r\n\r\n" + b"x" * 65536)
        self.assertEqual(peer.response().status, 200)

    def test_never_after_100_continue(self) -> None:
        """413 never comes after a ``100 Continue``; what is taken gets one."""
        peer = self.server.connect()
        peer.send(POST + b"Content-Length: 65537\r\nExpect: 100-continue\r\n\r\n")
        self.assert_refused(peer, 413)
        peer = self.server.connect()
        peer.send(POST + b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n")
        self.assertEqual(peer.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.send(b"x")
        self.assertEqual(peer.response().status, 200)

    def test_chunked(self) -> None:
        """413 chunked likewise: with the chunk that goes over the bound."""
        chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        peer = self.server.connect()
        peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2 + b"0\r\n\r\n")
        self.assertEqual(peer.response().status, 200)
        peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2 + b"1\r\nx\r\n")
        self.assert_refused(peer, 413)
        peer = self.server.connect()
        peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 5 + b"0\r\n\r\n")
        self.assert_refused(peer, 413)
        peer = self.server.connect()
        peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3 + b"nonsense\r\n")
        self.assert_refused(peer, 413)
        self.assertEqual(self.server.manager.stats.dropped, 1)

    def test_the_body_stays_in_memory(self) -> None:
        """A large body is not written to a temporary file."""
        server = MemoryServer(Limits(max_message=200_000))
        self.patch(__import__("tempfile"), "TemporaryFile", lambda: self.fail("a file"))
        self.assertEqual(server.post("/a", b"x" * 150_000).status, 200)

    def test_on_a_handshake(self) -> None:
        """A body on an upgrade is refused before it is read."""
        for headers in (
            {"Content-Length": "1000000"},
            {"Content-Length": "10"},
            {"Transfer-Encoding": "chunked"},
        ):
            peer = self.server.connect()
            peer.send(upgrade_request("/a", headers))
            response = peer.response()
            self.assertIn(response.status, (400, 413))
            self.assertTrue(peer.transport.ended)


class PipelineTests(SiteTests):
    """Peers that send requests and do not read the answers."""

    def test_answers_are_bounded(self) -> None:
        """Responses queued for a client that does not read: 64 KiB, then nothing is read."""
        peer = self.server.connect(room=1000)
        peer.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n" * 2000)
        transport = peer.transport
        waiting = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        self.assertGreater(waiting, 65536 - 1000)
        self.assertLess(waiting, 2 * 65536)
        self.assertFalse(transport.reading)

    def test_nothing_is_lost(self) -> None:
        """Once the client reads, all its requests are answered."""
        subscriber = self.server.subscribe("/a")
        peer = self.server.connect(room=1000)
        count = 1500
        peer.send(b"".join(http_request("POST", "/a", b"%d" % each) for each in range(count)))
        self.assertFalse(peer.transport.reading)
        for _ in range(count):
            self.assertEqual(peer.response().status, 200)
        self.assertEqual(subscriber.texts(), [str(each) for each in range(count)])
        self.assertTrue(peer.transport.reading)
        peer.send(http_request("POST", "/a", b"more"))
        self.assertEqual(peer.response().status, 200)

    def test_a_flood_gives_way(self) -> None:
        """Requests of one client in one turn: 16; another does not wait for the rest."""
        subscriber = self.server.subscribe("/a")
        flooder, other = self.server.connect(), self.server.connect()
        flooder.deliver(http_request("POST", "/a", b"flood") * 50)
        other.deliver(http_request("POST", "/a", b"other"))
        self.assertFalse(flooder.transport.reading)
        self.server.reactor.turn()
        self.assertTrue(flooder.transport.reading)
        self.assertEqual(subscriber.texts(), ["flood"] * 16 + ["other"] + ["flood"] * 34)
        flooder.send(http_request("POST", "/a", b"more"))
        self.assertEqual([flooder.response().status for _ in range(51)], [200] * 51)

    def test_a_flood_with_unread_answers(self) -> None:
        """Whether it waits for its turn or for its answers to be read, nothing is lost."""
        server = MemoryServer(Limits(response_queue=4096))
        subscriber = server.subscribe("/a")
        peer = server.connect(room=100)
        # With the answer to the 16th request both begin to wait.
        peer.deliver(
            http_request("POST", "/a", b"x") * 15
            + http_request("GET", "/a")
            + http_request("POST", "/a", b"behind")
        )
        server.reactor.turn()
        self.assertEqual(subscriber.texts(), ["x"] * 15)
        self.assertFalse(peer.transport.reading)
        for _ in range(17):
            self.assertEqual(peer.response().status, 200)
        self.assertEqual(subscriber.texts(), ["behind"])
        self.assertTrue(peer.transport.reading)

    def test_a_flood_that_ends(self) -> None:
        """What is not parsed yet when a connection is lost, or taken over, is not published."""
        subscriber = self.server.subscribe("/a")
        lost, taken = self.server.connect(), self.server.connect()
        lost.deliver(http_request("POST", "/a", b"x") * 50)
        lost.transport.connectionLost(Failure(ConnectionLost()))
        taken.deliver(http_request("POST", "/a", b"y") * 16 + upgrade_request("/b"))
        taken.deliver(client_frame(TEXT, b"behind"))
        self.server.reactor.turn()
        self.assertEqual(subscriber.texts(), ["x"] * 16 + ["y"] * 16)
        for status in [200] * 16 + [101]:
            self.assertEqual(taken.response().status, status)
        self.assertEqual(taken.texts(), ["behind"])

    def test_an_upgrade_behind_unread_answers(self) -> None:
        """A handshake behind other requests: its 101 comes behind their answers."""
        peer = self.server.connect(room=100)
        peer.send(http_request("POST", "/a", b"1") * 3 + upgrade_request("/a"))
        self.server.post("/a", b"a message")
        self.assertEqual([peer.response().status for _ in range(4)], [200, 200, 200, 101])
        self.assertEqual(peer.texts(), ["a message"])


class Counted:
    """A factory of requests that counts them."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.count = 0

    def __call__(self, *args: Any) -> Any:
        self.count += 1
        return self.factory(*args)


class Strict(PinghubResource):
    """A resource that looks at every request."""

    def render(self, request: Any) -> bytes:
        request.setResponseCode(403)
        return b"no"


class Logging(PinghubSite):
    """A site that looks at every request."""

    logged = 0

    def log(self, request: object) -> None:
        self.logged += 1


class PlainPostTests(SiteTests):
    """POSTs that are answered without a request of twisted.web."""

    def test_between_others(self) -> None:
        """Answers come in the order of the requests, whoever makes them."""
        peer = self.server.connect()
        for _ in range(2):
            for method, status in (("POST", 200), ("PUT", 405), ("OPTIONS", 204), ("POST", 200)):
                peer.deliver(http_request(method, "/a", b"x" if method == "POST" else b""))
                peer.deliver(http_request("POST", "/%ff", b"x"))
                self.server.reactor.turn()
                self.assertEqual([peer.response().status for _ in range(2)], [status, 400])

    def test_one_write(self) -> None:
        """Several that came together are answered with one write."""
        peer = self.server.connect()
        written: list[bytes] = []
        keep = peer.transport.send

        def send(data: bytes) -> int:
            written.append(data)
            return keep(data)

        self.patch(peer.transport, "send", send)
        peer.send(http_request("POST", "/a", b"x") * 5)
        self.assertEqual([data.count(b" 200 OK\r\n") for data in written], [5])

    def test_at_once(self) -> None:
        """The answer is sent while the request is read, not when the reactor comes to it."""
        peer = self.server.connect()
        peer.deliver(http_request("POST", "/a", b"x"))
        self.assertTrue(peer.transport.sent.startswith(b"HTTP/1.1 200 OK\r\n"))

    def test_through_a_wrapper(self) -> None:
        """Where something is between the site and the socket, it writes."""
        self.server.site = HAProxyWrappingFactory(self.server.site)
        peer = self.server.connect(host="127.0.0.1")
        proxy = b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 8081\r\n"
        peer.deliver(proxy + http_request("POST", "/a", b"x"))
        self.assertEqual(bytes(peer.transport.sent), b"")
        self.server.reactor.turn()
        self.assertTrue(peer.transport.sent.startswith(b"HTTP/1.1 200 OK\r\n"))

    def test_in_any_segments(self) -> None:
        """A request that came in parts, and what the parser has kept of it, is one request."""
        subscriber = self.server.subscribe("/a")
        data = http_request("POST", "/a", b"hello")
        for size in range(len(data) + 1):
            peer = self.server.connect()
            for _ in range(2):
                peer.send(data[:size])
                peer.send(data[size:])
                self.assertEqual(peer.response().status, 200)
        self.assertEqual(subscriber.texts(), ["hello"] * 2 * (len(data) + 1))

    def test_a_blank_line_between(self) -> None:
        """One blank line before a request is ignored, two are malformed, as ever."""
        peer = self.server.connect()
        data = http_request("POST", "/a", b"x")
        peer.send(data)
        for _ in range(3):
            peer.send(b"\r\n")
            peer.send(data)
        self.assertEqual([peer.response().status for _ in range(4)], [200] * 4)
        peer.send(b"\r\n")
        peer.send(b"\r\n" + data)
        self.assert_refused(peer, 400)

    def test_a_body_that_looks_like_a_request(self) -> None:
        """A body is a body, whatever it looks like and however it comes."""
        subscriber = self.server.subscribe("/a")
        body = http_request("POST", "/b", b"x")
        data = http_request("POST", "/a", body)
        peer = self.server.connect()
        for size in (len(data) - len(body), len(data)):
            peer.send(data[:size])
            peer.send(data[size:])
            self.assertEqual(peer.response().status, 200)
        self.assertEqual(peer.take(), b"")
        self.assertEqual(subscriber.texts(), [body.decode()] * 2)

    def test_after_the_end(self) -> None:
        """Behind a request that ends the connection, and while it ends, nothing is answered."""
        data = http_request("POST", "/a", b"x")
        for last in (http_request("POST", "/a", b"x", {"Connection": "close"}), b""):
            peer = self.server.connect(room=0)
            peer.send(data + last)
            for requester in self.server.manager.connections.requesters:
                requester.go_away()
            peer.deliver(data)
            peer.transport.room = None
            self.server.reactor.turn()
            self.assertEqual(peer.take().count(b" 200 OK\r\n"), 2 if last else 1)
            self.assertTrue(peer.transport.disconnected)

    def test_others_see_every_request(self) -> None:
        """A resource or site of another class, or below another resource, gets every request."""
        manager = self.server.manager
        strict, root = Strict(manager), Resource()
        root.putChild(b"a", self.server.resource)
        logging = Logging(self.server.resource, manager)
        for site, status in (
            (PinghubSite(strict, manager), 403),
            (PinghubSite(root, manager), 200),
            (logging, 200),
        ):
            self.server.site = site
            self.patch(site, "requestFactory", counted := Counted(site.requestFactory))
            self.assertEqual(self.server.post("/a", b"x").status, status)
            self.assertEqual(counted.count, 1)
        self.assertEqual(logging.logged, 1)


class EndTests(SiteTests):
    """Ends of connections."""

    def test_connection_close(self) -> None:
        """``Connection: close`` and HTTP/1.0 end the connection after the answer."""
        for data in (
            http_request("POST", "/a", b"x", {"Connection": "close"}),
            http_request("POST", "/a", b"x").replace(b"HTTP/1.1", b"HTTP/1.0"),
        ):
            peer = self.server.connect()
            peer.send(data)
            self.assertEqual(peer.response().status, 200)
            self.assertTrue(peer.transport.disconnected)
        self.assert_nothing_left()

    def test_half_close(self) -> None:
        """A peer that sends a POST and closes its half gets its answer."""
        peer = self.server.connect(room=10)
        peer.send(http_request("POST", "/a", b"x"))
        peer.close()
        self.assertEqual(peer.response().status, 200)
        self.assertTrue(peer.transport.disconnected)
        self.assert_nothing_left()

    def test_half_close_behind_the_last_answer(self) -> None:
        """A peer that asked for the end, and closes its half, gets what is still on its way."""
        for method, body in (("GET", b""), ("POST", b"x")):
            peer = self.server.connect(room=10)
            peer.send(http_request(method, "/a", body, {"Connection": "close"}))
            peer.close()
            self.assertIn(b"HTTP/1.1 200 OK", peer.take())
            self.assertTrue(peer.transport.disconnected)
        self.assert_nothing_left()

    def test_half_close_within_a_request(self) -> None:
        """A peer that closes within its request is forgotten."""
        for data in (b"POST", POST, POST + b"Content-Length: 5\r\n\r\nab"):
            peer = self.server.connect()
            peer.send(data)
            peer.close()
            self.assertTrue(peer.transport.disconnected)
        self.assert_nothing_left()

    def test_lost(self) -> None:
        """A connection that is lost is forgotten, in whatever phase."""
        for data in (b"", b"POST", POST + b"Content-Length: 5\r\n\r\nab", POST + b"\r\n"):
            peer = self.server.connect()
            peer.send(data)
            self.assertEqual(len(self.server.manager.connections), 1)
            peer.transport.abortConnection()
            self.server.reactor.turn()
        self.assert_nothing_left()


class Slow(Resource):
    """A resource that answers later."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def render(self, request: Any) -> int:
        self.requests.append(request)
        return NOT_DONE_YET

    def answer(self) -> None:
        """Answer now."""
        for request in self.requests:
            request.setHeader("Content-Length", "0")
            request.finish()


class Broken(Resource):
    """A resource that raises."""

    isLeaf = True

    def render(self, request: object) -> bytes:
        raise RuntimeError("broken")


class Half(Resource):
    """A resource that raises within its answer."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        request.write(b"half an answer")
        raise RuntimeError("broken")


class OtherResourceTests(SiteTests):
    """Somebody else's resources in a PinghubSite."""

    def setUp(self) -> None:
        super().setUp()
        self.slow = Slow()
        root = Resource()
        root.putChild(b"live", self.server.resource)
        root.putChild(b"slow", self.slow)
        root.putChild(b"broken", Broken())
        root.putChild(b"half", Half())
        self.server.site = PinghubSite(root, self.server.manager)

    def test_an_answer_has_no_deadline(self) -> None:
        """A resource may take its time; the idle time begins with its answer."""
        peer = self.server.connect()
        peer.send(http_request("GET", "/slow") + http_request("POST", "/live/a", b"x"))
        self.server.run(200)
        self.assertEqual(peer.take(), b"")
        self.assertEqual([each.busy for each in self.server.manager.connections.requesters], [True])
        self.slow.answer()
        self.server.reactor.turn()
        self.assertEqual([peer.response().status, peer.response().status], [200, 200])
        self.server.run(74)
        self.assertFalse(peer.transport.ended)
        self.server.run(3)
        self.assertTrue(peer.transport.ended)

    def test_a_fault(self) -> None:
        """A resource that raises is answered 500, without details; logged once, and counted."""
        response = self.server.request("GET", "/broken")
        self.assertEqual(response.status, 500)
        self.assertEqual(self.server.manager.stats.refusals, {"internal-error": 1})
        self.assertEqual(response.headers["content-type"], "text/plain; charset=utf-8")
        self.assertEqual(response.body.count(b"\n"), 1)
        self.assertNotIn(b"broken", response.body)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_fault_within_an_answer(self) -> None:
        """A resource that raises within its answer: the connection is aborted, not finished."""
        peer = self.server.connect()
        peer.send(http_request("GET", "/half"))
        self.assertTrue(peer.transport.reset)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_http_1_1_only(self) -> None:
        """Under TLS the site offers HTTP/1.1: websockets begin as HTTP/1.1."""
        self.assertEqual(self.server.site.acceptableProtocols(), [b"http/1.1"])
