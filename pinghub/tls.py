"""TLS connections that leave no cycle behind when they end.

Where a peer ends the connection below TLS, as most do, Twisted makes an exception of it that has
the frame it was caught in, which has the exception. The connection hangs on to that, with all that
could not be sent; ``collector.py`` would not look at it again if the connection is old.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer


class TidyTLSTransport(BufferingTLSTransport):
    """TLS over another transport, from its handshake to its end."""

    # What is used here has no public name, as nothing has that sees each of these exceptions;
    # tests/test_tls.py would notice if it had another one.

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        if reason is not None:
            reason.cleanFailure()
        super()._tlsShutdownFinished(reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Let go of the producer as well (IProtocol): it has us as its consumer."""
        super().connectionLost(reason)
        self._producer = None


def tidy(factory: object) -> None:
    """Let the connections that a factory makes from now on leave no cycle, if they are TLS.

    Args:
        factory: any factory; what is no ``TLSMemoryBIOFactory`` is left alone.
    """
    if isinstance(factory, TLSMemoryBIOFactory) and factory.protocol is BufferingTLSTransport:
        factory.protocol = TidyTLSTransport


@implementer(IStreamClientEndpoint)
class TLSEndpoint:
    """Encrypts the connections of another endpoint (``wrapClientTLS``, and tidy).

    Args:
        options: whom to expect, and who we are.
        endpoint: connects.
    """

    def __init__(self, options: Any, endpoint: IStreamClientEndpoint) -> None:
        self._options = options
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect (IStreamClientEndpoint)."""
        factory = TLSMemoryBIOFactory(self._options, True, protocolFactory)
        tidy(factory)
        connecting: Deferred[Any] = self._endpoint.connect(factory)
        return connecting.addCallback(_within)


def _within(protocol: Any) -> IProtocol:
    inner: IProtocol = protocol.wrappedProtocol
    return inner
