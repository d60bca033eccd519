"""Which channels a broker is asked for, and when."""

from __future__ import annotations

from collections.abc import Callable, Collection

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pinghub.backplane.interest import LINGER, MOST, RETRY, Interests
from pinghub.errors import BackplaneDown, BackplaneRefused


class InterestTests(SynchronousTestCase):
    """What is asked, and what is waited for."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[tuple[str, ...]] = []
        self.completed = 0
        self.interests = Interests(self.clock, self.note("join"), self.note("leave"), self.complete)

    def note(self, what: str) -> Callable[[Collection[str]], None]:
        def ask(names: Collection[str]) -> None:
            self.asked.append((what, *names))

        return ask

    def complete(self) -> None:
        self.completed += 1

    def connect(self) -> None:
        """A connection, over which all was confirmed."""
        self.interests.connected()
        self.answer()

    def answer(self) -> None:
        """Let the broker be asked, and confirm all of it."""
        self.clock.advance(0)
        asked, self.asked = self.asked, []
        for what, *names in asked:
            for name in names:
                self.interests.confirmed(name, what == "join")

    def joined(self, name: str) -> None:
        """A channel that is held, and confirmed."""
        self.interests.hold(name)
        self.answer()

    def test_first_and_last(self) -> None:
        """A channel is asked for with the first that holds it, and let go with the last."""
        self.connect()
        self.interests.hold("/a")
        self.interests.hold("/a")
        self.clock.advance(0)
        self.assertEqual(self.asked, [("join", "/a")])
        self.answer()
        self.assertTrue(self.interests.joined("/a"))
        self.interests.release("/a")
        self.clock.advance(LINGER)
        self.assertEqual(self.asked, [])
        self.interests.release("/a")
        self.clock.advance(LINGER)
        self.assertEqual(self.asked, [("leave", "/a")])
        self.answer()
        self.assertFalse(self.interests.joined("/a"))
        self.assertEqual(len(self.interests), 0)

    def test_a_burst(self) -> None:
        """What is held in one turn is asked for at once; what comes back soon was never let go."""
        self.connect()
        for number in range(50):
            self.interests.hold(f"/{number}")
        self.clock.advance(0)
        self.assertEqual(self.asked, [("join", *(f"/{number}" for number in range(50)))])
        self.answer()
        for _ in range(3):
            for number in range(50):
                self.interests.release(f"/{number}")
            self.clock.advance(LINGER / 2)
            for number in range(50):
                self.interests.hold(f"/{number}")
            self.clock.advance(LINGER)
        self.assertEqual(self.asked, [])

    def test_neither_asked_for_nor_let_go(self) -> None:
        """Who comes and leaves within a turn costs the broker nothing."""
        self.connect()
        self.interests.hold("/a")
        self.interests.release("/a")
        self.clock.advance(LINGER)
        self.assertEqual((self.asked, len(self.interests)), ([], 0))

    def test_many(self) -> None:
        """The broker is asked about a bounded number in a turn, and the others in the next ones."""
        names = [f"/{number}" for number in range(2 * MOST + 1)]
        for name in names:
            self.interests.hold(name)
        self.interests.connected()
        self.clock.advance(0)
        self.assertEqual([len(each) - 1 for each in self.asked], [MOST, MOST, 1])
        self.answer()
        self.assertEqual(self.completed, 1)
        for name in names:
            self.interests.release(name)
        self.clock.advance(LINGER)
        self.assertEqual([len(each) - 1 for each in self.asked], [MOST, MOST, 1])

    def test_waiting(self) -> None:
        """Who waits for a channel is told when the broker has confirmed it, and not before."""
        self.connect()
        self.interests.hold("/a")
        waiting = [self.interests.when_joined("/a") for _ in range(2)]
        self.clock.advance(0)
        for each in waiting:
            self.assertNoResult(each)
        self.answer()
        for each in waiting:
            self.successResultOf(each)
        self.successResultOf(self.interests.when_joined("/a"))

    def test_no_connection(self) -> None:
        """Without a connection nobody waits."""
        self.interests.hold("/a")
        self.failureResultOf(self.interests.when_joined("/a"), BackplaneDown)
        self.interests.release("/a")
        self.assertEqual(len(self.interests), 0)

    def test_lost(self) -> None:
        """With the connection all waiting ends; what is held is asked for over the next one."""
        self.connect()
        for name in ("/a", "/b", "/c", "/d"):
            self.joined(name)
        self.interests.release("/b")
        self.interests.release("/c")
        self.interests.hold("/e")
        waiting = self.interests.when_joined("/e")
        self.interests.lost()
        self.failureResultOf(waiting, BackplaneDown)
        self.assertFalse(self.interests.joined("/a"))
        self.interests.release("/d")
        self.assertEqual(self.interests.held(), ["/a", "/e"])
        self.assertEqual(len(self.interests), 2)
        self.clock.advance(1)
        self.assertEqual(self.asked, [])
        self.interests.connected()
        self.clock.advance(0)
        self.assertEqual(self.asked, [("join", "/a", "/e")])

    def test_complete(self) -> None:
        """A connection is complete when all that was held has been confirmed, or let go."""
        self.interests.connected()
        self.assertEqual(self.completed, 1)
        for name in ("/a", "/b", "/c"):
            self.interests.hold(name)
        self.interests.lost()
        self.interests.connected()
        self.interests.release("/c")
        self.clock.advance(0)
        self.assertEqual(self.asked, [("join", "/a", "/b")])
        self.interests.confirmed("/a", True)
        self.interests.hold("/later")
        self.assertEqual(self.completed, 1)
        self.interests.confirmed("/b", True)
        self.assertEqual(self.completed, 2)
        self.answer()
        self.assertEqual(self.completed, 2)

    def test_complete_without_the_last(self) -> None:
        """If all that was missing is let go, nothing is missing."""
        self.interests.hold("/a")
        self.interests.connected()
        self.interests.release("/a")
        self.assertEqual(self.completed, 1)

    def test_held_again_while_it_is_let_go(self) -> None:
        """A question waits for the answer to the one before, about the same channel."""
        self.connect()
        self.joined("/a")
        self.interests.release("/a")
        self.clock.advance(LINGER)
        self.assertEqual(self.asked, [("leave", "/a")])
        self.interests.hold("/a")
        waiting = self.interests.when_joined("/a")
        self.clock.advance(1)
        self.assertEqual(self.asked, [("leave", "/a")])
        self.answer()
        self.assertNoResult(waiting)
        self.answer()
        self.successResultOf(waiting)
        self.assertTrue(self.interests.joined("/a"))

    def test_let_go_while_it_is_asked_for(self) -> None:
        """The same, the other way round."""
        self.connect()
        self.interests.hold("/a")
        self.clock.advance(0)
        self.interests.release("/a")
        self.clock.advance(1)
        self.assertEqual(self.asked, [("join", "/a")])
        self.answer()
        self.clock.advance(LINGER)
        self.assertEqual(self.asked, [("leave", "/a")])

    def test_let_go_by_who_waited(self) -> None:
        """Who waited for a channel may let it go at once."""
        self.connect()
        self.interests.hold("/a")
        waiting = self.interests.when_joined("/a")
        waiting.addCallback(lambda _: self.interests.release("/a"))
        self.answer()
        self.clock.advance(LINGER)
        self.assertEqual(self.asked, [("leave", "/a")])

    def test_lost_by_who_waited(self) -> None:
        """Who waited for a channel may find the connection lost."""
        self.connect()
        self.interests.hold("/a")
        self.interests.when_joined("/a").addCallback(lambda _: self.interests.lost())
        self.answer()
        self.assertFalse(self.interests.joined("/a"))
        self.assertEqual(self.interests.held(), ["/a"])

    def test_refused(self) -> None:
        """A channel that is not allowed is not waited for any more, and asked for anew later."""
        self.interests.hold("/a")
        self.interests.hold("/no")
        self.interests.connected()
        waiting = self.interests.when_joined("/no")
        self.clock.advance(0)
        self.interests.refused("/no", BackplaneRefused())
        self.failureResultOf(waiting, BackplaneRefused)
        self.assertEqual(self.completed, 0)
        self.interests.confirmed("/a", True)
        self.assertEqual(self.completed, 1)
        self.assertEqual(
            (self.interests.held(), self.interests.received()), (["/a", "/no"], ["/a"])
        )
        self.asked.clear()
        self.joined("/no")
        self.assertTrue(self.interests.joined("/no"))
        self.clock.advance(RETRY)
        self.assertEqual(self.asked, [])
        for _ in range(2):
            self.interests.release("/no")
        self.interests.hold("/gone")
        self.clock.advance(0)
        self.interests.release("/gone")
        self.interests.refused("/gone", BackplaneRefused())
        self.assertEqual(self.interests.held(), ["/a"])
        for name in ("/a", "/nobody"):
            self.interests.refused(name, BackplaneRefused())
        self.assertTrue(self.interests.joined("/a"))

    def test_refused_for_a_while(self) -> None:
        """What others hold is asked for again, all of it together, until it is there or let go."""
        for name in ("/a", "/b", "/c"):
            self.interests.hold(name)
        self.interests.connected()
        self.clock.advance(0)
        self.asked.clear()
        self.interests.refused("/a", BackplaneDown())
        for name in ("/b", "/c"):
            self.interests.refused(name, BackplaneRefused())
        # The broker will say so if it may not be used; it did not say that of the first.
        self.assertEqual(self.completed, 0)
        self.interests.release("/c")
        for _ in range(3):
            self.clock.advance(RETRY - 0.1)
            self.assertEqual(self.asked, [])
            self.clock.advance(0.1)
            self.clock.advance(0)
            self.assertEqual(self.asked, [("join", "/a", "/b")])
            self.asked.clear()
            for name in ("/a", "/b"):
                self.interests.refused(name, BackplaneDown())
        self.clock.advance(RETRY)
        self.answer()
        self.assertEqual(self.completed, 1)
        self.assertEqual(self.interests.received(), ["/a", "/b"])

    def test_refused_and_lost(self) -> None:
        """With another connection all is asked for anyway."""
        self.interests.hold("/a")
        self.interests.connected()
        self.clock.advance(0)
        self.interests.refused("/a", BackplaneRefused())
        self.asked.clear()
        self.interests.lost()
        self.clock.advance(2 * RETRY)
        self.assertEqual(self.asked, [])

    def test_foreign_answers(self) -> None:
        """An answer to what nobody asked changes nothing."""
        self.connect()
        self.joined("/a")
        for name, joined in (("/a", True), ("/a", False), ("/b", True), ("/b", False)):
            self.interests.confirmed(name, joined)
        self.assertTrue(self.interests.joined("/a"))
        self.assertEqual(len(self.interests), 1)
