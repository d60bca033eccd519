"""Channels as operators see them: listed, and shown.

There may be a million of them, and thousands of subscribers in one: nothing here does more at once
than a small part of it.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from pinghub.channels import Channel, ChannelManager

SLICE = 200
"""How many channels are written, or subscribers looked at, at once."""

SCANNED = 5000
"""How many names are looked at, at once."""


def describe(channel: Channel) -> dict[str, object]:
    """What is known of a channel, for JSON."""
    return {
        "name": channel.name,
        "subscribers": len(channel),
        "messages": channel.messages,
        "backlog": sum(getattr(each, "backlog", 0) for each in channel),
    }


@implementer(IPushProducer)
class Listing:
    """Writes the channels to a request, as fast as its client reads, and a part in each turn.

    A channel that comes or goes meanwhile may be missing. The names are copied first: for a
    million channels that takes some milliseconds, and 8 MB until the end.

    Args:
        request: the request; it is finished at the end.
        manager: the channels.
        prefix: what their names begin with.
        limit: how many to write at most; None for all.
    """

    def __init__(
        self, request: Any, manager: ChannelManager, prefix: str, limit: int | None
    ) -> None:
        self._request = request
        self._clock = manager.clock
        self._pieces = listing(manager, prefix, limit)
        self._call: Any = None
        self._paused = False

    def start(self) -> None:
        """Begin."""
        # Not as a pull producer: twisted.web would then ask for 10 ms without a break.
        self._request.registerProducer(self, True)
        # An HTTPChannel that closes forgets its producer instead of stopping it.
        self._request.notifyFinish().addErrback(lambda _: self.stopProducing())
        self._soon()

    def _soon(self) -> None:
        self._call = self._clock.callLater(0, self._step)

    def _step(self) -> None:
        self._call = None
        piece = next(self._pieces, None)
        if piece is None:
            self._request.unregisterProducer()
            self._request.finish()
            return
        self._request.write(piece)
        if not self._paused:
            self._soon()

    def pauseProducing(self) -> None:
        """The client does not read so fast (IPushProducer)."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The client has read what was written (IPushProducer)."""
        self._paused = False
        if self._call is None:
            self._soon()

    def stopProducing(self) -> None:
        """Nobody reads any more (IProducer)."""
        self._paused = True
        if self._call is not None:
            self._call.cancel()
            self._call = None


def listing(
    manager: ChannelManager, prefix: str, limit: int | None
) -> Generator[bytes, None, None]:
    """The channels in JSON, in pieces that each take a moment to make; none is empty."""
    parts, weight, left, more = [b'{"channels": ['], 0, limit, False
    separator = b"\n"
    for scanned, name in enumerate(manager.names(), 1):
        if weight >= SLICE or not scanned % SCANNED:
            yield b"".join(parts) or b" "
            parts, weight = [], 0
        channel = manager.channel(name) if name.startswith(prefix) else None
        if channel is None:
            continue
        if left == 0:
            more = True
            break
        left = None if left is None else left - 1
        parts.append(separator + json.dumps(describe(channel)).encode())
        separator = b",\n"
        weight += 1 + len(channel)
    end = json.dumps({"total": len(manager), "more": more})
    yield b"".join(parts) + b"\n], " + end.encode()[1:] + b"\n"
