"""TLS, over transports in memory."""

from __future__ import annotations

import gc
import ssl
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pinghub.testing import MemoryReactor, MemoryServer, MemoryTransport, http_request
from pinghub.tls import TidyTLSTransport, TLSEndpoint, tidy
from tests.certificates import write_certificate


class Client:
    """The other end of TLS."""

    def __init__(self, certificate: Path) -> None:
        context = ssl.create_default_context(cafile=str(certificate))
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def shake_hands(self, server: MemoryTransport) -> None:
        """Go through the handshake."""
        for _ in range(5):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            self.exchange(server)

    def exchange(self, server: MemoryTransport) -> None:
        """Bring bytes from one end to the other."""
        data = self.outgoing.read()
        if data:
            server.protocol.dataReceived(data)
        server.reactor.turn()  # type: ignore[attr-defined]
        self.incoming.write(bytes(server.sent))
        server.sent.clear()


class TidyTests(SynchronousTestCase):
    """A server's connections, and how they end."""

    def setUp(self) -> None:
        self.server = MemoryServer()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.certificate = Path(directory.name) / "localhost.pem"
        write_certificate(self.certificate)
        options = PrivateCertificate.loadPEM(self.certificate.read_bytes()).options()
        self.factory = TLSMemoryBIOFactory(options, False, self.server.site, self.server.reactor)

    def lose(self) -> None:
        """A publisher whose connection ends below TLS."""
        transport = MemoryTransport(self.server.reactor, None)
        protocol: Any = self.factory.buildProtocol(transport.getPeer())
        transport.protocol = protocol
        protocol.makeConnection(transport)
        client = Client(self.certificate)
        client.shake_hands(transport)
        client.tls.write(http_request("POST", "/a", b"x"))
        client.exchange(transport)
        self.assertIn(b"200 OK", client.tls.read())
        transport.connectionLost(Failure(ConnectionLost()))
        self.server.reactor.turn()

    def left(self) -> Counter[str]:
        """What three connections leave for the collector."""
        self.lose()
        self.server.run(5)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        self.addCleanup(gc.set_debug, gc.get_debug())
        self.addCleanup(gc.garbage.clear)
        for _ in range(3):
            self.lose()
        self.server.run(5)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return Counter(type(each).__name__ for each in gc.garbage)

    def test_tidy(self) -> None:
        """It leaves nothing behind."""
        tidy(self.factory)
        self.assertNotIn("TidyTLSTransport", self.left())
        self.assertNotIn("MemoryTransport", Counter(type(each).__name__ for each in gc.garbage))

    def test_untidy(self) -> None:
        """Twisted's own does: the day it does not, this module has nothing to do any more."""
        self.assertEqual(self.left()["BufferingTLSTransport"], 3)

    def test_others(self) -> None:
        """Factories that make something else are left alone."""
        tidy(Factory())
        tidy(None)
        self.factory.protocol = TLSMemoryBIOProtocol
        tidy(self.factory)
        self.assertIs(self.factory.protocol, TLSMemoryBIOProtocol)


@implementer(IStreamClientEndpoint)
class Recorder:
    """An endpoint that keeps the factory, and connects when the test says so."""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self.factory: Any = protocolFactory
        self.connecting: Deferred[Any] = Deferred()
        return self.connecting


class EndpointTests(SynchronousTestCase):
    """The client's side."""

    def test_connect(self) -> None:
        """The protocol is that of the factory, and what is between it and the network is tidy."""
        inner = Recorder()
        connecting = TLSEndpoint(CertificateOptions(), inner).connect(Factory.forProtocol(Protocol))
        self.assertIs(inner.factory.protocol, TidyTLSTransport)
        self.assertIsNot(TLSMemoryBIOFactory.protocol, TidyTLSTransport)
        self.assertIs(TLSMemoryBIOFactory.protocol, BufferingTLSTransport)
        outer = inner.factory.buildProtocol(None)
        outer.makeConnection(MemoryTransport(MemoryReactor()))
        inner.connecting.callback(outer)
        protocol: Any = self.successResultOf(connecting)
        self.assertIsInstance(protocol, Protocol)
        self.assertIs(protocol.transport, outer)

    def test_failed(self) -> None:
        """An attempt that fails, fails."""
        inner = Recorder()
        connecting = TLSEndpoint(CertificateOptions(), inner).connect(Factory.forProtocol(Protocol))
        inner.connecting.errback(ConnectionLost())
        self.failureResultOf(connecting, ConnectionLost)
