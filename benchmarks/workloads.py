"""What is measured: each workload, with the arguments of the generator."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.servers import BUILT, Server, cores, descriptor_limit, pinned

Figures = dict[str, float]
Arguments = dict[str, int | str]

WARM_UP = 0.5
PATIENCE = 180.0
IDLE = 18_000
IDLE_QUICK = 3_000
PARTS = (1, 2, 3)


class FailedError(Exception):
    """The generator gave up: something was refused, lost or late."""


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    Attributes:
        name: how it is called.
        command: of the generator.
        arguments: of that command.
        unit: what the figure counts.
        figure: which of all figures goes into the table; more is better unless it is memory
            (``kib``, ``mib_grown``) or a latency in milliseconds (``p99``, ``last_p50``).
        many_channels: whether the server has to know more than one channel.
        quick: whether it is part of the short run.
        source: the workload whose measurement has the figure, if it is not its own.
    """

    name: str
    command: str
    arguments: Arguments = field(default_factory=dict)
    unit: str = "deliveries"
    figure: str = "per_cpu_second"
    many_channels: bool = False
    quick: bool = True
    source: str = ""

    def suits(self, server: Server) -> bool:
        """Whether the server can do it at all."""
        if self.many_channels and not server.has_channels:
            return False
        if server.part and server.part != self.command:
            return False
        return server.takes_post or self.command != "post"

    def measure(self, server: Server, seconds: float, quick: bool) -> Figures:
        """Measure it once, for so many seconds.

        Raises:
            FailedError: the server did not do what it should.
        """
        if self.command == "idle":
            return _memory(server, IDLE_QUICK if quick else IDLE)
        arguments = self.arguments
        if not server.takes_post:
            arguments = {**arguments, "publish": "websocket"}
        before = server.resident_kib()
        figures = _run(server, seconds, self.command, arguments)
        figures["mib_grown"] = (server.resident_kib() - before) / 1024
        return figures


def fan_out(subscribers: int) -> Workload:
    """Small messages, the next when everybody has the one before."""
    name = f"fan-out to {subscribers}"
    quick = subscribers in (1, 1000)
    return Workload(name, "pubsub", {"subscribers": subscribers}, quick=quick)


def fan_out_in_flight(subscribers: int) -> Workload:
    """Small messages, published by websocket, sixteen on their way at any time."""
    arguments: Arguments = {"subscribers": subscribers, "window": 16, "publish": "websocket"}
    quick = subscribers == 1000
    return Workload(f"fan-out to {subscribers}, 16 in flight", "pubsub", arguments, quick=quick)


def fan_out_large(subscribers: int) -> Workload:
    """Messages of 16 KiB."""
    arguments: Arguments = {"subscribers": subscribers, "size": 16384}
    quick = subscribers == 100
    return Workload(f"fan-out of 16 KiB to {subscribers}", "pubsub", arguments, quick=quick)


def echo(window: int) -> Workload:
    """Each client publishes to a channel to which it alone is subscribed."""
    name = f"echo on 2000 channels, window {window}"
    arguments: Arguments = {"channels": 2000, "window": window, "publish": "websocket"}
    return Workload(name, "pubsub", arguments, "echoes", many_channels=True)


def steady(name: str, unit: str, figure: str, **arguments: int) -> Workload:
    """So many messages per second, whatever the server does."""
    return Workload(name, "pubsub", {**arguments}, unit, figure, quick="stalled" not in arguments)


def also(of: Workload, name: str, unit: str, figure: str) -> Workload:
    """Another figure of the same measurement, in a row of its own."""
    return replace(of, name=name, unit=unit, figure=figure, source=of.name)


LATENCY = steady("10 messages/s to 1000", "ms, p99", "p99", subscribers=1000, rate=10)
BUSY = {"rate": 1000, "size": 1024}
MANY = steady("1 KiB 1000 times/s to 1000", "deliveries/s", "per_second", subscribers=1000, **BUSY)
# What a stalled reader does not take fills the kernel's buffers first.
FILLED = 6
ALONE = steady("1 KiB 1000 times/s to 100", "ms, p99", "p99", subscribers=100, **BUSY)
STALLED = steady(
    ALONE.name + " and a stalled one", "ms, p99", "p99",
    subscribers=100, stalled=1, warmup=FILLED, **BUSY,
)  # fmt: skip
STEADY = (
    LATENCY,
    also(LATENCY, LATENCY.name + ": the last one", "ms, p50", "last_p50"),
    MANY,
    also(MANY, MANY.name + ": latency", "ms, p99", "p99"),
    ALONE,
    STALLED,
    also(STALLED, STALLED.name + ": memory", "MiB more", "mib_grown"),
)
MEMORY = Workload("memory of an idle subscriber", "idle", {}, "KiB", "kib")
SIZES = (1, 10, 100, 1000)

WORKLOADS = (
    *(fan_out(subscribers) for subscribers in SIZES),
    *(fan_out_in_flight(subscribers) for subscribers in SIZES),
    *(fan_out_large(subscribers) for subscribers in SIZES),
    echo(1),
    echo(8),
    Workload("POST, one at a time", "post", {"window": 1}, "requests"),
    Workload("POST, pipelined 16", "post", {"window": 16}, "requests"),
    Workload("handshake and close", "handshakes", {}, "connections"),
    *STEADY,
    MEMORY,
)


def load(server: Server, command: str, arguments: Arguments) -> list[str]:
    """The command line of the generator."""
    own = {"port": server.ports, "path": server.path, "pids": ",".join(map(str, server.pids()))}
    options = [f"--{name}={value}" for name, value in {**own, **arguments}.items()]
    return [str(BUILT / "load"), command, *options]


def _run(server: Server, seconds: float, command: str, arguments: Arguments) -> Figures:
    usual: Arguments = {"seconds": str(seconds), "warmup": str(min(WARM_UP, seconds / 2))}
    arguments = {**usual, **arguments}
    with pinned(cores()[1]):
        done = subprocess.run(
            load(server, command, arguments),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    if done.returncode:
        raise FailedError(done.stderr.strip() or f"status {done.returncode}")
    figures: Figures = json.loads(done.stdout)
    # Less than a tick of the kernel's clock is no measurement.
    figures["per_second"] = figures["units"] / figures["seconds"]
    figures["per_cpu_second"] = figures["units"] / max(figures["server_cpu"], 0.01)
    return figures


class Idle:
    """Subscribers that do nothing but answer pings, held by the generator.

    Args:
        server: what they connect to.
        connections: how many.
        channels: on how many channels.

    Attributes:
        connecting: what it took to connect them.
    """

    def __init__(self, server: Server, connections: int, channels: int = 1) -> None:
        arguments: Arguments = {"connections": connections, "channels": channels}
        with pinned(cores()[1]):
            self.process = subprocess.Popen(
                load(server, "idle", arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.connecting = self._answer()

    def _answer(self) -> Figures:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            raise FailedError(self.process.stderr.read().strip())
        figures: Figures = json.loads(line)
        return figures

    def command(self, name: str) -> Figures:
        """``publish`` one message on every channel, or ``close``: what it took."""
        assert self.process.stdin is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return self._answer()

    def __enter__(self) -> Idle:
        return self

    def __exit__(self, *failure: Any) -> None:
        self.process.kill()
        self.process.communicate()


def _memory(server: Server, wanted: int) -> Figures:
    """KiB for each of many idle subscribers of one channel, and MiB on the way there."""
    part = min(wanted, descriptor_limit() - 500) // len(PARTS)
    figures: Figures = {"connections": part * len(PARTS)}
    with Idle(server, 1):
        before = server.resident_kib()
    with ExitStack() as held:
        for number in PARTS:
            held.enter_context(Idle(server, part))
            time.sleep(0.3)
            kib = server.resident_kib()
            figures[f"mib_at_{part * number}"] = kib / 1024
    figures["kib"] = (kib - before) / figures["connections"]
    return figures
