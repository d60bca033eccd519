"""A Pinghub in memory: the real site, resource and protocols, without sockets.

For tests of sites that embed Pinghub, and for its own::

    server = MemoryServer()
    subscriber = server.subscribe("/news")
    assert server.post("/news", b"hello").status == 200
    assert subscriber.texts() == ["hello"]

Nothing is mocked: bytes go through Twisted's own buffering (``FileDescriptor``) and the same
parsers as on a socket. Time passes only in ``MemoryServer.run``.
"""

from __future__ import annotations

import base64
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from pinghub.backplane import Backplane, InProcess
from pinghub.channels import ChannelManager
from pinghub.limits import Limits
from pinghub.proxies import TrustedProxies
from pinghub.resource import PinghubResource
from pinghub.site import PinghubSite

TICK = 0.25
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class MemoryReactor(Clock):
    """A clock that also knows which transports want to write (IReactorFDSet)."""

    def __init__(self) -> None:
        super().__init__()
        self._writers: dict[FileDescriptor, None] = {}

    def addWriter(self, writer: FileDescriptor) -> None:
        self._writers[writer] = None

    def removeWriter(self, writer: FileDescriptor) -> None:
        self._writers.pop(writer, None)

    def addReader(self, reader: FileDescriptor) -> None:
        """Peers hand over their bytes themselves."""

    def removeReader(self, reader: FileDescriptor) -> None:
        """Peers hand over their bytes themselves."""

    def turn(self) -> None:
        """Let pass what happens at once: calls that are due, and writing."""
        self.advance(0)
        while True:
            able = [each for each in self._writers if each.writable()]  # type: ignore[attr-defined]
            if not able:
                return
            for writer in able:
                lost = writer.doWrite()
                if lost is not None:
                    self.removeWriter(writer)
                    writer.connectionLost(Failure(lost))
            self.advance(0)


@implementer(ITCPTransport)
class MemoryTransport(FileDescriptor):
    """The server's end of a connection; buffers as Twisted's socket transports do.

    Attributes:
        room: how many bytes the peer's kernel takes before it blocks; None for any number.
        sent: what the peer's kernel has taken and the peer has not read.
        reading: whether the server reads.
        ended: whether the server has sent the end of its stream.
        reset: whether the server has aborted the connection.
        broken: whether the next write finds that the peer is gone.
        peer: where the connection comes from.
    """

    def __init__(self, reactor: MemoryReactor, room: int | None = None) -> None:
        super().__init__(reactor)  # type: ignore[arg-type]
        self.connected = 1
        self.protocol: Any = None
        self.room = room
        self.sent = bytearray()
        self.reading = True
        self.ended = False
        self.reset = False
        self.broken = False
        self.peer: IPv4Address | IPv6Address | UNIXAddress = IPv4Address("TCP", "192.0.2.1", 50000)

    def writable(self) -> bool:
        """Whether the peer's kernel would take anything."""
        return self.room is None or len(self.sent) < self.room

    def getHandle(self) -> MemoryTransport:
        """The socket, which is this object as well."""
        return self

    def send(self, data: bytes) -> int:
        """As a socket that does not block."""
        if self.broken:
            raise BrokenPipeError(errno.EPIPE, "the peer is gone")
        size = len(data)
        if self.room is not None:
            size = min(size, max(0, self.room - len(self.sent)))
        if data and not size:
            raise BlockingIOError(errno.EAGAIN, "the peer's kernel takes nothing")
        self.sent += data[:size]
        return size

    def writeSomeData(self, data: bytes) -> int | BaseException:
        try:
            return self.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return ConnectionLost()

    def shutdown(self, how: int) -> None:
        """As a socket: the peer sees the end of the stream."""
        if self.broken:
            raise OSError(errno.ENOTCONN, "the peer is gone")
        self.ended = True

    def startReading(self) -> None:
        self.reading = True

    def stopReading(self) -> None:
        self.reading = False

    def _closeWriteConnection(self) -> None:
        self.stopWriting()
        self.ended = True
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is not None:
            half.writeConnectionLost()

    def abortConnection(self) -> None:
        if not self.disconnected and not self.reset:
            self.reset = True
            self.stopReading()
            self.stopWriting()
            clock: Any = self.reactor
            clock.callLater(0, self.connectionLost, Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        if not self.disconnected:
            super().connectionLost(reason)
            self.ended = True
            protocol, self.protocol = self.protocol, None
            protocol.connectionLost(reason)

    def getPeer(self) -> Any:  # unix sockets are no ITCPTransport
        return self.peer

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.2", 8081)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is no delay."""

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nothing gets lost."""

    def getTcpKeepAlive(self) -> bool:
        return False


@dataclass(frozen=True)
class Response:
    """An HTTP response.

    Attributes:
        status: the status code.
        headers: the header fields, by lower-case name.
        body: the body.
    """

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Frame:
    """A frame that the server sent.

    Attributes:
        opcode: what kind of frame it is.
        payload: its payload.
    """

    opcode: int
    payload: bytes

    @property
    def code(self) -> int | None:
        """The close code of a close frame, if it has one."""
        return int.from_bytes(self.payload[:2], "big") if self.payload else None


class Peer:
    """The client's end of a connection.

    Args:
        server: whose client it is.
        transport: the server's end.
    """

    def __init__(self, server: MemoryServer, transport: MemoryTransport) -> None:
        self.server = server
        self.transport = transport
        self._received = b""

    def send(self, data: bytes) -> None:
        """Send bytes, all in one segment."""
        self.deliver(data)
        self.server.reactor.turn()

    def deliver(self, data: bytes) -> None:
        """Send bytes without letting the reactor turn end."""
        if not self.transport.disconnected:
            self.transport.protocol.dataReceived(data)

    def read(self, size: int | None = None) -> None:
        """Read what has arrived, or at most ``size`` bytes of it; that makes room for more."""
        if size is None:
            while self.transport.sent:
                self._read(len(self.transport.sent))
        else:
            self._read(size)

    def _read(self, size: int) -> None:
        self._received += bytes(self.transport.sent[:size])
        del self.transport.sent[:size]
        self.server.reactor.turn()

    def close(self) -> None:
        """Close the connection, or the peer's half of it."""
        transport = self.transport
        half = IHalfCloseableProtocol(transport.protocol, None)
        if half is not None and not transport.disconnected:
            half.readConnectionLost()
        else:
            transport.connectionLost(Failure(ConnectionDone()))
        self.server.reactor.turn()

    def take(self) -> bytes:
        """Read and return all bytes that arrived since the last time."""
        self.read()
        received, self._received = self._received, b""
        return received

    def response(self, head: bool = False) -> Response:
        """Read one response.

        Args:
            head: whether it answers a HEAD, and has no body.

        Raises:
            ValueError: there is no complete response.
        """
        self.read()
        start, blank, rest = self._received.partition(b"\r\n\r\n")
        lines = start.decode().split("\r\n")
        if not blank:
            raise ValueError(f"no response: {start!r}")
        fields = (line.partition(": ") for line in lines[1:])
        headers = {name.lower(): value for name, _, value in fields}
        size = 0 if head else int(headers.get("content-length", 0))
        self._received = rest[size:]
        return Response(int(lines[0].split()[1]), headers, rest[:size])

    def frames(self) -> list[Frame]:
        """Read all complete frames that arrived since the last time."""
        self.read()
        found = []
        while (parsed := parse_frame(self._received)) is not None:
            frame, self._received = parsed
            found.append(frame)
        return found

    def texts(self) -> list[str]:
        """Read frames, and return the messages among them."""
        return [each.payload.decode() for each in self.frames() if each.opcode == TEXT]

    def send_text(self, text: str) -> None:
        """Send a text message."""
        self.send(client_frame(TEXT, text.encode()))


class MemoryServer:
    """A server in memory.

    Args:
        limits: every bound.
        proxies: whose word about a client's address is taken.
        reactor: its clock; one of its own when absent.
        backplane: makes what connects it to other servers, of its manager; none when absent.
        options: further arguments of the ``PinghubResource``.

    Attributes:
        reactor: its clock.
        manager: its channels.
        backplane: where it publishes.
        resource: the resource at its root.
        site: the site.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        proxies: TrustedProxies | None = None,
        *,
        reactor: MemoryReactor | None = None,
        backplane: Callable[[ChannelManager], Backplane] = InProcess,
        **options: Any,
    ) -> None:
        self.reactor = reactor or MemoryReactor()
        self.manager = ChannelManager(self.reactor, limits, proxies=proxies)
        self.backplane = backplane(self.manager)
        self.resource = PinghubResource(self.manager, backplane=self.backplane, **options)
        self.site: Any = PinghubSite(self.resource, self.manager)

    def run(self, seconds: float) -> None:
        """Let time pass, as a reactor does that is never late."""
        for _ in range(round(seconds / TICK)):
            self.reactor.advance(TICK)
            self.reactor.turn()

    def connect(self, room: int | None = None, host: str | None = "192.0.2.1") -> Peer:
        """Connect a peer.

        Args:
            room: how many bytes its kernel takes before it blocks; None for any number.
            host: its address; None for a unix socket.
        """
        transport = MemoryTransport(self.reactor, room)
        if host is None:
            transport.peer = UNIXAddress(None)
        else:
            kind = IPv6Address if ":" in host else IPv4Address
            transport.peer = kind("TCP", host, 50000)
        transport.protocol = self.site.buildProtocol(transport.getPeer())
        transport.protocol.makeConnection(transport)
        return Peer(self, transport)

    def subscribe(self, path: str, room: int | None = None, **headers: str) -> Peer:
        """Connect a peer and let it open a websocket.

        Raises:
            ValueError: it was refused.
        """
        peer = self.connect(room)
        peer.send(upgrade_request(path, headers))
        response = peer.response()
        if response.status != 101:
            raise ValueError(f"refused: {response}")
        return peer

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        """Send one request on a connection of its own."""
        peer = self.connect()
        peer.send(http_request(method, path, body, headers))
        response = peer.response(head=method == "HEAD")
        peer.close()
        return response

    def post(self, path: str, body: bytes, **headers: str) -> Response:
        """POST a message on a connection of its own."""
        return self.request("POST", path, body, **headers)


def http_request(method: str, path: str, body: bytes = b"", headers: Any = None) -> bytes:
    """The bytes of a request; underscores in header names stand for dashes."""
    fields = {"Host": "example.com", **(headers or {})}
    if body or method == "POST":
        fields.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def upgrade_request(path: str, headers: Any = None) -> bytes:
    """The bytes of a websocket handshake."""
    fields = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        **(headers or {}),
    }
    return http_request("GET", path, headers=fields)


def client_frame(
    opcode: int, payload: bytes = b"", fin: bool = True, mask: bytes = b"\x0f\xf0\x55\xaa"
) -> bytes:
    """The bytes of a masked frame, as clients send them (RFC 6455 section 5.2)."""
    size = len(payload)
    first = (0x80 if fin else 0) | opcode
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 0x10000:
        head = bytes((first, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def parse_frame(data: bytes) -> tuple[Frame, bytes] | None:
    """The first frame of what a server sent, and the rest; None if it is not complete."""
    if len(data) < 2:
        return None
    size, start = data[1], 2
    if size > 125:
        start = 4 if size == 126 else 10
        size = int.from_bytes(data[2:start], "big")
    if len(data) < start + size:
        return None
    return Frame(data[0] & 0xF, data[start : start + size]), data[start + size :]
