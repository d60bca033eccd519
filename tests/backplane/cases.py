"""What holds for one server alone and for several that share their channels.

Not in a test module, so that it runs for these only.
"""

from __future__ import annotations

import itertools

from pinghub.testing import CLOSE, TEXT, client_frame
from tests.backplane.harness import BackplaneTests
from tests.faults import load
from tests.faults.harness import PATIENCE, Crowd, eventually, numbered
from tests.running import Server

DELIVERIES = 1_000_000
SUBSCRIBERS = 200
RATE = 400.0


class SharingCases(BackplaneTests):
    """The promise of channels.

    Attributes:
        servers: those that share them.
    """

    servers: list[Server]

    def counted(self, servers: int, subscribers: int) -> int:
        """What answers a POST that reached so many."""
        return subscribers if len(self.servers) == 1 else servers

    def turns(self) -> itertools.cycle[Server]:
        """The servers, again and again."""
        return itertools.cycle(self.servers)

    def test_a_million_deliveries(self) -> None:
        """Whoever publishes where, whoever comes and goes: all receive all, in one order.

        200 subscribers spread over all servers, four who publish by websocket and four by POST,
        twenty who come and go each second.
        """
        messages = DELIVERIES // SUBSCRIBERS
        first, *others = (server.port for server in self.servers)
        plan = load.Plan(
            "127.0.0.1",
            first,
            messages=messages,
            rate=RATE,
            subscribers=SUBSCRIBERS,
            more_ports=others,
        )
        report = load.run(plan)
        self.assertEqual(report.faults[:3], [])
        self.assertGreaterEqual(report.deliveries, DELIVERIES)
        self.assertGreaterEqual(sum(report.visits.values()), 0.8 * 20 * messages / RATE)
        print(
            f"\n{len(self.servers)} servers: {report.deliveries} deliveries,"
            f" {sum(report.visits.values())} came and went, {report.seconds:.1f} s"
        )
        for server in self.servers:
            self.assertEqual(server.stop(), 0)
            self.assertEqual(self.said(server, "Evicted"), 0)

    def test_from_the_handshake_on(self) -> None:
        """Whatever is published after a 101, at any server, is received; each on a new channel."""
        turns = self.turns()
        for number in range(100):
            path = f"/new/{number}"
            peer = self.subscriber(next(turns), path)
            self.assertEqual(self.post(next(turns), path, b"first"), (200, 1))
            self.assertEqual(peer.message(), b"first")
            peer.close()

    def test_nothing_from_before(self) -> None:
        """Nothing is received that was published and received elsewhere before."""
        turns = self.turns()
        witness = self.subscriber(next(turns), "/a")
        for number in range(100):
            self.post(next(turns), "/a", b"before")
            self.assertEqual(witness.message(), b"before")
            peer = self.subscriber(next(turns), "/a")
            peer.send(client_frame(TEXT, b"%d" % number))
            self.assertEqual(peer.message(), b"%d" % number)
            self.assertEqual(witness.message(), b"%d" % number)
            peer.close()

    def test_until_the_last_leaves(self) -> None:
        """A channel lasts while somebody listens anywhere; then a POST reaches nobody."""
        peers = [self.subscriber(server, "/a") for server in self.servers for _ in range(2)]
        publisher = self.servers[0]
        total = len(self.servers)
        self.assertEqual(self.post(publisher, "/a", b"x"), (200, self.counted(total, len(peers))))
        for peer in peers[:-1]:
            peer.close()
        eventually(lambda: self.post(publisher, "/a", b"x") == (200, 1), PATIENCE, "one is left")
        peers[-1].close()
        eventually(lambda: self.post(publisher, "/a", b"x") == (200, 0), PATIENCE, "nobody is left")

    def test_heartbeats(self) -> None:
        """An empty text is answered to its sender, and nobody else gets it."""
        peers = [self.subscriber(server, "/a") for server in self.servers for _ in range(2)]
        peers[0].send(client_frame(TEXT))
        self.assertEqual(peers[0].message(), b"")
        self.post(self.servers[-1], "/a", b"")
        self.post(self.servers[-1], "/a", b"x")
        for peer in peers:
            self.assertEqual(peer.message(), b"x")

    def test_large_messages(self) -> None:
        """Messages as large as they may be, of any text, by websocket and by POST."""
        peers = [self.subscriber(server, "/a") for server in self.servers]
        texts = ["é" * 32_768, "\0\r\n$3\r\n" * 9000, "\U0001f9b6" * 16_384]
        for text, server in zip(texts, self.turns(), strict=False):
            payload = text.encode()[:65_536]
            peers[0].send(client_frame(TEXT, payload))
            self.assertEqual(self.post(server, "/a", payload)[0], 200)
            for peer in peers:
                self.assertEqual([peer.message(), peer.message()], [payload, payload])
        self.assertEqual(self.post(self.servers[0], "/a", b"x" * 65_537)[0], 413)

    def test_a_flood(self) -> None:
        """One who publishes as fast as it can loses nothing, and is not closed for it."""
        count = 20_000
        publisher = self.subscriber(self.servers[-1], "/a")
        flood = b"".join(client_frame(TEXT, numbered(number)) for number in range(count))
        with Crowd([publisher, *(self.subscriber(each, "/a") for each in self.servers)]) as crowd:
            publisher.send(flood)
            self.assertTrue(crowd.wait_for(count))
        for reader in crowd.readers:
            self.assertEqual(reader.numbers, list(range(count)))

    def test_stopping(self) -> None:
        """What was published anywhere before a server stops reaches its readers, then 1001."""
        *others, stopping = self.servers
        publisher = self.peer((others or [stopping])[0])
        reader = self.subscriber(stopping, "/a")
        sent = 0
        for sent in range(1, 201):
            status, _ = publisher.post("/a", b"%d" % sent)
            self.assertEqual(status, 200)
        stopping.process.terminate()
        for number in range(1, sent + 1):
            self.assertEqual(reader.message(), b"%d" % number)
        self.assertEqual(reader.frame().code, 1001)
        reader.send(client_frame(CLOSE, b"\x03\xe9"))
        self.assertEqual(stopping.wait(PATIENCE), 0)
