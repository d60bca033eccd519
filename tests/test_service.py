"""Starting and stopping: what listens, until when, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
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
from tests.memory_bus import BusTests


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


class Port:
    """A port that may rest."""

    def __init__(self) -> None:
        self.reading = True

    def startReading(self) -> None:
        self.reading = True

    def stopReading(self) -> None:
        self.reading = False

    def stopListening(self) -> None:
        self.reading = False

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8081)


class Reactor(MemoryReactorClock):
    """Its ports can rest, and it can be stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.port = Port()
        self.stopped = 0

    def listenTCP(self, *arguments: Any, **options: Any) -> Any:
        return self.port

    def stop(self) -> None:
        self.stopped += 1

    def begin(self) -> None:
        """What happens once it runs."""
        for hook, arguments, options in self.whenRunningHooks:
            hook(*arguments, **options)


class BackplaneTests(BusTests):
    """A service that shares its channels with others."""

    def setUp(self) -> None:
        super().setUp()
        self.only = self.redis()
        self.loop = Reactor()
        self.announced: list[str] = []
        self.patch(Log, "plain", lambda _, line: self.announced.append(line.split()[0]))

    def service(self, **limits: Any) -> PinghubService:
        """A service that has begun, with a backplane that was not tried yet."""
        bus = self.server(start=False, **limits)
        service = PinghubService(
            bus.manager, bus.site, ["127.0.0.1:8081"], self.loop, backplane=bus.backplane
        )
        service.startService()
        return service

    def test_tried_first(self) -> None:
        """It listens at once, and accepts nobody before the backplane is there."""
        self.only.stop()
        self.service()
        self.assertFalse(self.loop.port.reading)
        self.loop.begin()
        self.turn()
        self.assertEqual((self.loop.port.reading, self.announced), (False, []))
        self.only.resume()
        self.turn()
        self.assertEqual((self.loop.port.reading, self.announced), (True, ["Listening"]))

    def test_not_there(self) -> None:
        """If it cannot be reached, the server serves all the same: it answers 503."""
        self.only.kill()
        self.service()
        self.loop.begin()
        self.assertEqual((self.loop.port.reading, self.announced), (True, ["Listening"]))
        self.pass_time(60)
        self.assertEqual(self.loop.stopped, 0)

    def test_alone(self) -> None:
        """A server without others accepts from the start."""
        server = MemoryServer()
        service = PinghubService(server.manager, server.site, ["127.0.0.1:8081"], self.loop)
        service.startService()
        self.assertTrue(self.loop.port.reading)

    def test_wait(self) -> None:
        """``--backplane-wait``: if it is not there in time, the log says so and the server ends."""
        self.only.kill()
        warnings: list[str] = []
        self.patch(Log, "warn", lambda _, kind, **more: warnings.append(f"{kind} {more}"))
        service = self.service(backplane_wait=10.0)
        self.loop.begin()
        self.pass_time(9.9)
        self.assertEqual((self.loop.stopped, service.failed), (0, False))
        self.pass_time(0.2)
        self.assertEqual((self.loop.stopped, service.failed), (1, True))
        self.assertIn("The backplane is not there: see --backplane", warnings[-1])
        self.assertIn("Connection was refused", warnings[-1])

    def test_in_time(self) -> None:
        """If it was there in time, whatever happens later does not end the server."""
        self.only.kill()
        service = self.service(backplane_wait=10.0)
        self.loop.begin()
        self.pass_time(5)
        self.only.refusing = False
        self.pass_time(1)
        self.only.kill()
        self.pass_time(60)
        self.assertEqual((self.loop.stopped, service.failed), (0, False))

    def test_stop(self) -> None:
        """Stopped, it leaves the backplane last; it does not wait for it any more."""
        service = self.service(backplane_wait=10.0)
        self.loop.begin()
        self.turn()
        stopped = service.stopService()
        self.assertEqual(len(self.only.sessions), 2)
        self.pass_time(6)
        self.successResultOf(stopped)
        self.assertEqual(self.only.sessions, [])
        self.only.kill()
        self.pass_time(10)
        self.assertFalse(service.failed)
