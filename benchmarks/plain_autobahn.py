"""The plain Autobahn loop: what one writes first with Twisted and Autobahn, to compare with.

Usage: ``python -m benchmarks.plain_autobahn PORT``
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionRequest
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

CHANNELS: defaultdict[str, set[WebSocketServerProtocol]] = defaultdict(set)


def publish(path: str, message: bytes) -> None:
    """Send a message to every subscriber of a channel."""
    for subscriber in CHANNELS[path]:
        subscriber.sendMessage(message)


class Subscriber(WebSocketServerProtocol):  # type: ignore[misc]
    """One websocket."""

    path = ""

    def onConnect(self, request: ConnectionRequest) -> None:
        """Subscribe."""
        self.path = request.path
        CHANNELS[self.path].add(self)

    def onMessage(self, message: bytes, binary: bool) -> None:
        """Publish."""
        publish(self.path, message)

    def onClose(self, clean: bool, code: int, reason: str) -> None:
        """Unsubscribe."""
        CHANNELS[self.path].discard(self)


class Root(Resource):
    """Every path is a channel."""

    isLeaf = True

    def __init__(self, websockets: WebSocketResource) -> None:
        super().__init__()
        self.render_GET = websockets.render

    def render_POST(self, request: Request) -> bytes:
        """Publish."""
        assert request.content is not None
        publish(request.path.decode(), request.content.read())
        return b"OK\n"


def main() -> None:
    """Serve."""
    factory = WebSocketServerFactory()
    factory.protocol = Subscriber
    running: Any = reactor
    root = Root(WebSocketResource(factory))
    running.listenTCP(int(sys.argv[1]), Site(root), 1024, "127.0.0.1")
    running.run()


if __name__ == "__main__":
    main()
