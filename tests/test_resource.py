"""The resource: every HTTP row of the contract, in memory."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from pinghub.backplane import InProcess
from pinghub.channels import ChannelManager
from pinghub.limits import Limits
from pinghub.origins import OriginPolicy
from pinghub.resource import PinghubResource
from pinghub.testing import (
    MemoryServer,
    Response,
    client_frame,
    http_request,
    upgrade_request,
)

ALLOW = "GET, HEAD, OPTIONS, POST"
ORIGIN = "https://ws.example.com"
DATE = re.compile(rb"Date: [^\r]+")


class ResourceTests(SynchronousTestCase):
    """Assertions about answers."""

    def assert_refused(self, response: Response, status: int, words: str = "") -> None:
        """A refusal is one line of plain text that says what to do."""
        self.assertEqual(response.status, status)
        self.assertEqual(response.headers["content-type"], "text/plain; charset=utf-8")
        text = response.body.decode()
        self.assertEqual((text.count("\n"), text[-1:]), (1, "\n"))
        self.assertIn(words, text)
        for secret in ("Traceback", "Twisted", "Autobahn", "/usr", ".py"):
            self.assertNotIn(secret, text + str(response.headers))


class PostTests(ResourceTests):
    """POST publishes."""

    def test_post(self) -> None:
        """POST, UTF-8 body: 200 ``OK``, text/plain, and how many it was handed to."""
        server = MemoryServer()
        peers = [server.subscribe("/a") for _ in range(3)]
        response = server.post("/a", "Grüße 🦶".encode())
        self.assertEqual((response.status, response.body), (200, b"OK\n"))
        self.assertEqual(response.headers["content-type"], "text/plain; charset=utf-8")
        self.assertEqual(response.headers["pinghub-subscribers"], "3")
        self.assertEqual(response.headers["server"], "pinghub")
        for peer in peers:
            self.assertEqual(peer.texts(), ["Grüße 🦶"])

    def test_nobody_listens(self) -> None:
        """A POST to a channel nobody listens to: 200, 0 subscribers, nothing is kept."""
        server = MemoryServer()
        response = server.post("/a", b"x")
        self.assertEqual((response.status, response.headers["pinghub-subscribers"]), (200, "0"))
        self.assertEqual(server.subscribe("/a").texts(), [])

    def test_empty(self) -> None:
        """POST, empty body: 200, nothing is broadcast."""
        server = MemoryServer()
        peer = server.subscribe("/a")
        response = server.post("/a", b"")
        self.assertEqual((response.status, response.body), (200, b"OK\n"))
        self.assertEqual(response.headers["pinghub-subscribers"], "0")
        self.assertEqual(peer.frames(), [])

    def test_the_body_is_the_message(self) -> None:
        """The body is the message whatever its Content-Type; no form parsing."""
        server = MemoryServer()
        peer = server.subscribe("/a")
        for kind in (
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json",
            "image/png",
            "\x85 nonsense",
        ):
            response = server.post("/a", b"a=1&b=2%20", Content_Type=kind)
            self.assertEqual(response.status, 200, kind)
            self.assertEqual(peer.texts(), ["a=1&b=2%20"], kind)

    def test_not_utf8(self) -> None:
        """POST, not UTF-8: 400, and nothing is broadcast."""
        server = MemoryServer()
        peer = server.subscribe("/a")
        self.assert_refused(server.post("/a", b"caf\xe9"), 400, "UTF-8")
        self.assertEqual(peer.frames(), [])

    def test_the_largest(self) -> None:
        """POST, larger than ``--max-message``: 413; 65 536 bytes are not."""
        server = MemoryServer()
        peer = server.subscribe("/a")
        self.assertEqual(server.post("/a", b"x" * 65536).status, 200)
        self.assertEqual([len(text) for text in peer.texts()], [65536])
        self.assert_refused(server.post("/a", b"x" * 65537), 413, "65536")
        self.assertEqual(peer.frames(), [])

    def test_keep_alive(self) -> None:
        """Many POSTs on one connection are answered in order, and delivered in order."""
        server = MemoryServer()
        peer = server.subscribe("/a")
        publisher = server.connect()
        publisher.send(b"".join(http_request("POST", "/a", b"%d" % each) for each in range(50)))
        for _ in range(50):
            self.assertEqual(publisher.response().status, 200)
        self.assertEqual(peer.texts(), [str(each) for each in range(50)])


class DirectPostTests(ResourceTests):
    """POSTs that are answered without a request of twisted.web."""

    def assert_the_same(self, server: MemoryServer, status: bytes) -> None:
        """The answer is what twisted.web writes, byte for byte; but for the date."""
        peer = server.connect()
        # With a chunked body, nothing but a request will do.
        head = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        peer.send(head + b"1\r\nx\r\n0\r\n\r\n")
        written, direct = peer.take(), server.resource.post(b"/a", b"x")
        assert isinstance(direct, bytes), direct
        written, direct = (DATE.sub(b"", answer) for answer in (written, direct))
        self.assertEqual(written.split()[1], status)
        self.assertEqual(direct, written)

    def test_the_same_bytes(self) -> None:
        """The answer has the same header fields in the same order."""
        for origins in ([], [ORIGIN]):
            server = MemoryServer(origins=OriginPolicy(origins))
            self.assert_the_same(server, b"200")
            server.subscribe("/a")
            self.assert_the_same(server, b"200")
            self.assertEqual(server.manager.stats.published, 2)

    def test_refusals(self) -> None:
        """A refusal is left to a request, and nothing is broadcast."""
        server = MemoryServer()
        peer = server.subscribe("/a")
        for target, body in [
            (b"/a", b"\xff"),
            (b"/a", b"x" * 65537),
            (b"/%ff", b"x"),
            (b"/" + b"x" * 256, b"x"),
        ]:
            self.assertIsNone(server.resource.post(target, body))
        server.manager.connections.draining = True
        self.assertIsNone(server.resource.post(b"/a", b"x"))
        server.reactor.turn()
        self.assertEqual(peer.frames(), [])

    def test_a_fault(self) -> None:
        """A fault is answered with 500 in the same bytes; nothing is published a second time."""
        self.patch(ChannelManager, "publish_checked", lambda *_: 1 / 0)
        self.assert_the_same(MemoryServer(), b"500")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)


class MethodTests(ResourceTests):
    """The other methods."""

    def test_get_shows_the_console(self) -> None:
        """GET: the console page for that channel, with a lower-case ``<html>`` and the path."""
        response = MemoryServer().request("GET", "/some/channel?token=1")
        self.assertEqual(response.status, 200)
        self.assertEqual(response.headers["content-type"], "text/html; charset=utf-8")
        self.assertIn(b"<html>", response.body)
        self.assertIn(b"/some/channel", response.body)

    def test_the_name_is_escaped(self) -> None:
        """A hostile channel name stays text on the page."""
        response = MemoryServer().request("GET", "/%3Cscript%3Ealert(1)%3C/script%3E%22")
        self.assertNotIn(b"<script>alert", response.body)
        self.assertIn(b"&lt;script&gt;alert(1)&lt;/script&gt;&quot;", response.body)

    def test_head(self) -> None:
        """HEAD: what GET would answer, without the body."""
        server = MemoryServer()
        page, head = server.request("GET", "/a"), server.request("HEAD", "/a")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(head.headers["content-length"], str(len(page.body)))
        self.assertEqual(head.headers["content-type"], page.headers["content-type"])

    def test_head_of_a_refusal(self) -> None:
        """HEAD: a refusal has no body either, and the connection goes on."""
        server = MemoryServer(show_console=False)
        peer = server.connect()
        peer.send(http_request("HEAD", "/a") + http_request("POST", "/a", b"x"))
        self.assertEqual(peer.response(head=True).status, 404)
        self.assertEqual(peer.response().status, 200)

    def test_without_console(self) -> None:
        """GET, HEAD with ``--no-console``: 404; websockets and POST go on."""
        server = MemoryServer(show_console=False)
        self.assert_refused(server.request("GET", "/a"), 404)
        peer = server.subscribe("/a")
        self.assertEqual(server.post("/a", b"x").status, 200)
        self.assertEqual(peer.texts(), ["x"])

    def test_options(self) -> None:
        """OPTIONS: 204 with ``Allow``, and no CORS headers where there is no origin rule."""
        response = MemoryServer().request("OPTIONS", "/a", Origin=ORIGIN)
        self.assertEqual((response.status, response.body), (204, b""))
        self.assertEqual(response.headers["allow"], ALLOW)
        self.assertNotIn("content-length", response.headers)
        self.assertEqual([name for name in response.headers if "access-control" in name], [])

    def test_anything_else(self) -> None:
        """Anything else: 405 with ``Allow``."""
        server = MemoryServer()
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "FROBNICATE"):
            response = server.request(method, "/a")
            self.assert_refused(response, 405, "GET, HEAD, OPTIONS, POST")
            self.assertEqual(response.headers["allow"], ALLOW)

    def test_another_upgrade(self) -> None:
        """GET with an upgrade to something else is a GET."""
        response = MemoryServer().request("GET", "/a", Upgrade="h2c", Connection="Upgrade")
        self.assertEqual(response.status, 200)

    def test_post_with_an_upgrade(self) -> None:
        """POST with ``Upgrade: websocket`` is a POST."""
        response = MemoryServer().post("/a", b"x", Upgrade="websocket", Connection="Upgrade")
        self.assertEqual(response.body, b"OK\n")


class NameTests(ResourceTests):
    """Channel names, as both ways in see them."""

    def test_four_channels(self) -> None:
        """``/a``, ``/a/``, ``//a``, ``/a/../a`` are four channels; ``/%61`` is ``/a``."""
        server = MemoryServer()
        paths = ("/a", "/a/", "//a", "/a/../a")
        peers = {path: server.subscribe(path) for path in paths}
        for path, peer in peers.items():
            server.post(path, path.encode())
            self.assertEqual(peer.texts(), [path])
        for spelling in ("/%61", "/a?query=1", "/a?"):
            server.post(spelling, spelling.encode())
            self.assertEqual(peers["/a"].texts(), [spelling])
        server.post("/a%2F", b"slash")
        self.assertEqual(peers["/a/"].texts(), ["slash"])

    def test_bytes_as_typed(self) -> None:
        """A path with raw UTF-8, as curl sends what was typed, is the escaped one."""
        server = MemoryServer()
        peer = server.subscribe("/caf%C3%A9")
        raw = "/café".encode().decode("latin-1")
        self.assertEqual(server.post(raw, b"x").headers["pinghub-subscribers"], "1")
        self.assertEqual(peer.texts(), ["x"])

    def test_bad_names(self) -> None:
        """Anything else (not UTF-8, too long, absolute-form or ``*`` target) is 400."""
        server = MemoryServer()
        for path in ("/%ff", "/" + "x" * 256, "http://h/a", "*", "a"):
            for method in ("POST", "GET", "OPTIONS"):
                self.assert_refused(server.request(method, path), 400)
            peer = server.connect()
            peer.send(upgrade_request(path))
            self.assert_refused(peer.response(), 400)
        self.assertEqual(server.post("/" + "x" * 255, b"x").status, 200)


class HandshakeTests(ResourceTests):
    """Refused websocket handshakes."""

    def handshake(self, **headers: str) -> Response:
        """What a handshake with these headers is answered."""
        peer = MemoryServer().connect()
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        peer.send(upgrade_request("/a", fields))
        return peer.response()

    def test_malformed(self) -> None:
        """GET with ``Upgrade: websocket``, malformed: 400 that says what is missing."""
        key = "Sec-WebSocket-Key"
        for headers, word in [
            ({"Connection": "keep-alive"}, "Connection"),
            ({key: "short"}, key),
            ({key: "!" * 22 + "=="}, key),
            ({"Sec-WebSocket-Protocol": "two words"}, "token"),
            ({"Sec-WebSocket-Version": ""}, "version 13"),
        ]:
            response = self.handshake(**headers)
            self.assertIn(response.status, (400, 426))
            self.assert_refused(response, response.status, word)

    def test_missing_headers(self) -> None:
        """A handshake without one of its headers is 400."""
        for name in ("Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key", "Host"):
            lines = upgrade_request("/a").split(b"\r\n")
            rest = [line for line in lines if not line.startswith(name.encode() + b":")]
            self.assertEqual(len(rest), len(lines) - 1)
            peer = MemoryServer().connect()
            peer.send(b"\r\n".join(rest))
            self.assert_refused(peer.response(), 400, name)

    def test_http_1_0(self) -> None:
        """A handshake in HTTP/1.0 is 400."""
        peer = MemoryServer().connect()
        peer.send(upgrade_request("/a").replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.assert_refused(peer.response(), 400, "HTTP/1.1")

    def test_other_versions(self) -> None:
        """426 + ``Sec-WebSocket-Version: 13`` for other versions."""
        for version in ("8", "0", "14", "x", "13, 8"):
            response = self.handshake(Sec_WebSocket_Version=version)
            self.assert_refused(response, 426, "13")
            self.assertEqual(response.headers["sec-websocket-version"], "13")
            self.assertEqual(response.headers["upgrade"], "websocket")

    def test_a_refused_handshake_leaves_the_connection_usable(self) -> None:
        """After a refused handshake the next request on the connection is answered."""
        peer = MemoryServer().connect()
        peer.send(upgrade_request("/a", {"Sec-WebSocket-Key": "x"}))
        peer.send(upgrade_request("/a"))
        self.assertEqual([peer.response().status, peer.response().status], [400, 101])

    def test_a_body(self) -> None:
        """A handshake with a body is 400, in whatever way the body is announced."""
        for headers in ({"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}):
            self.assert_refused(self.handshake(**headers), 400, "body")
        self.assertEqual(self.handshake(Content_Length="0").status, 101)

    def test_control_bytes_in_a_header(self) -> None:
        """Bytes that some parsers take for line ends do not become header lines."""
        for byte in ("\x85", "\x0b", "\x0c", "\x1c", "\x1e"):
            value = f"1.2.3.4{byte}Sec-WebSocket-Protocol: smuggled"
            response = self.handshake(X_Forwarded_For=value)
            self.assertEqual(response.status, 101)
            self.assertNotIn("sec-websocket-protocol", response.headers)


class OriginTests(ResourceTests):
    """The origin rule, for websockets and POST alike."""

    def setUp(self) -> None:
        self.server = MemoryServer(origins=OriginPolicy([ORIGIN]))

    def handshake(self, **headers: str) -> Response:
        """What a handshake with these headers is answered."""
        peer = self.server.connect()
        peer.send(upgrade_request("/a", headers))
        return peer.response()

    def test_allowed(self) -> None:
        """A POST from an allowed origin gets the CORS headers, and ``Vary: Origin``."""
        response = self.server.post("/a", b"x", Origin=ORIGIN)
        self.assertEqual(response.status, 200)
        self.assertEqual(response.headers["access-control-allow-origin"], ORIGIN)
        self.assertEqual(response.headers["access-control-expose-headers"], "Pinghub-Subscribers")
        self.assertEqual(response.headers["vary"], "Origin")
        self.assertEqual(self.handshake(Origin=ORIGIN).status, 101)

    def test_mismatch(self) -> None:
        """A mismatching ``Origin``: 403 with a one-line reason that names it."""
        for origin in ("https://evil.example", "null", "http://ws.example.com", "nonsense"):
            peer = self.server.subscribe("/a")
            for response in (
                self.server.post("/a", b"x", Origin=origin),
                self.handshake(Origin=origin),
            ):
                self.assert_refused(response, 403, repr(origin))
                self.assertNotIn("access-control-allow-origin", response.headers)
            self.assertEqual(peer.frames(), [])

    def test_two_headers(self) -> None:
        """Several Origin headers are a mismatch, even if each alone were allowed."""
        peer = self.server.connect()
        data = http_request("POST", "/a", b"x", {"Origin": ORIGIN})
        peer.send(data.replace(b"Origin:", b"Origin: " + ORIGIN.encode() + b"\r\nOrigin:"))
        self.assert_refused(peer.response(), 403)

    def test_no_header(self) -> None:
        """No Origin header at all passes: application servers, native clients."""
        self.assertEqual(self.server.post("/a", b"x").status, 200)
        self.assertEqual(self.handshake().status, 101)

    def test_a_long_origin_is_cut(self) -> None:
        """What is named is escaped and cut to 200 characters."""
        response = self.server.post("/a", b"x", Origin="https://\x1b[31m" + "x" * 5000)
        self.assertEqual(response.status, 403)
        self.assertLess(len(response.body), 260)
        self.assertNotIn(b"\x1b", response.body)

    def test_before_the_handshake(self) -> None:
        """The origin is refused before any handshake, and nobody is subscribed."""
        self.handshake(Origin="https://evil.example")
        self.assertEqual(len(self.server.manager), 0)

    def test_preflight(self) -> None:
        """OPTIONS: CORS headers for an allowed origin, and for no other."""
        answer = self.server.request(
            "OPTIONS", "/a", Origin=ORIGIN, Access_Control_Request_Method="POST"
        )
        self.assertEqual(answer.status, 204)
        self.assertEqual(answer.headers["access-control-allow-origin"], ORIGIN)
        self.assertEqual(answer.headers["access-control-allow-methods"], ALLOW)
        self.assertIn("Content-Type", answer.headers["access-control-allow-headers"])
        other = self.server.request("OPTIONS", "/a", Origin="https://evil.example")
        self.assertEqual((other.status, other.headers["allow"]), (204, ALLOW))
        self.assertEqual([name for name in other.headers if "access-control" in name], [])
        none = self.server.request("OPTIONS", "/a")
        self.assertNotIn("access-control-allow-methods", none.headers)

    def test_errors_can_be_read_by_the_page(self) -> None:
        """A page of an allowed origin may read why its POST was refused."""
        response = self.server.post("/a", b"\xff", Origin=ORIGIN)
        self.assertEqual(response.status, 400)
        self.assertEqual(response.headers["access-control-allow-origin"], ORIGIN)

    def test_off(self) -> None:
        """Off when absent: every origin may do everything."""
        server = MemoryServer()
        response = server.post("/a", b"x", Origin="https://evil.example")
        self.assertEqual(response.status, 200)
        self.assertNotIn("vary", response.headers)
        server.subscribe("/a", Origin="null")


class AdmissionTests(ResourceTests):
    """While draining, or over ``--max-connections``."""

    def test_draining(self) -> None:
        """While draining: 503 with ``Retry-After``, for everything, and the end."""
        server = MemoryServer()
        peer = server.connect()
        peer.send(http_request("POST", "/a", b"before"))
        server.manager.connections.draining = True
        peer.send(http_request("POST", "/a", b"after"))
        self.assertEqual(peer.response().status, 200)
        response = peer.response()
        self.assert_refused(response, 503)
        self.assertGreater(int(response.headers["retry-after"]), 0)
        self.assertEqual(response.headers["connection"], "close")
        self.assertTrue(peer.transport.ended)

    def test_full(self) -> None:
        """Over ``--max-connections``: 503 with ``Retry-After``; POSTs still work."""
        server = MemoryServer(Limits(max_connections=2))
        first, second = server.subscribe("/a"), server.subscribe("/a")
        peer = server.connect()
        peer.send(upgrade_request("/a"))
        response = peer.response()
        self.assert_refused(response, 503, "full")
        self.assertIn("retry-after", response.headers)
        self.assert_refused(server.request("GET", "/a"), 503)
        self.assertEqual(server.post("/a", b"x").headers["pinghub-subscribers"], "2")
        self.assertEqual((first.texts(), second.texts()), (["x"], ["x"]))
        first.close()
        peer.close()
        server.subscribe("/a")


class Slow(InProcess):
    """A backplane that takes its time."""

    def __init__(self, manager: ChannelManager) -> None:
        self.outcomes: list[Deferred[Any]] = []

    def publish(self, name: str, payload: bytes, /) -> Any:
        """Let a test say what comes of it."""
        self.outcomes.append(Deferred())
        return self.outcomes[-1]


class FaultTests(ResourceTests):
    """Faults of our own."""

    def test_an_exception_while_answering(self) -> None:
        """A fault is logged once and answered with 500, without details."""
        self.patch(ChannelManager, "publish_checked", lambda *_: 1 / 0)
        self.assert_refused(MemoryServer().post("/a", b"x"), 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_later(self) -> None:
        """The same where a backplane takes its time, and whatever comes of it, in each lane."""
        outcomes = [(b"QUEUED", TypeError), (Failure(ZeroDivisionError()), ZeroDivisionError)]
        for headers in ({}, {"Origin": ORIGIN}):
            for outcome, error in outcomes:
                server = MemoryServer(backplane=Slow)
                slow: Any = server.backplane
                peer = server.connect()
                peer.send(http_request("POST", "/a", b"x", headers) * 2)
                for good in (outcome, 5):
                    slow.outcomes.pop(0).callback(good)
                    server.reactor.turn()
                self.assert_refused(peer.response(), 500, "Something went wrong")
                self.assertEqual(peer.response().headers["pinghub-subscribers"], "5")
                self.assertEqual(len(self.flushLoggedErrors(error)), 1)
                self.assertEqual(server.manager.stats.refusals, {"internal-error": 1})


class MountedTests(ResourceTests):
    """Below another resource, in somebody else's Site."""

    def setUp(self) -> None:
        self.server = MemoryServer()
        root = Resource()
        root.putChild(b"live", PinghubResource(self.server.manager))
        root.putChild(b"about", Data(b"something else", "text/plain"))
        site = Site(root, reactor=self.server.reactor)
        site.startFactory()
        self.addCleanup(site.stopFactory)
        self.server.site = site

    def test_names_are_relative_to_the_mount(self) -> None:
        """The channel is the path below the place where the resource is mounted."""
        peer = self.server.subscribe("/live/news")
        self.assertEqual(self.server.manager.publish("/news", "from Python"), 1)
        self.assertEqual(self.server.post("/live/news", b"x").headers["pinghub-subscribers"], "1")
        self.assertEqual(peer.texts(), ["from Python", "x"])
        for path in ("/live", "/live/"):
            self.server.subscribe(path)
        self.assertEqual(self.server.manager.subscribers("/"), 2)
        self.server.subscribe("/live//news")
        self.assertEqual(self.server.manager.subscribers("//news"), 1)

    def test_siblings_are_untouched(self) -> None:
        """Other resources of the site answer as before."""
        self.assertEqual(self.server.request("GET", "/about").body, b"something else")
        self.assertEqual(self.server.request("GET", "/live/about").status, 200)

    def test_frames_behind_the_head(self) -> None:
        """Frames sent together with the handshake arrive, as in a site of our own."""
        for count in (1, 3000):
            peer = self.server.connect()
            frames = b"".join(client_frame(1, b"%d" % number) for number in range(count))
            peer.send(upgrade_request("/live/a") + frames)
            self.assertEqual(peer.response().status, 101)
            self.assertEqual(peer.texts(), [str(number) for number in range(count)])
            peer.send(client_frame(1, b"more"))
            self.assertEqual(peer.texts(), ["more"])
            peer.close()

    def test_a_body_on_a_handshake(self) -> None:
        """A handshake with a body is 400 there too."""
        peer = self.server.connect()
        peer.send(upgrade_request("/live/a", {"Content-Length": "3"}) + b"abc")
        self.assert_refused(peer.response(), 400, "body")

    def test_too_large(self) -> None:
        """A message over the bound is 413 there too, once the site has read it."""
        self.assert_refused(self.server.post("/live/a", b"x" * 65537), 413)

    def test_connections_are_bounded(self) -> None:
        """In somebody else's Site, the websockets are what is counted."""
        self.server.manager.connections.limit = 2
        first = self.server.subscribe("/live/a")
        self.server.subscribe("/live/a")
        peer = self.server.connect()
        peer.send(upgrade_request("/live/a"))
        self.assertEqual(peer.response().status, 503)
        first.close()
        self.server.subscribe("/live/a")

    def test_draining(self) -> None:
        """A drain closes the connection after its 503 there too."""
        self.server.manager.connections.draining = True
        peer = self.server.connect()
        peer.send(http_request("POST", "/live/a", b"x"))
        self.assertEqual(peer.response().status, 503)
        self.assertTrue(peer.transport.disconnected)
