"""R10: mutated requests, handshakes and frames."""

from __future__ import annotations

import gc
import random
import re
import secrets
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from pinghub import Limits
from pinghub.testing import CLOSE, PING, PONG, TEXT, MemoryServer
from pinghub.testing import Peer as MemoryPeer
from tests.faults.harness import PATIENCE, FaultTests, connect, descriptors, eventually, scale
from tests.faults.load import frame_at
from tests.faults.mutations import mutated, segments
from tests.running import Server

SEED = 20_260
BATCH = 50
"""After so many connections nothing may be left of any of them."""

STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d) [ -~]+\Z")
FIELD = re.compile(rb"[A-Za-z-]+: [ -~]*\Z")


class Malformed(Exception):
    """The server sent something that no client should have to read."""


def check(received: bytes, complete: bool) -> None:
    """Check all that a server has sent on one connection: responses, perhaps frames behind them.

    Args:
        received: the bytes.
        complete: whether they have to end where a response or a frame ends.

    Raises:
        Malformed: they are something else.
    """
    data = bytearray(received)
    start = 0
    while start < len(data):
        end = data.find(b"\r\n\r\n", start)
        if end < 0:
            if complete:
                raise Malformed(f"an incomplete head: {bytes(data[start:])!r}")
            return
        status, size = check_head(bytes(data[start:end]))
        start = end + 4
        if status == 101:
            check_frames(data[start:], complete)
            return
        # A response to HEAD has a length and no body: nothing follows, or the next response.
        if data[start : start + 7] != b"HTTP/1.":
            if 0 < len(data) - start < size and complete:
                raise Malformed(f"an incomplete body of {size} bytes")
            start += size


def check_head(head: bytes) -> tuple[int, int]:
    """Check the head of a response; its status, and the size of its body."""
    line, *fields = head.split(b"\r\n")
    found = STATUS.match(line)
    if found is None:
        raise Malformed(f"no status line: {line!r}")
    size = 0
    for field in fields:
        if not FIELD.match(field):
            raise Malformed(f"no header field: {field!r}")
        name, _, value = field.partition(b": ")
        if name.lower() == b"content-length":
            size = int(value)
    return int(found[1]), size


def check_frames(data: bytearray, complete: bool) -> None:
    """Check frames: unmasked, unfragmented, text or control, none behind a close frame."""
    start, closed = 0, False
    while start < len(data):
        found = frame_at(data, start)
        if found is None:
            if complete:
                raise Malformed(f"an incomplete frame: {bytes(data[start:][:50])!r}")
            return
        head, end = found
        opcode, payload = data[start] ^ 0x80, data[head:end]
        if closed:
            raise Malformed("a frame behind a close frame")
        if opcode not in (TEXT, CLOSE, PING, PONG) or data[start + 1] > 127:
            raise Malformed(f"a frame that begins {bytes(data[start:head])!r}")
        if opcode > 7 and len(payload) > 125:
            raise Malformed("a long control frame")
        closed = opcode == CLOSE
        if opcode == TEXT:
            payload.decode()
        if closed and payload:
            check_close(payload)
        start = end


def check_close(payload: bytearray) -> None:
    """Check the payload of a close frame."""
    code = int.from_bytes(payload[:2], "big")
    payload[2:].decode()
    if code not in (1000, 1001, 1002, 1003, 1007, 1008, 1009) and not 3000 <= code < 5000:
        raise Malformed(f"the close code {code}")


class MutatedTests(FaultTests):
    """R10."""

    def seeds(self, count: int) -> list[str]:
        """Fixed seeds and one fresh, which is printed."""
        fresh = secrets.randbelow(10**9)
        print(f"R10: the fresh seed is {fresh}")
        return [f"{SEED}:{number}" for number in range(count // 2)] + [
            f"{fresh}:{number}" for number in range(count - count // 2)
        ]

    def test_in_memory(self) -> None:
        """R10: whatever arrives, nothing is raised or logged, and in the end nothing is left.

        Neither in the books nor in memory. Whatever is answered is well-formed; a subscriber of
        the same channel gets text alone.
        """
        seeds = self.seeds(scale(5000, 100_000))
        gc.disable()
        self.addCleanup(gc.enable)
        for start in range(0, len(seeds), BATCH):
            self.batch(seeds[start : start + BATCH])
        self.figure("R10", "mutated connections in memory", len(seeds), len(seeds), "", True)

    def batch(self, seeds: list[str]) -> None:
        """Some connections to one server."""
        server = MemoryServer(Limits(ping_interval=2.0, ping_timeout=2.0))
        manager = server.manager
        listener = server.subscribe("/a")
        peers = {}
        protocols = []
        # What a deadline raises is logged in another way than what a connection raises.
        with self.assertNoLogs("pinghub"):
            for seed in seeds:
                with self.blame(seed):
                    peer = peers[seed] = server.connect()
                    choose = random.Random(seed)
                    protocols.append((seed, weakref.ref(peer.transport.protocol)))
                    self.send(peer, choose)
                    protocols += [
                        (seed, weakref.ref(each)) for each in manager.connections.subscribers
                    ]
                    if choose.random() < 0.5:
                        peer.close()
            listener.send_text("still here")
            frames = listener.frames()
            # Longer than any deadline.
            server.run(80)
        self.assertEqual(frames[-1].payload, b"still here")
        for frame in frames:
            self.assertIn(frame.opcode, (TEXT, PING))
            frame.payload.decode()
        for seed, peer in peers.items():
            with self.blame(seed):
                check(peer.take(), complete=not peer.transport.reset)
        left = (len(manager), len(manager.connections), len(manager.sweep), manager.backlog.size)
        self.assertEqual(left, (0, 0, 0, 0), f"left by {seeds[0]} to {seeds[-1]}")
        # The collector does not look at what has become old (pinghub/collector.py).
        del peer, listener
        peers.clear()
        kept = {seed for seed, protocol in protocols if protocol() is not None}
        self.assertEqual(kept, set(), "in memory still, in a cycle")

    @contextmanager
    def blame(self, seed: str) -> Iterator[None]:
        """Say which seed it was."""
        try:
            yield
            self.assertEqual(self.flushLoggedErrors(), [])
        except Exception as error:
            raise AssertionError(f"{error!r}, seed {seed}") from error

    def send(self, peer: MemoryPeer, choose: random.Random) -> None:
        """Do what one client does; a few are told in the middle of it that the server stops."""
        for segment in segments(mutated(choose), choose):
            if choose.random() < 0.1:
                peer.deliver(segment)
            else:
                peer.send(segment)
            if choose.random() < 0.05 and not peer.transport.disconnected:
                peer.transport.protocol.go_away()

    def test_over_sockets(self) -> None:
        """R10: the same over sockets; the log has no traceback, and no descriptor is left."""
        server = self.server()
        pid = server.process.pid
        before = descriptors(pid)
        seeds = self.seeds(scale(1000, 10_000))
        for seed in seeds:
            with self.blame(seed):
                self.exchange(server, random.Random(seed))
        eventually(lambda: descriptors(pid) <= before, PATIENCE, "no descriptor is left")
        self.assertEqual(self.peer(server).post("/a", b"x"), (200, 0))
        self.figure("R10", "mutated connections over sockets", len(seeds), len(seeds), "", True)

    def exchange(self, server: Server, choose: random.Random) -> None:
        """One connection; the peer closes its half in the end."""
        connection = connect(("127.0.0.1", server.port))
        received, complete = b"", True
        with connection:
            try:
                for segment in segments(mutated(choose), choose):
                    connection.sendall(segment)
                connection.shutdown(socket.SHUT_WR)
                while data := connection.recv(65536):
                    received += data
            except TimeoutError:
                raise
            except OSError:
                complete = False  # The server has reset it.
        if b"HTTP/1.1 101 " in received:
            complete = False  # Who leaves without a close frame gets what was on its way.
        check(received, complete)
