"""A real Redis that fails while messages come: nothing doubled, reordered, leaked or stuck."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest import skipUnless
from urllib.error import HTTPError
from urllib.request import urlopen

from pinghub.testing import CLOSE, TEXT, client_frame
from tests.backplane.harness import HERE, MISSING, BackplaneTests
from tests.backplane.relay import Relay
from tests.backplane.traffic import Answer, Traffic
from tests.faults.harness import (
    MIB,
    PATIENCE,
    Crowd,
    Peer,
    descriptors,
    eventually,
    numbered,
    rss,
)
from tests.proxies.harness import free_port
from tests.running import Server

TIMEOUT = 2.0
"""``--backplane-timeout`` of these servers, in seconds."""


@skipUnless(HERE, MISSING)
class FailingTests(BackplaneTests):
    """Three servers, and a Redis that fails."""

    options: Sequence[str] = ()

    def setUp(self) -> None:
        self.only = self.redis()
        self.servers = self.sharing(
            self.only.url,
            options=[f"--backplane-timeout={TIMEOUT}s", "--ping-interval=0", *self.options],
        )
        self.resources = [descriptors(each.process.pid) for each in self.servers]

    @contextmanager
    def traffic(self) -> Iterator[Traffic]:
        """Messages from all to all."""
        with Traffic(self.servers) as traffic:
            self.pass_time(0.5)
            self.assertEqual(self.lately(traffic, 0.3), {(200, 3)})
            yield traffic

    def lately(self, traffic: Traffic, seconds: float) -> set[tuple[int, int]]:
        """What POSTs of the last so many seconds were answered."""
        since = time.monotonic() - seconds
        return {(each.status, each.counted) for each in traffic.answers() if each.at >= since}

    def recovered(self, traffic: Traffic, seconds: float) -> float:
        """Wait until POSTs at all servers reach all of them again; how long that took."""
        begun = time.monotonic()

        def all_reach_all() -> bool:
            last = [each.answers[-1] for each in traffic.publishers]
            return all((each.status, each.counted) == (200, 3) and each.at > begun for each in last)

        return eventually(all_reach_all, seconds, "all reach all again")

    def check(self, traffic: Traffic) -> list[Answer]:
        """What holds whatever has failed; what was answered 200 and did not reach everybody."""
        traffic.stop()
        traffic.settled()
        self.assertEqual(traffic.faults(), [])
        self.assertEqual({reader.ended for reader in traffic.crowd.readers}, {False})
        statuses = {each.status for each in traffic.answers()}
        self.assertLessEqual(statuses, {200, 503})
        refused = [each for each in traffic.answers() if each.status == 503]
        self.assertEqual({each.retry_after for each in refused} - {"1"}, set())
        return traffic.missing()

    def check_resources(self, gaps: int) -> None:
        """No server has kept anything: two connections to the Redis, and none to clients."""
        for server, before in zip(self.servers, self.resources, strict=True):
            self.until_closed(server, before)
            self.until_said(server, "The backplane is back", PATIENCE, gaps)
            self.assertEqual(self.said(server, "Lost the backplane"), gaps)
        self.assertEqual(self.only.clients(), 2 * len(self.servers))

    def while_down(self, peers: Sequence[Peer], seconds: float) -> None:
        """For so long every server answers heartbeats at once: nothing blocks."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for peer in peers:
                begun = time.monotonic()
                peer.send(client_frame(TEXT))
                self.assertEqual(peer.message(), b"")
                self.assertLess(time.monotonic() - begun, 0.5)
            self.pass_time(0.02)

    def until_closed(self, server: Server, before: int) -> None:
        """Wait until a server has no more descriptors than before."""
        pid = server.process.pid
        eventually(lambda: descriptors(pid) <= before, PATIENCE, "no descriptors are left")


class KillTests(FailingTests):
    """It dies."""

    def test_killed(self) -> None:
        """Kill -9: 503 at once, subscribers stay; a second after it is back all is as before."""
        heartbeats = [self.subscriber(each, "/b") for each in self.servers]
        with self.traffic() as traffic:
            self.only.kill()
            self.while_down(heartbeats, 2)
            self.assertEqual(self.lately(traffic, 1), {(503, -1)})
            self.assertEqual(self.handshake(self.servers[0], "/new"), 503)
            self.only.start()
            took = self.recovered(traffic, 1)
            self.pass_time(1)
            self.assertEqual(self.lately(traffic, 0.5), {(200, 3)})
            killed_at = min(each.at for each in traffic.answers() if each.status == 503)
            lost = self.check(traffic)
        print(f"\nback after {took:.2f} s; answered 200 and lost with the Redis: {len(lost)}")
        for answer in lost:  # In its last moments: it died with them.
            self.assertLess(abs(answer.at - killed_at), 0.5)
        for peer in heartbeats:
            peer.close()
        self.check_resources(gaps=1)

    def test_again_and_again(self) -> None:
        """Killed ten times: nothing grows, nothing is doubled or out of order."""
        memory = []
        with self.traffic() as traffic:
            for _ in range(10):
                self.only.kill()
                self.pass_time(0.2)
                self.only.start()
                self.recovered(traffic, 2)
                memory.append([rss(each.process.pid) for each in self.servers])
            self.check(traffic)
        for first, last in zip(memory[2], memory[-1], strict=True):
            self.assertLess(last - first, 2 * MIB)
        self.check_resources(gaps=10)

    def test_restarted(self) -> None:
        """A restart in good order is no other thing."""
        with self.traffic() as traffic:
            self.only.stop()
            self.only.start()
            self.recovered(traffic, 1)
            self.check(traffic)
        self.check_resources(gaps=1)

    def test_publishers(self) -> None:
        """A websocket that publishes meanwhile is closed with 1013; one that does not stays."""
        publishers = [self.subscriber(each, "/a") for each in self.servers]
        reader = self.subscriber(self.servers[0], "/a")
        self.only.kill()
        for each in publishers:
            each.send(client_frame(TEXT, b"x"))
            self.assertEqual(each.frame().code, 1013)
            each.rest()
        self.only.start()
        self.served_again(self.servers[:1], 1)
        self.assertEqual(reader.message(), b"again")

    def test_the_connection_of_one_server(self) -> None:
        """One server loses its connections: it has a gap, and the others do not notice."""
        with self.traffic() as traffic:
            names = self.only.cli("client", "list", "type", "pubsub").splitlines()
            number = dict(word.partition("=")[::2] for word in names[0].split())["id"]
            self.only.cli("client", "kill", "id", number)
            self.pass_time(1)
            self.assertEqual(self.lately(traffic, 0.5), {(200, 3)})
            self.check(traffic)
        self.assertEqual(sum(self.said(each, "Lost the back") for each in self.servers), 1)


class StopTests(FailingTests):
    """It does nothing."""

    def test_for_a_moment(self) -> None:
        """SIGSTOP shorter than ``--backplane-timeout``: all waits, and nothing is lost."""
        heartbeats = [self.subscriber(each, "/b") for each in self.servers]
        with self.traffic() as traffic:
            self.only.signal(signal.SIGSTOP)
            self.while_down(heartbeats, TIMEOUT * 0.4)
            self.only.signal(signal.SIGCONT)
            self.pass_time(0.5)
            self.assertEqual({each.status for each in traffic.answers()}, {200})
            self.assertEqual(self.check(traffic), [])
        for each in heartbeats:
            each.close()
        self.check_resources(gaps=0)

    def test_for_long(self) -> None:
        """SIGSTOP: 503 in time, no server blocks; all is well a second after SIGCONT."""
        heartbeats = [self.subscriber(each, "/b") for each in self.servers]
        publisher = self.subscriber(self.servers[0], "/b")
        with self.traffic() as traffic:
            self.only.signal(signal.SIGSTOP)
            publisher.send(client_frame(TEXT, b"x"))
            self.while_down(heartbeats, 2 * TIMEOUT)
            self.assertEqual(publisher.frame().code, 1013)
            self.assertEqual(self.lately(traffic, 0.5), {(503, -1)})
            self.only.signal(signal.SIGCONT)
            self.recovered(traffic, 1)
            longest = max(each.took for each in traffic.answers())
            self.check(traffic)
        print(f"\nthe longest POST took {longest:.2f} s")
        self.assertLess(longest, TIMEOUT + 0.5)
        for each in (*heartbeats, publisher):
            each.close()
        self.check_resources(gaps=1)


class GapTests(FailingTests):
    """``--on-gap=close``."""

    options = ["--on-gap=close"]

    def test_closed(self) -> None:
        """Who may have missed messages is closed with 1013, once it would get messages again."""
        peers = [self.subscriber(each, "/a") for each in self.servers for _ in range(2)]
        self.only.kill()
        self.pass_time(0.5)
        self.only.start()
        for peer in peers:
            close = peer.frame()
            self.assertEqual(close.code, 1013)
            peer.send(client_frame(CLOSE, close.payload[:2]))
            self.assertEqual(peer.rest(), b"")
        again = [self.subscriber(each, "/a") for each in self.servers]
        # They receive by now; publishing has a connection of its own, which may come later.
        self.until_said(self.servers[0], "The backplane is back", 1)
        self.assertEqual(self.post(self.servers[0], "/a", b"x"), (200, 3))
        for each in again:
            self.assertEqual(each.message(), b"x")


@skipUnless(HERE, MISSING)
class BoundTests(BackplaneTests):
    """What waits in between is bounded."""

    def test_a_server_that_reads_too_slowly(self) -> None:
        """Redis cuts it off; it has a gap, counts it, and goes on; the others lose nothing."""
        limit = ["client-output-buffer-limit", "pubsub", "1mb", "512kb", "1"]
        redis = self.redis(limit)
        slow, other = self.sharing(redis.url, count=2, options=["--ping-interval=0"])
        victim = self.subscriber(slow, "/a")
        with Crowd([self.subscriber(other, "/a")]) as crowd:
            publisher = self.peer(other)
            slow.process.send_signal(signal.SIGSTOP)
            count = 0
            while "oll=0" not in redis.cli("client", "list", "type", "pubsub") or count < 500:
                for _ in range(100):
                    self.assertEqual(publisher.post("/a", numbered(count, 50_000))[0], 200)
                    count += 1
                self.assertLess(count, 2000)
            self.assertTrue(crowd.wait_for(count))
            self.assertEqual(crowd.readers[0].numbers, list(range(count)))
            slow.process.send_signal(signal.SIGCONT)
            self.until_said(slow, "The backplane is back", PATIENCE)
            self.assertEqual(publisher.post("/a", b"%08d" % count), (200, 2))
        last = b""
        while last != b"%08d" % count:
            last = victim.message()[:8]
        self.assertEqual(self.said(other, "Lost the backplane"), 0)

    def test_the_queue(self) -> None:
        """More than ``--backplane-queue`` on its way: 503 for the rest, and little memory."""
        redis = self.redis()
        (server,) = self.sharing(
            redis.url, count=1, options=["--backplane-queue=4m", "--backplane-timeout=10s"]
        )
        redis.signal(signal.SIGSTOP)
        before = rss(server.process.pid)
        publishers = [self.peer(server) for _ in range(200)]
        body = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000
        for each in publishers:
            each.send(body)
        refused = 200 - 4 * MIB // 61_024
        statuses = []
        for each in publishers[-refused:]:
            statuses.append(each.response()[0])
        self.assertEqual(set(statuses), {503})
        self.assertLess(rss(server.process.pid) - before, 24 * MIB)
        redis.signal(signal.SIGCONT)
        for each in publishers[:-refused]:
            self.assertEqual(each.response()[0], 200)

    def test_a_flood(self) -> None:
        """A websocket that floods while the broker hangs is not read on; memory is bounded."""
        redis = self.redis()
        (server,) = self.sharing(redis.url, count=1, options=["--backplane-timeout=20s"])
        peers = [self.subscriber(server, "/a") for _ in range(20)]
        redis.signal(signal.SIGSTOP)
        before = rss(server.process.pid)
        flood = client_frame(TEXT, b"x" * 100) * 50_000
        for peer in peers:
            peer.socket.settimeout(0.3)
            peer.try_to_send(flood)
        grown = rss(server.process.pid) - before
        print(f"\n20 floods of 5 MB: {grown / MIB:.1f} MiB more")
        self.assertLess(grown, 64 * MIB)
        redis.kill()

    def test_poison(self) -> None:
        """Whatever anybody publishes at the broker: servers leave it out, and go on."""
        redis = self.redis()
        servers = self.sharing(redis.url, count=2)
        peers = [self.subscriber(each, "/a") for each in servers]
        before = [rss(each.process.pid) for each in servers]
        for payload in (
            b"\xff\xfe",
            b"\xed\xa0\x80",
            b"x" * 65_537,
            b"x" * (20 * MIB),
            b"$5\r\nhello\r\n\xff",
        ):
            redis.cli("publish", "pinghub:0:/a", given=payload)
        redis.cli("publish", "pinghub:0:/a", "")
        redis.cli("publish", "pinghub:0:", "x")
        for channel in ("pinghub:0:/b", "pinghub:1:/a", "/a", "pinghub:0"):
            self.assertEqual(redis.cli("publish", channel, "x"), "0")
        self.assertEqual(redis.cli("publish", "pinghub:0:/a", "good"), "2")
        for each in peers:
            self.assertEqual(each.message(), b"good")
        for server, memory in zip(servers, before, strict=True):
            self.assertLess(rss(server.process.pid) - memory, 64 * MIB)
            self.assertEqual(self.said(server, "Lost the backplane"), 0)

    def test_something_else(self) -> None:
        """What is no Redis at all is no backplane: one line says so, and the server goes on."""
        (other,) = [self.server()]
        (server,) = self.sharing(f"redis://127.0.0.1:{other.port}", count=1)
        self.assertEqual(self.said(server, "this is no Redis"), 1)
        self.assertEqual(self.post(server, "/a", b"x"), (503, -1))


@skipUnless(HERE, MISSING)
class StartTests(BackplaneTests):
    """It is not there at the start."""

    def test_later(self) -> None:
        """Servers start without it, answer 503, and serve a second after it has come."""
        redis = self.redis(start=False)
        admin = free_port()
        servers = self.sharing(redis.url, count=2, options=["--backplane-wait=20s"])
        servers += self.sharing(redis.url, count=1, options=[f"--admin=127.0.0.1:{admin}"])
        for each in servers:
            self.assertEqual(self.post(each, "/a", b"x"), (503, -1))
            self.assertEqual(self.said(each, "The backplane is not there"), 1)
        self.assertEqual(self.ready(admin), (503, b"backplane down\n"))
        redis.start()
        eventually(lambda: self.ready(admin)[0] == 200, 1, "it is ready")
        for each in servers:
            self.until_said(each, "The backplane is there", 1)
        peers = [self.subscriber(each, "/a") for each in servers]
        self.assertEqual(self.post(servers[0], "/a", b"x"), (200, 3))
        for peer in peers:
            self.assertEqual(peer.message(), b"x")

    def ready(self, port: int) -> tuple[int, bytes]:
        """What ``/readyz`` says."""
        try:
            with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()

    def test_too_late(self) -> None:
        """With ``--backplane-wait`` a server ends when its time is over, with status 1."""
        redis = self.redis(start=False)
        (server,) = self.sharing(redis.url, count=1, options=["--backplane-wait=1s"])
        self.assertEqual(server.wait(PATIENCE), 1)
        self.until_said(server, "The backplane is not there: see --backplane", PATIENCE)


@skipUnless(HERE, MISSING)
class NetworkTests(BackplaneTests):
    """A network in between."""

    def setUp(self) -> None:
        self.only = self.redis()
        self.relay = Relay(self.only.port)
        self.relay.start()
        self.addCleanup(self.relay.stop)
        url = f"redis://127.0.0.1:{self.relay.port}/0"
        near = self.sharing(self.only.url, count=1, options=["--ping-interval=0"])
        options = [f"--backplane-timeout={TIMEOUT}s", "--ping-interval=0"]
        self.servers = near + self.sharing(url, count=1, options=options)

    def test_slow(self) -> None:
        """A network that takes 0.3 s delays messages by twice that, and loses none."""
        self.relay.delay = 0.3
        near, far = (self.subscriber(each, "/a") for each in self.servers)
        begun = time.monotonic()
        for number in range(50):
            far.send(client_frame(TEXT, b"%d" % number))
        for peer in (near, far):
            for number in range(50):
                self.assertEqual(peer.message(), b"%d" % number)
        took = time.monotonic() - begun
        self.assertGreater(took, 0.6)
        self.assertLess(took, 1.5)

    def test_half_open(self) -> None:
        """A network that is gone without a word: the server notices in time, and comes back."""
        server = self.servers[1]
        peer = self.subscriber(server, "/a")
        self.relay.silent = True
        begun = time.monotonic()
        self.until_said(server, "Lost the backplane", PATIENCE)
        # An idle connection is asked for a sign of life within two fifths of the time.
        self.assertLess(time.monotonic() - begun, 1.4 * TIMEOUT + 0.5)
        self.assertEqual(self.post(server, "/a", b"x"), (503, -1))
        self.assertEqual(self.post(self.servers[0], "/b", b"x"), (200, 0))
        self.relay.silent = False
        self.until_said(server, "The backplane is back", TIMEOUT + 1.5)
        # The broker may not know yet that the old connection is gone.
        status, counted = self.post(self.servers[0], "/a", b"x")
        self.assertEqual((status, counted >= 1), (200, True))
        self.assertEqual(peer.message(), b"x")

    def test_cut(self) -> None:
        """A network that resets connections: the server is back at once."""
        server = self.servers[1]
        peer = self.subscriber(server, "/a")
        for number in range(1, 6):
            self.relay.cut()
            self.until_said(server, "The backplane is back", 1, number)
            self.assertEqual(self.post(self.servers[0], "/a", b"x"), (200, 1))
            self.assertEqual(peer.message(), b"x")
