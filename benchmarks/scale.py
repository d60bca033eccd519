"""Up to 100 000 idle subscribers, with heartbeats: what they take, and what it takes to serve them.

On one channel, and spread over 50 000: the time to connect them, memory, the processor time of
idling, one message to everyone, and the time to close them.

Usage: ``python -m benchmarks.scale [--sizes 1000,10000,100000] [--channels 1,50000] [--idle S]``
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks.report import conditions
from benchmarks.servers import RESULTS, Start, descriptor_limit, known
from benchmarks.workloads import FailedError, Figures, Idle

SPARE = 200
COLUMNS = {
    "subscribers": "subscribers",
    "channels": "channels",
    "connect": "connect, s",
    "mib": "memory, MiB",
    "kib": "KiB each",
    "idle_cpu": "idle CPU, %",
    "message": "one message to everyone, s",
    "message_cpu": "CPU of that, s",
    "close": "close, s",
    "mib_after": "memory after, MiB",
}


def measure(start: Start, subscribers: int, channels: int, idle_seconds: float) -> Figures:
    """Measure so many subscribers on so many channels."""
    with start() as server:
        with Idle(server, 1):
            before = server.resident_kib()
        with Idle(server, subscribers, channels) as idle:
            time.sleep(1)
            kib, used = server.resident_kib(), server.cpu_seconds()
            time.sleep(idle_seconds)
            idle_cpu = (server.cpu_seconds() - used) / idle_seconds
            used = server.cpu_seconds()
            message = idle.command("publish")
            message_cpu = server.cpu_seconds() - used
            closing = idle.command("close")
        time.sleep(1)
        return {
            "subscribers": subscribers,
            "channels": channels,
            "connect": idle.connecting["seconds"],
            "mib": kib / 1024,
            "kib": (kib - before) / subscribers,
            "idle_cpu": idle_cpu * 100,
            "message": message["seconds"],
            "message_cpu": message_cpu,
            "close": closing["seconds"],
            "mib_after": server.resident_kib() / 1024,
        }


def table(rows: list[Figures]) -> str:
    """The rows, in Markdown."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + "---:|" * len(COLUMNS)]
    for row in rows:
        words = [f"{row[name]:.2f}".rstrip("0").rstrip(".") for name in COLUMNS]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines) + "\n"


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def main() -> None:
    """Read the command line, measure, and write the results."""
    parser = argparse.ArgumentParser(description="Measure many idle subscribers.")
    parser.add_argument("--sizes", type=_numbers, default=[1000, 10_000, 100_000])
    parser.add_argument("--channels", type=_numbers, default=[1, 50_000])
    parser.add_argument("--idle", type=float, default=30.0, help="seconds; pings come every 27")
    parser.add_argument("--server", default="Pinghub", choices=known())
    parser.add_argument("--into", type=Path, default=RESULTS)
    options = parser.parse_args()
    needed, limit = max(options.sizes) + SPARE, descriptor_limit()
    if needed > limit:
        raise SystemExit(f"This takes {needed} descriptors for one process; ulimit -Hn is {limit}.")
    rows = []
    for subscribers in options.sizes:
        for channels in sorted({min(each, subscribers) for each in options.channels}):
            try:
                row = measure(known()[options.server], subscribers, channels, options.idle)
            except FailedError as failure:
                raise SystemExit(f"{subscribers} on {channels} channels: {failure}") from None
            rows.append(row)
            print(table([row]).splitlines()[-1], file=sys.stderr)
    where = conditions()
    text = "".join(f"* {name}: {value}\n" for name, value in where.items()) + "\n" + table(rows)
    print(text)
    options.into.mkdir(parents=True, exist_ok=True)
    (options.into / "scale.md").write_text(text)
    found = {"conditions": where, "server": options.server, "measured": rows}
    (options.into / "scale.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
