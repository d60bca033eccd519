"""A long time of coming and going, with a tenth of the connections hostile."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pinghub.testing import CLOSE, PING, TEXT, Frame, client_frame, http_request, upgrade_request
from tests.faults.harness import KIB, SMALL_BUFFER, Peer, connect, rss
from tests.faults.mutations import mutated, segments

CHANNELS = [f"/soak/{number}" for number in range(20)]
FLOODED = "/soak/flooded"

OPTIONS = (
    "--max-backlog=256k",
    "--stall-timeout=1s",
    "--head-timeout=1s",
    "--body-timeout=1s",
    "--keepalive-timeout=1s",
    "--ping-interval=1s",
    "--ping-timeout=1s",
)
"""Short deadlines, so that many of them pass while it lasts."""


@dataclass
class Outcome:
    """What was seen.

    Attributes:
        connections: how many there were, by kind.
        memory: the server's, once a second: seconds since the start, and bytes.
    """

    connections: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, int]] = field(default_factory=list)

    def growth(self, warm_up: float) -> float:
        """How many bytes the memory grew after so many seconds: a tenth against a tenth."""
        sizes = [size for moment, size in self.memory if moment >= warm_up]
        few = max(1, len(sizes) // 10)
        return sorted(sizes[-few:])[few // 2] - sorted(sizes[:few])[few // 2]

    def slope(self, warm_up: float) -> float:
        """How many bytes it grows per second: the least squares, after so many seconds."""
        points = [point for point in self.memory if point[0] >= warm_up]
        mean_time = sum(moment for moment, _ in points) / len(points)
        mean_size = sum(size for _, size in points) / len(points)
        above = sum((moment - mean_time) * (size - mean_size) for moment, size in points)
        below = sum((moment - mean_time) ** 2 for moment, _ in points)
        return above / below


class Soak:
    """Comes and goes: at any time some healthy connections, and some that are not.

    Args:
        port: the port of the server.
        pid: its process.
        seed: of all choices.
    """

    HEALTHY = 100
    HOSTILE = 50

    def __init__(self, port: int, pid: int, seed: int) -> None:
        self.outcome = Outcome()
        self._address = ("127.0.0.1", port)
        self._pid = pid
        self._choose = random.Random(seed)
        self._healthy: deque[tuple[Peer, bytes]] = deque()
        self._hostile: deque[Peer] = deque()
        self._publisher = Peer(connect(self._address))
        self._number = 0

    def run(self, seconds: float) -> Outcome:
        """Go on for so many seconds."""
        begun = sampled = time.monotonic()
        while (now := time.monotonic()) < begun + seconds:
            self._step()
            if now >= sampled + 1:
                sampled = now
                self.outcome.memory.append((now - begun, rss(self._pid)))
        while self._healthy:
            self._leave()
        for peer in (*self._hostile, self._publisher):
            peer.close()
        return self.outcome

    def _step(self) -> None:
        self._number += 1
        if self._number % 10:
            self._come()
            if len(self._healthy) > self.HEALTHY:
                self._leave()
            return
        kind = self._choose.choice(HOSTILE)
        self.outcome.connections[kind.__name__] += 1
        peer = Peer(connect(self._address, SMALL_BUFFER))
        self._hostile.append(peer)
        kind(peer, self._choose)
        # Who stalls has to have something to stall on.
        self._post(FLOODED, b"x" * 30 * KIB)
        if len(self._hostile) > self.HOSTILE:
            self._hostile.popleft().close()

    def _come(self) -> None:
        self.outcome.connections["healthy"] += 1
        channel = self._choose.choice(CHANNELS)
        text = b"%d" % self._number
        peer = Peer(connect(self._address))
        peer.upgrade(channel)
        peer.send(client_frame(TEXT, text) + client_frame(TEXT))
        self._post(channel, b"posted " + text)
        self._healthy.append((peer, text))

    def _post(self, channel: str, body: bytes) -> None:
        status, count = self._publisher.post(channel, body)
        if status != 200 or (channel != FLOODED and not count):
            raise AssertionError(f"a POST was answered {status}, for {count}")

    def _leave(self) -> None:
        peer, text = self._healthy.popleft()
        while peer.frame() != Frame(TEXT, text):
            pass
        self._choose.choice((close, vanish, reset))(peer)


# How healthy ones leave.


def close(peer: Peer) -> None:
    """Leave properly: the answer comes behind whatever is under way."""
    peer.send(client_frame(CLOSE, b"\x03\xe8"))
    while (frame := peer.frame()).opcode != CLOSE:
        pass
    if frame.code != 1000 or peer.rest():
        raise AssertionError("a close frame was not answered in kind")
    peer.close()


def vanish(peer: Peer) -> None:
    """Leave without a word."""
    peer.close()


def reset(peer: Peer) -> None:
    """Leave with a reset, in the middle of a message."""
    peer.try_to_send(client_frame(TEXT, b"x" * 100)[:50])
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


# What hostile ones do. None of them ever reads.


def stall(peer: Peer, choose: random.Random) -> None:
    """Subscribe to more than it takes."""
    peer.try_to_send(upgrade_request(FLOODED))


def close_and_stall(peer: Peer, choose: random.Random) -> None:
    """The same, with a close frame."""
    peer.try_to_send(upgrade_request(FLOODED) + client_frame(CLOSE, b"\x03\xe8"))


def say_nothing(peer: Peer, choose: random.Random) -> None:
    """Connect, and that is all."""


def stop_in_the_middle(peer: Peer, choose: random.Random) -> None:
    """Send a part of something good."""
    data = upgrade_request("/a") + client_frame(TEXT, b"x" * 1000)
    if choose.random() < 0.5:
        data = http_request("POST", "/a", b"x" * 1000)
    peer.try_to_send(data[: choose.randrange(len(data))])


def flood_with_pings(peer: Peer, choose: random.Random) -> None:
    """Send more pings than anybody needs."""
    peer.try_to_send(upgrade_request("/a") + client_frame(PING, b"x" * 125) * 500)


def send_too_much(peer: Peer, choose: random.Random) -> None:
    """Send a message, or a request, that is far too large."""
    if choose.random() < 0.5:
        peer.try_to_send(upgrade_request("/a") + client_frame(TEXT, b"x" * 200_000))
    else:
        peer.try_to_send(http_request("POST", "/a", b"x" * 200_000))


def send_fragments(peer: Peer, choose: random.Random) -> None:
    """Send a message that never ends."""
    more = client_frame(0, b"", fin=False) * 1000
    peer.try_to_send(upgrade_request("/a") + client_frame(TEXT, b"x", fin=False) + more)


def pipeline(peer: Peer, choose: random.Random) -> None:
    """Ask and ask, and read no answer."""
    peer.try_to_send(http_request("GET", "/a") * 200)


def send_nonsense(peer: Peer, choose: random.Random) -> None:
    """Send something that is almost good."""
    for segment in segments(mutated(choose), choose):
        peer.try_to_send(segment)


HOSTILE: tuple[Callable[[Peer, random.Random], None], ...] = (
    stall,
    stall,
    close_and_stall,
    say_nothing,
    stop_in_the_middle,
    flood_with_pings,
    send_too_much,
    send_fragments,
    pipeline,
    send_nonsense,
    send_nonsense,
)
