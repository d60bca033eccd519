"""What is expected of each case of the Autobahn|Testsuite, and what came of it.

The suite calls a server conforming that echoes everything. Pinghub refuses binary messages
and large ones, so that a failed case is as good as a passed one where the refusal has the
close code that is documented. ``expectations.json`` says which.

Fields of rules and reports go by the suite's own names (``behavior``, ``behaviorClose``,
``remoteCloseCode``, ``closedByMe``: "me" is the suite). Nothing here reads a file: reports
and expectations come in as parsed JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

Json = Mapping[str, Any]

NAMED_BY_THE_CASE = "named by the case"


class ExpectationsError(ValueError):
    """The expectations, or the groups asked for, make no sense; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """What the suite reports of one case.

    Attributes:
        behavior: the suite's verdict on the messages.
        behavior_close: its verdict on the closing handshake.
        close_code: the code of the close frame that Pinghub sent, None without one.
        named_codes: the close codes that the case itself accepts.
        closed_by_suite: whether the suite began the closing handshake.
        clean: whether the closing handshake was completed.
        dropped_by_suite: whether the suite had to drop the connection.
        started: when; None if the case has no report file.
    """

    behavior: str
    behavior_close: str
    close_code: int | None = None
    named_codes: frozenset[int] = frozenset()
    closed_by_suite: bool = False
    clean: bool = False
    dropped_by_suite: bool = False
    started: datetime | None = None

    @classmethod
    def from_json(cls, entry: Json, report: Json | None) -> Outcome:
        """Take the entry of a case in ``index.json`` and, where it exists, its report file."""
        if report is None:
            return cls(entry["behavior"], entry["behaviorClose"])
        return cls(
            entry["behavior"],
            entry["behaviorClose"],
            close_code=report["remoteCloseCode"],
            named_codes=frozenset(report["expectedClose"].get("closeCode", ())),
            closed_by_suite=report["closedByMe"],
            clean=report["wasClean"],
            dropped_by_suite=report["droppedByMe"],
            started=datetime.fromisoformat(report["started"]),
        )


@dataclass(frozen=True)
class Rule:
    """What is accepted of the cases that it covers, and why.

    Attributes:
        cases: globs of case ids.
        behavior: the accepted verdicts on the messages.
        behavior_close: the accepted verdicts on the closing handshake.
        codes: the accepted close codes, with None among them for a close frame without a code;
            None instead of a set for those that the case itself names.
        closed_by_suite: which side begins the closing handshake; None for either.
        why: the reason, in words for whoever reads a failure.
    """

    cases: tuple[str, ...]
    behavior: frozenset[str]
    behavior_close: frozenset[str]
    codes: frozenset[int | None] | None
    closed_by_suite: bool | None
    why: str

    @classmethod
    def from_json(cls, rule: Json) -> Rule:
        """Take one of the ``rules`` of the expectations file."""
        codes = rule["remoteCloseCode"]
        return cls(
            cases=tuple(rule["cases"]),
            behavior=frozenset(rule["behavior"]),
            behavior_close=frozenset(rule["behaviorClose"]),
            codes=None if codes == NAMED_BY_THE_CASE else frozenset(codes),
            closed_by_suite=rule.get("closedByMe"),
            why=rule["why"],
        )

    def covers(self, case: str) -> bool:
        """Whether one of its globs matches the id of the case."""
        return any(fnmatchcase(case, glob) for glob in self.cases)

    def faults(self, outcome: Outcome) -> list[str]:
        """What about the outcome is not as expected, one phrase each."""
        codes = outcome.named_codes if self.codes is None else self.codes
        found = []
        if outcome.behavior not in self.behavior:
            found.append(f"behavior: expected {either(self.behavior)}")
        if outcome.behavior_close not in self.behavior_close:
            found.append(f"behaviorClose: expected {either(self.behavior_close)}")
        if outcome.close_code not in codes:
            found.append(f"close code: expected {either(codes)}")
        if self.closed_by_suite not in (None, outcome.closed_by_suite):
            found.append(f"closed first by: expected {side(self.closed_by_suite)}")
        return found


@dataclass(frozen=True)
class Expectations:
    """The parsed expectations file.

    Attributes:
        rules: each case is covered by exactly one of them.
        numbered: how many cases the suite numbers below each prefix, always from 1.
        sets: names for lists of groups.
    """

    rules: tuple[Rule, ...]
    numbered: Mapping[str, int]
    sets: Mapping[str, Sequence[str]]

    @classmethod
    def from_json(cls, text: Json) -> Expectations:
        """Take the parsed file."""
        rules = tuple(Rule.from_json(rule) for rule in text["rules"])
        return cls(rules, text["numbered"], text["sets"])

    def groups(self, wanted: str) -> list[str]:
        """Resolve the name of a set, or a comma-separated list such as ``6,9.1,7.1.6``.

        Raises:
            ExpectationsError: if there is no case below one of them.
        """
        groups = list(self.sets.get(wanted, wanted.split(",")))
        for group in groups:
            if not self.cases([group]):
                sets = ", ".join(self.sets)
                raise ExpectationsError(f"no case below {group!r}; give a group, or one of {sets}")
        return groups

    def cases(self, groups: Iterable[str]) -> list[str]:
        """The ids of all cases in the groups, in the order in which the suite runs them."""
        heads = [f"{group}." for group in groups]
        every = (f"{head}.{n + 1}" for head, count in self.numbered.items() for n in range(count))
        chosen = {case for case in every if any(f"{case}.".startswith(head) for head in heads)}
        return sorted(chosen, key=numbers)

    def rule_for(self, case: str) -> Rule:
        """The rule that covers a case.

        Raises:
            ExpectationsError: if there is none, or more than one.
        """
        found = [rule for rule in self.rules if rule.covers(case)]
        if len(found) != 1:
            raise ExpectationsError(f"{len(found)} rules cover it; there must be exactly one")
        return found[0]


def either(values: Iterable[object]) -> str:
    """Spell out a choice."""
    return " or ".join(sorted(str(value) for value in values)) or "none"


def side(suite: bool) -> str:
    """Who did something."""
    return "the suite" if suite else "Pinghub"


def numbers(case: str) -> tuple[int, ...]:
    """The key that sorts ``1.10`` after ``1.9``."""
    return tuple(int(part) for part in case.split("."))
