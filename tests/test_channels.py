"""The hub: subscribing, publishing, order, and what a fault may touch."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pinghub.channels import MEASURED, ChannelManager
from pinghub.errors import MessageTooLarge, NotText
from pinghub.frames import text_frame
from pinghub.limits import Limits
from pinghub.outbox import Outbox
from pinghub.stats import CloseReason
from pinghub.testing import MemoryReactor, MemoryTransport


class Inbox:
    """A subscriber that keeps what it is given, one entry for each delivery."""

    def __init__(self) -> None:
        self.deliveries: list[bytes] = []

    def deliver(self, frames: bytes) -> None:
        self.deliveries.append(frames)


class Faulty:
    """A subscriber that raises."""

    def deliver(self, frames: bytes) -> None:
        raise RuntimeError("out of order")


FAULT = "A subscriber failed to take a message and was unsubscribed: out of order"


def frames(*messages: str) -> bytes:
    """The joined frames of some messages."""
    return b"".join(text_frame(message.encode()) for message in messages)


class HubTests(SynchronousTestCase):
    """A manager with a clock, and the errors it reported."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.errors: list[str] = []
        self.manager = ChannelManager(
            self.clock, Limits(), lambda text, error: self.errors.append(f"{text}: {error}")
        )

    def inbox(self, name: str = "/a") -> Inbox:
        """A new subscriber of a channel."""
        inbox = Inbox()
        self.manager.subscribe(name, inbox)
        return inbox

    def end_of_turn(self) -> None:
        """Let the reactor turn end."""
        self.clock.advance(0)


class SubscribeTests(HubTests):
    """Coming and going."""

    def test_subscribe_says_whether_anything_changed(self) -> None:
        """Subscribing twice is subscribing once, and only the first call says so."""
        inbox = Inbox()
        self.assertTrue(self.manager.subscribe("/a", inbox))
        self.assertFalse(self.manager.subscribe("/a", inbox))
        self.assertEqual(self.manager.subscribers("/a"), 1)
        self.assertEqual(self.manager.subscribers("/b"), 0)

    def test_unsubscribe_says_whether_anything_changed(self) -> None:
        """Unsubscribing is idempotent, from channels that do not exist too."""
        inbox, other = self.inbox(), self.inbox()
        self.assertTrue(self.manager.unsubscribe("/a", inbox))
        self.assertFalse(self.manager.unsubscribe("/a", inbox))
        self.assertFalse(self.manager.unsubscribe("/b", other))

    def test_a_channel_lasts_from_its_first_to_its_last_subscriber(self) -> None:
        """A channel exists from its first subscriber to its last; nothing is kept after."""
        self.assertIsNone(self.manager.channel("/a"))
        first, second = self.inbox(), self.inbox()
        channel = self.manager.channel("/a")
        assert channel is not None
        self.assertEqual((len(channel), len(self.manager)), (2, 1))
        self.assertIn(first, channel)
        self.manager.unsubscribe("/a", first)
        self.assertIs(self.manager.channel("/a"), channel)
        self.manager.unsubscribe("/a", second)
        self.assertIsNone(self.manager.channel("/a"))
        self.assertEqual(len(self.manager), 0)

    def test_names_are_checked(self) -> None:
        """A name without a slash, with more than 256 characters or surrogates is no channel's."""
        promise = (
            "a channel name is valid Unicode, begins with a slash and has at most 256 characters: "
        )
        bad = {"a": "a", "": "", "/" + "x" * 256: "/" + "x" * 79, "/\ud800": r"/\ud800"}
        for name, shown in bad.items():
            error = self.assertRaises(ValueError, self.manager.subscribe, name, Inbox())
            self.assertEqual(str(error), f"{promise}'{shown}'")
            error = self.assertRaises(ValueError, self.manager.publish, name, "hello")
            self.assertEqual(str(error), f"{promise}'{shown}'")
        for name in ("/" + "x" * 255, "/" + "é" * 255):
            self.assertTrue(self.manager.subscribe(name, Inbox()))


class PublishTests(HubTests):
    """From a publisher to all subscribers."""

    def test_every_subscriber_of_the_channel_gets_the_message(self) -> None:
        """Every subscriber of a channel receives every message, and nobody else does."""
        first, second, other = self.inbox(), self.inbox(), self.inbox("/b")
        self.assertEqual(self.manager.publish("/a", "hello"), 2)
        self.end_of_turn()
        self.assertEqual(first.deliveries, [frames("hello")])
        self.assertEqual(second.deliveries, [frames("hello")])
        self.assertEqual(other.deliveries, [])

    def test_messages_of_a_turn_are_joined_and_shared(self) -> None:
        """All messages of a reactor turn are one delivery of the same bytes, in order."""
        first, second = self.inbox(), self.inbox()
        for text in "abc":
            self.manager.publish("/a", text)
        self.assertEqual(first.deliveries, [])
        self.end_of_turn()
        self.assertEqual(first.deliveries, [frames("a", "b", "c")])
        self.assertIs(first.deliveries[0], second.deliveries[0])

    def test_turns_follow_each_other(self) -> None:
        """Messages of different turns are different deliveries, in order."""
        inbox = self.inbox()
        self.manager.publish("/a", "1")
        self.end_of_turn()
        self.manager.publish("/a", "2")
        self.end_of_turn()
        self.assertEqual(inbox.deliveries, [frames("1"), frames("2")])

    def test_one_call_for_all_channels(self) -> None:
        """However many channels have something pending, one call is scheduled per turn."""
        for number in range(20):
            self.inbox(f"/{number}")
            self.manager.publish(f"/{number}", "x")
            self.manager.publish(f"/{number}", "y")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.end_of_turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_listens(self) -> None:
        """A message to a channel nobody listens to is dropped, counted, and not kept."""
        self.assertEqual(self.manager.publish("/a", "lost"), 0)
        self.assertEqual(self.manager.publish("/b", "lost"), 0)
        inbox = self.inbox()
        self.end_of_turn()
        self.assertEqual(inbox.deliveries, [])
        self.assertEqual((self.manager.stats.dropped, self.manager.stats.published), (2, 0))
        self.assertEqual(len(self.manager), 1)

    def test_an_empty_message_is_not_broadcast(self) -> None:
        """An empty message is a heartbeat: nothing is broadcast."""
        inbox = self.inbox()
        self.assertEqual(self.manager.publish("/a", ""), 0)
        self.end_of_turn()
        self.assertEqual(inbox.deliveries, [])

    def test_text_and_bytes_are_the_same_message(self) -> None:
        """A message may be given as text or as its UTF-8 bytes."""
        inbox = self.inbox()
        self.manager.publish("/a", "Füße 🦶")
        self.manager.publish("/a", "Füße 🦶".encode())
        self.end_of_turn()
        self.assertEqual(inbox.deliveries, [frames("Füße 🦶", "Füße 🦶")])

    def test_what_is_not_unicode_is_refused(self) -> None:
        """Bytes that are not UTF-8 and lone surrogates are no text."""
        inbox = self.inbox()
        self.assertRaises(NotText, self.manager.publish, "/a", b"\xff")
        self.assertRaises(NotText, self.manager.publish, "/a", "\ud800")
        self.end_of_turn()
        self.assertEqual(inbox.deliveries, [])

    def test_the_largest_message(self) -> None:
        """One message: 65 536 bytes and no more."""
        inbox = self.inbox()
        self.assertEqual(self.manager.publish("/a", "ä" * 32768), 1)
        longer = "ä" * 32768 + "x"
        refusal = self.assertRaises(MessageTooLarge, self.manager.publish, "/a", longer)
        self.assertEqual(refusal.text, "The message is too large: send at most 65536 bytes.")
        self.end_of_turn()
        self.assertEqual(inbox.deliveries, [frames("ä" * 32768)])

    def test_stats(self) -> None:
        """Messages are counted once, deliveries for each subscriber."""
        for _ in range(3):
            self.inbox()
        self.manager.publish("/a", "x")
        self.manager.publish("/a", "y")
        self.end_of_turn()
        self.assertEqual(self.manager.stats.published, 2)
        self.assertEqual(self.manager.stats.deliveries, 6)

    def test_pending_is_bounded(self) -> None:
        """Messages joined into one write: 256 KiB, then they are written at once."""
        inbox = self.inbox()
        for _ in range(3):
            self.manager.publish("/a", "x" * 65536)
        self.assertEqual(inbox.deliveries, [])
        self.manager.publish("/a", "x" * 65536)
        self.assertEqual([len(each) for each in inbox.deliveries], [4 * (65536 + 10)])
        self.end_of_turn()
        self.assertEqual(len(inbox.deliveries), 1)

    def test_exactly_the_bound_is_pending(self) -> None:
        """One byte less than the bound waits for the end of the turn, the bound does not."""
        self.manager = ChannelManager(self.clock, Limits(join_size=100))
        inbox = self.inbox()
        # Frames of 50 and 49 bytes.
        larger, smaller = "x" * 48, "x" * 47
        for _ in range(2):
            inbox.deliveries.clear()
            self.manager.publish("/a", larger)
            self.manager.publish("/a", smaller)
            self.assertEqual(inbox.deliveries, [])
            self.end_of_turn()
            self.assertEqual(inbox.deliveries, [frames(larger, smaller)])
            inbox.deliveries.clear()
            self.manager.publish("/a", larger)
            self.manager.publish("/a", larger)
            self.assertEqual(inbox.deliveries, [frames(larger, larger)])

    def test_messages_after_a_flush_within_the_turn(self) -> None:
        """What is published after an early flush is still delivered, behind it."""
        inbox = self.inbox()
        channel = self.manager.channel("/a")
        assert channel is not None
        self.manager.publish("/a", "1")
        channel.flush()
        self.manager.publish("/a", "2")
        self.end_of_turn()
        self.assertEqual(inbox.deliveries, [frames("1"), frames("2")])


class JoinTests(HubTests):
    """Subscribing while messages are pending."""

    def test_nothing_from_before(self) -> None:
        """A subscriber receives the messages published after it came, none from before."""
        early = self.inbox()
        self.manager.publish("/a", "1")
        late = self.inbox()
        self.manager.publish("/a", "2")
        self.manager.publish("/a", "3")
        last = self.inbox()
        self.end_of_turn()
        self.assertEqual(early.deliveries, [frames("1", "2", "3")])
        self.assertEqual(late.deliveries, [frames("2", "3")])
        self.assertEqual(last.deliveries, [])
        self.assertEqual(self.manager.stats.deliveries, 5)
        self.manager.publish("/a", "4")
        self.end_of_turn()
        for inbox in (early, late, last):
            self.assertEqual(inbox.deliveries[-1], frames("4"))

    def test_leaving_and_coming_back(self) -> None:
        """Who leaves and comes back within a turn gets what follows, once."""
        self.inbox()
        inbox = self.inbox()
        self.manager.publish("/a", "1")
        self.manager.unsubscribe("/a", inbox)
        self.manager.subscribe("/a", inbox)
        self.manager.publish("/a", "2")
        self.end_of_turn()
        self.assertEqual(inbox.deliveries, [frames("2")])

    def test_who_left_is_not_kept(self) -> None:
        """Who comes while messages are pending, and leaves before they go out, is not kept."""
        self.inbox()
        self.manager.publish("/a", "1")
        inbox = self.inbox()
        gone = weakref.ref(inbox)
        self.manager.unsubscribe("/a", inbox)
        del inbox
        self.assertIsNone(gone())

    def test_a_channel_that_ended_with_something_pending(self) -> None:
        """A channel made anew within the turn does not get what its predecessor lost."""
        inbox = self.inbox()
        self.manager.publish("/a", "1")
        self.manager.unsubscribe("/a", inbox)
        self.manager.subscribe("/a", inbox)
        self.end_of_turn()
        self.assertEqual(inbox.deliveries, [])


class FaultTests(HubTests):
    """One failing subscriber never affects another, nor the publisher."""

    def test_a_subscriber_that_raises(self) -> None:
        """A fault unsubscribes the one, reports one line, and the others get everything."""
        before, after = Inbox(), Inbox()
        self.manager.subscribe("/a", before)
        self.manager.subscribe("/a", Faulty())
        self.manager.subscribe("/a", after)
        self.assertEqual(self.manager.publish("/a", "1"), 3)
        self.end_of_turn()
        self.assertEqual(self.manager.publish("/a", "2"), 2)
        self.end_of_turn()
        for inbox in (before, after):
            self.assertEqual(inbox.deliveries, [frames("1"), frames("2")])
        self.assertEqual(self.errors, [FAULT])
        self.assertEqual(self.manager.stats.evictions, {CloseReason.FAULT: 1})

    def test_several_subscribers_that_raise(self) -> None:
        """Every fault is counted and reported."""
        for _ in range(3):
            self.manager.subscribe("/a", Faulty())
        self.manager.publish("/a", "1")
        self.end_of_turn()
        self.assertEqual(self.errors, [FAULT] * 3)
        self.assertEqual(self.manager.stats.evictions, {CloseReason.FAULT: 3})

    def test_the_last_subscriber_raises(self) -> None:
        """A channel whose only subscriber fails ends."""
        self.manager.subscribe("/a", Faulty())
        self.manager.publish("/a", "1")
        self.end_of_turn()
        self.assertEqual(len(self.manager), 0)

    def test_without_an_error_handler(self) -> None:
        """Without a handler, faults go to the standard library's logging."""
        manager = ChannelManager(self.clock)
        manager.subscribe("/a", Faulty())
        manager.publish("/a", "1")
        with self.assertLogs("pinghub.channels", "ERROR") as logs:
            self.end_of_turn()
        self.assertIn(FAULT.partition(":")[0], logs.output[0])
        self.assertIn("RuntimeError: out of order", logs.output[0])

    def test_leaving_during_a_delivery(self) -> None:
        """Who is unsubscribed while a message is handed out does not disturb the others."""
        manager, last = self.manager, Inbox()

        class Leaver(Inbox):
            def deliver(self, frames: bytes) -> None:
                super().deliver(frames)
                manager.unsubscribe("/a", self)

        leavers = [Leaver() for _ in range(3)]
        for leaver in leavers:
            manager.subscribe("/a", leaver)
        manager.subscribe("/a", last)
        manager.publish("/a", "1")
        self.end_of_turn()
        self.assertEqual([each.deliveries for each in leavers], [[frames("1")]] * 3)
        self.assertEqual(last.deliveries, [frames("1")])
        self.assertEqual(manager.subscribers("/a"), 1)

    def test_publishing_during_a_delivery(self) -> None:
        """What a subscriber publishes while it takes a message follows it, for everybody."""
        manager = self.manager

        class Echo(Inbox):
            def deliver(self, frames: bytes) -> None:
                super().deliver(frames)
                if len(self.deliveries) == 1:
                    manager.publish("/a", "2")
                    channel = manager.channel("/a")
                    assert channel is not None
                    channel.flush()

        echo = Echo()
        manager.subscribe("/a", echo)
        last = self.inbox()
        manager.publish("/a", "1")
        self.end_of_turn()
        self.end_of_turn()
        for inbox in (echo, last):
            self.assertEqual(b"".join(inbox.deliveries), frames("1", "2"))


class SharedTests(HubTests):
    """What the connections of one manager share."""

    def test_connections(self) -> None:
        """The number of connections is bounded by the manager's limits."""
        manager = ChannelManager(self.clock, Limits(max_connections=7))
        self.assertEqual(manager.connections.limit, 7)

    def test_deadlines(self) -> None:
        """Deadlines pass with the manager's clock; one that raises is reported like a fault."""
        self.manager.sweep.arm(lambda: Faulty().deliver(b""), 1)
        self.assertEqual(self.errors, [])
        self.clock.pump([0.5] * 4)
        self.assertEqual(self.errors, ["A deadline could not be kept: out of order"])

    def test_backlog(self) -> None:
        """What waits for all subscribers together is bounded by the manager's limits."""
        reactor, evicted = MemoryReactor(), list[str]()
        limits = Limits(max_message=512, max_backlog=1024, max_total_backlog=2048)
        manager = ChannelManager(reactor, limits)

        class Owner:
            def __init__(self, name: str) -> None:
                transport, shared = MemoryTransport(reactor, 0), (manager.sweep, manager.backlog)
                self.name = name
                self.outbox = Outbox(transport, None, self, limits, *shared)

            def overflowed(self, everyone: bool) -> None:
                evicted.append(self.name)

            def stalled(self) -> None:
                raise NotImplementedError

            broken = stalled

        for name, size in {"small": 700, "large": 800, "medium": 548}.items():
            Owner(name).outbox.send(b"x" * size)
        self.assertEqual(evicted, [])
        Owner("last").outbox.send(b"x")
        self.assertEqual(evicted, ["large"])


class Turns:
    """A clock whose turns end one by one, as a reactor's do: time itself stands still."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.now = 1.0

    def seconds(self) -> float:
        return self.now

    def callLater(self, delay: float, callable: Callable[[], object]) -> object:
        self.calls.append(callable)
        return callable

    def end_of_turn(self) -> None:
        """Call what was scheduled; what that schedules is for the next turn."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class MeasureTests(HubTests):
    """How long messages take, in turns that a test ends one by one."""

    def setUp(self) -> None:
        super().setUp()
        self.turns = Turns()
        self.manager = ChannelManager(self.turns, Limits(fanout_slice=2))
        self.timings = self.manager.measure()

    def counted(self) -> tuple[int, float]:
        """How many messages were measured, and their times together."""
        return sum(self.timings.latency.counts), self.timings.latency.sum

    def turn(self, seconds: float) -> None:
        """Let some time pass, and a turn end."""
        self.turns.now += seconds
        self.turns.end_of_turn()

    def test_once(self) -> None:
        """Who measures already goes on."""
        self.assertIs(self.manager.measure(), self.timings)

    def test_to_the_last_subscriber(self) -> None:
        """A message takes until its last subscriber has it, some turns later."""
        for _ in range(3):
            self.inbox()
        self.manager.publish("/a", "x")
        self.turn(0.5)
        self.assertEqual(self.counted(), (0, 0.0))
        self.turn(0.25)
        self.assertEqual(self.counted(), (1, 0.75))
        self.assertEqual(sum(self.timings.fan_out.counts), 2)

    def test_what_comes_meanwhile(self) -> None:
        """A message that comes during a fan-out counts from the turn in which it came."""
        for _ in range(3):
            self.inbox()
        self.manager.publish("/a", "x")
        self.turn(0.5)
        self.manager.publish("/a", "y")
        for _ in range(3):
            self.turn(0.25)
        # x took 0.75 s; y was behind it, and took the same.
        self.assertEqual(self.counted(), (2, 1.5))

    def test_channels(self) -> None:
        """Messages of several channels in one turn count one by one; joined ones as one."""
        for name in ("/a", "/b"):
            self.inbox(name)
            for text in ("x", "y"):
                self.manager.publish(name, text)
        self.turn(0.5)
        self.assertEqual(self.counted(), (2, 1.0))

    def test_a_share(self) -> None:
        """When there are many turns some of them are measured; each costs a little."""
        tick = self.manager.sweep.on_tick
        assert tick is not None
        self.inbox()
        for _ in range(50 * MEASURED):
            self.manager.publish("/a", "x")
            self.turn(0.0)
        tick(0.125)
        self.assertEqual((self.counted()[0], self.timings.lag.sum), (50 * MEASURED, 0.125))
        for _ in range(50 * MEASURED):
            self.manager.publish("/a", "x")
            self.turn(0.0)
        self.assertLess(self.counted()[0], 52 * MEASURED)
        self.assertGreater(self.counted()[0], 50 * MEASURED + MEASURED // 3)
        # And all of them again, when there are few.
        for _ in range(2):
            tick(0.0)
        before = self.counted()[0]
        for _ in range(10):
            self.manager.publish("/a", "x")
            self.turn(0.0)
        self.assertEqual(self.counted()[0], before + 10)

    def test_the_last_of_it(self) -> None:
        """A measured message is counted in a turn that is not measured itself."""
        for _ in range(3):
            self.inbox()
        self.manager.publish("/a", "x")
        tick = self.manager.sweep.on_tick
        assert tick is not None
        self.manager._turns = 10**9
        tick(0.0)
        self.turn(0.5)
        self.turn(0.5)
        self.assertEqual(self.counted(), (1, 1.0))
        self.assertEqual(sum(self.timings.fan_out.counts), 1)


class SliceTests(HubTests):
    """A large fan-out takes several turns, and keeps its order."""

    def setUp(self) -> None:
        super().setUp()
        self.turns = Turns()
        self.manager = ChannelManager(
            self.turns,
            Limits(fanout_slice=10),
            lambda text, error: self.errors.append(f"{text}: {error}"),
        )

    def end_of_turn(self) -> None:
        """Let one reactor turn end."""
        self.turns.end_of_turn()

    def texts(self, inbox: Inbox) -> bytes:
        """All that a subscriber got."""
        return b"".join(inbox.deliveries)

    def test_ten_a_turn(self) -> None:
        """Deliveries in one reactor turn: as many as the bound says, the rest in the next."""
        inboxes = [self.inbox() for _ in range(25)]
        self.manager.publish("/a", "x")
        for expected in (10, 20, 25, 25):
            self.end_of_turn()
            self.assertEqual(sum(bool(inbox.deliveries) for inbox in inboxes), expected)
        self.assertEqual(self.turns.calls, [])
        self.assertEqual(self.manager.stats.deliveries, 25)

    def test_first_come_first_served(self) -> None:
        """Subscribers get a message in the order in which they came."""
        inboxes = [self.inbox() for _ in range(15)]
        self.manager.publish("/a", "x")
        self.end_of_turn()
        self.assertEqual([bool(inbox.deliveries) for inbox in inboxes], [True] * 10 + [False] * 5)

    def test_order_over_turns(self) -> None:
        """What is published meanwhile comes behind, for everybody, joined."""
        inboxes = [self.inbox() for _ in range(25)]
        for number in range(6):
            self.manager.publish("/a", str(number))
            self.end_of_turn()
        for _ in range(6):
            self.end_of_turn()
        for inbox in inboxes:
            self.assertEqual(self.texts(inbox), frames(*"012345"))
        self.assertLess(len(inboxes[0].deliveries), 6)

    def test_channels_take_turns(self) -> None:
        """A large fan-out gives way to other channels."""
        for _ in range(100):
            self.inbox("/large")
        small = self.inbox("/small")
        self.manager.publish("/large", "x")
        self.end_of_turn()
        self.manager.publish("/small", "y")
        self.end_of_turn()
        self.end_of_turn()
        self.assertEqual(small.deliveries, [frames("y")])
        self.assertLessEqual(self.manager.stats.deliveries, 31)

    def test_many_channels(self) -> None:
        """The bound holds for all channels together."""
        inboxes = [self.inbox(f"/{number}") for number in range(25)]
        for number in range(25):
            self.manager.publish(f"/{number}", "x")
        self.end_of_turn()
        self.assertEqual(sum(len(inbox.deliveries) for inbox in inboxes), 10)
        self.manager.flush()
        self.assertEqual([len(inbox.deliveries) for inbox in inboxes], [1] * 25)

    def test_messages_of_a_turn_count_once(self) -> None:
        """Several messages of a turn are one delivery, and take no room from other channels."""
        large = [self.inbox("/large") for _ in range(6)]
        small = [self.inbox("/small") for _ in range(4)]
        for name in ("/large", "/large", "/large", "/small"):
            self.manager.publish(name, "x")
        self.end_of_turn()
        self.assertEqual([len(inbox.deliveries) for inbox in large + small], [1] * 10)

    def test_coming_meanwhile(self) -> None:
        """Who comes while a batch is handed out gets what is published after."""
        for _ in range(15):
            self.inbox()
        self.manager.publish("/a", "1")
        self.end_of_turn()
        self.manager.publish("/a", "2")
        late = self.inbox()
        self.manager.publish("/a", "3")
        for _ in range(5):
            self.end_of_turn()
        self.assertEqual(self.texts(late), frames("3"))

    def test_leaving_meanwhile(self) -> None:
        """Who leaves while a batch is handed out gets nothing more; coming back, what is new."""
        inboxes = [self.inbox() for _ in range(15)]
        self.manager.publish("/a", "1")
        self.end_of_turn()
        gone, back = inboxes[12], inboxes[14]
        for inbox in (gone, back):
            self.manager.unsubscribe("/a", inbox)
        self.manager.subscribe("/a", back)
        self.manager.publish("/a", "2")
        for _ in range(5):
            self.end_of_turn()
        self.assertEqual((self.texts(gone), self.texts(back)), (b"", frames("2")))

    def test_catching_up(self) -> None:
        """Who catches up gets all that is under way at once, and nothing of it again."""
        inboxes = [self.inbox() for _ in range(15)]
        self.manager.publish("/a", "1")
        self.end_of_turn()
        self.manager.publish("/a", "2")
        self.manager.publish("/a", "3")
        channel = self.manager.channel("/a")
        assert channel is not None
        had_the_batch, had_nothing = inboxes[0], inboxes[14]
        for _ in range(2):
            channel.catch_up(had_the_batch)
            channel.catch_up(had_nothing)
            self.assertEqual(self.texts(had_the_batch), frames("1", "2", "3"))
            self.assertEqual(self.texts(had_nothing), frames("1", "2", "3"))
        self.assertEqual(self.texts(inboxes[13]), b"")
        self.manager.publish("/a", "4")
        for _ in range(5):
            self.end_of_turn()
        for inbox in inboxes:
            self.assertEqual(self.texts(inbox), frames("1", "2", "3", "4"))
        self.assertEqual(self.manager.stats.deliveries, 60)

    def test_a_stranger_catches_up(self) -> None:
        """Who is not subscribed has nothing to catch up with."""
        self.inbox()
        stranger = Inbox()
        self.manager.publish("/a", "1")
        channel = self.manager.channel("/a")
        assert channel is not None
        channel.catch_up(stranger)
        self.assertEqual(stranger.deliveries, [])

    def test_the_bound_on_what_is_pending(self) -> None:
        """When too much is pending behind a large fan-out, everything is handed out at once."""
        inboxes = [self.inbox() for _ in range(25)]
        self.manager.publish("/a", "1")
        self.end_of_turn()
        for _ in range(4):
            self.manager.publish("/a", "x" * 65536)
        for inbox in inboxes:
            self.assertEqual(self.texts(inbox), frames("1", *["x" * 65536] * 4))

    def test_a_channel_that_ends_meanwhile(self) -> None:
        """When all leave while a batch is handed out, nothing is left of it."""
        inboxes = [self.inbox() for _ in range(15)]
        self.manager.publish("/a", "1")
        self.end_of_turn()
        for inbox in inboxes:
            self.manager.unsubscribe("/a", inbox)
        for _ in range(3):
            self.end_of_turn()
        self.assertEqual(len(self.manager), 0)
        self.assertEqual(self.turns.calls, [])
        self.assertEqual(sum(bool(inbox.deliveries) for inbox in inboxes), 10)

    def test_forgotten(self) -> None:
        """A message is forgotten once it is handed out, however large it was."""
        inboxes = [self.inbox() for _ in range(15)]
        self.manager.publish("/a", "x" * 60_000)
        self.manager.publish("/a", "y" * 60_000)
        for _ in range(3):
            self.end_of_turn()
        joined = inboxes[0].deliveries[0]
        for inbox in inboxes:
            self.assertIs(inbox.deliveries.pop(), joined)
        del inbox
        # One reference is the variable's, one is the argument's.
        self.assertEqual(sys.getrefcount(joined), 2)

    def test_evicting_each_other(self) -> None:
        """A delivery that ends the subscriptions of others ends them in the same batch."""
        manager = self.manager
        others = [Inbox() for _ in range(12)]

        class Evictor(Inbox):
            def deliver(self, frames: bytes) -> None:
                super().deliver(frames)
                for other in others:
                    manager.unsubscribe("/a", other)

        evictor = Evictor()
        manager.subscribe("/a", evictor)
        for other in others:
            manager.subscribe("/a", other)
        manager.publish("/a", "x")
        for _ in range(3):
            self.end_of_turn()
        self.assertEqual(evictor.deliveries, [frames("x")])
        self.assertEqual([other.deliveries for other in others], [[]] * 12)
        self.assertEqual(self.turns.calls, [])

    def test_a_place_in_the_queue(self) -> None:
        """However long a channel is busy, it waits for its turn once, not many times over."""
        for _ in range(25):
            self.inbox()
        for number in range(50):
            self.manager.publish("/a", str(number))
            self.end_of_turn()
            self.assertLessEqual(len(self.manager._scheduled), 1)

    def test_a_subscriber_that_answers_itself(self) -> None:
        """A subscriber that publishes with each delivery goes on in turns, one in each."""
        manager = self.manager

        class Echo(Inbox):
            def deliver(self, frames: bytes) -> None:
                super().deliver(frames)
                manager.publish("/a", "again")
                manager.flush()

        echo = Echo()
        manager.subscribe("/a", echo)
        manager.publish("/a", "first")
        for turn in range(3):
            self.assertEqual(len(echo.deliveries), turn)
            self.end_of_turn()
        self.assertEqual(manager.stats.evictions, {})
