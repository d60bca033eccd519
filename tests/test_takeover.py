"""What a websocket library gets to see of a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pinghub.handshake import Handshake
from pinghub.takeover import Head, Seat


class Channel:
    """An HTTPChannel, as far as it is looked at."""

    transport = object()


class TakeoverTests(SynchronousTestCase):
    """The head, and the seat."""

    def head(self, subprotocol: bytes | None) -> dict[bytes, Sequence[bytes]]:
        """The header lines that the library sees."""
        head = Head(Channel(), Handshake(b"the key", subprotocol))
        self.assertEqual((head.method, head.uri, head.content.read()), (b"GET", b"/", b""))
        self.assertIs(head.transport, Channel.transport)
        return dict(head.requestHeaders.getAllRawHeaders())

    def test_what_was_checked(self) -> None:
        """The library sees what was checked, and nothing else of the request."""
        seen = self.head(None)
        self.assertEqual(
            {name.lower() for name in seen},
            {b"host", b"upgrade", b"connection", b"sec-websocket-version", b"sec-websocket-key"},
        )
        self.assertIn([b"the key"], seen.values())

    def test_subprotocol(self) -> None:
        """It sees the one subprotocol that is agreed on."""
        self.assertIn([b"token"], self.head(b"token").values())

    def test_seat(self) -> None:
        """A seat has the protocol that it was given."""
        protocol: Any = object()
        self.assertIs(Seat(protocol).buildProtocol(None), protocol)
