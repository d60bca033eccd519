"""Closing many subscribers."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pinghub.channels import ChannelManager, Subscriber
from pinghub.closing import SLICE, Closing, is_closeable
from pinghub.frames import CloseCode


class Program:
    """A subscriber of an embedding program: it is not ours to close, though it might be closed."""

    def __init__(self) -> None:
        self.closed: list[tuple[int, str]] = []

    def deliver(self, frames: bytes) -> None:
        """Take messages."""

    def close(self, code: int, reason: str) -> None:
        """Note it."""
        self.closed.append((code, reason))


class Client(Program):
    """A subscriber that is ours to close."""

    closeable = True


class Fails(Client):
    """A subscriber that cannot even be closed."""

    def close(self, code: int, reason: str) -> None:
        """Fail."""
        raise RuntimeError("no")


class ClosingTests(SynchronousTestCase):
    """Some subscribers of a manager."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.errors: list[str] = []
        self.manager = ChannelManager(
            self.clock, on_error=lambda text, error: self.errors.append(text)
        )

    def closing(self, *subscribers: Subscriber) -> Closing:
        """What closes these, which are subscribed for it."""
        for each in subscribers:
            self.manager.subscribe("/a", each)
        pairs = (("/a", each) for each in subscribers)
        return Closing(self.manager, pairs, CloseCode.GOING_AWAY, "why")

    def test_in_parts(self) -> None:
        """All are closed, some in each turn; who came later stays."""
        clients = [Client() for _ in range(2 * SLICE + 1)]
        closing = self.closing(*clients)
        self.assertEqual(len(closing), len(clients))
        late = Client()
        self.manager.subscribe("/a", late)
        closing.step()
        told = [client for client in clients if client.closed]
        self.assertEqual((len(told), len(closing)), (SLICE, SLICE + 1))
        self.clock.advance(0)
        self.assertEqual({tuple(client.closed) for client in clients}, {((1001, "why"),)})
        self.assertEqual(self.manager.subscribers("/a"), 1)
        self.assertEqual((late.closed, self.clock.getDelayedCalls()), ([], []))

    def test_whose_they_are(self) -> None:
        """Whoever says that it is ours to close is."""
        self.assertTrue(is_closeable(Client()))
        self.assertFalse(is_closeable(Program()))

    def test_others_and_faults(self) -> None:
        """Who is not ours to close is unsubscribed; who fails is reported, and keeps nobody."""
        client, program = Client(), Program()
        self.closing(Fails(), program, client).step()
        self.assertEqual((client.closed, program.closed), ([(1001, "why")], []))
        self.assertEqual(self.errors, ["A subscriber could not be closed politely"])
        self.assertEqual(self.manager.subscribers("/a"), 1)
