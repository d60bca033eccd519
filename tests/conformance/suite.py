"""Run ``wstest``, the program of the Autobahn|Testsuite, and read what it reports.

It exits with 0 whatever fails, and when nothing listens: only its reports count. They are
deleted before each run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.conformance import install
from tests.conformance.expectations import Outcome

AGENT = "Pinghub"
REPORTS = install.HOME / "reports"
SPEC = install.HOME / "spec.json"
LOG = install.HOME / "wstest.log"


def run(url: str, groups: Iterable[str], cases: Iterable[str], time_limit: float) -> list[str]:
    """Run the suite against a websocket URL.

    Args:
        url: of a channel to which nobody else is subscribed, which makes it an echo.
        groups: prefixes of case ids, or case ids.
        cases: the ids of all known cases in the groups.
        time_limit: in seconds, after which the suite is killed; it writes its reports last.

    Returns:
        What went wrong with the run as a whole, a line each.
    """
    if REPORTS.exists():
        shutil.rmtree(REPORTS)
    SPEC.write_text(json.dumps(spec(url, groups, cases), indent=2) + "\n")
    command: list[str | Path] = [
        install.PYTHON,
        "-u",
        install.WSTEST,
        "-m",
        "fuzzingclient",
        "-s",
        SPEC,
    ]
    with LOG.open("wb") as log:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=install.HOME,
                env=install.clean_environment(),
                timeout=time_limit,
            )
        except subprocess.TimeoutExpired:
            return [f"the suite was stopped after {time_limit:g} s; it was at: {last_line(LOG)}"]
    if not read_index():
        return [f"the suite reported nothing; its last words: {last_line(LOG)}"]
    return []


def spec(url: str, groups: Iterable[str], cases: Iterable[str]) -> dict[str, Any]:
    """What the suite is told to do.

    A group is passed on as a pattern rather than as its known cases, so that a case which
    the expectations do not know is run, and then found to be unlisted.
    """
    known = set(cases)
    return {
        "outdir": str(REPORTS),
        "servers": [{"agent": AGENT, "url": url}],
        "cases": [group if group in known else f"{group}.*" for group in groups],
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }


def read_outcomes() -> dict[str, Outcome]:
    """The outcomes of the last run by case id; empty without an index."""
    return {
        case: Outcome.from_json(entry, read_report(entry["reportfile"]))
        for case, entry in read_index().items()
    }


def read_index() -> dict[str, dict[str, Any]]:
    """The entries of ``index.json`` by case id."""
    path = REPORTS / "index.json"
    if not path.exists():
        return {}
    index: dict[str, dict[str, dict[str, Any]]] = json.loads(path.read_text())
    return index.get(AGENT, {})


def read_report(name: str) -> dict[str, Any] | None:
    """The report file of one case, None if there is none."""
    path = REPORTS / name
    if not path.exists():
        return None
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def last_line(path: Path) -> str:
    """The last line of a log."""
    lines = path.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "nothing")
