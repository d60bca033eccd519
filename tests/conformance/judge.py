"""Judge a run of the Autobahn|Testsuite by what Pinghub promises.

A case passes only if everything about it was expected. What the suite lets pass and this
module does not: a close without a code, a connection that Pinghub leaves to the suite to
drop, a close frame that never arrived, a case that was not run, a report of an earlier run.

Nothing here reads a file or the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from tests.conformance.expectations import (
    Expectations,
    ExpectationsError,
    Outcome,
    numbers,
    side,
)


@dataclass(frozen=True)
class Verdict:
    """What became of one case: it passed if there are no faults."""

    case: str
    outcome: Outcome | None
    faults: tuple[str, ...]
    why: str = ""

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not self.faults

    def __str__(self) -> str:
        """One line: the case, what was seen, what was expected and why."""
        parts = [self.case.ljust(7)]
        if self.outcome is not None:
            parts.append(describe(self.outcome))
        parts.append("; ".join(self.faults) or "as expected")
        if self.faults and self.why:
            parts.append(f"({self.why})")
        return " ".join(parts)


@dataclass(frozen=True)
class Count:
    """How many cases of a top-level group there should have been, were and passed."""

    group: str
    expected: int
    run: int
    passed: int


def judge(
    expectations: Expectations,
    groups: Iterable[str],
    outcomes: Mapping[str, Outcome],
    since: datetime,
) -> list[Verdict]:
    """Judge every case that was run, and every one that should have been.

    Args:
        expectations: what is accepted.
        groups: the groups that the suite was told to run.
        outcomes: the reports, by case id.
        since: when the run began; an older report is a fault.
    """
    wanted = set(expectations.cases(groups))
    verdicts = []
    for case in sorted(wanted | outcomes.keys(), key=numbers):
        outcome = outcomes.get(case)
        if case not in wanted:
            fault = "not among the cases of the expectations file"
            verdicts.append(Verdict(case, outcome, (fault,)))
        elif outcome is None:
            verdicts.append(Verdict(case, None, ("was not run",)))
        else:
            verdicts.append(_compare(expectations, case, outcome, since))
    return verdicts


def _compare(expectations: Expectations, case: str, outcome: Outcome, since: datetime) -> Verdict:
    """Judge a case that was run by the rule that covers it."""
    try:
        rule = expectations.rule_for(case)
    except ExpectationsError as error:
        return Verdict(case, outcome, (str(error),))
    faults = _report_faults(outcome, since) or [*rule.faults(outcome), *_ending_faults(outcome)]
    return Verdict(case, outcome, tuple(faults), rule.why)


def _report_faults(outcome: Outcome, since: datetime) -> list[str]:
    """Why the report itself is of no use."""
    if outcome.started is None:
        return ["has no report file"]
    if outcome.started < since:
        return [f"its report is an old one, of {outcome.started:%Y-%m-%d %H:%M:%S}"]
    return []


def _ending_faults(outcome: Outcome) -> list[str]:
    """What is wrong with the end of the connection, whatever the case."""
    found = []
    if not outcome.clean:
        found.append("the closing handshake was not completed")
    if outcome.dropped_by_suite:
        found.append("Pinghub left the connection to the suite to drop")
    return found


def count(
    expectations: Expectations, groups: Iterable[str], verdicts: Iterable[Verdict]
) -> list[Count]:
    """Count the cases by top-level group; ``run`` and ``expected`` agree in a good run."""
    expected = [case.split(".")[0] for case in expectations.cases(groups)]
    verdicts = list(verdicts)
    run = [verdict.case.split(".")[0] for verdict in verdicts if verdict.outcome]
    passed = [verdict.case.split(".")[0] for verdict in verdicts if verdict.passed]
    return [
        Count(group, expected.count(group), run.count(group), passed.count(group))
        for group in sorted({*expected, *run}, key=int)
    ]


def describe(outcome: Outcome) -> str:
    """What the suite saw, in a few words."""
    return (
        f"behavior {outcome.behavior}, behaviorClose {outcome.behavior_close}, "
        f"close code {outcome.close_code}, closed first by {side(outcome.closed_by_suite)};"
    )
