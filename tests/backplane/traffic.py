"""Messages from all servers to all servers, while something fails; and what became of them."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from pinghub.testing import http_request
from tests.faults.harness import PATIENCE, Crowd, Peer, connect, numbered
from tests.running import Server

EACH = 1_000_000
"""How many numbers each publisher has for itself."""
PAUSE = 0.005
"""How long a publisher waits between two messages, in seconds."""


@dataclass(frozen=True)
class Answer:
    """What became of a POST.

    Attributes:
        number: what was published.
        at: when it was sent, as ``time.monotonic`` tells it.
        took: how long the answer took, in seconds.
        status: its status; 0 if there was none.
        counted: to how many servers it went; -1 if that is not said.
        retry_after: what the answer says about that.
    """

    number: int
    at: float
    took: float
    status: int
    counted: int
    retry_after: str


class Publisher:
    """Posts numbers at one server, one after the other, in a thread of its own.

    Args:
        server: the server.
        first: its first number.
    """

    def __init__(self, server: Server, first: int) -> None:
        self.answers: list[Answer] = []
        self._server = server
        self._number = first
        self._peer: Peer | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Publish no more; wait for the last answer."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(PAUSE):
            self._number += 1
            self.answers.append(self._post(self._number))
        if self._peer is not None:
            self._peer.close()

    def _post(self, number: int) -> Answer:
        begun = time.monotonic()
        try:
            if self._peer is None:
                self._peer = Peer(connect(("127.0.0.1", self._server.port)))
            self._peer.send(http_request("POST", "/a", numbered(number)))
            status, fields, _ = self._peer.response()
        except (EOFError, OSError):
            self._peer = None
            return Answer(number, begun, time.monotonic() - begun, 0, -1, "")
        counted = int(fields.get("pinghub-servers", -1))
        retry_after = fields.get("retry-after", "")
        return Answer(number, begun, time.monotonic() - begun, status, counted, retry_after)


class Traffic:
    """One publisher and two readers at each server, on one channel.

    Args:
        servers: the servers.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers
        self.publishers = [Publisher(each, index * EACH) for index, each in enumerate(servers)]
        peers = []
        for server in (*servers, *servers):
            peers.append(Peer(connect(("127.0.0.1", server.port))))
            peers[-1].upgrade("/a")
        self.crowd = Crowd(peers)

    def __enter__(self) -> Traffic:
        self.crowd.__enter__()
        for each in self.publishers:
            each.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self.crowd.__exit__(None, None, None)
        for reader in self.crowd.readers:
            with suppress(OSError):
                reader.peer.socket.shutdown(socket.SHUT_RDWR)
            reader.peer.close()

    def stop(self) -> None:
        """Publish no more."""
        for each in self.publishers:
            each.stop()

    def answers(self) -> list[Answer]:
        """All answers, in the order in which the POSTs were sent."""
        return sorted((each for one in self.publishers for each in one.answers), key=_when)

    def settled(self) -> None:
        """Wait until nothing more comes."""
        seen = -1
        for _ in range(round(PATIENCE / 0.1)):
            total = sum(len(reader.numbers) for reader in self.crowd.readers)
            if total == seen:
                return
            seen = total
            threading.Event().wait(0.1)

    def faults(self) -> list[str]:
        """What must not be, whatever fails: anything doubled, or in another order elsewhere."""
        found = []
        orders = [reader.numbers for reader in self.crowd.readers]
        for order in orders:
            if len(set(order)) < len(order):
                found.append(f"doubled: {[n for n, c in Counter(order).items() if c > 1][:5]}")
            for source in range(len(self.servers)):
                own = [each for each in order if each // EACH == source]
                if own != sorted(own):
                    found.append(f"the messages of publisher {source} are out of order")
            for other in orders:
                places = {number: place for place, number in enumerate(other)}
                common = [places[each] for each in order if each in places]
                if common != sorted(common):
                    found.append("two readers see different orders")
        return found

    def missing(self) -> list[Answer]:
        """What was answered 200, for all servers, and somebody has not received."""
        everywhere = set.intersection(*(set(reader.numbers) for reader in self.crowd.readers))
        total = len(self.servers)
        return [
            each
            for each in self.answers()
            if (each.status, each.counted) == (200, total) and each.number not in everywhere
        ]


def _when(answer: Answer) -> float:
    return answer.at
