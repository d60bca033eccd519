"""Several processes behind nginx: whether a delivery costs more where more of them share.

Four processes are running in any case, with the same load for each: on channels with 25
subscribers, 10 messages a second. What differs is how many share the channels behind one nginx:
each alone behind one of its own, two, or all four. The machine has the same to do each time, and so
the difference is what sharing costs. (One process on an idle machine would find its caches warm,
and four on two processors never do.) What counts is the processor time of the Pinghub processes
for each delivery; nginx and the generators are on another processor.

Usage: ``python -m benchmarks.processes [--counts 1,2,4] [--rounds N] [--seconds S]``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import conditions
from benchmarks.servers import RESULTS, Server, cores, pinghub, started, unused_port
from benchmarks.workloads import Figures, Workload

SETTINGS = Path(__file__).parent.parent / "deploy" / "nginx" / "nginx.conf"
CHANNELS = 20
"""Channels for each process."""

_PORTS = (8081, 8082, 8083)
OLD_SERVERS = "".join(f"        server 127.0.0.1:{port} max_fails=0;\n" for port in _PORTS)
COLUMNS = {
    "processes": "processes behind one nginx",
    "per_second": "deliveries/s",
    "per_cpu_second": "deliveries per CPU-second",
    "microseconds": "CPU per delivery, us",
    "p99": "p99, ms",
}


@dataclass(frozen=True)
class Cluster(Server):
    """Servers behind a proxy; their processor time and memory, without the proxy's.

    Attributes:
        members: the servers.
    """

    members: tuple[Server, ...] = ()

    def pids(self) -> list[int]:
        """The processes of all servers."""
        return [pid for member in self.members for pid in member.pids()]


def settings(directory: str, port: int, members: tuple[Server, ...]) -> str:
    """What nginx is told: as in ``deploy``, without TLS, for these servers."""
    lines = [f"        server 127.0.0.1:{each.port} max_fails=0;\n" for each in members]
    text = SETTINGS.read_text()
    for old, new in {
        OLD_SERVERS: "".join(lines),
        "user www-data;": f"user {Path(directory).owner()};",
        "pid /run/nginx.pid": f"pid {directory}/nginx.pid",
        "/var/log/nginx/error.log": f"{directory}/error.log",
        "access_log /var/log/nginx/access.log": "access_log off",
        "worker_processes auto": "worker_processes 1",
        "worker_rlimit_nofile 65536": "worker_rlimit_nofile 16384",
        "worker_connections 32768": "worker_connections 8192",
        "listen 443 ssl": f"listen 127.0.0.1:{port}",
        "        listen [::]:443 ssl backlog=4096;\n": "",
        "        ssl_certificate     /etc/ssl/certs/ws.example.com.pem;\n": "",
        "        ssl_certificate_key /etc/ssl/private/ws.example.com.key;\n": "",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def cluster(count: int) -> Iterator[Cluster]:
    """So many processes of Pinghub behind nginx."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if nginx is None:
        raise SystemExit("This takes nginx.")
    with contextlib.ExitStack() as held:
        members = tuple(held.enter_context(pinghub()) for _ in range(count))
        directory = held.enter_context(tempfile.TemporaryDirectory())
        port = unused_port()
        path = Path(directory, "nginx.conf")
        path.write_text(settings(directory, port, members))
        command = [nginx, "-p", directory, "-c", str(path), "-e", "stderr", "-g", "daemon off;"]
        proxy = held.enter_context(started("nginx", command, port, core=cores()[1]))
        yield Cluster("Pinghub behind nginx", port, proxy.pid, members=members)


def measure(count: int, most: int, seconds: float) -> Figures:
    """Measure once, with so many of all processes behind each nginx."""
    load = {"channels": CHANNELS * count, "subscribers": 25, "rate": 10}
    workload = Workload("steady", "pubsub", {**load})
    with contextlib.ExitStack() as held:
        clusters = [held.enter_context(cluster(count)) for _ in range(most // count)]
        with ThreadPoolExecutor(len(clusters)) as threads:
            measured = list(
                threads.map(lambda each: workload.measure(each, seconds, quick=False), clusters)
            )
    deliveries = sum(each["units"] for each in measured)
    used = sum(each["server_cpu"] for each in measured)
    return {
        "processes": count,
        "per_second": sum(each["per_second"] for each in measured),
        "per_cpu_second": deliveries / used,
        "microseconds": used / deliveries * 1e6,
        "p99": max(each["p99"] for each in measured),
    }


def table(rows: list[Figures]) -> str:
    """The rows, in Markdown."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + "---:|" * len(COLUMNS)]
    for row in rows:
        words = [f"{row[name]:,.1f}".removesuffix(".0") for name in COLUMNS]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the command line, measure in turns, and write the medians."""
    parser = argparse.ArgumentParser(description="Measure several processes behind nginx.")
    parser.add_argument(
        "--counts", type=lambda text: [int(each) for each in text.split(",")], default=[1, 2, 4]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--into", type=Path, default=RESULTS)
    options = parser.parse_args()
    measured: dict[int, list[Figures]] = {count: [] for count in options.counts}
    for _ in range(options.rounds):
        for count, figures in measured.items():
            figures.append(measure(count, max(options.counts), options.seconds))
            print(table(figures[-1:]).splitlines()[-1], file=sys.stderr)
    rows = [
        {name: statistics.median(each[name] for each in figures) for name in COLUMNS}
        for figures in measured.values()
    ]
    where = conditions()
    text = "".join(f"* {name}: {value}\n" for name, value in where.items()) + "\n" + table(rows)
    print(text)
    options.into.mkdir(parents=True, exist_ok=True)
    (options.into / "processes.md").write_text(text)
    found = {"conditions": where, "measured": measured}
    (options.into / "processes.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
