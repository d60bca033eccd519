"""Peers that send much of what is small, and read nothing."""

from __future__ import annotations

import time

from pinghub.limits import Limits
from pinghub.testing import PING, PONG, client_frame, http_request
from tests.faults.harness import (
    MIB,
    SMALL_BUFFER,
    FaultTests,
    PeakMemory,
    Peer,
    scale,
    send_queue,
    until_hung_up,
)
from tests.running import Server

FLOOD = 100_000
MANY = 200


class FloodTests(FaultTests):
    """A flood fills neither the memory nor the log."""

    def bus(self, *options: str) -> Server:
        """A server that has served a few of every kind."""
        server = self.server(*options)
        for _ in range(10):
            peer = self.subscriber(server)
            peer.send(client_frame(PING, b"x") * 10)
            self.assertEqual(peer.frame().opcode, PONG)
            peer.close()
            self.peer(server).post("/a", b"x")
        return server

    def memory(self, what: str, peak: PeakMemory) -> None:
        """Note how much memory was taken."""
        self.figure("R9", f"RSS, {what}", peak.growth / MIB, 4, "MiB")

    def lines(self, what: str, server: Server) -> None:
        """End the server, and note how much it had to say."""
        server.stop()
        self.figure("R9", f"log, {what}", len(server.output), 100, "lines")

    def gone(self, peers: list[Peer], seconds: float) -> float:
        """The server gives all of these up; how long that took."""
        begun = time.monotonic()
        found = until_hung_up(peers, seconds)
        self.assertEqual(len(found), len(peers), "offenders have to be dropped")
        return max(found.values()) - begun

    def given_up(self, peers: list[Peer], seconds: float) -> float:
        """The server gives these up: how long after the last answer that a kernel took."""
        deadline = time.monotonic() + seconds
        queues = dict.fromkeys(peers, 0)
        progress = dict.fromkeys(peers, time.monotonic())
        took = 0.0
        while queues:
            self.assertLess(time.monotonic(), deadline, "offenders have to be dropped")
            for peer, when in until_hung_up(queues, 0.05).items():
                took = max(took, when - progress[peer])
                del queues[peer]
            for peer, before in queues.items():
                queues[peer] = send_queue(peer)
                if queues[peer] > before:
                    progress[peer] = time.monotonic()
        return took

    def assert_dropped(self, what: str, frame: bytes) -> None:
        """Who sends many of these frames, and reads nothing, is dropped at once.

        Args:
            what: what they are.
            frame: one of them.
        """
        server = self.bus()
        peak = PeakMemory(server.process.pid)
        took = 0.0
        for count in (1, MANY):
            peers = [self.subscriber(server, "/a", SMALL_BUFFER) for _ in range(count)]
            for peer in peers:
                peer.try_to_send(frame * (FLOOD // count))
            took = max(took, self.gone(peers, 10))
        self.figure("R9", f"dropped after 100,000 {what}", took, 1, "s")
        self.memory(f"100,000 {what} of one, and of 200 peers", peak)
        self.assertEqual(self.peer(server).post("/a", b"x"), (200, 0))
        self.lines(f"201 floods of {what}", server)

    def test_pings(self) -> None:
        """R9: who floods with pings and reads nothing is dropped at once."""
        self.assert_dropped("pings", client_frame(PING, b"flood"))

    def test_pongs(self) -> None:
        """R9: who floods with pongs that answer nothing is dropped at once."""
        self.assert_dropped("wrong pongs", client_frame(PONG, b"wrong"))

    def test_a_few_pongs(self) -> None:
        """R9: some pongs that answer nothing are allowed (RFC 6455 section 5.5.3)."""
        peer = self.subscriber(self.bus())
        peer.send(client_frame(PONG, b"wrong") * 10 + client_frame(PING, b"behind"))
        frame = peer.frame()
        self.assertEqual((frame.opcode, frame.payload), (PONG, b"behind"))

    def test_pipelining(self) -> None:
        """R9: who pipelines requests and reads no answers is read no more, then dropped."""
        timeout = scale(2.0, 10.0)
        server = self.bus(f"--head-timeout={timeout}")
        requests = (
            http_request("GET", "/a"),
            http_request("POST", "/a", b"x"),
            http_request("PUT", "/a"),
            http_request("OPTIONS", "/a"),
        )
        peak = PeakMemory(server.process.pid)

        def flood() -> float:
            peers = []
            for request in requests:
                peer = self.peer(server, SMALL_BUFFER)
                peer.socket.settimeout(0.5)
                peer.try_to_send(request * FLOOD)
                peers.append(peer)
            return self.given_up(peers, timeout + 30)

        # Two deadlines, each kept to within a second: the request's, and the closing.
        bound = timeout + Limits().close_timeout + 2
        self.figure("R9", "pipeliners dropped", self.least_of(flood, bound), bound, "s")
        self.memory("100,000 pipelined requests of 4 kinds, unread", peak)
        self.assertEqual(self.peer(server).post("/a", b"x"), (200, 0))
        self.lines("pipelining", server)
