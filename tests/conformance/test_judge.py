"""Tests of how a run of the Autobahn|Testsuite is judged; they need no Python 2.7."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.conformance.expectations import Expectations, ExpectationsError, Outcome
from tests.conformance.judge import Verdict, count, judge

SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = SINCE + timedelta(seconds=1)

EXPECTED = Expectations.from_json(
    {
        "sets": {"short": ["1"], "all": ["1", "10"]},
        "numbered": {"1.1": 2, "1.2": 1, "10.1": 1},
        "rules": [
            {
                "cases": ["1.1.*", "10.1.1"],
                "behavior": ["OK", "NON-STRICT"],
                "behaviorClose": ["OK"],
                "remoteCloseCode": "named by the case",
                "why": "text is echoed",
            },
            {
                "cases": ["1.2.*"],
                "behavior": ["FAILED"],
                "behaviorClose": ["FAILED"],
                "remoteCloseCode": [1003],
                "closedByMe": False,
                "why": "binary is refused",
            },
        ],
    }
)

ECHOED = Outcome(
    "OK",
    "OK",
    close_code=1000,
    named_codes=frozenset({1000}),
    closed_by_suite=True,
    clean=True,
    started=LATER,
)
REFUSED = replace(
    ECHOED, behavior="FAILED", behavior_close="FAILED", close_code=1003, closed_by_suite=False
)
GOOD = {"1.1.1": ECHOED, "1.1.2": ECHOED, "1.2.1": REFUSED}


def failures(outcomes: Mapping[str, Outcome], groups: str = "short") -> dict[str, Verdict]:
    """The failed cases of a run, by id."""
    verdicts = judge(EXPECTED, EXPECTED.groups(groups), outcomes, SINCE)
    return {verdict.case: verdict for verdict in verdicts if not verdict.passed}


class RuleTests(SynchronousTestCase):
    """A case passes if everything about it was expected."""

    def faults(self, case: str, **changed: Any) -> tuple[str, ...]:
        """The faults of a good run in which one case came out differently."""
        failed = failures({**GOOD, case: replace(GOOD[case], **changed)})
        self.assertLessEqual(failed.keys(), {case})
        return failed[case].faults if failed else ()

    def test_good_run(self) -> None:
        """Echoed text and refused binary messages both pass."""
        self.assertEqual(failures(GOOD), {})

    def test_any_accepted_behavior(self) -> None:
        """A rule may accept several verdicts of the suite."""
        self.assertEqual(self.faults("1.1.1", behavior="NON-STRICT"), ())

    def test_behavior(self) -> None:
        """A verdict that is not accepted is a fault."""
        found = self.faults("1.1.2", behavior="FAILED")
        self.assertEqual(found, ("behavior: expected NON-STRICT or OK",))

    def test_behavior_close(self) -> None:
        """So is a verdict on the closing handshake."""
        found = self.faults("1.1.2", behavior_close="WRONG CODE")
        self.assertEqual(found, ("behaviorClose: expected OK",))

    def test_wrong_close_code(self) -> None:
        """A refusal with another close code is a fault."""
        self.assertEqual(self.faults("1.2.1", close_code=1002), ("close code: expected 1003",))

    def test_no_close_code(self) -> None:
        """A close without a code is a fault although the suite lets it pass."""
        self.assertEqual(self.faults("1.1.1", close_code=None), ("close code: expected 1000",))

    def test_no_close_code_accepted(self) -> None:
        """A rule may accept a close frame without a code, of a handshake that was completed."""
        rule = replace(EXPECTED.rules[0], codes=frozenset({None, 1000}))
        bare = replace(ECHOED, close_code=None)
        self.assertEqual(rule.faults(bare), [])
        self.assertEqual(
            rule.faults(replace(bare, close_code=1001)), ["close code: expected 1000 or None"]
        )

    def test_binary_echoed(self) -> None:
        """A case that should have failed and passed is a fault in every respect."""
        failed = failures({**GOOD, "1.2.1": ECHOED})
        self.assertEqual(len(failed["1.2.1"].faults), 4)

    def test_closed_by_the_wrong_side(self) -> None:
        """Where Pinghub is to refuse, a close begun by the suite is a fault."""
        found = self.faults("1.2.1", closed_by_suite=True)
        self.assertEqual(found, ("closed first by: expected Pinghub",))

    def test_unclean(self) -> None:
        """A closing handshake that was not completed is a fault."""
        found = self.faults("1.2.1", clean=False)
        self.assertEqual(found, ("the closing handshake was not completed",))

    def test_dropped_by_the_suite(self) -> None:
        """The server is the one to end the TCP connection (RFC 6455, section 7.1.1)."""
        found = self.faults("1.2.1", dropped_by_suite=True)
        self.assertEqual(found, ("Pinghub left the connection to the suite to drop",))


class RunTests(SynchronousTestCase):
    """Exactly the cases of the groups were run, in this run."""

    def test_missing_case(self) -> None:
        """A case that was not run is a failure."""
        outcomes = dict(GOOD)
        del outcomes["1.1.2"]
        self.assertEqual(failures(outcomes)["1.1.2"].faults, ("was not run",))

    def test_nothing_ran(self) -> None:
        """Without any report every case fails."""
        self.assertEqual(list(failures({}, "all")), ["1.1.1", "1.1.2", "1.2.1", "10.1.1"])

    def test_unlisted_case(self) -> None:
        """A case that the expectations do not know is a failure, however it went."""
        failed = failures({**GOOD, "1.1.3": ECHOED})
        self.assertEqual(failed["1.1.3"].faults, ("not among the cases of the expectations file",))

    def test_old_report(self) -> None:
        """A report from before the run is a failure, however good."""
        failed = failures({**GOOD, "1.1.1": replace(ECHOED, started=SINCE - timedelta(hours=1))})
        (fault,) = failed["1.1.1"].faults
        self.assertEqual(fault, "its report is an old one, of 2026-01-02 02:04:05")

    def test_no_report_file(self) -> None:
        """A case that is only in the index is a failure."""
        entry = {"behavior": "OK", "behaviorClose": "OK"}
        failed = failures({**GOOD, "1.1.1": Outcome.from_json(entry, None)})
        self.assertEqual(failed["1.1.1"].faults, ("has no report file",))

    def test_count(self) -> None:
        """Cases are counted by group: how many there are, were run, and passed."""
        groups = EXPECTED.groups("all")
        outcomes = {**GOOD, "1.2.1": ECHOED}
        counts = count(EXPECTED, groups, judge(EXPECTED, groups, outcomes, SINCE))
        numbers = [(each.group, each.expected, each.run, each.passed) for each in counts]
        self.assertEqual(numbers, [("1", 3, 3, 2), ("10", 1, 0, 0)])


class LineTests(SynchronousTestCase):
    """What is printed of a failed case."""

    def test_failure(self) -> None:
        """It says what was seen, what was expected and why."""
        failed = failures({**GOOD, "1.2.1": replace(REFUSED, close_code=1002)})
        self.assertEqual(
            str(failed["1.2.1"]),
            "1.2.1   behavior FAILED, behaviorClose FAILED, close code 1002, "
            "closed first by Pinghub; close code: expected 1003 (binary is refused)",
        )

    def test_missing(self) -> None:
        """Of a case that was not run there is nothing else to say."""
        self.assertEqual(str(failures({})["1.1.1"]), "1.1.1   was not run")


class OutcomeTests(SynchronousTestCase):
    """Reports are read by the names that the suite gives the fields."""

    def test_from_json(self) -> None:
        """The index has the verdicts, the report of the case has the rest."""
        report = {
            "remoteCloseCode": 1003,
            "expectedClose": {"closeCode": [1000, 1000], "closedByMe": True},
            "closedByMe": False,
            "wasClean": True,
            "droppedByMe": False,
            "started": "2026-01-02T03:04:06.000Z",
        }
        entry = {"behavior": "FAILED", "behaviorClose": "FAILED", "remoteCloseCode": 1003}
        self.assertEqual(Outcome.from_json(entry, report), REFUSED)


class GroupTests(SynchronousTestCase):
    """Groups are named by set, by number, or by a longer prefix."""

    def test_prefix(self) -> None:
        """A prefix ends at a dot, so that group 1 is without group 10."""
        self.assertEqual(EXPECTED.cases(["1"]), ["1.1.1", "1.1.2", "1.2.1"])

    def test_list(self) -> None:
        """A list may hold groups, parts of groups and single cases."""
        self.assertEqual(
            EXPECTED.cases(EXPECTED.groups("10,1.2,1.1.2")), ["1.1.2", "1.2.1", "10.1.1"]
        )

    def test_unknown(self) -> None:
        """A group without cases is an error rather than a run of nothing."""
        error = self.assertRaises(ExpectationsError, EXPECTED.groups, "1,8")
        self.assertEqual(str(error), "no case below '8'; give a group, or one of short, all")

    def test_no_rule(self) -> None:
        """A case without a rule is a failure."""
        bare = replace(EXPECTED, rules=EXPECTED.rules[:1])
        verdict = judge(bare, ["1.2"], {"1.2.1": REFUSED}, SINCE)[0]
        self.assertEqual(verdict.faults, ("0 rules cover it; there must be exactly one",))

    def test_ambiguous_rules(self) -> None:
        """So is one with several: the order of the rules means nothing."""
        twice = replace(EXPECTED, rules=EXPECTED.rules * 2)
        error = self.assertRaises(ExpectationsError, twice.rule_for, "1.1.1")
        self.assertIn("2 rules", str(error))


class FileTests(SynchronousTestCase):
    """The expectations file itself."""

    def setUp(self) -> None:
        """Read it."""
        text = Path(__file__).with_name("expectations.json").read_text()
        self.expectations = Expectations.from_json(json.loads(text))

    def test_one_rule_for_each_case(self) -> None:
        """Each case has exactly one rule."""
        for case in self.expectations.cases(self.expectations.groups("all")):
            self.assertTrue(self.expectations.rule_for(case).why)

    def test_globs(self) -> None:
        """Each glob of a rule matches a case."""
        cases = self.expectations.cases(self.expectations.groups("all"))
        globs = [glob for rule in self.expectations.rules for glob in rule.cases]
        self.assertEqual([glob for glob in globs if not fnmatch.filter(cases, glob)], [])

    def test_sizes(self) -> None:
        """There are as many cases as the suite has."""
        sizes = {
            name: len(self.expectations.cases(self.expectations.groups(name)))
            for name in ("short", "9", "12,13", "all")
        }
        self.assertEqual(sizes, {"short": 247, "9": 54, "12,13": 216, "all": 517})
