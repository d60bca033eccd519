"""What a websocket library gets to see of the HTTP request that it takes over.

Its resource asks a factory for a protocol, writes the head of the request out again, and lets the
protocol parse it. Here the protocol is ready, and the head is made from what was checked and from
nothing else: the path and the origin are not the library's to judge, and no header value of a
peer can become another header line there.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.web.http_headers import Headers

from pinghub.handshake import Handshake


class Seat:
    """A factory whose protocol is ready.

    Args:
        protocol: what it builds, once.
    """

    def __init__(self, protocol: object) -> None:
        self._protocol = protocol

    def buildProtocol(self, address: object) -> object:
        """Build the protocol (IProtocolFactory)."""
        return self._protocol


class Head:
    """The request as the library gets to see it.

    Args:
        http: the HTTPChannel whose transport is taken over.
        handshake: what was checked.

    Attributes:
        handshake: the same.
    """

    method = b"GET"
    uri = b"/"

    def __init__(self, http: Any, handshake: Handshake) -> None:
        self.channel = http
        self.transport = http.transport
        self.handshake = handshake

    @property
    def content(self) -> BytesIO:
        """The body: none."""
        return BytesIO()

    @property
    def requestHeaders(self) -> Headers:
        """The header lines."""
        headers = Headers(
            {
                b"Host": [b"localhost"],
                b"Upgrade": [b"websocket"],
                b"Connection": [b"Upgrade"],
                b"Sec-WebSocket-Version": [b"13"],
                b"Sec-WebSocket-Key": [self.handshake.key],
            }
        )
        if self.handshake.subprotocol is not None:
            headers.addRawHeader(b"Sec-WebSocket-Protocol", self.handshake.subprotocol)
        return headers
