"""One broker: messages, channels and faults, with real servers in memory."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from pinghub.backplane.broker import REASONS
from pinghub.backplane.interest import LINGER, RETRY
from pinghub.errors import BackplaneDown, BackplaneRefused
from pinghub.frames import text_frame
from pinghub.testing import TEXT, MemoryServer, client_frame, http_request, upgrade_request
from tests.memory_bus import BusTests
from tests.redis_in_memory import MemoryRedis, Session


class MessageTests(BusTests):
    """Messages, between servers and in one."""

    def setUp(self) -> None:
        super().setUp()
        self.only = self.redis()
        self.servers = [self.server() for _ in range(3)]

    def test_all_servers(self) -> None:
        """A message reaches the subscribers of all servers, whoever published it and where."""
        peers = [self.subscribe(server, "/a") for server in self.servers]
        others = [self.subscribe(server, "/b") for server in self.servers]
        self.assertEqual(self.post(self.servers[0], "/a", "Grüße".encode()), (200, "3"))
        peers[1].send_text("from a page")
        self.turn()
        for peer in peers:
            self.assertEqual(peer.texts(), ["Grüße", "from a page"])
        for peer in others:
            self.assertEqual(peer.texts(), [])

    def test_the_answer(self) -> None:
        """A POST is answered with how many servers got it; 0: it was dropped."""
        first, second, third = self.servers
        for _ in range(2):
            self.subscribe(first, "/a")
        self.assertEqual(self.post(third, "/a", b"x"), (200, "1"))
        self.subscribe(second, "/a")
        self.assertEqual(self.post(third, "/a", b"x"), (200, "2"))
        self.assertEqual(self.post(third, "/b", b"x"), (200, "0"))
        answer = first.post("/a", b"")
        self.assertEqual((answer.status, answer.headers["pinghub-servers"]), (200, "0"))
        self.assertNotIn("pinghub-subscribers", answer.headers)
        stats = third.manager.stats
        self.assertEqual((stats.published, stats.dropped, stats.posted), (2, 1, 3))
        self.assertEqual((stats.received_bytes, stats.relayed), (3, 0))

    def test_nothing_but_what_comes_back(self) -> None:
        """A server hands out nothing that the broker has not sent, its own messages included."""
        peer = self.subscribe(self.servers[0], "/a")
        self.only.stop()
        peer.send_text("x")
        self.turn()
        self.assertEqual(peer.texts(), [])
        self.only.resume()
        self.turn()
        self.assertEqual(peer.texts(), ["x"])

    def test_one_order(self) -> None:
        """All subscribers of all servers see one order, and each publisher's own in it."""
        peers = [self.subscribe(server, "/a") for server in self.servers for _ in range(2)]
        publisher = self.servers[1].connect()
        for number in range(20):
            peers[number % 6].deliver(client_frame(TEXT, b"%d %d" % (number % 6, number)))
            publisher.deliver(http_request("POST", "/a", b"6 %d" % number))
        for _ in range(30):
            self.turn()
        seen = [peer.texts() for peer in peers]
        self.assertEqual(len(seen[0]), 40)
        self.assertEqual(seen, [seen[0]] * 6)
        for sender in range(7):
            numbers = [int(text.split()[1]) for text in seen[0] if text.startswith(f"{sender} ")]
            self.assertEqual(numbers, sorted(numbers))

    def test_names(self) -> None:
        """Any name of a channel gets through."""
        for path in ("/a%20b", "/%C3%A9", "//", "/a/../b", "/*", "/[a]?x=1", "/" + "x" * 255):
            peer = self.subscribe(self.servers[0], path)
            self.assertEqual(self.post(self.servers[1], path, b"x"), (200, "1"), path)
            self.assertEqual(peer.texts(), ["x"], path)
            peer.close()

    def test_others_publish(self) -> None:
        """Whoever may publish at the broker reaches subscribers, if it is a message."""
        peer = self.subscribe(self.servers[0], "/a")
        for payload in (b"good", b"", b"\xff", b"x" * 65_537, b"\xed\xa0\x80", "é".encode()):
            self.only.publish(b"pinghub:0:/a", payload)
        self.only.publish(b"/a", b"elsewhere")
        self.only.publish(b"pinghub:1:/a", b"elsewhere")
        self.only.publish(b"pinghub:0:", b"to the name of all names")
        self.turn()
        self.assertEqual(peer.texts(), ["good", "é"])
        self.assertEqual(self.servers[0].manager.stats.foreign, 4)
        self.assertEqual(sum("Left out what is no message" in line for line in self.lines), 4)
        self.assertEqual(self.servers[1].manager.stats.foreign, 0)

    def test_refused_by_the_broker(self) -> None:
        """A broker that does not let us publish: 503, and the log says why."""
        self.only.errors["publish"] = b"NOPERM no permission"
        self.assertEqual(self.post(self.servers[0], "/a", b"x")[0], 503)
        self.assertIn("NOPERM", self.lines[-1])
        self.assertTrue(self.servers[0].backplane.state().ready)

    def test_settle(self) -> None:
        """Settled is what was published by anybody before, and only then."""
        first, second, _ = self.servers
        peer = self.subscribe(first, "/a")
        self.only.stop()
        handed = first.backplane.publish("/a", b"1")
        assert isinstance(handed, Deferred)
        settled = first.backplane.settle()
        self.turn()
        self.assertNoResult(settled)
        self.only.resume()
        self.turn()
        self.successResultOf(settled)
        self.assertEqual((self.successResultOf(handed), peer.texts()), (1, ["1"]))
        self.only.kill()
        self.successResultOf(second.backplane.settle())

    def test_settle_can_be_given_up(self) -> None:
        """Who waits for it may stop to, and nothing else changes."""
        server = self.servers[0]
        self.only.stop()
        settled = server.backplane.settle()
        settled.cancel()
        self.failureResultOf(settled)
        self.only.resume()
        self.turn()
        self.assertTrue(server.backplane.state().ready)


class InterestTests(BusTests):
    """Which channels a server has from the broker."""

    def setUp(self) -> None:
        super().setUp()
        self.only = self.redis()

    def channels(self) -> set[bytes]:
        """What is subscribed at the broker, besides the name of all names."""
        return self.only.names() - {b"pinghub:0:"}

    def test_first_and_last(self) -> None:
        """A server subscribes with its first subscriber of a channel, and leaves with the last."""
        server = self.server()
        peers = [self.subscribe(server, "/a") for _ in range(3)]
        self.assertEqual(self.channels(), {b"pinghub:0:/a"})
        for peer in peers:
            self.assertEqual(self.channels(), {b"pinghub:0:/a"})
            peer.close()
        self.pass_time(LINGER + 0.1)
        self.assertEqual(self.channels(), set())
        self.assertEqual(self.only.count("SUBSCRIBE"), 3)

    def test_bursts(self) -> None:
        """However many come and leave: the broker hears of it once."""
        server = self.server()
        peers = [server.connect() for _ in range(100)]
        for number, peer in enumerate(peers):
            peer.deliver(upgrade_request(f"/{number % 10}"))
        self.turn()
        self.assertEqual({peer.response().status for peer in peers}, {101})
        self.assertEqual(self.only.count("SUBSCRIBE"), 3)
        for peer in peers:
            peer.close()
        again = [self.subscribe(server, f"/{number}") for number in range(10)]
        self.pass_time(1)
        self.assertEqual((self.only.count("SUBSCRIBE"), self.only.count("UNSUBSCRIBE")), (3, 0))
        for peer in again:
            peer.close()
        self.pass_time(1)
        self.assertEqual((self.only.count("UNSUBSCRIBE"), self.channels()), (1, set()))

    def test_confirmed_before_the_101(self) -> None:
        """The 101 waits for the broker; nothing that is published after it is missed."""
        server, other = self.server(), self.server()
        self.only.stop()
        peer = server.connect()
        peer.send(upgrade_request("/a"))
        self.turn()
        self.assertEqual(peer.take(), b"")
        self.only.resume()
        handed = other.backplane.publish("/a", b"before")
        self.turn()
        self.assertEqual(peer.response().status, 101)
        assert isinstance(handed, Deferred)
        expected = ["before"] if self.successResultOf(handed) else []
        other.backplane.publish("/a", b"after")
        self.turn()
        self.assertEqual(peer.texts(), [*expected, "after"])

    def test_a_program(self) -> None:
        """A subscriber of the program that embeds us gets messages of other servers as well."""
        server, other = self.server(), self.server()
        taken: list[bytes] = []

        class Program:
            def deliver(self, frames: bytes) -> None:
                taken.append(frames)

        program = Program()
        server.manager.subscribe("/a", program)
        self.turn()
        self.assertEqual(self.post(other, "/a", b"x"), (200, "1"))
        self.assertEqual(taken, [text_frame(b"x")])
        server.manager.unsubscribe("/a", program)
        self.pass_time(LINGER + 0.1)
        self.assertEqual(self.channels(), set())

    def test_who_gives_up_waiting(self) -> None:
        """A client that leaves before its 101 leaves nothing behind."""
        server = self.server()
        self.only.stop()
        peer = server.connect()
        peer.send(upgrade_request("/a"))
        peer.close()
        self.only.resume()
        self.pass_time(LINGER + 0.1)
        self.assertEqual((self.channels(), len(server.manager)), (set(), 0))

    def test_names_of_the_database(self) -> None:
        """Servers with other numbers of databases are others' servers."""
        server = self.server()
        self.subscribe(server, "/a")
        self.assertEqual(self.only.publish(b"pinghub:7:/a", b"x"), 0)


class FaultTests(BusTests):
    """A broker that fails."""

    def setUp(self) -> None:
        super().setUp()
        self.only = self.redis()

    def test_down(self) -> None:
        """Down: POST 503 with Retry-After; handshakes too; a publisher is closed with 1013."""
        server = self.server()
        publisher, reader = self.subscribe(server, "/a"), self.subscribe(server, "/a")
        self.only.kill()
        self.turn()
        peer = server.connect()
        peer.send(http_request("POST", "/a", b"x"))
        answer = peer.response()
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))
        self.assertEqual(
            answer.body, b"The server cannot reach the others: try again in a moment.\n"
        )
        refused = server.connect()
        refused.send(upgrade_request("/b"))
        self.assertEqual(refused.response().status, 503)
        publisher.send_text("x")
        self.assertEqual([frame.code for frame in publisher.frames()], [1013])
        self.assertEqual(reader.frames(), [])
        self.assertFalse(reader.transport.disconnected)
        self.assertEqual(server.manager.stats.refusals["backplane-down"], 2)

    def test_on_its_way(self) -> None:
        """What was on its way when the connection was lost: 503, and 1013."""
        server = self.server()
        publisher = self.subscribe(server, "/a")
        self.only.stop()
        poster = server.connect()
        poster.send(http_request("POST", "/a", b"x"))
        publisher.send_text("x")
        self.turn()
        self.assertEqual(poster.take() + publisher.take(), b"")
        self.only.kill()
        self.turn()
        answer = poster.response()
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))
        self.assertIn(b"The message may have been published", answer.body)
        self.assertEqual([frame.code for frame in publisher.frames()], [1013])
        self.assertEqual(server.backplane.state().pending, 0)

    def test_back(self) -> None:
        """Subscribers stay, and get messages again within a second of its return."""
        server, other = self.server(), self.server()
        peer = self.subscribe(server, "/a")
        self.only.kill()
        self.pass_time(20)
        self.assertFalse(server.backplane.state().ready)
        self.only.refusing = False
        self.pass_time(0.7)
        self.assertTrue(server.backplane.state().ready)
        self.assertEqual(self.post(other, "/a", b"x"), (200, "1"))
        self.assertEqual(peer.texts(), ["x"])
        self.assertEqual(server.manager.stats.gaps, 1)
        self.assertEqual(other.manager.stats.gaps, 0)

    def test_logged_once(self) -> None:
        """However often it is tried, each is said once: that it is lost, why, that it is back."""
        server = self.server()
        self.subscribe(server, "/a")
        self.lines.clear()
        self.only.kill()
        self.pass_time(60)
        self.only.refusing = False
        self.pass_time(1)
        lost, why, back = self.lines
        self.assertRegex(why, "The backplane is not there .* reason='Connection was refused")
        self.assertTrue(
            lost.startswith("Lost the backplane instance='redis://0' reason='Conn"), lost
        )
        self.assertRegex(
            back, r"The backplane is back instance='redis://0' seconds=60\.\d channels=1"
        )

    def test_hanging(self) -> None:
        """One that hangs is given up after its time; all that waits is answered 503 by then."""
        server = self.server(backplane_timeout=6.0)
        self.pass_time(10)
        self.only.stop()
        poster, waiting = server.connect(), server.connect()
        poster.send(http_request("POST", "/a", b"x"))
        waiting.send(upgrade_request("/a"))
        self.pass_time(3)
        self.assertEqual(poster.take() + waiting.take(), b"")
        self.pass_time(3.1)
        self.assertEqual({poster.response().status, waiting.response().status}, {503})
        self.assertEqual(self.post(server, "/a", b"x")[0], 503)
        self.only.resume()
        self.pass_time(1)
        self.assertEqual(self.post(server, "/a", b"x")[0], 200)

    def test_slow(self) -> None:
        """One that is slow loses nothing, as long as it answers within its time."""
        server = self.server(backplane_timeout=6.0)
        peer = self.subscribe(server, "/a")
        for number in range(10):
            self.only.stop()
            peer.send_text(str(number))
            self.pass_time(3)
            self.only.resume()
            self.turn()
        self.assertEqual(peer.texts(), [str(number) for number in range(10)])
        self.assertEqual(server.manager.stats.gaps, 0)

    def test_only_the_receiving_connection(self) -> None:
        """Cut off for reading too slowly: a gap here, while publishing goes on."""
        server, other = self.server(), self.server()
        mine, theirs = self.subscribe(server, "/a"), self.subscribe(other, "/a")
        victim = next(each for each in self.only.sessions if each.subscribed)
        victim.transport.abortConnection()
        self.reactor.turn()
        self.assertEqual(self.post(server, "/a", b"missed"), (200, "1"))
        self.assertEqual(theirs.texts(), ["missed"])
        self.pass_time(0.2)
        self.assertEqual(self.post(server, "/a", b"x"), (200, "2"))
        self.assertEqual((mine.texts(), theirs.texts()), (["x"], ["x"]))
        self.assertEqual((server.manager.stats.gaps, other.manager.stats.gaps), (1, 0))

    def test_only_the_publishing_connection(self) -> None:
        """A publishing connection that is lost is no gap: subscribers miss nothing."""
        server, other = self.server(), self.server()
        peer = self.subscribe(server, "/a")
        victim = next(each for each in self.only.sessions if not each.subscribed)
        victim.transport.abortConnection()
        self.reactor.turn()
        self.assertEqual(self.post(server, "/a", b"x")[0], 503)
        self.assertFalse(server.backplane.state().ready)
        self.assertEqual(self.post(other, "/a", b"x"), (200, "1"))
        self.assertEqual(peer.texts(), ["x"])
        self.pass_time(0.2)
        self.assertTrue(server.backplane.state().ready)
        self.assertEqual(server.manager.stats.gaps, 0)

    def test_one_gap(self) -> None:
        """A connection that is lost again before it was complete makes no further gap."""
        server = self.server()
        self.subscribe(server, "/a")
        self.only.stop()
        for _ in range(3):
            self.only.cut()
            self.pass_time(1)
        self.only.resume()
        self.pass_time(1)
        self.assertTrue(server.backplane.state().ready)
        self.assertEqual(server.manager.stats.gaps, 1)

    def test_the_same_gap(self) -> None:
        """A gap lasts until all channels are received again, however often it is tried."""
        server = self.server()
        peers = {name: self.subscribe(server, name) for name in ("/a", "/b")}
        self.only.unconfirmed.add(b"pinghub:0:/b")
        for _ in range(3):
            self.only.cut(receiving=True)
            self.pass_time(1)
            self.assertFalse(server.backplane.state().ready)
        self.assertEqual(self.post(server, "/a", b"x"), (200, "1"))
        self.assertEqual(peers["/a"].texts(), ["x"])
        self.only.unconfirmed.clear()
        self.only.cut(receiving=True)
        self.pass_time(1)
        self.assertTrue(server.backplane.state().ready)
        self.assertEqual(server.manager.stats.gaps, 1)
        self.assertRegex(self.lines[-1], "is back .* channels=2")

    def test_another_gap(self) -> None:
        """Who came while others were still missing something misses something of its own."""
        server, other = self.server(), self.server()
        self.subscribe(server, "/slow")
        self.only.unconfirmed.add(b"pinghub:0:/slow")
        self.cut_off(server)
        late = self.subscribe(server, "/late")
        self.assertEqual(server.manager.stats.gaps, 1)
        self.cut_off(server, wait=0)
        self.assertEqual(self.post(other, "/late", b"missed"), (200, "0"))
        self.only.unconfirmed.clear()
        self.pass_time(1)
        self.assertTrue(server.backplane.state().ready)
        self.assertEqual(late.texts(), [])
        self.assertEqual(server.manager.stats.gaps, 2)
        self.assertRegex(self.lines[-1], "is back .* channels=2")

    def test_no_gap(self) -> None:
        """Who waits for a channel that is not there yet misses nothing."""
        server = self.server()
        self.only.stop()
        peer = server.connect()
        peer.send(upgrade_request("/a"))
        self.turn()
        self.only.resume()
        self.only.kill()
        self.turn()
        self.assertEqual(peer.response().status, 503)
        self.only.refusing = False
        self.pass_time(1)
        self.assertEqual(server.manager.stats.gaps, 0)
        self.assertRegex(self.lines[-1], "is back .* channels=0")

    def test_reasons(self) -> None:
        """Each reason for its absence is logged once, and not without end."""
        server = self.server()
        self.lines.clear()
        self.only.cut()
        self.only.password = (b"changed",)
        self.pass_time(10)
        self.assertEqual(len(self.lines), 2)
        self.assertIn("Lost the backplane", self.lines[0])
        self.assertRegex(self.lines[1], "is not there instance='redis://0' reason='NOAUTH")
        self.assertIn("NOAUTH", server.backplane.state().problem)
        self.only.password = ()
        for number in range(20):
            self.only.errors["ping"] = b"ERR %d" % number
            self.pass_time(1)
        self.assertEqual(len(self.lines), REASONS)
        self.only.errors.clear()
        self.pass_time(1)
        self.assertIn("is back", self.lines[-1])
        self.only.kill()
        self.pass_time(1)
        self.assertIn("Lost the backplane", self.lines[REASONS + 1])

    def test_two_servers(self) -> None:
        """If its name means another server by now, both connections go there."""
        server, other = self.server(), self.server()
        for receiving in (False, True):
            peers = [self.subscribe(each, "/a") for each in (server, other)]
            old, new = self.only, MemoryRedis(self.reactor)
            self.patch(self.redises[0], "connect", new.connect)
            old.cut(receiving=receiving)
            self.pass_time(2)
            self.assertEqual(old.sessions, [])
            self.assertEqual(self.post(server, "/a", b"x"), (200, "2"))
            self.assertEqual([peer.texts() for peer in peers], [["x"], ["x"]])
            self.assertTrue(any("at another server" in line for line in self.lines))
            self.lines.clear()
            for peer in peers:
                peer.close()
            self.only = new

    def test_what_does_not_count(self) -> None:
        """Nor is it taken for another server if something in between does not count."""
        publish = self.only.publish
        self.patch(self.only, "publish", lambda *message: publish(*message) * 0)
        server = self.server()
        peer = self.subscribe(server, "/a")
        self.lines.clear()
        for receiving in (True, False):
            self.only.cut(receiving=receiving)
            self.pass_time(1)
            self.assertEqual(self.post(server, "/a", b"x"), (200, "0"))
            self.assertEqual(peer.texts(), ["x"])
        self.assertFalse(any("at another server" in line for line in self.lines))
        self.assertEqual(len(self.only.sessions), 2)

    def test_lost_while_they_are_compared(self) -> None:
        """Nor if the receiving connection is lost again before it could show where it is."""
        server = self.server()
        (publisher,) = [each for each in self.only.sessions if not each.subscribed]
        for _ in range(3):
            self.only.cut(receiving=True)
            while not any(b"\0" in name for each in self.only.sessions for name in each.subscribed):
                self.reactor.advance(0.01)
            self.only.cut(receiving=True)
            self.pass_time(1)
        self.assertIn(publisher, self.only.sessions)
        self.assertTrue(server.backplane.state().ready)

    def test_a_refused_name(self) -> None:
        """The name of its own is no more than a precaution."""
        server = self.server()
        own = next(name for each in self.only.sessions for name in each.subscribed if b"\0" in name)
        self.only.denied.add(own)
        self.lines.clear()
        self.only.cut()
        self.pass_time(1)
        self.assertTrue(server.backplane.state().ready)
        self.assertEqual(len(self.lines), 2)

    def test_a_refused_channel(self) -> None:
        """A channel that the broker does not allow: 503 for who wants it, and nobody else."""
        server = self.server()
        peer = self.subscribe(server, "/a")
        for denied in ("/no", "/never"):
            self.only.denied.add(b"pinghub:0:" + denied.encode())
        self.lines.clear()
        waiting = [server.connect() for _ in range(3)]
        for each, name in zip(waiting, ("/b", "/no", "/never"), strict=True):
            each.send(upgrade_request(name))
        self.turn()
        self.turn()
        answers = [each.response() for each in waiting]
        self.assertEqual([answer.status for answer in answers], [101, 503, 503])
        self.assertEqual(answers[1].body, f"{BackplaneRefused()}\n".encode())
        self.assertEqual(self.post(server, "/no", b"x")[0], 503)
        peer.send_text("x")
        self.turn()
        self.assertEqual(peer.texts(), ["x"])
        self.assertEqual(server.manager.stats.gaps, 0)
        self.assertEqual(server.manager.stats.refusals, {"backplane-refused": 3})
        self.assertTrue(all("refused a" in line and "NOPERM" in line for line in self.lines))
        self.only.denied.clear()
        self.subscribe(server, "/no")

    def test_busy(self) -> None:
        """A broker that is busy with something else is like one that is down."""
        server = self.server()
        self.subscribe(server, "/a")
        for word in ("publish", "subscribe"):
            self.only.errors[word] = b"BUSY Redis is busy running a script"
        self.assertEqual(self.post(server, "/a", b"x")[0], 503)
        waiting = server.connect()
        waiting.send(upgrade_request("/b"))
        self.turn()
        self.assertEqual(waiting.response().body, f"{BackplaneDown()}\n".encode())
        self.assertEqual(server.manager.stats.refusals, {"backplane-down": 2})
        self.assertEqual(server.manager.stats.gaps, 0)

    def test_a_refused_channel_of_a_program(self) -> None:
        """Nor does it keep a server from being ready."""
        self.only.denied.add(b"pinghub:0:/no")
        server = self.server()

        class Program:
            def deliver(self, frames: bytes) -> None:
                pass

        program = Program()
        server.manager.subscribe("/no", program)
        self.pass_time(1)
        self.only.cut()
        self.pass_time(1)
        self.assertEqual(server.backplane.state().up, 1)
        self.assertEqual(self.post(server, "/ok", b"x"), (200, "0"))
        self.only.denied.clear()
        self.pass_time(RETRY + 0.1)
        self.assertEqual(self.post(server, "/no", b"x"), (200, "1"))

    def cut_off(self, server: MemoryServer, wait: float = 1) -> None:
        """Lose the receiving connection of a server, the first one that was made."""
        victim = self.receiving(server)
        victim.transport.abortConnection()
        self.reactor.turn()
        self.pass_time(wait)

    def receiving(self, server: MemoryServer) -> Session:
        """The receiving connection of a server that has subscribers, others have none."""
        return max(self.only.sessions, key=lambda each: len(each.subscribed))

    def test_full(self) -> None:
        """Too much on its way: 503 for more, until the broker has taken some."""
        server = self.server(backplane_queue=100_000)
        self.only.stop()
        posters = [server.connect() for _ in range(3)]
        for poster in posters:
            poster.send(http_request("POST", "/a", b"x" * 40_000))
        self.assertEqual([poster.take() for poster in posters[:2]], [b"", b""])
        answer = posters[2].response()
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "1"))
        self.assertIn(b"Too many messages", answer.body)
        self.only.resume()
        self.turn()
        self.assertEqual({poster.response().status for poster in posters[:2]}, {200})
        self.assertEqual(server.backplane.state().pending, 0)

    def test_full_of_one(self) -> None:
        """A message that fills all of it alone is taken."""
        server = self.server(backplane_queue=65_536)
        self.assertEqual(self.post(server, "/a", b"x" * 65_536), (200, "0"))

    def test_not_there_at_the_start(self) -> None:
        """Not there at the start: it is tried once before anybody is served, and then again."""
        self.only.refusing = True
        server = self.server()
        state = server.backplane.state()
        self.assertEqual((state.instances, state.up, state.reached), (1, 0, 0))
        self.assertRegex(state.problem, "redis://0: Connection was refused")
        self.assertEqual(len(self.lines), 1)
        self.assertIn("The backplane is not there", self.lines[0])
        self.assertEqual(self.post(server, "/a", b"x")[0], 503)
        self.only.refusing = False
        self.pass_time(1)
        self.assertEqual(server.backplane.state().reached, 1)
        self.assertEqual(len(self.lines), 2)
        self.assertIn("The backplane is there", self.lines[1])

    def test_stop(self) -> None:
        """Stopped, no connection is left and none is made, and nothing is said about it."""
        server = self.server()
        self.lines.clear()
        stopped = server.backplane.stop()
        self.turn()
        self.successResultOf(stopped)
        self.pass_time(5)
        self.assertEqual((self.only.sessions, self.lines), ([], []))

    def test_start_again(self) -> None:
        """Stopped, it can be started again."""
        server = self.server()
        server.backplane.stop()
        self.turn()
        server.backplane.start()
        self.turn()
        self.assertTrue(server.backplane.state().ready)
        self.assertEqual(self.post(server, "/a", b"x"), (200, "0"))
