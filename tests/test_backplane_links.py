"""The two connections to a broker, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from txredisapi import ConnectionError, ResponseError

from pinghub.backplane.endpoints import QuietFactory
from pinghub.backplane.links import LOOKS, PublishLink, ReceiveLink
from pinghub.backplane.urls import BrokerURL, parse
from pinghub.limits import Limits
from tests.redis_in_memory import MemoryRedis, array

TIMEOUT = 6.0
NAME = b"pinghub:3:"


class LinkTests(SynchronousTestCase):
    """A broker, and a connection to it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.redis = MemoryRedis(self.clock)
        self.usable: list[Any] = []
        self.problems: list[str] = []
        self.messages: list[tuple[bytes, bytes]] = []
        self.answers: list[tuple[bytes, bool]] = []
        self.refusals: list[bytes] = []

    def ready(self, link: Any) -> None:
        self.usable.append(link)

    def lost(self, link: Any, reason: str) -> None:
        self.problems.append(reason)

    def received(self, channel: bytes, payload: bytes) -> None:
        self.messages.append((channel, payload))

    def confirmed(self, channel: bytes, joined: bool) -> None:
        self.answers.append((channel, joined))

    def refused(self, channel: bytes, reason: str) -> None:
        self.assertIn("NOPERM", reason)
        self.refusals.append(channel)

    def link(self, kind: type[Any], url: str = "redis://host/3", **limits: Any) -> Any:
        """A connection that has said who it is."""
        arguments = (self, parse(url), Limits(backplane_timeout=TIMEOUT, **limits), self.clock)
        connecting = self.redis.connect(QuietFactory(lambda: kind(*arguments)))
        self.clock.advance(0)
        return self.successResultOf(connecting)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, turn by turn."""
        for _ in range(round(seconds / 0.1)):
            self.clock.advance(0.1)


class HandshakeTests(LinkTests):
    """Who we are, and whether it is a broker."""

    def test_ready(self) -> None:
        """It is ready when the broker has answered."""
        for kind in (PublishLink, ReceiveLink):
            link = self.link(kind)
            self.assertIs(self.usable.pop(), link)
        self.assertEqual(self.problems, [])

    def test_login(self) -> None:
        """It says who we are, if the URL does; a password alone is that of the default user."""
        for url, password in (
            ("redis://alice:secret%20@host", (b"alice", b"secret ")),
            ("redis://:secret@host", (b"secret",)),
        ):
            self.redis.password = password
            for kind in (PublishLink, ReceiveLink):
                link = self.link(kind, url)
                self.assertIs(self.usable.pop(), link)

    def test_wrong_login(self) -> None:
        """A broker that does not know us is no broker for us; the problem shows no password."""
        self.redis.password = (b"other",)
        for url, words in (
            ("redis://:secret@host", "WRONGPASS"),
            ("redis://host", "NOAUTH"),
        ):
            for kind in (PublishLink, ReceiveLink):
                self.link(kind, url)
                self.assertIn(words, self.problems[-1])
                self.assertNotIn("secret", self.problems[-1])
        self.assertEqual((self.usable, self.redis.sessions), ([], []))

    def test_role(self) -> None:
        """Whom the sentinels called a master has to be one; nobody else is asked."""
        url = "redis+sentinel://host/mymaster"
        link = self.link(PublishLink, url)
        self.assertIs(self.usable.pop(), link)
        self.redis.role = b"slave"
        self.link(PublishLink, url)
        self.assertEqual(self.problems, ["it is no master any more: b'slave'"])
        link = self.link(PublishLink)
        self.assertIs(self.usable.pop(), link)

    def test_lost_meanwhile(self) -> None:
        """A connection that is lost while it says who it is was never ready."""
        self.redis.stop()
        self.link(PublishLink)
        self.redis.cut()
        self.assertEqual((self.usable, len(self.problems)), ([], 1))

    def test_no_broker(self) -> None:
        """What answers something else is given up."""
        link = self.link(PublishLink)
        link.dataReceived(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.clock.advance(0)
        self.assertIn("this is no Redis", self.problems[0])

    def test_numbers(self) -> None:
        """A message that looks like a number stays text."""
        link = self.link(ReceiveLink)
        link.join([b"1"])
        self.clock.advance(0)
        self.redis.publish(b"1", b"2.0")
        self.clock.advance(0)
        self.assertEqual(self.messages, [(b"1", b"2.0")])


class PublishTests(LinkTests):
    """The connection that publishes."""

    def test_publish(self) -> None:
        """Messages are published in order; the results are how many got them."""
        receiver = self.link(ReceiveLink)
        receiver.join([b"a"])
        self.clock.advance(0)
        link = self.link(PublishLink)
        results = [link.publish(channel, b"1") for channel in (b"a", b"b", b"a")]
        self.clock.advance(0)
        self.assertEqual([self.successResultOf(each) for each in results], [1, 0, 1])
        self.assertEqual(self.messages, [(b"a", b"1")] * 2)

    def test_not_allowed(self) -> None:
        """A refused message fails alone."""
        link = self.link(PublishLink)
        self.redis.errors["publish"] = b"NOPERM this user has no permissions"
        refused = link.publish(b"a", b"1")
        self.clock.advance(0)
        self.failureResultOf(refused, ResponseError)
        self.redis.errors.clear()
        result = link.publish(b"a", b"1")
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(result), 0)

    def test_nobody_asked(self) -> None:
        """What answers more than it was asked is given up, before it answers the wrong message."""
        link = self.link(PublishLink)
        link.dataReceived(b":1\r\n")
        self.clock.advance(0)
        self.assertEqual(self.problems, ["an answer to no question"])

    def test_lost(self) -> None:
        """With the connection all fail that were not answered."""
        link = self.link(PublishLink)
        results = [link.publish(b"a", b"1") for _ in range(2)]
        self.redis.cut()
        for each in results:
            self.failureResultOf(each, ConnectionError)


class ReceiveTests(LinkTests):
    """The connection that receives."""

    def test_receive(self) -> None:
        """What is published on a channel is received from its confirmation to its end."""
        link = self.link(ReceiveLink)
        link.join([b"a", b"b"])
        self.assertEqual(self.answers, [])
        self.clock.advance(0)
        self.assertEqual(self.answers, [(b"a", True), (b"b", True)])
        self.redis.publish(b"a", b"1")
        self.redis.publish(b"b", b"\xff\r\n")
        self.redis.publish(b"c", b"3")
        self.clock.advance(0)
        self.assertEqual(self.messages, [(b"a", b"1"), (b"b", b"\xff\r\n")])
        link.leave([b"a"])
        self.clock.advance(0)
        self.assertEqual(self.answers[2:], [(b"a", False)])
        self.assertEqual(self.redis.names(), {b"b", b"pinghub:3:"})

    def test_a_channel_that_is_not_allowed(self) -> None:
        """Those that were asked for with it are subscribed, and the connection lasts."""
        self.redis.denied.add(b"b")
        link = self.link(ReceiveLink)
        link.join([b"a", b"b", b"c"])
        barrier = link.barrier()
        link.join([b"d"])
        self.pass_time(1)
        self.assertEqual({name for name, joined in self.answers if joined}, {b"a", b"c", b"d"})
        self.assertEqual((self.refusals, self.problems), ([b"b"], []))
        self.successResultOf(barrier)
        link.join([b"b"])
        self.pass_time(1)
        self.assertEqual((self.refusals, self.problems), ([b"b", b"b"], []))

    def test_a_name_that_is_not_allowed(self) -> None:
        """Without the name of all names it is of no use."""
        self.redis.denied = {NAME}
        self.link(ReceiveLink)
        self.pass_time(1)
        self.assertIn("NOPERM", self.problems.pop())
        self.assertEqual((self.problems, self.usable), ([], []))

    def test_a_command_that_is_not_allowed(self) -> None:
        """Nor if it may not ask for what it needs besides."""
        link = self.link(ReceiveLink)
        self.redis.errors["unsubscribe"] = b"NOPERM this user has no permissions"
        link.leave([b"a"])
        self.pass_time(1)
        self.assertIn("NOPERM", self.problems.pop())
        self.assertEqual(self.refusals, [])

    def test_busy_with_something_else(self) -> None:
        """A broker that has no time says so, and lives."""
        for kind in (PublishLink, ReceiveLink):
            link = self.link(kind)
            self.redis.errors["ping"] = b"BUSY Redis is busy running a script"
            barrier = link.barrier().addErrback(lambda _: None)
            self.pass_time(3 * TIMEOUT)
            self.successResultOf(barrier)
            self.assertEqual(self.problems, [])
            self.redis.errors.clear()

    def test_no_question(self) -> None:
        """An answer that nobody asked for ends it."""
        link = self.link(ReceiveLink)
        link.dataReceived(array(b"pong", b""))
        self.clock.advance(0)
        self.assertEqual(self.problems, ["an answer to no question"])

    def test_not_allowed(self) -> None:
        """Who may not subscribe to anything is of no use."""
        self.redis.errors["subscribe"] = b"NOPERM this user has no permissions"
        self.link(ReceiveLink)
        self.assertIn("NOPERM", self.problems[0])
        self.assertEqual(self.usable, [])

    def test_barrier(self) -> None:
        """Behind a barrier is all that was published before."""
        link = self.link(ReceiveLink)
        link.join([b"a"])
        self.clock.advance(0)
        self.redis.publish(b"a", b"1")
        barriers = [link.barrier(), link.barrier()]
        self.assertNoResult(barriers[0])
        self.clock.advance(0)
        for each in barriers:
            self.successResultOf(each)
        self.assertEqual(self.messages, [(b"a", b"1")])

    def test_barrier_of_a_lost_connection(self) -> None:
        """Nothing more comes of a connection that is lost: nobody waits for it."""
        link = self.link(ReceiveLink)
        barrier = link.barrier()
        self.redis.cut()
        self.successResultOf(barrier)
        self.successResultOf(link.barrier())


class WatchTests(LinkTests):
    """A broker that says nothing."""

    def test_idle(self) -> None:
        """An idle connection lasts, as long as the broker answers."""
        for kind in (PublishLink, ReceiveLink):
            self.link(kind)
        self.pass_time(10 * TIMEOUT)
        self.assertEqual(self.problems, [])

    def test_stopped(self) -> None:
        """A broker that answers nothing is given up, when it has had its time."""
        for kind in (PublishLink, ReceiveLink):
            self.link(kind)
            self.pass_time(2.5)
            self.redis.stop()
            self.pass_time(TIMEOUT)
            self.assertEqual(self.problems, [])
            # Until it was asked, some time went by as well.
            self.pass_time(2 * TIMEOUT / LOOKS + 0.2)
            self.assertEqual(self.problems, ["nothing came within 6 s"])
            self.problems.clear()
            self.redis.stopped = False

    def test_stopped_with_a_question(self) -> None:
        """One that was asked something is given up exactly then, whenever that was."""
        for delay in (0.1, 0.7, 2.5):
            link = self.link(PublishLink)
            self.pass_time(delay)
            self.redis.stop()
            answer = link.publish(b"a", b"1")
            self.pass_time(TIMEOUT - 0.1)
            self.assertNoResult(answer)
            self.pass_time(0.3)
            self.failureResultOf(answer, ConnectionError)
            self.redis.stopped = False

    def test_slow(self) -> None:
        """One that needs nearly all of its time for each answer is kept."""
        for kind in (PublishLink, ReceiveLink):
            self.link(kind)
            for _ in range(10):
                self.pass_time(0.7)
                self.redis.stop()
                self.pass_time(TIMEOUT - 0.2)
                self.redis.resume()
            self.assertEqual(self.problems, [])

    def test_slow_with_several_questions(self) -> None:
        """Each answer gives the next one its whole time."""
        link = self.link(PublishLink)
        self.redis.stop()
        answers = [link.publish(b"a", b"1") for _ in range(4)]
        for each in answers[:3]:
            self.pass_time(TIMEOUT - 0.2)
            link.dataReceived(b":0\r\n")
            self.assertEqual(self.successResultOf(each), 0)
        self.pass_time(TIMEOUT - 0.2)
        self.assertNoResult(answers[3])
        self.pass_time(0.4)
        self.failureResultOf(answers[3], ConnectionError)

    def test_a_hanging_handshake(self) -> None:
        """So is one that accepts connections and does nothing else."""
        self.redis.stop()
        for kind in (PublishLink, ReceiveLink):
            self.link(kind, "redis://:secret@host")
        self.pass_time(TIMEOUT + 0.1)
        self.assertEqual(self.problems, ["nothing came within 6 s"] * 2)

    def test_hanging_within_the_handshake(self) -> None:
        """Nor does it help to have answered something."""
        self.redis.password = (b"secret",)
        self.redis.errors["ping"] = b""
        for kind in (PublishLink, ReceiveLink):
            for url in ("redis://:secret@host", "redis+sentinel://:secret@host/name"):
                self.link(kind, url)
        self.pass_time(TIMEOUT + 0.2)
        self.assertEqual(self.problems, ["nothing came within 6 s"] * 4)

    def test_an_unconfirmed_channel(self) -> None:
        """A command that is not answered is noticed, whatever else was answered before."""
        self.redis.unconfirmed.add(b"a")
        link = self.link(ReceiveLink)
        link.join([b"b"])
        link.join([b"a"])
        self.pass_time(TIMEOUT + 0.2)
        self.assertEqual(self.problems, ["nothing came within 6 s"])

    def test_busy(self) -> None:
        """Whatever comes is a sign of life, and needs no question."""
        link = self.link(ReceiveLink)
        link.join([b"a"])
        for _ in range(100):
            self.redis.publish(b"a", b"1")
            self.pass_time(0.5)
        self.assertEqual((self.problems, self.redis.count("PING")), ([], 1))

    def test_our_own_silence(self) -> None:
        """Who was stopped or busy itself gives nobody up for what it has not heard."""
        for kind in (PublishLink, ReceiveLink):
            self.link(kind)
            self.pass_time(2.5)
            self.redis.stop()
            self.pass_time(2.5)  # It has been asked by now.
            self.clock.advance(10)
            self.redis.resume()
            self.pass_time(2 * TIMEOUT)
            self.assertEqual(self.problems, [])

    def test_once(self) -> None:
        """A connection is given up once, whatever comes then."""
        link = self.link(PublishLink)
        link.fail("first")
        link.fail("second")
        self.clock.advance(0)
        self.assertEqual(self.problems, ["first"])


class BoundTests(LinkTests):
    """What others may publish."""

    def test_partial(self) -> None:
        """What begins to arrive and is endless ends the connection, and is kept no longer."""
        bound = 10_000
        link = self.link(ReceiveLink, backplane_reply=bound - 4000, max_message=4000)
        link.join([b"a"])
        self.clock.advance(0)
        large = array(b"message", b"a", b"x" * (bound - 100))
        link.dataReceived(large[:-10])
        link.dataReceived(large[-10:])
        self.assertEqual(len(self.messages), 1)
        link.dataReceived(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$99999999\r\n")
        for _ in range(12):
            link.dataReceived(b"x" * 1000)
        self.clock.advance(0)
        self.assertEqual(self.problems, ["an answer is too large"])


class QuietTests(SynchronousTestCase):
    """The factory."""

    def test_make(self) -> None:
        """It makes what it is told to, and logs nothing."""
        factory = QuietFactory(Protocol)
        self.assertIsInstance(factory.buildProtocol(None), Protocol)
        self.assertFalse(factory.noisy)

    def test_no_password_in_text(self) -> None:
        """The representation of a URL shows no password."""
        url = BrokerURL("redis://host", password="secret", sentinel_password="secret")
        self.assertNotIn("secret", repr(url))
