"""The port, and the backplane of a server alone."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pinghub.backplane import Backplane, InProcess, State
from pinghub.channels import ChannelManager


class Inbox:
    """A subscriber that counts."""

    def __init__(self) -> None:
        self.taken = b""

    def deliver(self, frames: bytes) -> None:
        self.taken += frames


class InProcessTests(SynchronousTestCase):
    """Nothing but the manager."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.manager = ChannelManager(self.clock)
        self.backplane: Backplane = InProcess(self.manager)

    def test_publish(self) -> None:
        """A message is handed to the subscribers of this process, and the number is known."""
        self.assertEqual(self.backplane.publish("/a", b"x"), 0)
        inboxes = [Inbox(), Inbox()]
        for each in inboxes:
            self.manager.subscribe("/a", each)
        self.assertEqual(self.backplane.publish("/a", b"x"), 2)
        self.clock.advance(0)
        self.assertEqual([each.taken for each in inboxes], [b"\x81\x01x"] * 2)
        self.assertEqual(self.backplane.counts, "Pinghub-Subscribers")
        self.assertTrue(self.backplane.immediate)

    def test_nothing_to_wait_for(self) -> None:
        """Every channel is there, and it is always up."""
        self.backplane.subscribe("/a")
        self.assertTrue(self.backplane.subscribed("/a"))
        self.backplane.unsubscribe("/a")
        for result in (
            self.backplane.start(),
            self.backplane.when_subscribed("/a"),
            self.backplane.settle(),
            self.backplane.stop(),
        ):
            self.assertIsNone(self.successResultOf(result))
        self.assertIsNone(self.manager.upstream)
        self.assertEqual(self.backplane.state(), State())

    def test_ready(self) -> None:
        """A backplane is ready when one of its instances is up: others have other channels."""
        self.assertTrue(State().ready)
        self.assertTrue(State(instances=2, up=2).ready)
        self.assertTrue(State(instances=2, up=1).ready)
        self.assertFalse(State(instances=2).ready)
