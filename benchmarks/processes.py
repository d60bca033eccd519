"""Several processes behind nginx: whether a delivery costs any of them more than it costs one.

Each process is given the same load, so that there is twice as much of it for two: channels
with 25 subscribers, 10 messages a second on each, one after the other. What counts is the
processor time of the Pinghub processes for each delivery: all of them share a processor, nginx and
the generator have the other, so that wall time would say nothing.

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
    "processes": "processes",
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
        "worker_connections 32768": "worker_connections 12000",
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


def measure(count: int, seconds: float) -> Figures:
    """Measure so many processes once."""
    load = {"channels": CHANNELS * count, "subscribers": 25, "rate": 10}
    with cluster(count) as servers:
        figures = Workload("steady", "pubsub", {**load}).measure(servers, seconds, quick=False)
    figures["processes"] = count
    figures["microseconds"] = 1e6 / figures["per_cpu_second"]
    return figures


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
            figures.append(measure(count, options.seconds))
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
