"""The options that Autobahn has for a connection."""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.trial.unittest import SynchronousTestCase

from pinghub.autobahn_options import SettledOptions
from pinghub.testing import MemoryServer
from pinghub.websocket import SubscriberProtocol

AT_REST = (
    "data",
    "inside_message",
    "current_frame",
    "websocket_version",
    "failedByMe",
    "closeHandshakeTimeoutCall",
)


class OptionTests(SynchronousTestCase):
    """Nothing is left to Autobahn's defaults."""

    def test_all_options_of_autobahn_are_settled(self) -> None:
        """Every option that Autobahn would copy per connection is set on our class."""
        missing = [
            name
            for name in WebSocketServerProtocol.CONFIG_ATTRS
            if name not in vars(SettledOptions) and name not in vars(SubscriberProtocol)
        ]
        self.assertEqual(missing, [])

    def test_nothing_is_copied(self) -> None:
        """No connection gets a copy of the options."""
        self.assertEqual(SubscriberProtocol.CONFIG_ATTRS, ())

    def test_compression_is_declined(self) -> None:
        """Whatever is offered, compression is declined."""
        self.assertIsNone(SubscriberProtocol.perMessageCompressionAccept(["an offer"]))

    def test_the_state_at_rest(self) -> None:
        """A connection at rest has what Autobahn would give it, under the same names."""
        server = MemoryServer()
        server.subscribe("/a")
        (subscriber,) = server.manager.connections.subscribers
        assert isinstance(subscriber, SubscriberProtocol)
        before = {name: getattr(subscriber, name) for name in AT_REST}
        subscriber._begin_parsing()
        subscriber.processData()
        self.assertEqual(before, {name: getattr(subscriber, name) for name in AT_REST})
        # Autobahn sets two of them when it has accepted a handshake itself.
        named = vars(subscriber).keys()
        self.assertEqual(
            set(AT_REST) - named, {"websocket_version", "current_frame", "inside_message"}
        )
        offer: Any = {"Sec-WebSocket-Protocol": "token"}
        server.subscribe("/b", **offer)
        (other,) = server.manager.connections.subscribers - {subscriber}
        self.assertEqual(before, {name: vars(other)[name] for name in AT_REST})
