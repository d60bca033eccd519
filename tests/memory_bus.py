"""Servers in memory that share their channels, over Redises in memory."""

from __future__ import annotations

from typing import Any, cast

from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from pinghub.backplane.redis import RedisBackplane
from pinghub.backplane.urls import BrokerURL
from pinghub.channels import ChannelManager
from pinghub.limits import Limits
from pinghub.logs import Log
from pinghub.testing import MemoryReactor, MemoryServer, Peer, http_request, upgrade_request
from tests.redis_in_memory import MemoryRedis


class BusTests(SynchronousTestCase):
    """Some servers, and what connects them."""

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.redises: list[MemoryRedis] = []
        self.lines: list[str] = []

    def redis(self) -> MemoryRedis:
        """An instance, for the servers that are made from now on."""
        self.redises.append(MemoryRedis(self.reactor))
        return self.redises[-1]

    def server(self, close_on_gap: bool = False, start: bool = True, **limits: Any) -> MemoryServer:
        """A server, with all instances that there are."""
        urls = [BrokerURL(f"redis://{number}") for number in range(len(self.redises))]

        def note(event: LogEvent) -> None:
            self.lines.append(formatEvent(event))

        def backplane(manager: ChannelManager) -> RedisBackplane:
            logger = Logger(namespace="test", observer=cast(ILogObserver, note))
            return RedisBackplane(
                urls,
                manager,
                self.reactor,
                Log(self.reactor, manager.limits, logger),
                close_on_gap=close_on_gap,
                endpoint=lambda _, url: self.redises[urls.index(url)],
            )

        server = MemoryServer(Limits(**limits), reactor=self.reactor, backplane=backplane)
        if start:
            started = server.backplane.start()
            self.turn()
            self.successResultOf(started)
        return server

    def turn(self) -> None:
        """Let happen what happens at once."""
        for _ in range(3):
            self.reactor.turn()

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / 0.05)):
            self.reactor.advance(0.05)
            self.reactor.turn()

    def post(self, server: MemoryServer, path: str, body: bytes) -> tuple[int, str]:
        """POST; the status, and to how many servers."""
        peer = server.connect()
        peer.send(http_request("POST", path, body))
        self.turn()
        answer = peer.response()
        peer.close()
        return answer.status, answer.headers.get("pinghub-servers", "")

    def subscribe(self, server: MemoryServer, path: str) -> Peer:
        """A subscriber."""
        peer = server.connect()
        peer.send(upgrade_request(path))
        self.turn()
        self.assertEqual(peer.response().status, 101)
        return peer
