"""Several servers behind nginx, which sends each request to the next one: it hashes nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from unittest import skipUnless

from tests.backplane.harness import HERE, MISSING, Redis
from tests.faults.harness import PATIENCE, Crowd, eventually, numbered
from tests.proxies import cases, changes
from tests.proxies.changes import CHANNELS, NO_ANSWER
from tests.proxies.harness import NginxTests, directives
from tests.running import Server

CHOICE = ("hash ", "server 127.0.0.1:", "proxy_next_upstream ", "worker_shutdown_timeout ")
"""What nginx is told about which server to choose, and for how long."""


@skipUnless(HERE, MISSING)
class RoundRobinTests(NginxTests):
    """Three servers, one Redis, and nginx."""

    SOURCE = "nginx/backplane.conf"

    def setUp(self) -> None:
        self.redis = Redis()
        self.addCleanup(self.redis.remove)
        self.redis.start()
        super().setUp()

    def options(self) -> list[str]:
        return [f"--backplane={self.redis.url}"]

    def server_lines(self, servers: Sequence[Server]) -> dict[str, str]:
        old = "".join(f"        server 127.0.0.1:{port};\n" for port in (8081, 8082, 8083))
        return {old: "".join(f"        server 127.0.0.1:{each.port};\n" for each in servers)}


class RoundRobinChannelTests(RoundRobinTests, cases.ChannelTests):
    """What holds behind any proxy holds here; channels have no owners."""

    def test_one_owner(self) -> None:
        """Subscribers of one channel are on all servers, and get what any of them publishes."""
        spellings = cases.SPELLINGS * 2
        subscribers = [self.subscribe(spelling) for spelling in spellings]
        publisher = self.connect()
        for number, spelling in enumerate(spellings):
            body = f"{number}".encode()
            self.assertEqual(publisher.post(spelling, body), (200, 3), spelling)
            self.assertEqual({peer.message() for peer in subscribers}, {body})

    def test_nothing_is_lost(self) -> None:
        """600 clients on 200 channels, on all three servers, get all messages in order."""
        channels = [f"/channel/{number}" for number in range(200)]
        with Crowd([self.subscribe(path) for path in channels for _ in range(3)]) as crowd:
            publisher = self.connect()
            answers: Counter[tuple[int, int]] = Counter()
            for number in range(20):
                answers.update(publisher.post(path, numbered(number)) for path in channels)
            self.assertTrue(crowd.wait_for(20))
        for reader in crowd.readers:
            self.assertEqual(reader.numbers, list(range(20)))
        # Whatever server it is sent to; three clients are on one server or on several.
        self.assertLessEqual(set(answers), {(200, 1), (200, 2), (200, 3)})

    def test_a_dead_owner(self) -> None:
        """A server dies: others take its clients and its publishers, and no channel is missed."""
        subscribers = [self.subscribe("/a") for _ in range(6)]
        self.servers[0].kill()
        left = []
        eventually(lambda: self.connect().post("/a", b"x") == (200, 2), PATIENCE, "two have it")
        for peer in subscribers:
            try:
                self.assertEqual(peer.message(), b"x")
                left.append(peer)
            except (EOFError, OSError):
                pass
        self.assertIn(len(left), range(1, 6))
        left += [self.subscribe("/a") for _ in range(2)]
        self.assertEqual(self.connect().post("/a", b"y"), (200, 2))
        for peer in left:
            self.assertEqual(peer.message(), b"y")

    def test_idle(self) -> None:
        """Timeouts, and all else but the choice of a server, are those of ``nginx.conf``."""

        def said(path: str) -> list[str]:
            return [each for each in directives(path) if not each.startswith(CHOICE)]

        self.assertEqual(said("nginx/backplane.conf"), said("nginx/nginx.conf"))


MOMENT = 0.5
"""How long a message may be on its way, in seconds."""
TAKEN = {(200, 0), (200, 1), (200, 2)}
"""A client that reconnects may be with two servers for a moment."""


class RoundRobinChangeTests(RoundRobinTests, changes.ChangeTests):
    """Servers come and go while messages come; nothing moves, as all have all channels."""

    def options(self) -> list[str]:
        return [*RoundRobinTests.options(self), "--drain=1s"]

    def check_promise(self) -> None:
        """Each message came once, and all in order; none is missing while a client was there.

        Who publishes is told of servers, and may be told of one that a client is about to leave.
        """
        self.publisher.stop()
        settled = time.monotonic() + MOMENT
        eventually(lambda: time.monotonic() > settled, PATIENCE, "all that is on its way")
        self.clients.stop()
        for path in CHANNELS:
            received = self.clients.received[path]
            self.assertEqual(received, sorted(set(received)), path)
            for number, (status, _) in self.publisher.answers[path].items():
                if status == 200 and self.was_there(path, self.publisher.sent[number]):
                    self.assertIn(number, received, path)

    def was_there(self, path: str, when: float) -> bool:
        """Whether a channel had its client, for a moment already and for a moment more."""
        times = self.clients.times[path]
        return any(begun + MOMENT < when < ended - MOMENT for begun, ended in times)

    def check_all(self, begun: float) -> None:
        """Messages come and clients reconnect, whatever happened; no message got lost."""
        self.publisher.until_all_listen()
        self.assertLessEqual(self.publisher.since(begun), {*TAKEN, (502, -1), (503, -1), NO_ANSWER})
        self.check_promise()

    def test_adding(self) -> None:
        """A server more."""
        begun = time.monotonic()
        self.servers.append(self.server())
        self.use(self.servers)
        self.check_all(begun)

    def test_removing(self) -> None:
        """A server less: it is told to stop, and its clients go to the others."""
        begun = time.monotonic()
        gone = self.servers.pop()
        self.use(self.servers)
        gone.process.terminate()
        self.assertEqual(gone.wait(PATIENCE), 0)
        self.check_all(begun)

    def test_restarting(self) -> None:
        """All servers, one after the other."""
        begun = time.monotonic()
        for number, old in enumerate(tuple(self.servers)):
            old.process.terminate()
            self.assertEqual(old.wait(PATIENCE), 0)
            self.servers[number] = self.server(old.port, self.admin_ports[old])
            self.publisher.until_all_listen()
        self.check_all(begun)
