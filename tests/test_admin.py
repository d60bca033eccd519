"""The private endpoint: health and readiness."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from pinghub.admin import AdminResource
from pinghub.errors import ConfigurationError, ListenError
from pinghub.limits import Limits
from pinghub.logs import Log
from pinghub.service import Listeners, PinghubService
from pinghub.site import PinghubSite
from pinghub.testing import MemoryServer, Response


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
        answer = self.ask("/healthz", "HEAD")
        self.assertEqual((answer.status, answer.headers["content-length"]), (200, "3"))

    def test_anything_else(self) -> None:
        """Nothing is published here, and nothing else is shown."""
        answer = self.ask("/healthz", "POST")
        self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"))
        for path in ("/", "/news", "/healthz/", "/healthzz"):
            self.assertEqual(self.ask(path).status, 404, path)


class AdminServiceTests(SynchronousTestCase):
    """When it listens."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()

    def service(self, server: MemoryServer, *addresses: str) -> PinghubService:
        """A service with a private endpoint."""
        return PinghubService(
            server.manager,
            server.site,
            ["127.0.0.1:8081"],
            self.reactor,
            admin_addresses=addresses,
            admin_site=server.site,
        )

    def test_until_the_drain_is_over(self) -> None:
        """It listens after the public address, and answers until everybody has gone."""
        server = MemoryServer()
        service = self.service(server, "127.0.0.1:9090")
        closed: list[str] = []
        close: Callable[[Listeners], Any] = Listeners.close

        def note(listeners: Listeners) -> Any:
            closed.append(str(listeners))
            return close(listeners)

        self.patch(Listeners, "close", note)
        service.startService()
        self.assertEqual([each[0] for each in self.reactor.tcpServers], [8081, 9090])
        server.subscribe("/a")
        public, private = str(service._public), str(service._admin)
        stopped = service.stopService()
        self.assertEqual(closed, [public])
        server.run(6)
        self.successResultOf(stopped)
        self.assertEqual(closed, [public, private])
        self.assertFalse(server.manager.connections.leaving)

    def test_what_is_logged(self) -> None:
        """A line says where the private endpoint is; the last says that the server serves."""
        lines: list[str] = []
        self.patch(Log, "plain", lambda _, line: lines.append(line))
        self.service(MemoryServer(), "127.0.0.1:9090").startService()
        for hook, arguments, options in self.reactor.whenRunningHooks:
            hook(*arguments, **options)
        self.assertEqual(
            [line.partition(" on ")[0] for line in lines], ["Private endpoint", "Listening"]
        )

    def test_stop_delay(self) -> None:
        """``--stop-delay``: it is not ready, and serves on, before it stops to listen."""
        server = MemoryServer(Limits(stop_delay=2))
        service = self.service(server)
        service.startService()
        stopped = service.stopService()
        server.run(1.5)
        connections = server.manager.connections
        self.assertEqual((connections.leaving, connections.draining), (True, False))
        self.assertEqual(len(service.addresses), 1)
        self.assertEqual(server.post("/a", b"x").status, 200)
        server.run(1)
        self.successResultOf(stopped)
        self.assertEqual(service.addresses, [])

    def test_hurry(self) -> None:
        """A second signal ends the delay as well."""
        server = MemoryServer(Limits(stop_delay=60))
        service = self.service(server)
        service.startService()
        peer = server.subscribe("/a")
        stopped = service.stopService()
        service.hurry()
        server.run(0.25)
        self.successResultOf(stopped)
        self.assertTrue(peer.transport.disconnected)
        waiting = [call.getTime() for call in server.reactor.getDelayedCalls()]
        self.assertLess(max(waiting, default=0), 10)

    def test_an_address_that_is_taken(self) -> None:
        """The error names the option; the public address is given up as well."""
        service = self.service(MemoryServer(), "127.0.0.1:9090")
        listen = self.reactor.listenTCP

        def taken(port: int, *arguments: Any, **options: Any) -> Any:
            if port == 9090:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            return listen(port, *arguments, **options)

        self.patch(self.reactor, "listenTCP", taken)
        error = self.assertRaises(ListenError, service.privilegedStartService)
        self.assertEqual(
            error.code,
            "pinghub: --admin=127.0.0.1:9090: cannot listen: address already in use",
        )
        self.assertEqual(service.addresses, [])

    def test_a_bad_address(self) -> None:
        """An address without a meaning is refused, with the name of the option."""
        error = self.assertRaises(ConfigurationError, self.service, MemoryServer(), "nonsense")
        self.assertTrue(str(error).startswith("--admin=nonsense: give "))
