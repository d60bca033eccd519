"""Clients in a process of their own, which are told and tell in lines of JSON.

To the process, one command a line: ``{"id": 1, "do": "connect", "url": …, "subprotocols": […]}``
opens a websocket; ``text`` and ``binary`` (with ``payload``), ``fragments`` (with ``payloads``),
``ping`` (with ``payload``), ``close`` and ``drop`` are for an open one.

From the process, one event a line: ``open`` (with ``subprotocol`` and ``extensions``),
``message`` and ``pong`` (with ``payload``) and ``closed`` (with ``code``, which is 1006 unless
the closing was clean), each with the ``id`` of its websocket.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from select import select
from typing import Any, ClassVar

from tests.clients.cases import SECONDS, Cases

Event = dict[str, Any]

AUTOBAHN = (sys.executable, str(Path(__file__).with_name("autobahn_client.py")))
"""The command of the one client that is there wherever Pinghub is."""


class Client:
    """A process that opens websockets, as a context manager.

    Args:
        command: what to run.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._events: defaultdict[int, deque[Event]] = defaultdict(deque)
        self._partial = b""
        self._ids = itertools.count(1)

    def __enter__(self) -> Client:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, bufsize=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def connect(self, url: str, subprotocols: Sequence[str]) -> Websocket:
        """Open a websocket."""
        number = next(self._ids)
        self.tell(number, "connect", url=url, subprotocols=list(subprotocols))
        return Websocket(self, number, self.hear(number, "open"))

    def tell(self, number: int, what: str, **details: object) -> None:
        """Send a command for a websocket."""
        assert self._process.stdin is not None
        line = json.dumps({"id": number, "do": what, **details})
        self._process.stdin.write(line.encode() + b"\n")

    def hear(self, number: int, wanted: str) -> Event:
        """Wait for the next event of a websocket, which has to be of this kind."""
        deadline = time.monotonic() + SECONDS
        while not self._events[number]:
            self._read(deadline)
        event = self._events[number].popleft()
        assert event["event"] == wanted, event
        return event

    def _read(self, deadline: float) -> None:
        assert self._process.stdout is not None
        ready, _, _ = select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError("the client says nothing")
        data = os.read(self._process.stdout.fileno(), 1 << 16)
        if not data:
            raise ConnectionError("the client's process ended")
        *lines, self._partial = (self._partial + data).split(b"\n")
        for event in map(json.loads, lines):
            self._events[event["id"]].append(event)


class Websocket:
    """A websocket in another process."""

    def __init__(self, client: Client, number: int, opened: Event) -> None:
        self._client = client
        self._number = number
        self.subprotocol: str = opened["subprotocol"]
        self.extensions: str = opened["extensions"]

    def send(self, text: str) -> None:
        """Send a text message."""
        self._client.tell(self._number, "text", payload=text)

    def send_binary(self, data: bytes) -> None:
        """Send a binary message."""
        self._client.tell(self._number, "binary", payload=data.decode("ascii"))

    def send_fragments(self, *fragments: str) -> None:
        """Send one text message in several frames."""
        self._client.tell(self._number, "fragments", payloads=fragments)

    def receive(self) -> str:
        """Wait for a text message."""
        return str(self._client.hear(self._number, "message")["payload"])

    def ping(self, payload: bytes) -> bytes:
        """Ping, and wait for a pong."""
        self._client.tell(self._number, "ping", payload=payload.decode("ascii"))
        pong: str = self._client.hear(self._number, "pong")["payload"]
        return pong.encode("ascii")

    def close(self) -> int:
        """Close, and wait until it is closed."""
        self._client.tell(self._number, "close")
        return self.wait_closed()

    def wait_closed(self) -> int:
        """Wait until it is closed."""
        return int(self._client.hear(self._number, "closed")["code"])

    def drop(self) -> None:
        """Drop the connection."""
        self._client.tell(self._number, "drop")


class LineCases(Cases):
    """The cases for clients that a process opens, one process for the class."""

    command: ClassVar[Sequence[str]]
    client: ClassVar[Client]

    @classmethod
    def start(cls, shared: ExitStack) -> None:
        """Start the server and the process."""
        super().start(shared)
        cls.client = shared.enter_context(Client(cls.command))

    def connect(self, url: str, subprotocols: Sequence[str]) -> Websocket:
        """Open a websocket in the process."""
        return self.client.connect(url, subprotocols)
