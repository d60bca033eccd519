"""The private endpoint: health and readiness."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pinghub.admin import AdminResource
from pinghub.site import PinghubSite
from pinghub.testing import MemoryServer, Response, http_request


class AdminTests(SynchronousTestCase):
    """What it answers."""

    def setUp(self) -> None:
        self.server = MemoryServer()
        manager = self.server.manager
        self.server.site = PinghubSite(AdminResource(manager.connections), manager)

    def ask(self, path: str, method: str = "GET") -> Response:
        """One answer."""
        return self.server.request(method, path)

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

    def test_head(self) -> None:
        """HEAD gets the same without the body."""
        peer = self.server.connect()
        peer.send(http_request("HEAD", "/healthz"))
        answer = peer.response(head=True)
        self.assertEqual((answer.status, answer.headers["content-length"]), (200, "3"))
        self.assertEqual(peer.take(), b"")

    def test_anything_else(self) -> None:
        """Nothing is published here, and nothing else is shown."""
        answer = self.ask("/healthz", "POST")
        self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"))
        for path in ("/", "/news", "/healthz/", "/healthzz"):
            self.assertEqual(self.ask(path).status, 404, path)
