"""The websocket client of the package aiohttp."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.cases import PingCases
from tests.clients.loop import Loop, LoopCases

with contextlib.suppress(ImportError):
    from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType


class Websocket:
    """A websocket of aiohttp, and the session it belongs to."""

    def __init__(
        self, loop: Loop, session: ClientSession, response: ClientWebSocketResponse[bool]
    ) -> None:
        self._loop = loop
        self._session = session
        self._response = response

    @property
    def subprotocol(self) -> str:
        """The subprotocol agreed on."""
        return self._response.protocol or ""

    @property
    def extensions(self) -> str:
        """The one extension that aiohttp knows, if it was agreed on."""
        return "permessage-deflate" if self._response.compress else ""

    def send(self, text: str) -> None:
        """Send a text message."""
        self._loop.wait(self._response.send_str(text))

    def send_binary(self, data: bytes) -> None:
        """Send a binary message."""
        self._loop.wait(self._response.send_bytes(data))

    def send_fragments(self, *fragments: str) -> None:
        """Not offered by aiohttp; no case asks for it."""
        raise AssertionError("aiohttp sends no fragments")

    def receive(self) -> str:
        """Wait for a text message."""
        text = self._next(WSMsgType.TEXT)
        assert isinstance(text, str), text
        return text

    def ping(self, payload: bytes) -> bytes:
        """Ping, and wait for a pong."""
        self._loop.wait(self._response.ping(payload))
        return bytes(self._next(WSMsgType.PONG))

    def close(self) -> int:
        """Close, and wait for the answer."""
        self._loop.wait(self._response.close())
        return self._response.close_code or 1006

    def wait_closed(self) -> int:
        """Wait for the server's close frame.

        The attribute ``close_code`` says 1006 instead where the server shut down writing
        before aiohttp answered: aiohttp cannot answer then, and takes that for a failure.
        """
        return int(self._next(WSMsgType.CLOSE))

    def drop(self) -> None:
        """Close the session, and with it the connection."""
        self._loop.wait(self._session.close())

    def _next(self, wanted: WSMsgType) -> Any:
        """What the next message carries, which has to be of this type."""
        message = self._loop.wait(self._response.receive())
        assert message.type is wanted, message
        return message.data


@skipUnless(find_spec("aiohttp"), "no aiohttp: pip install aiohttp")
class AiohttpTests(LoopCases, PingCases, SynchronousTestCase):
    """The cases with aiohttp."""

    def connect(self, url: str, subprotocols: Sequence[str]) -> Websocket:
        """Open a websocket, with an offer of permessage-deflate and a window of 15 bits."""
        return self.loop.wait(self._connect(url, subprotocols))

    async def _connect(self, url: str, subprotocols: Sequence[str]) -> Websocket:
        session = ClientSession()
        response = await session.ws_connect(
            url, protocols=subprotocols, compress=15, autoping=False
        )
        return Websocket(self.loop, session, response)
