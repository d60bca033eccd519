"""Autobahn's client on Twisted, a process that is told and tells in lines: see lines.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer
from autobahn.websocket.types import ConnectionResponse
from twisted.internet import reactor
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver


class Websocket(WebSocketClientProtocol):  # type: ignore[misc]  # Autobahn is untyped
    """A websocket that tells its events, and does what it is told."""

    def onConnect(self, response: ConnectionResponse) -> None:
        """Remember what was agreed on."""
        self.subprotocol = response.protocol or ""
        self.extensions = " ".join(map(str, response.extensions))

    def onOpen(self) -> None:
        """Tell what was agreed on."""
        self.factory.tell("open", subprotocol=self.subprotocol, extensions=self.extensions)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Tell a message."""
        self.factory.tell("binary" if isBinary else "message", payload=payload.decode())

    def onPong(self, payload: bytes) -> None:
        """Tell a pong."""
        self.factory.tell("pong", payload=payload.decode())

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Tell the end, or why there was no beginning."""
        self.factory.tell("closed", code=code if wasClean else 1006, reason=reason)

    def do_text(self, payload: str) -> None:
        """Send a text message."""
        self.sendMessage(payload.encode())

    def do_binary(self, payload: str) -> None:
        """Send a binary message."""
        self.sendMessage(payload.encode(), isBinary=True)

    def do_fragments(self, payloads: list[str]) -> None:
        """Send a frame for each fragment, and an empty one."""
        self.beginMessage()
        for payload in payloads:
            self.sendMessageFrame(payload.encode())
        self.endMessage()

    def do_ping(self, payload: str) -> None:
        """Ping."""
        self.sendPing(payload.encode())

    def do_close(self) -> None:
        """Begin the closing handshake."""
        self.sendClose(1000)

    def do_drop(self) -> None:
        """Drop the connection."""
        self.dropConnection(abort=True)


class Factory(WebSocketClientFactory):  # type: ignore[misc]  # Autobahn is untyped
    """Makes one websocket, and passes on what it tells."""

    def __init__(self, url: str, subprotocols: list[str], tell: Callable[..., None]) -> None:
        super().__init__(url, protocols=subprotocols)
        self.setProtocolOptions(perMessageCompressionOffers=[PerMessageDeflateOffer()])
        self.tell = tell

    def buildProtocol(self, addr: object) -> Websocket:
        """Make the websocket, and remember it."""
        self.websocket = Websocket()
        self.websocket.factory = self
        return self.websocket


class Commands(LineOnlyReceiver):
    """Reads the commands from standard input, writes the events to standard output."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 23

    def __init__(self) -> None:
        self._factories: dict[int, Factory] = {}

    def lineReceived(self, line: bytes) -> None:
        """Open a websocket, or tell one what to do."""
        command: dict[str, Any] = json.loads(line)
        number, what = command.pop("id"), command.pop("do")
        if what == "connect":
            self._connect(number, **command)
        else:
            getattr(self._factories[number].websocket, f"do_{what}")(**command)

    def _connect(self, number: int, url: str, subprotocols: list[str]) -> None:
        factory = Factory(url, subprotocols, partial(self._tell, number))
        self._factories[number] = factory
        reactor.connectTCP(factory.host, factory.port, factory)

    def _tell(self, number: int, event: str, **details: object) -> None:
        self.sendLine(json.dumps({"id": number, "event": event, **details}).encode())


if __name__ == "__main__":
    StandardIO(Commands())
    reactor.run()
