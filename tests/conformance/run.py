"""Run the Autobahn|Testsuite against Pinghub and judge what came of it.

From the root of the checkout::

    python -m tests.conformance.run --groups short
    python -m tests.conformance.run --groups 9.3,7.1.6 --server ws://127.0.0.1:8081/c

Exit status: 0 everything was as expected, 1 something was not, 2 wrong options, 3 there is
no Python 2.7 to run the suite with. See docs/conformance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from tests.conformance import install, suite
from tests.conformance.expectations import Expectations, ExpectationsError
from tests.conformance.judge import Count, Verdict, count, judge
from tests.running import Server

EXPECTATIONS = Path(__file__).with_name("expectations.json")
SERVER_LOG = install.HOME / "pinghub.log"
STOP_SECONDS = 10.0
CHANNEL = "/conformance"

# A ping would be one message more than a case expects; the end of the run is nobody's loss.
SERVER_OPTIONS = ("-ping-interval=300s", "-drain=0s")


def main(arguments: list[str] | None = None) -> int:
    """Run the suite, print what failed and how many passed, and return the exit status."""
    options = parse(arguments)
    expectations = Expectations.from_json(json.loads(EXPECTATIONS.read_text()))
    try:
        groups = expectations.groups(options.groups)
        install.ensure()
    except ExpectationsError as error:
        print(f"conformance: --groups={options.groups}: {error}", file=sys.stderr)
        return 2
    except install.InstallError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return error.status
    since = datetime.now(UTC)
    troubles = run(options.server, groups, expectations.cases(groups), options.time_limit)
    verdicts = judge(expectations, groups, suite.read_outcomes(), since)
    show_counts(count(expectations, groups, verdicts))
    return show_result(verdicts, troubles)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.run")
    parser.add_argument(
        "--groups",
        default="all",
        help="short, all, or a list such as 6,9.1,7.1.6 (default: %(default)s)",
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        help="a ws:// URL without any other subscriber (default: start a Pinghub)",
    )
    parser.add_argument(
        "--time-limit",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="stop the suite after this long (default: %(default)g)",
    )
    return parser.parse_args(arguments)


def run(
    url: str | None, groups: Iterable[str], cases: Iterable[str], time_limit: float
) -> list[str]:
    """Run the suite against the URL, or else a Pinghub of its own.

    Returns:
        What went wrong besides the cases, a line each.
    """
    if url is not None:
        return suite.run(url, groups, cases, time_limit)
    with pinghub() as server:
        troubles = suite.run(server.ws(CHANNEL), groups, cases, time_limit)
        ended = server.process.poll()
    if ended is not None:
        troubles.append(f"Pinghub ended during the run with status {ended}, see {SERVER_LOG}")
    if "Traceback" in SERVER_LOG.read_text(errors="replace"):
        troubles.append(f"Pinghub logged a traceback, see {SERVER_LOG}")
    return troubles


@contextmanager
def pinghub() -> Iterator[Server]:
    """A Pinghub whose log goes to a file; as a pipe that nobody reads it would block."""
    with Server(*SERVER_OPTIONS) as server:
        assert server.process.stdout is not None
        arguments = (server.output, server.process.stdout)
        copier = threading.Thread(target=copy_log, args=arguments, daemon=True)
        copier.start()
        try:
            yield server
        finally:
            server.process.terminate()
            copier.join(STOP_SECONDS)


def copy_log(first: Iterable[str], rest: IO[bytes]) -> None:
    """Write the lines so far and then all others to the log file, until the server ends."""
    with SERVER_LOG.open("wb") as log:
        log.writelines(line.encode() for line in first)
        log.writelines(rest)


def show_counts(counts: Iterable[Count]) -> None:
    """Print a line for each group."""
    for each in counts:
        print(
            f"group {each.group:>2}: {each.run:3} of {each.expected:3} run, {each.passed:3} passed"
        )


def show_result(verdicts: Iterable[Verdict], troubles: list[str]) -> int:
    """Print each failure and how many there are, and return the exit status."""
    verdicts = list(verdicts)
    failed = [str(verdict) for verdict in verdicts if not verdict.passed]
    for line in [*failed, *troubles]:
        print(f"FAILED {line}")
    if failed:
        print(f"what the suite saw of each case: {suite.REPORTS / 'index.html'}")
    failures = len(failed) + len(troubles)
    print(f"{len(verdicts) - len(failed)} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
