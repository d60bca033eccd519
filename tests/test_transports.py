"""What is known of Twisted's transports."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper, HAProxyWrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from pinghub.testing import MemoryReactor, MemoryTransport
from pinghub.transports import (
    bound_writes,
    direct_socket,
    has_unsent,
    introducer,
    is_bare,
    shut_down_writing,
    write_at_once,
)

PEER = IPv4Address("TCP", "192.0.2.1", 50_000)


class StartedTLS(MemoryTransport):
    """A socket on which ``startTLS`` was called: it says so with this attribute."""

    TLS = True


class TransportTests(SynchronousTestCase):
    """Real wrappers around a transport in memory."""

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.socket = MemoryTransport(self.reactor)

    def wrapped(self, *wrappings: str, socket: MemoryTransport | None = None) -> Any:
        """The transport of a protocol behind some wrappings, the one at the socket first."""
        factory: Any = Factory.forProtocol(Protocol)
        factory.doStart()
        for wrapping in reversed(wrappings):
            if wrapping == "haproxy":
                factory = HAProxyWrappingFactory(factory)
            else:
                factory = TLSMemoryBIOFactory(CertificateOptions(), False, factory, self.reactor)
        protocol = factory.buildProtocol(PEER)
        transport = socket or self.socket
        transport.protocol = protocol
        protocol.makeConnection(transport)
        while wrappings:
            protocol, wrappings = protocol.wrappedProtocol, wrappings[1:]
        return protocol.transport

    def encrypted(self) -> dict[str, Any]:
        """Transports that must not be written to directly."""
        return {
            "tls": self.wrapped("tls"),
            "haproxy over tls": self.wrapped("tls", "haproxy"),
            "tls over haproxy": self.wrapped("haproxy", "tls"),
            "startTLS": StartedTLS(self.reactor),
            "haproxy over startTLS": self.wrapped("haproxy", socket=StartedTLS(self.reactor)),
        }

    def test_sockets_have_what_is_used(self) -> None:
        """Twisted's TCP and unix connections have the three methods and attributes used here."""
        for kind in (tcp.Server, unix.Server, MemoryTransport):
            for name in ("getHandle", "loseWriteConnection", "bufferSize"):
                self.assertTrue(hasattr(kind, name), f"{kind.__name__}.{name}")

    def test_haproxy_endpoint(self) -> None:
        """The ``haproxy:`` endpoint still wraps its connections in the class known here."""
        reactor = MemoryReactorClock()
        endpoint = serverFromString(reactor, "haproxy:tcp:8081")
        self.successResultOf(endpoint.listen(Factory.forProtocol(Protocol)))
        protocol = reactor.tcpServers[0][1].buildProtocol(PEER)
        self.assertIsInstance(protocol, HAProxyProtocolWrapper)

    def test_introducer(self) -> None:
        """Behind a PROXY header the socket's own peer is the proxy, whatever lies between."""
        for wrappings in (("haproxy",), ("haproxy", "tls"), ("tls", "haproxy"), ("haproxy",) * 2):
            self.assertIs(introducer(self.wrapped(*wrappings)), self.socket, wrappings)
        for transport in (self.wrapped(), self.wrapped("tls"), StringTransport()):
            self.assertIsNone(introducer(transport))

    def test_direct_socket(self) -> None:
        """Bytes may be written to a socket at once, behind the PROXY header as well."""
        for wrappings in ((), ("haproxy",), ("haproxy", "haproxy")):
            direct = direct_socket(self.wrapped(*wrappings))
            assert direct is not None
            self.assertEqual(direct.send(b"hello"), 5)
            self.assertEqual(bytes(self.socket.sent), b"hello", wrappings)
            self.socket.sent.clear()

    def test_no_direct_socket_below_tls(self) -> None:
        """Nothing is written past TLS: it would be plain text in the middle of ciphertext."""
        for name, transport in self.encrypted().items():
            self.assertIsNone(direct_socket(transport), name)

    def test_no_direct_socket_without_one(self) -> None:
        """A transport that has no socket is written to as usual."""
        self.assertIsNone(direct_socket(StringTransport()))

    def test_bare(self) -> None:
        """Only a socket's own transport is bare."""
        self.assertTrue(is_bare(self.wrapped()))
        others = {"haproxy": self.wrapped("haproxy"), "memory": StringTransport()}
        for name, transport in (self.encrypted() | others).items():
            self.assertFalse(is_bare(transport), name)

    def test_unsent(self) -> None:
        """Twisted's connections have something unsent from a write until all is sent."""
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        self.addCleanup(ours.close)
        theirs.setblocking(False)
        reactor: Any = self.reactor
        connection = tcp.Connection(ours, Protocol(), reactor)
        for transport in (self.socket, connection):
            transport.connected = 1
            self.assertFalse(has_unsent(transport))
            transport.write(b"hello")
            self.assertTrue(has_unsent(transport))
            transport.doWrite()
            self.assertFalse(has_unsent(transport))
        connection.write(b"x" * (1 << 22))
        for _ in range(3):
            connection.doWrite()
            self.assertTrue(has_unsent(connection))

    def test_write_at_once(self) -> None:
        """What the kernel takes is sent at once; the rest, and what follows, in order."""
        transport = MemoryTransport(self.reactor, room=4)
        transport.protocol = Protocol()
        for data, sent in ((b"ab", b"ab"), (b"cdef", b"abcd"), (b"gh", b"abcd")):
            write_at_once(transport, data)
            self.assertEqual(bytes(transport.sent), sent)
        transport.room = None
        write_at_once(transport, b"ij")
        self.assertEqual(bytes(transport.sent), b"abcd")
        self.reactor.turn()
        self.assertEqual(bytes(transport.sent), b"abcdefghij")

    def test_write_at_once_when_it_would_block(self) -> None:
        """A kernel that takes nothing gets it from the transport, later."""
        transport = MemoryTransport(self.reactor, room=0)
        write_at_once(transport, b"hello")
        transport.room = None
        self.reactor.turn()
        self.assertEqual(bytes(transport.sent), b"hello")

    def test_write_at_once_to_nobody(self) -> None:
        """A connection that is lost ends as Twisted's do: in a turn of its own."""
        transport = MemoryTransport(self.reactor)
        transport.protocol = Protocol()
        transport.broken = True
        write_at_once(transport, b"hello")
        self.assertFalse(transport.disconnected)
        self.reactor.turn()
        self.assertTrue(transport.disconnected)

    def test_shut_down_writing(self) -> None:
        """The peer sees the end of the stream after what was buffered; its bytes are read on."""
        for wrappings in ((), ("haproxy",)):
            socket = MemoryTransport(self.reactor)
            transport = self.wrapped(*wrappings, socket=socket)
            transport.write(b"last words")
            shut_down_writing(transport)
            self.assertEqual((bytes(socket.sent), socket.ended), (b"", False))
            self.reactor.turn()
            self.assertEqual((bytes(socket.sent), socket.ended), (b"last words", True))
            self.assertTrue(socket.reading)
            self.assertFalse(socket.disconnected)

    def test_shut_down_at_once(self) -> None:
        """Where nothing is buffered, no further turn is needed; nor where nobody is left."""
        for wrappings in ((), ("haproxy",)):
            for broken in (False, True):
                socket = MemoryTransport(self.reactor)
                transport = self.wrapped(*wrappings, socket=socket)
                socket.broken = broken
                shut_down_writing(transport)
                self.assertEqual((socket.ended, socket.reading), (not broken, True))
                self.assertFalse(socket.disconnected)

    def test_tls_is_closed(self) -> None:
        """TLS cannot be half closed, so that it is closed as a whole."""
        transport = self.wrapped("tls")
        shut_down_writing(transport)
        self.assertTrue(transport.disconnecting)
        self.assertFalse(self.socket.ended)

    def test_others_are_closed(self) -> None:
        """A transport that cannot be half closed is closed."""
        for transport in (StringTransport(), StartedTLS(self.reactor)):
            shut_down_writing(transport)
            self.assertTrue(transport.disconnecting, transport)

    def test_bound_writes(self) -> None:
        """A socket pauses its producer at the given number of bytes, and no other does."""
        before = MemoryTransport.bufferSize
        bound_writes(self.wrapped("haproxy"), 1234)
        self.assertEqual(self.socket.bufferSize, 1234)
        self.assertEqual(MemoryTransport.bufferSize, before)
        self.assertEqual(MemoryTransport(self.reactor).bufferSize, before)

    def test_bound_writes_elsewhere(self) -> None:
        """Under TLS, and where there is no such bound, nothing is changed."""
        before = vars(self.socket).get("bufferSize")
        for transport in self.encrypted().values():
            bound_writes(transport, 1234)
        self.assertEqual(vars(self.socket).get("bufferSize"), before)
        transport = StringTransport()
        bound_writes(transport, 1234)
        self.assertFalse(hasattr(transport, "bufferSize"))
