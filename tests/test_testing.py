"""The fakes that embedders get."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pinghub.testing import (
    TEXT,
    Frame,
    MemoryReactor,
    MemoryServer,
    MemoryTransport,
    client_frame,
    http_request,
)


class MemoryServerTests(SynchronousTestCase):
    """What the module's docstring shows, and the edges."""

    def test_the_example(self) -> None:
        """The example of the module's docstring works."""
        server = MemoryServer()
        subscriber = server.subscribe("/news")
        self.assertEqual(server.post("/news", b"hello").status, 200)
        self.assertEqual(subscriber.texts(), ["hello"])

    def test_a_refused_subscriber(self) -> None:
        """Subscribing raises with the answer if it is refused."""
        error = self.assertRaises(ValueError, MemoryServer().subscribe, "/%ff")
        self.assertIn("400", str(error))

    def test_no_response(self) -> None:
        """Asking for a response that is not there is an error."""
        self.assertRaises(ValueError, MemoryServer().connect().response)

    def test_a_full_kernel(self) -> None:
        """A transport whose peer does not read writes nothing, as Twisted's do."""
        transport = MemoryTransport(MemoryReactor(), room=3)
        self.assertEqual([transport.writeSomeData(b"hello") for _ in range(2)], [3, 0])

    def test_frames_in_part(self) -> None:
        """A frame of which a part has arrived is kept until the rest does."""
        server = MemoryServer()
        peer = server.subscribe("/a", room=200)
        server.post("/a", b"x" * 300)
        server.post("/a", b"y" * 65_536)
        peer.transport.room = None
        server.post("/a", b"z")
        self.assertEqual(peer.texts(), ["x" * 300, "y" * 65_536, "z"])
        peer.transport.sent += b"\x81\x02a"
        self.assertEqual(peer.frames(), [])
        peer.transport.sent += b"b"
        self.assertEqual(peer.frames(), [Frame(TEXT, b"ab")])

    def test_frames_of_every_length(self) -> None:
        """Client frames have the three forms of length."""
        sizes = [
            len(client_frame(TEXT, b"x" * size)) - size for size in (0, 125, 126, 65535, 65536)
        ]
        self.assertEqual(sizes, [6, 6, 8, 8, 14])

    def test_a_peer_that_is_gone(self) -> None:
        """What is sent on a lost connection goes nowhere; losing it again changes nothing."""
        server = MemoryServer()
        peer = server.connect()
        peer.transport.abortConnection()
        peer.transport.abortConnection()
        server.reactor.turn()
        self.assertTrue(peer.transport.disconnected)
        peer.send(http_request("POST", "/a", b"x"))
        peer.close()
        self.assertEqual(peer.take(), b"")

    def test_a_transport_that_finds_its_peer_gone(self) -> None:
        """A write that fails in the reactor loses the connection."""
        server = MemoryServer()
        peer = server.connect()
        peer.transport.broken = True
        peer.send(http_request("POST", "/a", b"x"))
        self.assertTrue(peer.transport.disconnected)
        self.assertEqual(len(server.manager.connections), 0)

    def test_half_closing(self) -> None:
        """A protocol that knows half-closing is told; one that does not is not."""
        server = MemoryServer()
        told: list[str] = []

        class Plain:
            def connectionLost(self, reason: object) -> None:
                told.append("lost")

        transport = MemoryTransport(server.reactor)
        transport.protocol = Plain()
        transport.loseWriteConnection()
        server.reactor.turn()
        self.assertTrue(transport.ended)
        self.assertEqual(told, [])
        transport.loseConnection()
        self.assertEqual(told, ["lost"])

    def test_tcp_options(self) -> None:
        """The transport has the options of a TCP transport."""
        transport = MemoryTransport(MemoryReactor())
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(False)
        self.assertEqual((transport.getTcpNoDelay(), transport.getTcpKeepAlive()), (True, False))
        self.assertEqual(transport.getHost().port, 8081)
