"""Starting and stopping: what listens, until when, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from pinghub.errors import ConfigurationError, ListenError
from pinghub.limits import Limits
from pinghub.listeners import Listeners
from pinghub.logs import Log
from pinghub.logwriter import LogFile, LogWriter
from pinghub.service import PinghubService
from pinghub.testing import MemoryServer
from tests.helpers import take_port


class ServiceTests(SynchronousTestCase):
    """The service, on a reactor in memory."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.server = MemoryServer()

    def service(self, *addresses: str) -> PinghubService:
        """A service that listens on these addresses."""
        return PinghubService(self.server.manager, self.server.site, addresses, self.reactor)

    def test_hangup(self) -> None:
        """At a SIGHUP log files are opened anew, and the log says whether there are any."""
        lines: list[str] = []
        self.patch(Log, "info", lambda _, line: lines.append(line))
        service = self.service("127.0.0.1:8081")
        service._hangup()
        path = Path(self.mktemp())
        writer = LogWriter(LogFile(str(path)), 10)
        service.log_files.append(writer)
        path.unlink()
        service._hangup()
        writer.finish()
        self.assertTrue(path.exists())
        self.assertEqual(
            lines,
            [
                "Received SIGHUP: has no log file to open anew",
                "Received SIGHUP: opened its log files anew",
            ],
        )

    def test_listens_once(self) -> None:
        """It listens in the privileged step, and does not do so again."""
        service = self.service("127.0.0.1:8081")
        service.privilegedStartService()
        self.assertEqual(len(self.reactor.tcpServers), 1)
        service.startService()
        self.assertEqual(len(self.reactor.tcpServers), 1)
        self.assertTrue(service.running)

    def test_start_alone_listens(self) -> None:
        """``twist`` starts services without the privileged step."""
        service = self.service("127.0.0.1:8081")
        service.startService()
        self.assertEqual(len(self.reactor.tcpServers), 1)

    def test_stop(self) -> None:
        """Stopping stops to listen first, then drains; it can start again."""
        service = self.service("127.0.0.1:8081")
        service.startService()
        peer = self.server.subscribe("/a")
        stopped = service.stopService()
        self.assertEqual(service.addresses, [])
        self.assertTrue(self.server.manager.connections.draining)
        self.assertNoResult(stopped)
        self.server.run(4)
        self.successResultOf(stopped)
        self.assertTrue(peer.transport.disconnected)
        self.assertFalse(self.server.manager.connections.draining)
        service.startService()
        self.assertEqual(len(self.reactor.tcpServers), 2)

    def test_hurry(self) -> None:
        """A drain can be ended at once; before and after it, that does nothing."""
        service = self.service("127.0.0.1:8081")
        service.startService()
        peer = self.server.subscribe("/a")
        service.hurry()
        self.assertFalse(peer.transport.disconnected)
        stopped = service.stopService()
        service.hurry()
        self.server.run(0.25)
        self.successResultOf(stopped)
        self.assertTrue(peer.transport.disconnected)
        service.hurry()


class PrivateEndpointTests(SynchronousTestCase):
    """When the private endpoint listens."""

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
        take_port(self, self.reactor, 9090)
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
