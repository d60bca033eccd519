"""Channels as operators see them."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pinghub.channel_info import SCANNED, SLICE, Listing, describe, listing
from pinghub.channels import ChannelManager


class Somebody:
    """A subscriber of an embedding program: it has no backlog."""

    def deliver(self, frames: bytes) -> None:
        """Take messages."""


class Client(Somebody):
    """A subscriber with a backlog."""

    backlog = 3


class Request:
    """As much of a request as a producer needs."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.finished = False
        self.producer: Any = None
        self.gone: Deferred[None] = Deferred()

    def notifyFinish(self) -> Deferred[None]:
        """Tell when the client is gone."""
        return self.gone

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Keep it; it is asked by the test."""
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        """Forget it."""
        self.producer = None

    def write(self, data: bytes) -> None:
        """Keep what is written."""
        assert data, "who writes nothing is not asked again"
        self.written.append(data)

    def finish(self) -> None:
        """Note it."""
        assert self.producer is None
        self.finished = True


class InfoTests(SynchronousTestCase):
    """What a manager with some channels has."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.errors: list[str] = []
        self.manager = ChannelManager(self.clock, on_error=lambda text, _: self.errors.append(text))

    def fill(self, count: int, prefix: str = "/") -> None:
        """Let there be so many channels."""
        for number in range(count):
            self.manager.subscribe(f"{prefix}{number}", Somebody())


class DescribeTests(InfoTests):
    """One channel."""

    def test_everything(self) -> None:
        """Its name, who listens, how many messages it had, and what waits."""
        for subscriber in (Somebody(), Client(), Client()):
            self.manager.subscribe("/a", subscriber)
        self.manager.publish("/a", "x")
        self.manager.publish("/a", "y")
        channel = self.manager.channel("/a")
        assert channel is not None
        self.assertEqual(
            describe(channel), {"name": "/a", "subscribers": 3, "messages": 2, "backlog": 6}
        )


class ListingTests(InfoTests):
    """All of them."""

    def listed(self, prefix: str = "", limit: int | None = None) -> Any:
        """The whole text, parsed."""
        return json.loads(b"".join(listing(self.manager, prefix, limit)))

    def names(self, prefix: str = "", limit: int | None = None) -> list[str]:
        """The names that are listed."""
        return [each["name"] for each in self.listed(prefix, limit)["channels"]]

    def test_none(self) -> None:
        """No channels are a list as well."""
        self.assertEqual(self.listed(), {"channels": [], "total": 0, "more": False})

    def test_all(self) -> None:
        """All channels are there once, the oldest first."""
        self.fill(3 * SLICE + 7)
        found = self.listed()
        self.assertEqual([each["name"] for each in found["channels"]], self.manager.names())
        self.assertEqual((found["total"], found["more"]), (3 * SLICE + 7, False))

    def test_prefix(self) -> None:
        """Those whose names begin with something; the total is of all."""
        self.fill(3, "/news/")
        self.fill(2, "/other/")
        found = self.listed("/news/")
        self.assertEqual(
            [each["name"] for each in found["channels"]], ["/news/0", "/news/1", "/news/2"]
        )
        self.assertEqual((found["total"], found["more"]), (5, False))

    def test_limit(self) -> None:
        """At most so many, and whether there are more."""
        self.fill(3)
        self.assertEqual(self.names(limit=2), ["/0", "/1"])
        self.assertTrue(self.listed(limit=2)["more"])
        self.assertFalse(self.listed(limit=3)["more"])
        self.assertEqual(self.listed(limit=0), {"channels": [], "total": 3, "more": True})

    def test_hostile_names(self) -> None:
        """Whatever a name is, it comes back."""
        name = '/"}],\n\u2028</script>\x00\U0001f600'
        self.manager.subscribe(name, Somebody())
        self.assertEqual(self.names(), [name])

    def test_changes_meanwhile(self) -> None:
        """Channels that go or come between two pieces do no harm."""
        self.fill(3 * SLICE)
        pieces = listing(self.manager, "", None)
        text = next(pieces)
        for name in self.manager.names()[SLICE : 2 * SLICE]:
            channel = self.manager.channel(name)
            assert channel is not None
            for subscriber in list(channel):
                self.manager.unsubscribe(name, subscriber)
        self.fill(1, "/new/")
        found = json.loads(text + b"".join(pieces))
        self.assertEqual(len(found["channels"]), 2 * SLICE)

    def test_no_piece_is_large(self) -> None:
        """Each piece takes a moment, whether channels match or not, are small or large."""
        self.fill(2 * SCANNED)
        for prefix in ("", "/none"):
            for piece in listing(self.manager, prefix, None):
                self.assertTrue(piece)
                self.assertLessEqual(piece.count(b'"name"'), SLICE)
        self.assertEqual(len(list(listing(self.manager, "/none", None))), 3)
        for name in ("/large", "/larger"):
            for _ in range(SLICE):
                self.manager.subscribe(name, Somebody())
        self.assertEqual(len(list(listing(self.manager, "/l", None))), 4)

    def turn(self) -> None:
        """Let one turn of the reactor pass."""
        calls, self.clock.calls = self.clock.calls, []
        for call in calls:
            call.func()

    def test_a_piece_in_each_turn(self) -> None:
        """Others have their turn in between."""
        self.fill(SLICE)
        request = Request()
        Listing(request, self.manager, "", None).start()
        for written in range(3):
            self.assertEqual((len(request.written), request.finished), (written, False))
            self.turn()
            if written == 1:
                self.turn()
                break
        self.assertTrue(request.finished)
        self.assertEqual(len(json.loads(b"".join(request.written))["channels"]), SLICE)
        self.assertEqual(self.clock.calls, [])

    def test_as_fast_as_it_is_read(self) -> None:
        """Who does not read is not written to, until it does."""
        self.fill(3 * SLICE)
        request = Request()
        Listing(request, self.manager, "", None).start()
        self.turn()
        request.producer.pauseProducing()
        for _ in range(3):
            self.turn()
        self.assertEqual(len(request.written), 2)
        request.producer.resumeProducing()
        request.producer.resumeProducing()
        self.turn()
        self.assertEqual(len(request.written), 3)

    def test_a_client_that_leaves(self) -> None:
        """Nothing more is written, whether it read or not."""
        self.fill(3 * SLICE)
        for paused, forgotten in product((False, True), repeat=2):
            request = Request()
            Listing(request, self.manager, "", None).start()
            self.turn()
            if paused:
                request.producer.pauseProducing()
                self.turn()
            written = len(request.written)
            if not forgotten:
                request.producer.stopProducing()
            request.gone.errback(Failure(ConnectionLost()))
            self.assertEqual([call for call in self.clock.calls if not call.cancelled], [])
            self.assertEqual(len(request.written), written)
