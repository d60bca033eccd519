"""The websockets of libcurl, through the package curl_cffi."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from select import select
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.cases import SECONDS, FragmentCases, PingCases

with contextlib.suppress(ImportError):
    from curl_cffi import Curl, CurlError, CurlInfo, CurlOpt, CurlWsFlag
    from curl_cffi.const import CurlECode

WEBSOCKET = 2
"""The value of ``CURLOPT_CONNECT_ONLY`` that ends the transfer with the handshake."""


class Websocket:
    """A websocket of libcurl, and the header of the answer that opened it."""

    def __init__(self, curl: Curl, header: bytes) -> None:
        self._curl = curl
        self._header = header.decode().splitlines()
        socket = curl.getinfo(CurlInfo.ACTIVESOCKET)
        assert isinstance(socket, int), socket
        self._socket = socket

    @property
    def subprotocol(self) -> str:
        """The header field of the answer: libcurl knows no subprotocols."""
        return self._field("sec-websocket-protocol")

    @property
    def extensions(self) -> str:
        """The header field of the answer: libcurl knows no extensions."""
        return self._field("sec-websocket-extensions")

    def _field(self, name: str) -> str:
        fields = (line.partition(":") for line in self._header)
        return "".join(value.strip() for key, _, value in fields if key.lower() == name)

    def send(self, text: str) -> None:
        """Send a text message."""
        self._send(text.encode(), CurlWsFlag.TEXT)

    def send_binary(self, data: bytes) -> None:
        """Send a binary message."""
        self._send(data, CurlWsFlag.BINARY)

    def send_fragments(self, *fragments: str) -> None:
        """Send a frame for each fragment."""
        *first, last = fragments
        for fragment in first:
            self._send(fragment.encode(), CurlWsFlag.TEXT | CurlWsFlag.CONT)
        self._send(last.encode(), CurlWsFlag.TEXT)

    def receive(self) -> str:
        """Wait for a text message."""
        return self._receive(CurlWsFlag.TEXT).decode()

    def ping(self, payload: bytes) -> bytes:
        """Ping, and wait for a pong."""
        self._send(payload, CurlWsFlag.PING)
        return self._receive(CurlWsFlag.PONG)

    def close(self) -> int:
        """Send a close frame, and wait for the answer."""
        self._curl.ws_close(1000)
        return int.from_bytes(self._receive(CurlWsFlag.CLOSE)[:2])

    def wait_closed(self) -> int:
        """Wait for the server's close frame, and answer it."""
        payload = self._receive(CurlWsFlag.CLOSE)
        self._send(payload, CurlWsFlag.CLOSE)
        return int.from_bytes(payload[:2])

    def drop(self) -> None:
        """Drop the connection."""
        self._curl.close()

    def _send(self, payload: bytes, flags: int) -> None:
        deadline = time.monotonic() + SECONDS
        rest = memoryview(payload)
        while True:
            try:
                rest = rest[self._curl.ws_send(rest, flags) :]
            except CurlError as error:
                self._wait(error, deadline, writing=True)
                continue
            if not rest:
                return

    def _receive(self, wanted: int) -> bytes:
        """The payload of the next frame, which has to be of this kind."""
        deadline = time.monotonic() + SECONDS
        payload = b""
        while True:
            try:
                chunk, frame = self._curl.ws_recv()
            except CurlError as error:
                self._wait(error, deadline)
                continue
            assert frame.flags == wanted, (frame.flags, chunk)
            payload += chunk
            if not frame.bytesleft:
                return payload

    def _wait(self, error: CurlError, deadline: float, *, writing: bool = False) -> None:
        """Wait until the socket is ready, if that is what the error says."""
        if error.code != CurlECode.AGAIN:
            raise error
        readers, writers = ([], [self._socket]) if writing else ([self._socket], [])
        left = max(0.0, deadline - time.monotonic())
        if not any(select(readers, writers, [], left)):
            raise TimeoutError("nothing happened on the socket")


@skipUnless(find_spec("curl_cffi"), "no curl_cffi: pip install curl_cffi")
class CurlCffiTests(FragmentCases, PingCases, SynchronousTestCase):
    """The cases with libcurl."""

    def connect(self, url: str, subprotocols: Sequence[str]) -> Websocket:
        """Open a websocket; what libcurl does not know of is offered as header fields."""
        fields = [b"Sec-WebSocket-Extensions: permessage-deflate"]
        if subprotocols:
            fields.append(f"Sec-WebSocket-Protocol: {', '.join(subprotocols)}".encode())
        header = BytesIO()
        curl = Curl()
        curl.setopt(CurlOpt.URL, url.encode())
        curl.setopt(CurlOpt.CONNECT_ONLY, WEBSOCKET)
        curl.setopt(CurlOpt.NOPROXY, b"*")
        curl.setopt(CurlOpt.TIMEOUT_MS, int(SECONDS * 1000))
        curl.setopt(CurlOpt.HTTPHEADER, fields)
        curl.setopt(CurlOpt.HEADERDATA, header)
        curl.perform()
        return Websocket(curl, header.getvalue())
