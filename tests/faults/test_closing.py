"""Peers that ask for the end and do not read, and bytes that come before there is a websocket."""

from __future__ import annotations

import socket
import time

from pinghub.testing import CLOSE, TEXT, client_frame, upgrade_request
from tests.faults.harness import (
    KIB,
    MIB,
    FaultTests,
    PeakMemory,
    descriptors,
    eventually,
    numbered,
    scale,
    socket_states,
    until_hung_up,
)

LARGE = 64 * 1024
FILLING = 80
CLOSE_TIMEOUT = 3.0


class CloseTests(FaultTests):
    """A close frame from somebody who has stopped reading."""

    def test_close_behind_a_backlog(self) -> None:
        """R4: who sends Close and does not read has left at once, and the others do not notice."""
        server = self.server("--max-backlog=8m", "--max-total-backlog=1g", "--ping-interval=0.5s")
        pid = server.process.pid
        publisher, talker = self.peer(server), self.peer(server)
        talker.upgrade("/a")
        crowd = self.crowd(server, "/a", 3)
        others = 4
        before = descriptors(pid)
        offenders = [self.stalled(server) for _ in range(10)]
        count = 0
        for count in range(1, FILLING + 1):
            answer = publisher.post("/a", numbered(count - 1, LARGE))
            self.assertEqual(answer, (200, others + len(offenders)))
            self.assertEqual(len(talker.message()), LARGE)

        peak = PeakMemory(pid)
        for offender in offenders:
            offender.send(client_frame(CLOSE, b"\x03\xe8"))
        asked = time.monotonic()

        def left() -> bool:
            nonlocal count
            status, subscribers = publisher.post("/a", numbered(count))
            count += 1
            talker.message()
            self.assertEqual(status, 200)
            return subscribers == others

        took = eventually(left, 5, "who sent Close is out of the channel")
        self.figure("R4", "out of the channel after Close", took * 1000, 100, "ms")

        # What is published now is not kept for them any more.
        for _ in range(50):
            self.assertEqual(publisher.post("/a", numbered(count, LARGE)), (200, others))
            talker.message()
            talker.send(client_frame(TEXT, numbered(count + 1)))
            self.assertEqual(talker.message(), numbered(count + 1))
            count += 2
        self.figure("R4", "RSS, 50 messages behind the Close", peak.growth / MIB, 1, "MiB")

        gone = until_hung_up(offenders, CLOSE_TIMEOUT + 5)
        self.assertEqual(len(gone), len(offenders))
        took = max(gone.values()) - asked
        self.figure("R4", "connection freed after Close", took, CLOSE_TIMEOUT + 1, "s")
        eventually(lambda: descriptors(pid) == before, 1, "their descriptors are free")
        self.assertTrue(crowd.wait_for(count))
        for reader in crowd.readers:
            self.assertEqual(reader.numbers, list(range(count)))


class BodyTests(FaultTests):
    """An upgrade request with a body."""

    def test_frames_as_a_body(self) -> None:
        """R5: a handshake with a body full of tiny frames is refused, unparsed."""
        server = self.server()
        prober = self.round_trips(server)
        frames = client_frame(TEXT, b"x")
        large = (frames * (MIB // len(frames) + 1))[:MIB]
        small = large[: 60 * KIB]
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (MIB, large)

        requests = [
            ({"Content-Length": str(len(large))}, large, (400, 413)),
            ({"Content-Length": str(len(small))}, small, (400,)),
            ({"Transfer-Encoding": "chunked"}, chunked, (400, 413)),
        ]

        def attack() -> float:
            with prober.window() as window:
                for headers, body, statuses in requests * scale(20, 200):
                    peer = self.peer(server)
                    peer.send(upgrade_request("/a", headers))
                    peer.try_to_send(body)
                    status, _, _ = peer.response()
                    self.assertIn(status, statuses)
                    self.assertEqual(peer.rest(), b"")
                    peer.close()
            return window().worst

        bound = self.bound_of(prober, 20)
        worst = self.least_of(attack, bound)
        what = "another's round trip during 1 MiB of frames as a body"
        self.figure("R5", what, worst, bound, "ms")


class BehindTheHeadTests(FaultTests):
    """Frames that the peer sends without waiting for the 101."""

    def test_frames_behind_the_head(self) -> None:
        """R6: all that comes behind the head is delivered, and the peer's end is noticed."""
        server = self.server()
        pid = server.process.pid
        witness = self.crowd(server, "/a", 1)
        before = descriptors(pid)
        edges = [1, 2, 14, 100, 1000, 4096, 16383, 16384, 16385, 20000, 32768, 60 * KIB]
        sizes = edges + scale([], list(range(1, 60 * KIB, 997)))
        count = 0
        for size in sizes:
            frames, numbers = b"", count
            while len(frames) + 14 <= size:
                frames += client_frame(TEXT, numbered(numbers))
                numbers += 1
            frames += client_frame(TEXT, numbered(0))[: size - len(frames)]
            self.assertEqual(len(frames), size)
            peer = self.peer(server, 8 * MIB)
            peer.send(upgrade_request("/a") + frames)
            # Not closed: that would reset the connection, and lose what was sent on it.
            peer.socket.shutdown(socket.SHUT_WR)
            count = numbers
            self.assertTrue(witness.wait_for(count), f"{size} bytes of frames are delivered")
        self.assertEqual(witness.readers[0].numbers, list(range(count)))
        took = eventually(
            lambda: not socket_states(pid)["CLOSE_WAIT"] and descriptors(pid) == before,
            10,
            "connections end with their peers",
        )
        self.figure("R6", "until no socket is left in CLOSE_WAIT", took, 5, "s")
        self.assertEqual(self.peer(server).post("/a", numbered(count)), (200, 1))
