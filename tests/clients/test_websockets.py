"""The client of the package websockets."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from importlib.util import find_spec
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.cases import FragmentCases, PingCases
from tests.clients.loop import Loop, LoopCases

with contextlib.suppress(ImportError):
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.typing import Subprotocol


class Websocket:
    """A websocket of websockets."""

    def __init__(self, loop: Loop, connection: ClientConnection) -> None:
        self._loop = loop
        self._connection = connection

    @property
    def subprotocol(self) -> str:
        """The subprotocol agreed on."""
        return self._connection.subprotocol or ""

    @property
    def extensions(self) -> str:
        """The extensions agreed on."""
        return " ".join(each.name for each in self._connection.protocol.extensions)

    def send(self, text: str) -> None:
        """Send a text message."""
        self._loop.wait(self._connection.send(text))

    def send_binary(self, data: bytes) -> None:
        """Send a binary message."""
        self._loop.wait(self._connection.send(data))

    def send_fragments(self, *fragments: str) -> None:
        """Send a frame for each fragment, and an empty one."""
        self._loop.wait(self._connection.send(fragments))

    def receive(self) -> str:
        """Wait for a message."""
        message = self._loop.wait(self._connection.recv())
        assert isinstance(message, str), message
        return message

    def ping(self, payload: bytes) -> bytes:
        """Wait for the pong that carries the payload: the library ignores others."""
        self._loop.wait(self._ping(payload))
        return payload

    async def _ping(self, payload: bytes) -> None:
        await (await self._connection.ping(payload))

    def close(self) -> int:
        """Close, and wait until the server dropped the connection."""
        self._loop.wait(self._connection.close())
        return self._connection.close_code or 1006

    def wait_closed(self) -> int:
        """Wait until the server dropped the connection."""
        self._loop.wait(self._connection.wait_closed())
        return self._connection.close_code or 1006

    def drop(self) -> None:
        """Drop the connection, if it is still there."""
        if not self._connection.transport.is_closing():
            self._connection.transport.abort()


@skipUnless(find_spec("websockets"), "no websockets: pip install websockets")
class WebsocketsTests(LoopCases, FragmentCases, PingCases, SynchronousTestCase):
    """The cases with websockets, which offers permessage-deflate unasked."""

    def connect(self, url: str, subprotocols: Sequence[str]) -> Websocket:
        """Open a websocket."""
        return Websocket(self.loop, self.loop.wait(self._connect(url, subprotocols)))

    async def _connect(self, url: str, subprotocols: Sequence[str]) -> ClientConnection:
        offered = [Subprotocol(each) for each in subprotocols]
        return await connect(url, subprotocols=offered or None, proxy=None)
