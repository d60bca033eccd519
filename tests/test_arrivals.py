"""Who is at the other end, and how many connections it may have."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site

from pinghub.arrivals import TOO_MANY
from pinghub.limits import Limits
from pinghub.logs import Log
from pinghub.origins import OriginPolicy
from pinghub.proxies import TrustedProxies
from pinghub.site import PinghubSite
from pinghub.testing import MemoryServer, Peer, http_request, upgrade_request

CLIENT = "198.51.100.7"


class ArrivalTests(SynchronousTestCase):
    """A server in memory, and what it logs."""

    def setUp(self) -> None:
        self.logged: list[tuple[str, dict[str, Any]]] = []

        def note(log: Log, kind: str, **peer: Any) -> None:
            values = {key: each() if callable(each) else each for key, each in peer.items()}
            self.logged.append((kind, values))

        self.patch(Log, "info", note)
        self.patch(Log, "debug", note)

    def server(self, bound: int = 0, trusted: str = "", **options: Any) -> MemoryServer:
        """A server with a bound on the connections of a client, and trusted proxies."""
        limits = Limits(max_connections_per_address=bound)
        return MemoryServer(limits, TrustedProxies(trusted.split()), **options)

    def handshake(self, server: MemoryServer, host: str | None, **headers: str) -> Peer:
        """A peer that asked for a websocket."""
        peer = server.connect(host=host)
        peer.send(upgrade_request("/a", headers))
        return peer

    def status(self, server: MemoryServer, host: str | None, **headers: str) -> int:
        """The status that a handshake is answered with."""
        return self.handshake(server, host, **headers).response().status


class DirectTests(ArrivalTests):
    """Clients without a proxy."""

    def test_the_bound(self) -> None:
        """A client has as many connections as it may; the next is told so, whatever it wants."""
        server = self.server(2)
        first, idle = server.subscribe("/a"), server.connect()
        for data in (upgrade_request("/a"), http_request("POST", "/a", b"x")):
            peer = server.connect()
            peer.send(data)
            answer = peer.response()
            self.assertEqual((answer.status, answer.headers["retry-after"]), (429, "5"))
            self.assertEqual(answer.body, b"Too many connections from your address: close some.\n")
            self.assertTrue(peer.transport.ended)
            peer.close()
        self.assertEqual(self.logged[-1], (TOO_MANY, {"client": "192.0.2.1"}))
        self.assertEqual(self.status(server, "192.0.2.2"), 101)
        idle.close()
        self.assertEqual(self.status(server, "192.0.2.1"), 101)
        first.close()
        self.assertEqual(self.status(server, "192.0.2.1"), 101)

    def test_far_above(self) -> None:
        """Who has twice as many is not answered: each answer holds a descriptor."""
        server = self.server(2)
        peers = [server.connect() for _ in range(5)]
        self.assertEqual([peer.transport.reset for peer in peers], [False] * 4 + [True])
        server.run(4)
        self.assertEqual([peer.transport.reset for peer in peers], [False] * 2 + [True] * 3)

    def test_by_default(self) -> None:
        """Nobody is counted unless that is asked for."""
        server = self.server()
        for _ in range(300):
            server.connect()
        self.assertEqual(len(server.manager.clients), 0)

    def test_every_place_is_given_back(self) -> None:
        """However a connection ends, before or after it became a websocket."""
        server = self.server(10)
        peers = [server.connect() for _ in range(3)] + [server.subscribe("/a") for _ in range(3)]
        peers.append(server.subscribe("/a", Sec_WebSocket_Protocol="one"))
        for peer in peers:
            peer.close()
        server.post("/a", b"x")
        self.assertEqual(len(server.manager.clients), 0)

    def test_operators(self) -> None:
        """Connections to the private endpoint are not counted."""
        server = self.server(1)
        server.site = PinghubSite(server.resource, server.manager, private=True)
        for _ in range(5):
            self.assertEqual(server.request("GET", "/").status, 200)
            server.connect()
        self.assertEqual(len(server.manager.clients), 0)

    def test_a_unix_socket(self) -> None:
        """Who has no address is not counted."""
        server = self.server(1)
        for _ in range(5):
            self.assertEqual(self.status(server, None), 101)

    def test_a_site_of_others(self) -> None:
        """Within a site that is not ours websockets are counted, from their handshake on."""
        server = self.server(1)
        server.site = Site(server.resource, reactor=MemoryReactorClock())
        server.site.startFactory()
        self.addCleanup(server.site.stopFactory)
        server.connect()
        first = self.handshake(server, "192.0.2.1")
        self.assertEqual(first.response().status, 101)
        self.assertEqual(self.status(server, "192.0.2.1"), 429)
        first.close()
        self.assertEqual(self.status(server, "192.0.2.1"), 101)


class ForwardedTests(ArrivalTests):
    """Clients behind a proxy that writes X-Forwarded-For."""

    def test_each_client_is_counted(self) -> None:
        """The proxy may have any number of connections, each client behind it only so many."""
        server = self.server(1, "10.0.0.1")
        for _ in range(5):
            server.connect(host="10.0.0.1")
        first = self.handshake(server, "10.0.0.1", X_Forwarded_For=f"1.1.1.1, {CLIENT}")
        self.assertEqual(first.response().status, 101)
        second = self.handshake(server, "10.0.0.1", X_Forwarded_For=f"2.2.2.2, {CLIENT}")
        self.assertEqual(second.response().status, 429)
        # It is the proxy's connection, for others' requests as well.
        self.assertFalse(second.transport.ended)
        self.assertEqual(self.logged[-1], (TOO_MANY, {"client": CLIENT}))
        second.send(upgrade_request("/a", {"X-Forwarded-For": "198.51.100.8"}))
        self.assertEqual(second.response().status, 101)
        first.close()
        self.assertEqual(self.status(server, "10.0.0.1", X_Forwarded_For=CLIENT), 101)

    def test_others_are_not_believed(self) -> None:
        """A client that writes the field itself is counted as what it is."""
        server = self.server(1, "10.0.0.1")
        self.assertEqual(self.status(server, "192.0.2.1", X_Forwarded_For="1.1.1.1"), 101)
        self.assertEqual(self.status(server, "192.0.2.1", X_Forwarded_For="2.2.2.2"), 429)

    def test_through_a_unix_socket(self) -> None:
        """A proxy on the same machine may use a unix socket."""
        server = self.server(1, "unix")
        self.assertEqual(self.status(server, None, X_Forwarded_For=CLIENT), 101)
        self.assertEqual(self.status(server, None, X_Forwarded_For=CLIENT), 429)
        self.assertEqual(self.status(server, None), 101)

    def test_logs(self) -> None:
        """Lines about a websocket have the address of the client, as far as it is known."""
        for trusted, forwarded, peer in (
            ("10.0.0.1", CLIENT, CLIENT),
            ("10.0.0.1", "unknown", "10.0.0.1:50000"),
            ("", CLIENT, "10.0.0.1:50000"),
        ):
            server = self.server(trusted=trusted)
            self.handshake(server, "10.0.0.1", X_Forwarded_For=forwarded).response()
            self.assertEqual(self.logged.pop(), ("Subscribed", {"channel": "/a", "peer": peer}))
        server = self.server(trusted="unix")
        self.handshake(server, None, X_Forwarded_For=CLIENT).response()
        self.assertEqual(self.logged.pop(), ("Subscribed", {"channel": "/a", "peer": CLIENT}))

    def test_refused_origins(self) -> None:
        """The line about a refused origin says whose it was."""
        for host, client in (("10.0.0.1", CLIENT), ("192.0.2.1", "192.0.2.1"), (None, "unix")):
            origins = OriginPolicy(["https://example.com"])
            server = self.server(trusted="10.0.0.1", origins=origins)
            peer = self.handshake(
                server, host, X_Forwarded_For=CLIENT, Origin="https://evil.example"
            )
            self.assertEqual(peer.response().status, 403)
            self.assertEqual(self.logged.pop()[1]["client"], client)


class IntroducedTests(ArrivalTests):
    """Clients behind a proxy that speaks the PROXY protocol."""

    HEADER = f"PROXY TCP4 {CLIENT} 192.0.2.2 50001 8081\r\n".encode()

    def proxied(self, bound: int = 0, trusted: str = "") -> MemoryServer:
        """A server that listens as ``haproxy:``."""
        server = self.server(bound, trusted)
        server.site = HAProxyWrappingFactory(server.site)
        return server

    def introduce(self, server: MemoryServer, host: str, header: bytes = HEADER) -> Peer:
        """A connection of a proxy that says whose it is."""
        peer = server.connect(host=host)
        peer.send(header)
        return peer

    def test_each_client_is_counted(self) -> None:
        """The client is known, and counted, once the header is read."""
        server = self.proxied(1)
        server.connect(host="127.0.0.1")
        first = self.introduce(server, "127.0.0.1", self.HEADER + upgrade_request("/a"))
        self.assertEqual(first.response().status, 101)
        self.assertEqual(self.logged[-1][1], {"channel": "/a", "peer": f"{CLIENT}:50001"})
        second = self.introduce(server, "127.0.0.1")
        second.send(upgrade_request("/a"))
        self.assertEqual(second.response().status, 429)
        third = self.introduce(server, "127.0.0.1")
        third.send(b"GET")
        self.assertTrue(third.transport.reset)
        first.close()
        second.close()
        fourth = self.introduce(server, "127.0.0.1", self.HEADER + upgrade_request("/a"))
        self.assertEqual(fourth.response().status, 101)

    def test_strangers(self) -> None:
        """Whoever is no trusted proxy cannot say whose connection it is: it is closed."""
        for trusted, host in (("", "192.0.2.1"), ("10.0.0.1", "127.0.0.1")):
            peer = self.proxied(trusted=trusted).connect(host=host)
            self.assertTrue(peer.transport.reset)
            kind, about = self.logged.pop()
            self.assertEqual(about, {"peer": host})
            self.assertIn("--trust-proxy", kind)

    def test_two_proxies(self) -> None:
        """Behind HAProxy another proxy, which writes X-Forwarded-For."""
        server = self.proxied(trusted=f"127.0.0.1 {CLIENT}")
        peer = self.introduce(server, "127.0.0.1")
        peer.send(upgrade_request("/a", {"X-Forwarded-For": "203.0.113.9"}))
        self.assertEqual(peer.response().status, 101)
        self.assertEqual(self.logged[-1][1]["peer"], "203.0.113.9")
