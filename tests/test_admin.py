"""The private endpoint: health and readiness."""

from __future__ import annotations

import json
from copy import copy
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pinghub.admin import AdminResource
from pinghub.backplane import InProcess, State
from pinghub.site import PinghubSite
from pinghub.testing import MemoryServer, Response, http_request


class AdminTests(SynchronousTestCase):
    """A server, and its private endpoint."""

    def setUp(self) -> None:
        self.server = MemoryServer()
        manager = self.server.manager
        self.public = copy(self.server)
        self.server.site = PinghubSite(AdminResource(manager), manager, private=True)

    def ask(self, path: str, method: str = "GET") -> Response:
        """One answer."""
        return self.server.request(method, path)


class HealthTests(AdminTests):
    """For balancers."""

    def test_serving(self) -> None:
        """While it serves: 200, in plain text that no cache keeps."""
        for path in ("/healthz", "/readyz", "/readyz?verbose"):
            answer = self.ask(path)
            self.assertEqual((answer.status, answer.body), (200, b"OK\n"))
            self.assertEqual(answer.headers["cache-control"], "no-store")
            self.assertEqual(answer.headers["content-type"], "text/plain; charset=utf-8")

    def test_leaving(self) -> None:
        """From the signal on it is alive, and not ready; while it drains as well."""
        connections = self.server.manager.connections
        connections.leaving = True
        for draining in (False, True):
            connections.draining = draining
            self.assertEqual(self.ask("/healthz").status, 200)
            answer = self.ask("/readyz")
            self.assertEqual((answer.status, answer.body), (503, b"stopping\n"))

    def test_backplane_down(self) -> None:
        """While all of the backplane is down it is alive, and not ready."""
        states = [State(instances=2), State(instances=2, up=1)]
        backplane = InProcess(self.server.manager)
        backplane.state = lambda: states[0]  # type: ignore[method-assign]
        admin = AdminResource(self.server.manager, backplane)
        self.server.site = PinghubSite(admin, self.server.manager, private=True)
        answer = self.ask("/readyz")
        self.assertEqual((answer.status, answer.body), (503, b"backplane down\n"))
        self.assertEqual(self.ask("/healthz").status, 200)
        states.pop(0)
        self.assertEqual(self.ask("/readyz").status, 200)

    def test_head(self) -> None:
        """HEAD gets the same without the body."""
        peer = self.server.connect()
        peer.send(http_request("HEAD", "/healthz"))
        answer = peer.response(head=True)
        self.assertEqual((answer.status, answer.headers["content-length"]), (200, "3"))
        self.assertEqual(peer.take(), b"")

    def test_anything_else(self) -> None:
        """Nothing is published here, and nothing else is shown."""
        for path in ("/healthz", "/channels", "/metrics"):
            answer = self.ask(path, "DELETE")
            self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"))
        answer = self.ask("/healthz", "POST")
        self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"))
        for path in ("/", "/news", "/healthz/", "/healthzz"):
            self.assertEqual(self.ask(path).status, 404, path)


class MetricsTests(AdminTests):
    """For Prometheus."""

    def test_metrics(self) -> None:
        """In the form that the client asks for; the labels never name a channel."""
        self.public.subscribe("/secret")
        answer = self.ask("/metrics")
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.headers["content-type"].startswith("text/plain; version=0.0.4"))
        self.assertIn(b"\npinghub_channels 1.0\n", answer.body)
        self.assertNotIn(b"secret", answer.body)
        form = "application/openmetrics-text"
        answer = self.server.request("GET", "/metrics", Accept=f"{form}; version=1.0.0")
        self.assertTrue(answer.headers["content-type"].startswith(form))


class ChannelTests(AdminTests):
    """For operators."""

    def list(self, query: str = "") -> Any:
        """The list, parsed. It is written in pieces, and HTTP/1.0 has no chunks."""
        peer = self.server.connect()
        peer.send(f"GET /channels{query} HTTP/1.0\r\n\r\n".encode())
        self.server.run(0.5)
        head, _, body = peer.take().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.0 200 OK\r\n"), head)
        self.assertIn(b"\r\nContent-Type: application/json", head)
        return json.loads(body)

    def json(self, path: str, method: str = "GET") -> Any:
        """An answer, parsed."""
        answer = self.ask(path, method)
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "application/json"))
        return json.loads(answer.body)

    def test_list(self) -> None:
        """All channels, by prefix, a limited number."""
        for path in ("/a", "/b", "/b", "/%62%20c"):
            self.public.subscribe(path)
        self.public.post("/b", b"x")
        found = self.list()
        self.assertEqual(
            found["channels"],
            [
                {"name": "/a", "subscribers": 1, "messages": 0, "backlog": 0},
                {"name": "/b", "subscribers": 2, "messages": 1, "backlog": 0},
                {"name": "/b c", "subscribers": 1, "messages": 0, "backlog": 0},
            ],
        )
        self.assertEqual((found["total"], found["more"]), (3, False))
        found = self.list("?prefix=/b%20&limit=10")
        self.assertEqual([each["name"] for each in found["channels"]], ["/b c"])
        self.assertTrue(self.list("?limit=2")["more"])

    def test_head_of_a_list(self) -> None:
        """HEAD costs nothing."""
        peer = self.server.connect()
        peer.send(http_request("HEAD", "/channels"))
        answer = peer.response(head=True)
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "application/json"))

    def test_bad_limits(self) -> None:
        """What is no number of channels is refused."""
        for limit in ("-1", "x", "1.5", "1" * 10, "%B2"):
            self.assertEqual(self.ask(f"/channels?limit={limit}").status, 400, limit)

    def test_one(self) -> None:
        """One channel, whatever its name is."""
        for path, name in (("/a", "/a"), ("/", "/"), ("/a/b%2Fc//d?x", "/a/b/c//d"), ("//", "//")):
            self.public.subscribe(path)
            self.assertEqual(self.json(f"/channels{path}")["name"], name)
        self.assertEqual(self.ask("/channels/nobody").status, 404)
        self.assertEqual(self.ask("/channels/%ff").status, 400)
        self.assertEqual(self.ask("/channels/a", "POST").status, 405)

    def test_close(self) -> None:
        """DELETE closes the subscribers with 1001, behind what was sent to them."""
        peers = [self.public.subscribe("/a") for _ in range(3)]
        other = self.public.subscribe("/b")
        self.public.post("/a", b"x")
        self.assertEqual(self.json("/channels/a", "DELETE"), {"name": "/a", "closed": 3})
        for peer in peers:
            message, close = peer.frames()
            self.assertEqual((message.payload, close.code), (b"x", 1001))
        self.assertEqual(other.frames(), [])
        self.assertEqual(self.ask("/channels/a", "DELETE").status, 404)
