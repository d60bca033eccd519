"""The access log: a line for each request, however it was answered."""

from __future__ import annotations

import re

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pinghub import Limits, OriginPolicy, TrustedProxies
from pinghub.access_log import DELAY, FIELD, MOST, AccessLog
from pinghub.errors import BackplaneFull
from pinghub.logwriter import LogWriter
from pinghub.site import PinghubSite
from pinghub.testing import TEXT, MemoryServer, client_frame, http_request, upgrade_request

LINE = re.compile(
    r"(\S+) - - \[\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d \+0000\] "
    r'"([ -!#-~]*)" (\d{3}) (\d+) "([ -!#-~]*)" "([ -!#-~]*)"\n'
)
Line = tuple[str, str, int, int, str, str]


class Writer(LogWriter):
    """A writer that keeps what it gets."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.told: list[str] = []

    def write(self, text: str) -> int:
        """Keep it."""
        self.texts.append(text)
        return len(text)

    def reopen(self) -> None:
        """Note it, and what came before."""
        self.told.append(f"reopen behind {len(self.texts)}")

    def finish(self, seconds: float = 1.0) -> None:
        """The same."""
        self.told.append(f"finish behind {len(self.texts)}")


class AccessLogTests(SynchronousTestCase):
    """A server with an access log."""

    def setUp(self) -> None:
        proxies = TrustedProxies(["192.0.2.7", "unix"])
        self.server = MemoryServer(Limits(max_message=100), proxies)
        self.writer = Writer()
        manager = self.server.manager
        self.access_log = AccessLog(self.writer, manager.proxies, manager.clock)
        self.server.site = PinghubSite(self.server.resource, manager, access_log=self.access_log)

    def lines(self) -> list[Line]:
        """The lines since the last time: client, request, status, size, referer, agent."""
        self.access_log.flush()
        text = "".join(self.writer.texts)
        self.writer.texts.clear()
        found = list(LINE.finditer(text))
        self.assertEqual("".join(each[0] for each in found), text)
        return [(each[1], each[2], int(each[3]), int(each[4]), each[5], each[6]) for each in found]

    def line(self) -> Line:
        """The only line since the last time."""
        (line,) = self.lines()
        return line

    def test_answers_that_take_some_time(self) -> None:
        """A request has its line when it is answered, even if its client has left by then."""
        later: list[Deferred[int]] = []

        def publish(*_: object) -> Deferred[int]:
            later.append(Deferred())
            return later[-1]

        self.patch(self.server.backplane, "publish", publish)
        peers = [self.server.connect() for _ in range(2)]
        for peer, path in zip(peers, ("/a", "/b"), strict=True):
            peer.send(http_request("POST", path, b"x"))
        self.assertEqual(self.lines(), [])
        peers[0].transport.connectionLost(Failure(ConnectionLost()))
        later[0].callback(1)
        self.assertEqual(self.line()[1:4], ("POST /a HTTP/1.1", 200, 3))
        later[1].errback(BackplaneFull())
        self.assertEqual(self.line()[1:3], ("POST /b HTTP/1.1", 503))
        self.assertEqual([len(peer.take()) > 0 for peer in peers], [False, True])

    def test_requests(self) -> None:
        """Answered by twisted.web, or without it: the same line."""
        fields = {"Referer": "https://a.example/", "User-Agent": "curl/8"}
        expected = ("192.0.2.1", "POST /a?b HTTP/1.1", 200, 3, "https://a.example/", "curl/8")
        self.server.request("POST", "/a?b", b"x", **fields)
        self.assertEqual(self.line(), expected)
        # Not plain, because of its Origin.
        self.server.request("POST", "/a?b", b"x", Origin="https://a.example", **fields)
        self.assertEqual(self.line(), expected)

    def test_without_fields(self) -> None:
        """What a client does not say is a dash."""
        self.server.request("POST", "/a", b"x")
        self.assertEqual(self.line()[4:], ("-", "-"))
        self.server.request("GET", "/a")
        line = self.line()
        self.assertEqual((line[1:3], line[4:]), (("GET /a HTTP/1.1", 200), ("-", "-")))
        self.assertGreater(line[3], 1000)

    def test_pipelined(self) -> None:
        """Each of several requests in one segment has its own."""
        peer = self.server.connect()
        peer.send(b"".join(http_request("POST", f"/{number}", b"x") for number in range(5)))
        self.assertEqual(
            [line[1] for line in self.lines()], [f"POST /{n} HTTP/1.1" for n in range(5)]
        )

    def test_websockets(self) -> None:
        """A websocket has its line when it opens, whichever way it was answered."""
        for fields in ({}, {"Sec-WebSocket-Protocol": "chat"}, {"Not-Plain": "a\tb"}):
            peer = self.server.connect()
            peer.send(upgrade_request("/a", {"User-Agent": "x", **fields}))
            self.assertEqual(peer.response().status, 101)
            self.assertEqual(self.line(), ("192.0.2.1", "GET /a HTTP/1.1", 101, 0, "-", "x"))
            peer.send(client_frame(TEXT, b"x"))
            peer.close()
            self.assertEqual(self.lines(), [])

    def test_refusals(self) -> None:
        """What is refused has a line too."""
        self.server.request("POST", "/a", b"x" * 101)
        line = self.line()
        self.assertEqual(line[2], 413)
        self.server.request("PUT", "/a")
        self.assertEqual(self.line()[1:3], ("PUT /a HTTP/1.1", 405))
        peer = self.server.connect()
        peer.send(b"nonsense\r\n\r\n")
        client, request, status, size, *_ = self.line()
        self.assertEqual((client, request, status), ("192.0.2.1", "-", 400))
        self.assertEqual(size, len(peer.response().body))

    def test_a_refused_handshake(self) -> None:
        """A handshake of another origin is one line, with 403."""
        self.server.resource._origins = OriginPolicy(["https://a.example"])
        peer = self.server.connect()
        peer.send(upgrade_request("/a", {"Origin": "https://b.example"}))
        self.assertEqual(self.line()[2], 403)

    def test_clients(self) -> None:
        """The client is who a trusted proxy says, and whoever connects otherwise."""
        fields = {"X-Forwarded-For": "203.0.113.9, 2001:db8::1"}
        for host, client in (
            ("192.0.2.7", "2001:db8::1"),
            ("192.0.2.1", "192.0.2.1"),
            (None, "2001:db8::1"),
        ):
            for request in (
                http_request("POST", "/a", b"x", fields),
                http_request("GET", "/a", b"", fields),
                upgrade_request("/a", fields),
            ):
                self.server.connect(host=host).send(request)
                self.assertEqual(self.line()[0], client)
        self.server.connect(host=None).send(http_request("POST", "/a", b"x"))
        self.assertEqual(self.line()[0], "-")

    def test_hostile(self) -> None:
        """Nothing of a peer ends a line, a field, or a terminal's patience."""
        agent = '" 200 \\ \t\x7f\x1b[31m\xff'
        for origin in ({}, {"Origin": "https://a.example"}):
            self.server.request("POST", "/%22%0a", b"x", User_Agent=agent, **origin)
            line = self.line()
            self.assertEqual(line[1], "POST /%22%0a HTTP/1.1")
            self.assertIn("\\x22 200 \\x5C ", line[5])

    def test_long(self) -> None:
        """A field is cut."""
        for origin in ({}, {"Origin": "https://a.example"}):
            self.server.request("POST", "/a", b"x", User_Agent="x" * 2 * FIELD, **origin)
            self.assertEqual(self.line()[5], "x" * FIELD)
            self.server.request("POST", "/a", b"x", Referer='"' * 2 * FIELD, **origin)
            self.assertEqual(len(self.line()[4]), FIELD)

    def test_some_at_a_time(self) -> None:
        """Lines wait for others, for a moment, and not too many."""
        self.server.request("POST", "/a", b"x")
        self.server.request("POST", "/b", b"x")
        self.assertEqual(self.writer.texts, [])
        self.server.run(DELAY + 1)
        (text,) = self.writer.texts
        self.assertEqual(text.count("\n"), 2)
        for _ in range(MOST):
            self.server.request("POST", "/a", b"x")
        self.assertEqual([each.count("\n") for each in self.writer.texts], [2, MOST])
        self.assertEqual(len(self.lines()), MOST + 2)

    def test_nothing_is_left(self) -> None:
        """What waits is written before the file is opened anew, and at the end."""
        self.server.request("POST", "/a", b"x")
        self.access_log.reopen()
        self.server.request("POST", "/a", b"x")
        self.access_log.finish()
        self.assertEqual(self.writer.told, ["reopen behind 1", "finish behind 2"])

    def test_none(self) -> None:
        """Without one, nothing is written."""
        self.server.site = PinghubSite(self.server.resource, self.server.manager)
        self.server.request("POST", "/a", b"x")
        self.server.request("GET", "/a")
        self.server.subscribe("/a")
        self.assertEqual(self.lines(), [])
