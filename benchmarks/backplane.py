"""One channel on one, two and four servers, with and without a backplane: what they do and cost.

Three measurements for each. *Throughput*: 1000 subscribers of one channel, spread over the
servers, four messages in flight, published by websocket. Each server may use a tenth of a core:
like this four of them and a Redis fit on the core that they share, and whether the channel scales
with servers shows on any machine. *Latency*: 100 subscribers, 100 messages a second, nothing held
back. *Cost*: POSTs to channels without subscribers, one at a time on each of 50 connections.

Needs redis-server, and root for the share of a core (cgroups).

Usage: ``python -m benchmarks.backplane [--counts 1,2,4] [--rounds N] [--seconds S]``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import conditions, number
from benchmarks.servers import RESULTS, Server, pinghub, started, unused_port
from benchmarks.workloads import WARM_UP, Arguments, Figures, Workload

SHARE = 0.1
"""The share of a core that each server may use when throughput is measured."""
PERIOD = 10_000
"""In which it may use it, in microseconds."""
BUSY: Arguments = {"subscribers": 1000, "window": 4, "publish": "websocket"}
STEADY: Arguments = {"subscribers": 100, "rate": 100}
POSTS: Arguments = {"window": 1}
CGROUPS = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup"))
COLUMNS = {
    "servers": "servers",
    "backplane": "backplane",
    "per_second": "deliveries/s",
    "microseconds": "CPU per delivery, us",
    "p50": "latency p50, ms",
    "p99": "p99, ms",
    "post": "CPU per POST, us",
    "redis": "of Redis, us",
}


@dataclass(frozen=True)
class Sharing(Server):
    """Servers that share a channel.

    Attributes:
        members: the servers.
        broker: what is between them.
    """

    members: tuple[Server, ...] = ()
    broker: Server | None = None

    @property
    def ports(self) -> str:
        """Those of all servers."""
        return ",".join(str(each.port) for each in self.members)

    def pids(self) -> list[int]:
        """The processes of all servers."""
        return [pid for member in self.members for pid in member.pids()]


@contextlib.contextmanager
def redis() -> Iterator[Server]:
    """A Redis that stores nothing."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("This takes redis-server.")
    port = unused_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (
        tempfile.TemporaryDirectory() as directory,
        started("Redis", [*command, "--dir", directory], port) as server,
    ):
        yield server


@contextlib.contextmanager
def limited(pid: int, share: float) -> Iterator[None]:
    """Let a process use no more than so much of a core."""
    root = next((each for each in CGROUPS if (each / "cgroup.procs").exists()), None)
    if root is None or os.geteuid():
        raise SystemExit("This takes cgroups, and root.")
    group = root / f"pinghub-bench-{pid}"
    group.mkdir()
    try:
        quota = round(share * PERIOD)
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{quota} {PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        (group / "cgroup.procs").write_text(str(pid))
        yield
        (root / "cgroup.procs").write_text(str(pid))
    finally:
        group.rmdir()


@contextlib.contextmanager
def sharing(count: int, backplane: bool, share: float | None) -> Iterator[Sharing]:
    """So many servers, with or without a backplane."""
    with contextlib.ExitStack() as held:
        broker = held.enter_context(redis()) if backplane else None
        options = [f"--backplane=redis://127.0.0.1:{broker.port}"] if broker else []
        members = tuple(held.enter_context(pinghub(*options)) for _ in range(count))
        if share is not None:
            for each in members:
                held.enter_context(limited(each.pid, share))
        first = members[0]
        yield Sharing("servers", first.port, first.pid, members=members, broker=broker)


def throughput(count: int, backplane: bool, seconds: float) -> Figures:
    """What they deliver, each with its share of a core."""
    with sharing(count, backplane, SHARE) as servers:
        found = Workload("busy", "pubsub", BUSY).measure(servers, seconds, quick=False)
    return {"per_second": found["per_second"], "microseconds": 1e6 / found["per_cpu_second"]}


def latency(count: int, backplane: bool, seconds: float) -> Figures:
    """How long a message takes, when there are few."""
    with sharing(count, backplane, None) as servers:
        found = Workload("steady", "pubsub", STEADY).measure(servers, seconds, quick=False)
    return {name: found[name] for name in ("p50", "p99")}


def cost(count: int, backplane: bool, seconds: float) -> Figures:
    """What a POST takes that reaches nobody."""
    with sharing(count, backplane, None) as servers:
        before = servers.broker.cpu_seconds() if servers.broker else 0.0
        found = Workload("POST", "post", POSTS).measure(servers, seconds, quick=False)
        used = servers.broker.cpu_seconds() - before if servers.broker else 0.0
    # Its time is that of the warm-up as well.
    requests = found["units"] * (1 + min(WARM_UP, seconds / 2) / seconds)
    return {"post": 1e6 / found["per_cpu_second"], "redis": 1e6 * used / requests}


def measure(count: int, backplane: bool, seconds: float) -> Figures:
    """Measure so many servers once."""
    figures: Figures = {"servers": count, "backplane": float(backplane)}
    for each in (throughput, latency, cost):
        figures |= each(count, backplane, seconds)
    return figures


def table(rows: list[Figures]) -> str:
    """The rows, in Markdown."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + "---:|" * len(COLUMNS)]
    for row in rows:
        words = [number(row[name]) for name in COLUMNS]
        words[1] = "Redis" if row["backplane"] else "none"
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the command line, measure in turns, and write the medians."""
    parser = argparse.ArgumentParser(description="Measure servers that share one channel.")
    parser.add_argument(
        "--counts", type=lambda text: [int(each) for each in text.split(",")], default=[1, 2, 4]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--into", type=Path, default=RESULTS)
    options = parser.parse_args()
    kinds = [(1, False), *((count, True) for count in options.counts)]
    measured: dict[tuple[int, bool], list[Figures]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind, figures in measured.items():
            figures.append(measure(*kind, options.seconds))
            print(table(figures[-1:]).splitlines()[-1], file=sys.stderr)
    rows = [
        {name: statistics.median(each[name] for each in figures) for name in COLUMNS}
        for figures in measured.values()
    ]
    where = conditions()
    text = "".join(f"* {name}: {value}\n" for name, value in where.items()) + "\n" + table(rows)
    print(text)
    options.into.mkdir(parents=True, exist_ok=True)
    (options.into / "backplane.md").write_text(text)
    found = {"conditions": where, "measured": list(measured.values())}
    (options.into / "backplane.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
