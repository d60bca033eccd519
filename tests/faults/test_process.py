"""Processes that stop, block, and run out of something."""

from __future__ import annotations

import re
import select
import signal
import socket
import subprocess
import time

from pinghub.testing import PING, PONG, client_frame, http_request
from tests.faults.harness import (
    PATIENCE,
    FaultTests,
    Peer,
    RoundTrips,
    cpu_seconds,
    descriptors,
    eventually,
    scale,
)
from tests.faults.listener import end_listener, start_listener
from tests.faults.places import ROOT
from tests.faults.sabotaged import command
from tests.running import Server

PING_INTERVAL = scale(1.0, 27.0)
PING_TIMEOUT = scale(2.0, 30.0)
PINGS = (f"--ping-interval={PING_INTERVAL}", f"--ping-timeout={PING_TIMEOUT}")


class ProcessTests(FaultTests):
    """Servers and subscribers in processes of their own."""

    def sabotaged(self, fault: str, *options: str) -> Server:
        """A server with a fault."""
        return self.server(*options, command=command(fault), cwd=ROOT)


class SilenceTests(ProcessTests):
    """R15: subscribers that are gone without a word; see ``test_network`` for a dead link."""

    def unsubscribed(self, server: Server) -> float:
        """Wait until one of two subscribers is gone; how many seconds that took."""
        publisher = self.peer(server)
        seconds = PING_INTERVAL + PING_TIMEOUT + 10
        return eventually(
            lambda: publisher.post("/a", b"x") == (200, 1), seconds, "it is unsubscribed"
        )

    def listener(self, server: Server) -> subprocess.Popen[str]:
        """A healthy subscriber, in a process of its own."""
        listener = start_listener("127.0.0.1", server.port, "/a")
        self.addCleanup(end_listener, listener)
        return listener

    def test_a_stopped_subscriber(self) -> None:
        """R15: a subscriber whose process is stopped is unsubscribed; a healthy one is not."""
        server = self.server(*PINGS)
        self.listener(server)
        self.listener(server).send_signal(signal.SIGSTOP)
        self.figure(
            "R15",
            "unsubscribed: process stopped",
            self.unsubscribed(server),
            PING_INTERVAL + PING_TIMEOUT + 2,
            "s",
        )

    def test_a_half_closed_subscriber(self) -> None:
        """R15: a subscriber that closes its half of the connection is unsubscribed."""
        server = self.server(*PINGS)
        self.listener(server)
        self.subscriber(server, "/a").socket.shutdown(socket.SHUT_WR)
        self.figure("R15", "unsubscribed: half closed", self.unsubscribed(server), 2, "s")


class LateServerTests(ProcessTests):
    """R16: a silence that was the server's own."""

    COUNT = 20

    def pinged(self, server: Server) -> list[Peer]:
        """Subscribers that have got a ping and have not answered it yet."""
        peers = [self.subscriber(server, "/a") for _ in range(self.COUNT)]
        for peer in peers:
            peer.socket.settimeout(PING_INTERVAL + PATIENCE)
            self.assertEqual(peer.frame().opcode, PING)
        return peers

    def block(self, server: Server) -> None:
        """From now on, for a while, it reads nothing."""
        server.process.send_signal(signal.SIGUSR1)
        server.wait_for(re.compile("blocked from now on"))

    def answer(self, peers: list[Peer]) -> None:
        """Let all pongs wait in the server's sockets."""
        for peer in peers:
            peer.send(client_frame(PONG))

    def assert_all_there(self, server: Server, peers: list[Peer]) -> None:
        """Nobody was dropped."""
        publisher = self.peer(server)
        publisher.socket.settimeout(PATIENCE + 10)
        for message in (b"first", b"second"):
            self.assertEqual(publisher.post("/a", message), (200, self.COUNT))
            for peer in peers:
                while (frame := peer.frame()).opcode == PING:
                    peer.send(client_frame(PONG))
                self.assertEqual(frame.payload, message)
            # Long enough for the next turn of the sweep.
            self.pass_time(0.6)

    def test_a_stopped_server(self) -> None:
        """R16: nobody is dropped because the server was stopped for longer than a pong may take."""
        server = self.sabotaged("block:0.5", *PINGS)
        peers = self.pinged(server)
        self.block(server)
        # In the middle of a turn: it looks at the time, when it goes on, before it reads.
        server.process.send_signal(signal.SIGSTOP)
        self.answer(peers)
        self.pass_time(PING_TIMEOUT + 2)
        server.process.send_signal(signal.SIGCONT)
        self.assert_all_there(server, peers)

    def test_a_callback_that_blocks(self) -> None:
        """R16: nobody is dropped because a callback took four seconds."""
        server = self.sabotaged("block:4", "--ping-interval=1s", "--ping-timeout=2s")
        peers = self.pinged(server)
        begun = time.monotonic()
        self.block(server)
        self.answer(peers)
        self.assert_all_there(server, peers)
        self.assertGreater(time.monotonic() - begun, 4, "the callback did not block")


class ExhaustionTests(ProcessTests):
    """R17: no more connections can be accepted."""

    SECONDS = scale(1.0, 10.0)

    def prober(self, server: Server) -> RoundTrips:
        """Somebody who is served before, and has to be served all the time."""
        prober = RoundTrips(("127.0.0.1", server.port), interval=0.01)
        prober.__enter__()
        self.addCleanup(prober.__exit__, None, None, None)
        return prober

    def assert_calm(self, what: str, server: Server, prober: RoundTrips) -> None:
        """It serves those it has, and neither fills the log nor burns time."""

        def busy() -> float:
            before = cpu_seconds(server.process.pid)
            self.pass_time(self.SECONDS)
            return (cpu_seconds(server.process.pid) - before) / self.SECONDS * 100

        def slow() -> float:
            with prober.window() as latency:
                self.pass_time(self.SECONDS / 2)
            return latency().p99

        lines, begun = len(server.output), time.monotonic()
        self.figure("R17", f"{what}: CPU", self.least_of(busy, 20), 20, "% of a core")
        self.figure("R17", f"{what}: round trip, p99", self.least_of(slow, 100), 100, "ms")
        rate = (len(server.output) - lines) / (time.monotonic() - begun)
        self.figure("R17", f"{what}: log", rate, 10, "lines/s")
        self.assertIn("Cannot accept connections", "".join(server.output))

    def assert_served_soon(self, what: str, waiting: Peer) -> None:
        """Who waits to be accepted is answered as soon as there is room."""
        begun = time.monotonic()
        self.assertEqual(waiting.response()[0], 200)
        self.figure("R17", f"{what}: accepted again", time.monotonic() - begun, 1, "s")

    def waiting(self, server: Server) -> Peer:
        """Somebody who waits to be accepted, with a request."""
        peer = self.peer(server)
        peer.send(http_request("POST", "/a", b"x"))
        return peer

    def test_descriptors(self) -> None:
        """R17: without a descriptor left it serves those it has, quietly, until there is room."""
        what = "64 descriptors, 300 connects"
        server = self.sabotaged("descriptors:64", "--head-timeout=1h")
        prober = self.prober(server)
        crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
        for each in crowd:
            self.addCleanup(each.close)
        waiting = self.waiting(server)
        eventually(lambda: descriptors(server.process.pid) >= 63, PATIENCE, "it is full")
        self.assert_calm(what, server, prober)
        ended = select.poll()
        for each in crowd:
            ended.register(each, select.POLLIN)
        self.assertEqual(ended.poll(0), [], "who waits has been dropped")
        for each in crowd:
            each.close()
        self.assert_served_soon(what, waiting)

    def test_accept_errors(self) -> None:
        """R17: when the system refuses connections, likewise."""
        for error in ("ENFILE", "ENOMEM"):
            server = self.sabotaged(f"accept:{error}")
            prober = self.prober(server)
            server.process.send_signal(signal.SIGUSR1)
            # Once a connection is not accepted the fault has struck.
            waiting = self.struck(server)
            self.assert_calm(error, server, prober)
            server.process.send_signal(signal.SIGUSR1)
            self.assert_served_soon(error, waiting)

    def struck(self, server: Server) -> Peer:
        """Try until somebody is not answered."""
        for _ in range(100):
            peer = self.waiting(server)
            peer.socket.settimeout(0.5)
            try:
                peer.response()
            except TimeoutError:
                peer.socket.settimeout(PATIENCE)
                return peer
        raise AssertionError("connections are accepted still")
