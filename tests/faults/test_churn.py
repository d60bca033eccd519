"""Many subscribers, many who come and go, and messages all the while."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
from typing import Any

from pinghub import Limits
from pinghub.testing import CLOSE, TEXT, client_frame, http_request, upgrade_request
from tests.faults import load
from tests.faults.harness import (
    MIB,
    PATIENCE,
    FaultTests,
    descriptors,
    eventually,
    rss,
    scale,
    send_time,
)
from tests.faults.masses import need_descriptors, open_websockets
from tests.faults.places import ROOT
from tests.faults.sabotaged import command
from tests.faults.soak import CHANNELS, FLOODED, OPTIONS, Soak


class OrderTests(FaultTests):
    """R12; once more over a bad network in ``test_network``."""

    def test_everyone_gets_everything_in_one_order(self) -> None:
        """R12: whoever publishes and whoever comes and goes, all receive all, in one order.

        Who is there for a while receives what is published meanwhile, without a gap.
        """
        deliveries = scale(1e5, 1e6)
        self.assert_order("200 subscribers", deliveries, messages=round(deliveries / 200))

    def test_a_fan_out_of_several_turns(self) -> None:
        """R12: the same when a message takes several turns of the reactor to get to everyone."""
        self.assert_order("700 subscribers", 1e5, messages=160, subscribers=700)

    def test_what_was_published_before(self) -> None:
        """R12: nobody receives what was published before it came, not even just before.

        A POST, a handshake and a message come in one segment, and are served in one turn.
        """
        server = self.server()
        witness, peer = self.subscriber(server, "/a"), self.peer(server)
        posted = http_request("POST", "/a", b"before")
        peer.send(posted + upgrade_request("/a") + client_frame(TEXT, b"after"))
        self.assertEqual([peer.response()[0] for _ in range(2)], [200, 101])
        self.assertEqual([witness.message() for _ in range(2)], [b"before", b"after"])
        self.assertEqual(peer.message(), b"after")

    def assert_order(self, what: str, deliveries: float, **plan: Any) -> None:
        """Run a load; nothing may be wrong."""
        server = self.server("--ping-interval=0")
        report = load.run(load.Plan("127.0.0.1", server.port, **plan))
        self.assertEqual(report.faults[:3], [])
        self.figure("R12", f"deliveries, {what}", report.deliveries, deliveries, "", at_least=True)
        visits, due = sum(report.visits.values()), 20 * plan["messages"] / 100
        self.figure("R12", f"who came and went, {what}", visits, 0.8 * due, "", at_least=True)
        self.assertEqual(server.stop(), 0)
        self.assertNotIn("Evicted", "".join(server.output))


class CrowdTests(FaultTests):
    """R18."""

    IDLE = 5000
    OTHERS = 1000
    MESSAGES = scale(40, 400)

    def setUp(self) -> None:
        need_descriptors(self.IDLE + self.OTHERS)
        # Nobody answers the pings, and nobody is given up for it while this lasts.
        self.crowded = self.server(
            "--ping-interval=5s", "--ping-timeout=1h", command=command("collector"), cwd=ROOT
        )
        self.pauses()
        self.address = ("127.0.0.1", self.crowded.port)
        for each in open_websockets(self.address, "/idle", self.IDLE):
            self.addCleanup(each.close)
        self.prober = self.round_trips(self.crowded)
        # A turn of the server sends to so many; a slow machine takes longer for it.
        self.bound = max(self.bound_of(self.prober, 20), 6 * send_time(Limits().fanout_slice))

    def pauses(self) -> tuple[float, float]:
        """The longest run of the collector since the last time, and a full one, in milliseconds."""
        known = len(self.crowded.output)
        self.crowded.process.send_signal(signal.SIGUSR1)
        found: list[tuple[str, str]] = []

        def told() -> bool:
            output = "".join(self.crowded.output[known:])
            found[:] = re.findall(r"longest ([\d.]+) ms, all ([\d.]+) ms", output)
            return bool(found)

        eventually(told, PATIENCE, "the collector's pause is told")
        pause, full = found[0]
        return float(pause), float(full)

    def test_thousands_of_idle_subscribers(self) -> None:
        """R18: a large fan-out beside thousands of idle subscribers delays no other channel."""

        def p99() -> float:
            plan = load.Plan(
                *self.address, self.MESSAGES, rate=20, subscribers=self.OTHERS, visits=0.0
            )
            report = load.run(plan)
            self.assertEqual(report.faults[:3], [])
            return self.prober.during(report.begun, report.begun + report.seconds).p99

        least = self.least_of(p99, self.bound, 5)
        self.figure("R18", "round trip, fan-out to 1000, p99", least, self.bound, "ms")
        pause, full = self.pauses()
        self.figure("R18", "longest run of the collector", pause, 50, "ms")
        # The bound for any machine, and any number of subscribers.
        self.figure("R18", "longest run of the collector / a full one", pause / full, 0.5, "x")

    def test_a_fan_out_to_thousands(self) -> None:
        """R18: nor does a message to thousands."""
        publisher = self.peer(self.crowded)

        def p99() -> float:
            with self.prober.window() as latency:
                for _ in range(self.MESSAGES // 4):
                    self.assertEqual(publisher.post("/idle", b"x" * 100), (200, self.IDLE))
                    self.pass_time(0.2)
            return latency().p99

        least = self.least_of(p99, self.bound, 5)
        self.figure("R18", "round trip, fan-out to 5000, p99", least, self.bound, "ms")


class LeavingTests(FaultTests):
    """R19."""

    COUNT = scale(2000, 5000)
    ROUNDS = scale(5, 10)

    def test_memory_and_descriptors_come_back(self) -> None:
        """R19: when thousands have come and gone, again and again, nothing is left of them."""
        need_descriptors(self.COUNT)
        server = self.server()
        pid = server.process.pid
        descriptors_before = descriptors(pid)
        memory = []
        for number in range(self.ROUNDS):
            websockets = open_websockets(("127.0.0.1", server.port), "/a", self.COUNT)
            publisher = self.peer(server)
            self.assertEqual(publisher.post("/a", b"x"), (200, self.COUNT))
            publisher.close()
            self.leave(websockets, number)
            eventually(lambda: descriptors(pid) <= descriptors_before, PATIENCE, "all are closed")
            memory.append(rss(pid))
        print(memory)
        # The first round shows how much it needs for so many; what is freed stays with Python.
        growth = (memory[-1] / memory[0] - 1) * 100
        self.figure("R19", "memory, last round against first", growth, 5, "% more")
        self.figure("R19", "descriptors left", descriptors(pid) - descriptors_before, 0, "")

    def leave(self, websockets: list[socket.socket], number: int) -> None:
        """Let them leave, each round in another way."""
        for each in websockets:
            with each:
                if number % 3 == 1:
                    linger = struct.pack("ii", 1, 0)  # A reset instead of an end.
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                elif number % 3 == 2:
                    each.sendall(client_frame(CLOSE, b"\x03\xe8"))
                    while each.recv(4096):
                        pass


class SoakTests(FaultTests):
    """R28. PINGHUB_SOAK sets how long it takes, in seconds."""

    def test_a_tenth_is_hostile(self) -> None:
        """R28: with a tenth of all connections hostile the others are served, and nothing grows."""
        seconds = float(os.environ.get("PINGHUB_SOAK") or scale(20, 1800))
        server = self.server(*OPTIONS)
        pid = server.process.pid
        descriptors_before = descriptors(pid)
        outcome = Soak(server.port, pid, seed=1).run(seconds)
        count = sum(outcome.connections.values())
        print(outcome.connections, [m >> 10 for _, m in outcome.memory])
        self.figure("R28", "connections", count, 50 * seconds, "", at_least=True)
        warm_up = seconds / 5
        if seconds >= 600:
            slope = outcome.slope(warm_up) * 600 / MIB
            self.figure("R28", "slope of the memory", slope, 1, "MiB per 10 minutes")
        else:
            # One of it is for the interpreter: its table of interned strings doubles, by
            # 0.9 MiB and once, after some 40,000 connections.
            growth = outcome.growth(warm_up) / MIB
            self.figure("R28", "growth of the memory after a warm-up", growth, 2, "MiB")
        eventually(lambda: descriptors(pid) <= descriptors_before, PATIENCE, "all are closed")
        publisher = self.peer(server)
        for channel in (*CHANNELS, FLOODED):
            self.assertEqual(publisher.post(channel, b"x"), (200, 0))
