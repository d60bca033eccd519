"""The backplane for many servers: its instances, and what it does about gaps."""

from __future__ import annotations

from collections import Counter

from pinghub.backplane.redis import MISSED, instance_of
from pinghub.testing import CLOSE, upgrade_request
from tests.memory_bus import BusTests


class WaitTests(BusTests):
    """What servers and subscribers wait for."""

    def setUp(self) -> None:
        super().setUp()
        self.only = self.redis()

    def test_too_late(self) -> None:
        """A handshake waits so long, and is answered 503 then."""
        server = self.server(backplane_timeout=5.0)
        peer = server.connect()
        self.only.errors["subscribe"] = b""  # No answer to it, while all else is answered.
        peer.send(upgrade_request("/a"))
        self.pass_time(4.9)
        self.assertEqual(peer.take(), b"")
        self.pass_time(0.2)
        self.assertEqual(peer.response().status, 503)

    def test_close_at_once(self) -> None:
        """They are closed when they receive again, whether we can publish already or not."""
        server = self.server(close_on_gap=True)
        peer = self.subscribe(server, "/a")
        publishing = server.backplane._brokers[0]._publishing  # type: ignore[attr-defined]
        self.patch(publishing, "_connect", lambda: None)
        self.only.cut()
        self.pass_time(1)
        self.assertEqual(server.backplane.state().up, 0)
        self.assertEqual([frame.code for frame in peer.frames()], [1013])
        self.assertEqual(self.subscribe(server, "/a").frames(), [])

    def test_close_on_gap(self) -> None:
        """With ``--on-gap=close`` those who may have missed messages are closed with 1013."""
        server = self.server(close_on_gap=True)
        peer = self.subscribe(server, "/a")
        taken: list[bytes] = []

        class Program:
            def deliver(self, frames: bytes) -> None:
                taken.append(frames)

            def close(self) -> None:
                """It is not ours to close."""

        server.manager.subscribe("/a", Program())
        gone = self.subscribe(server, "/gone")
        self.only.kill()
        gone.close()
        self.pass_time(5)
        self.assertEqual(peer.frames(), [])
        self.only.refusing = False
        self.pass_time(1)
        (close,) = peer.frames()
        self.assertEqual(
            (close.opcode, close.code, close.payload[2:].decode()), (CLOSE, 1013, MISSED)
        )
        late = self.subscribe(server, "/a")
        self.assertEqual(self.post(server, "/a", b"x"), (200, "1"))
        self.assertEqual((late.texts(), len(taken)), (["x"], 1))


class InstanceTests(BusTests):
    """Several instances, each for a share of the channels."""

    def test_shares(self) -> None:
        """A channel is at one instance, the same for all servers; each has its share."""
        redises = [self.redis() for _ in range(3)]
        servers = [self.server() for _ in range(2)]
        names = [f"/{number}" for number in range(60)]
        for name in names:
            peer = self.subscribe(servers[0], name)
            self.assertEqual(self.post(servers[1], name, b"x"), (200, "1"))
            self.assertEqual(peer.texts(), ["x"])
        shares = [redis.names() - {b"pinghub:0:"} for redis in redises]
        self.assertEqual(sum(map(len, shares)), 60)
        self.assertGreater(min(map(len, shares)), 5)

    def test_one_fails(self) -> None:
        """The channels of the others do not notice."""
        redises = [self.redis() for _ in range(2)]
        server = self.server()
        names = [f"/{number}" for number in range(20)]
        peers = {name: self.subscribe(server, name) for name in names}
        redises[1].kill()
        self.turn()
        self.assertEqual(server.backplane.state().up, 1)
        statuses = {}
        for name in names:
            statuses[name] = self.post(server, name, b"x")[0]
            if statuses[name] == 200:
                self.assertEqual(peers[name].texts(), ["x"])
        expected = {name: (200, 503)[instance_of(name, 2)] for name in names}
        self.assertEqual(statuses, expected)
        self.assertEqual(set(statuses.values()), {200, 503})

    def test_the_same_for_ever(self) -> None:
        """Where a channel is may not change: servers of two versions share it."""
        self.assertEqual(
            [instance_of(name, 5) for name in ("/", "/a", "/news", "/é", "/a/b/c")],
            [3, 3, 4, 3, 0],
        )

    def test_equal_shares(self) -> None:
        """All instances have about the same number of channels."""
        names = [f"/channel/{number}" for number in range(10_000)]
        for instances in (1, 2, 3, 7):
            shares = Counter(instance_of(name, instances) for name in names)
            self.assertEqual(set(shares), set(range(instances)))
            self.assertLess(max(shares.values()), 1.1 * 10_000 / instances)

    def test_one_more(self) -> None:
        """One instance more takes its part of all others; nothing else moves."""
        names = [f"/channel/{number}" for number in range(10_000)]
        for instances in (1, 2, 5):
            before = {name: instance_of(name, instances) for name in names}
            after = {name: instance_of(name, instances + 1) for name in names}
            moved = [name for name in names if before[name] != after[name]]
            self.assertEqual({after[name] for name in moved}, {instances})
            self.assertLess(abs(len(moved) / 10_000 - 1 / (instances + 1)), 0.02)
