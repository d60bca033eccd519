"""The options that Autobahn has for a connection."""

from __future__ import annotations

from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.trial.unittest import SynchronousTestCase

from pinghub.autobahn_options import SettledOptions
from pinghub.websocket import SubscriberProtocol


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
