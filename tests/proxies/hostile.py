"""What hostile peers do, with a proxy in between: R25 of the list of checks."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection

from pinghub.testing import CLOSE, TEXT, client_frame, upgrade_request
from tests.faults.harness import (
    KIB,
    MIB,
    PATIENCE,
    SMALL_BUFFER,
    Crowd,
    Peer,
    RoundTrips,
    descriptors,
    eventually,
    numbered,
    socket_states,
)
from tests.proxies.harness import ProxyTests
from tests.running import Server

LARGE = 60 * KIB
CLOSE_TIMEOUT = 3.0


class HostileTests(ProxyTests):
    """The owner of a channel is as safe behind a proxy as without one."""

    REFUSED: Collection[int]  # how a handshake with a body is answered

    def options(self) -> list[str]:
        return ["--max-backlog=64m", "--stall-timeout=60s"]

    def setUp(self) -> None:
        super().setUp()
        self.crowd = Crowd([self.subscribe("/a"), self.subscribe("/a")])
        self.crowd.__enter__()
        self.addCleanup(self.crowd.__exit__, None, None, None)
        self.publisher = self.connect()
        self.count = 0
        self.publish(2)
        (self.owner,) = [each for each in self.servers if self.subscribers(each)]
        # Connections of the proxy to publish on are there, and stay.
        self.descriptors = descriptors(self.owner.process.pid)

    def subscribers(self, server: Server) -> int:
        """How many listen on a server."""
        peer = Peer(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
        with contextlib.closing(peer):
            _, count = peer.post("/a", numbered(self.count))
        self.count += bool(count)
        return count

    def publish(self, subscribers: int, size: int = 8) -> None:
        """Post one message, which is handed to so many."""
        answer = self.publisher.post("/a", numbered(self.count, size))
        self.assertEqual(answer, (200, subscribers))
        self.count += 1

    def check_crowd(self) -> None:
        """The others have got everything, in order."""
        self.assertTrue(self.crowd.wait_for(self.count))
        for reader in self.crowd.readers:
            self.assertEqual(reader.numbers, list(range(self.count)))
        self.assertNotIn("Traceback", "".join(self.owner.output))

    def until_freed(self) -> float:
        """Wait until the owner has no more connections than before; how long that took."""
        pid = self.owner.process.pid
        return eventually(
            lambda: descriptors(pid) <= self.descriptors and not socket_states(pid)["CLOSE_WAIT"],
            2 * PATIENCE,
            "its connections have ended",
        )

    def test_close_behind_a_backlog(self) -> None:
        """R4: who sends Close and does not read has left at once, and is freed in time."""
        offenders = [self.stalled() for _ in range(3)]
        # The proxy and the kernels take megabytes on the way; then it waits in the server.
        for _ in range(400):
            self.publish(5, LARGE)
        for offender in offenders:
            offender.send(client_frame(CLOSE, b"\x03\xe8"))

        def left() -> bool:
            status, subscribers = self.publisher.post("/a", numbered(self.count))
            self.count += 1
            self.assertEqual(status, 200)
            return subscribers == 2

        self.assertLess(eventually(left, PATIENCE, "who sent Close has left"), 1)
        self.assertLess(self.until_freed(), CLOSE_TIMEOUT + 1)
        self.check_crowd()

    def stalled(self) -> Peer:
        """A subscriber who does not read."""
        peer = self.connect(receive_buffer=SMALL_BUFFER)
        peer.upgrade("/a")
        return peer

    def test_frames_as_a_body(self) -> None:
        """R5: a handshake with a body full of frames is refused, and nobody waits for that."""
        frames = client_frame(TEXT, b"x")
        large = (frames * (MIB // len(frames) + 1))[:MIB]
        worst = []  # in milliseconds
        with RoundTrips(("127.0.0.1", self.owner.port)) as prober:
            for _ in range(3):
                with prober.window() as window:
                    for body in (large, large[: 60 * KIB]) * 5:
                        self.assertIn(self.send_body(body), self.REFUSED)
                worst.append(window().worst)
        # It only ever gets worse by what else the machine has to do.
        self.assertLess(min(worst), 20)
        self.publish(2)
        self.check_crowd()

    def send_body(self, body: bytes) -> int:
        """The answer to a handshake with a body."""
        peer = self.connect()
        peer.send(upgrade_request("/a", {"Content-Length": str(len(body))}))
        peer.try_to_send(body)
        status, _, _ = peer.response()
        return status

    def test_frames_behind_the_head(self) -> None:
        """R6: all that comes behind the head is delivered, and the peer's end is noticed."""
        for size in (1, 2, 14, 100, 1000, 4096, 16_384, 32_768, 60 * KIB):
            frames, number = b"", self.count
            while len(frames) + 14 <= size:
                frames += client_frame(TEXT, numbered(number))
                number += 1
            frames += client_frame(TEXT, numbered(0))[: size - len(frames)]
            peer = self.connect()
            peer.send(upgrade_request("/a") + frames)
            self.count = number
            self.assertTrue(self.crowd.wait_for(number), f"{size} bytes of frames are delivered")
            peer.close()
        self.assertLess(self.until_freed(), 5)
        self.publish(2)
        self.check_crowd()
