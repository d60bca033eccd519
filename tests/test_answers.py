"""Answers that take some time, in the order of their requests."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from pinghub.answers import Answers
from pinghub.errors import InternalError


class AnswersTests(SynchronousTestCase):
    """What is written, and when."""

    def setUp(self) -> None:
        self.written: list[bytes] = []
        self.sizes: list[int] = []
        self.answers = Answers(self.written.append, self.note)

    def note(self) -> None:
        """Note how much is owed when some was sent."""
        self.sizes.append(self.answers.size)

    def later(self, size: int = 1) -> Deferred[bytes]:
        """An answer that is not there yet."""
        answer: Deferred[bytes] = Deferred()
        self.answers.add(answer, size)
        return answer

    def test_in_order(self) -> None:
        """What is there waits for what was asked before, and goes with it in one write."""
        first, second, third = self.later(1), self.later(20), self.later(300)
        self.answers.add(b"d", 4000)
        self.assertEqual(self.answers.size, 4321)
        second.callback(b"b")
        self.assertEqual((self.written, self.answers.size), ([], 4321))
        first.callback(b"a")
        self.assertEqual(self.written, [b"ab"])
        third.callback(b"c")
        self.assertEqual(self.written, [b"ab", b"cd"])
        self.assertEqual(self.sizes, [4300, 0])

    def test_at_once(self) -> None:
        """With nothing before it, an answer that is there is sent."""
        self.answers.add(b"a", 1)
        self.assertEqual((self.written, self.sizes), ([b"a"], [0]))

    def test_more_because_of_it(self) -> None:
        """Being told that some were sent is the time to ask for more."""

        def more() -> None:
            if len(self.written) < 3:
                self.answers.add(b"x", 1)

        self.answers = Answers(self.written.append, more)
        self.answers.add(b"x", 1)
        self.assertEqual((self.written, self.answers.size), ([b"x"] * 3, 0))

    def test_a_fault(self) -> None:
        """What fails is answered 500, in its place, and logged; what comes behind it goes on."""
        first, second = self.later(1), self.later(20)
        second.callback(b"b")
        first.errback(ZeroDivisionError())
        (written,) = self.written
        head, _, body = written.partition(b"\r\n\r\n")
        self.assertEqual(head.split(b"\r\n")[0], b"HTTP/1.1 500 Internal Server Error")
        self.assertEqual(body, f"{InternalError().text}\nb".encode())
        self.assertEqual((self.answers.size, self.sizes), (0, [0]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_closed(self) -> None:
        """Nothing is sent to who has left, whenever it comes."""
        first, second = self.later(), self.later()
        self.answers.close()
        self.assertEqual(self.answers.size, 0)
        second.callback(b"b")
        first.callback(b"a")
        self.assertEqual((self.written, self.sizes), ([], []))
