"""The client of the package websocket-client."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from importlib.util import find_spec
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.cases import SECONDS, FragmentCases, PingCases

with contextlib.suppress(ImportError):
    from websocket import ABNF, WebSocket, create_connection

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


class Websocket:
    """A websocket of websocket-client."""

    def __init__(self, connection: WebSocket) -> None:
        self._connection = connection

    @property
    def subprotocol(self) -> str:
        """The subprotocol agreed on."""
        return self._connection.getsubprotocol() or ""

    @property
    def extensions(self) -> str:
        """The header field of the answer: the library knows no extensions."""
        headers = self._connection.getheaders() or {}
        return str(headers.get("sec-websocket-extensions", ""))

    def send(self, text: str) -> None:
        """Send a text message."""
        self._connection.send_text(text)

    def send_binary(self, data: bytes) -> None:
        """Send a binary message."""
        self._connection.send_binary(data)

    def send_fragments(self, *fragments: str) -> None:
        """Send a frame for each fragment."""
        final = len(fragments) - 1
        for number, fragment in enumerate(fragments):
            opcode = ABNF.OPCODE_CONT if number else ABNF.OPCODE_TEXT
            frame = ABNF.create_frame(fragment.encode(), opcode, fin=int(number == final))
            self._connection.send_frame(frame)

    def receive(self) -> str:
        """Wait for a text message."""
        return self._next(ABNF.OPCODE_TEXT).decode()

    def ping(self, payload: bytes) -> bytes:
        """Ping, and wait for a pong."""
        self._connection.ping(payload)
        return self._next(ABNF.OPCODE_PONG)

    def close(self) -> int:
        """Send a close frame, and wait for the answer."""
        self._connection.send_close()
        return self.wait_closed()

    def wait_closed(self) -> int:
        """Wait for the server's close frame; the library answers it."""
        return int.from_bytes(self._next(ABNF.OPCODE_CLOSE)[:2])

    def drop(self) -> None:
        """Drop the connection."""
        self._connection.shutdown()

    def _next(self, wanted: int) -> bytes:
        opcode, frame = self._connection.recv_data_frame(control_frame=True)
        assert opcode == wanted, frame
        return bytes(frame.data)


@skipUnless(find_spec("websocket"), "no websocket-client: pip install websocket-client")
class WebsocketClientTests(FragmentCases, PingCases, SynchronousTestCase):
    """The cases with websocket-client."""

    def connect(self, url: str, subprotocols: Sequence[str]) -> Websocket:
        """Open a websocket; the offer of permessage-deflate is only a header field."""
        connection = create_connection(
            url,
            timeout=SECONDS,
            subprotocols=list(subprotocols),
            header=[OFFER],
            http_no_proxy=["127.0.0.1"],
        )
        return Websocket(connection)
