"""All workloads on all servers, side by side: ``make bench``, ``make bench-quick``.

Usage: ``python -m benchmarks [--quick] [--only WORDS] [--server NAME=URL,PID] [--into DIR]``

Every round measures each workload on one server after the other, so that whatever else the
machine does meets all of them; the table has medians, and how far the rounds lie apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.plots import draw
from benchmarks.servers import (
    BUILT,
    RESULTS,
    Server,
    Start,
    descriptor_limit,
    given,
    known,
    on_request,
)
from benchmarks.workloads import WORKLOADS, FailedError, Workload


def measure(start: Start, workload: Workload, seconds: float, quick: bool) -> report.Cell | None:
    """Measure one workload on one server, which is started for it; None if it cannot do it."""
    with start() as server:
        return _measure(server, workload, seconds, quick)


def _measure(server: Server, workload: Workload, seconds: float, quick: bool) -> report.Cell | None:
    if not workload.suits(server):
        return None
    try:
        return workload.measure(server, seconds, quick)
    except FailedError as failure:
        return str(failure)


def run(
    servers: dict[str, Start], workloads: list[Workload], rounds: int, seconds: float, quick: bool
) -> report.Results:
    """Measure everything, each server in turn; says on standard error where it is."""
    results = report.Results(list(servers), workloads)
    for number in range(rounds):
        for workload in workloads:
            if workload.source:
                continue
            for name, start in servers.items():
                cell = measure(start, workload, seconds, quick)
                if cell is not None:
                    results.add(workload, name, cell)
                said = report.shown(workload, cell)
                print(f"{number + 1}/{rounds} {workload.name}: {name}: {said}", file=sys.stderr)
    return results


def main() -> None:
    """Read the command line, measure, and write the results."""
    parser = argparse.ArgumentParser(description="Measure Pinghub beside other servers.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    parser.add_argument("--seconds", type=float, help="how long each is measured")
    parser.add_argument("--only", default="", help="workloads with these words in their names")
    parser.add_argument("--servers", default="", help="some of the known ones, with commas")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=URL,PID")
    parser.add_argument("--into", type=Path, help="where the results go")
    options = parser.parse_args()
    descriptor_limit()
    servers = known()
    if options.servers:
        servers |= on_request()
        servers = {name: servers[name] for name in options.servers.split(",")}
    servers.update(given(text) for text in options.server)
    chosen = [
        each
        for each in WORKLOADS
        if options.only in each.name and (each.quick or not options.quick)
    ]
    rounds = options.rounds or (1 if options.quick else 3)
    seconds = options.seconds or (0.5 if options.quick else 3.0)
    begun = time.monotonic()
    results = run(servers, chosen, rounds, seconds, options.quick)
    results.conditions["rounds"] = str(rounds)
    results.conditions["seconds each"] = str(seconds)
    results.conditions["took"] = f"{time.monotonic() - begun:.0f} s"
    print(results.markdown())
    into = options.into or (BUILT / "quick" if options.quick else RESULTS)
    results.write(into)
    draw(results, into)


if __name__ == "__main__":
    main()
