"""Compare the mutants that survived with those that are known to be equivalent.

``make mutants`` runs ``mutmut``, which changes one expression at a time in the modules that
``pyproject.toml`` lists and runs their tests on each of these *mutants*; then it runs this
module. A mutant that no test notices shows a test that is missing, or code that does nothing,
unless it is *equivalent*: nobody could tell it from the original. Those are listed in
``mutants.toml``, each with the reason.

It fails when a mutant survives that is not listed, and when one is listed that does not survive
any more. A mutant that makes a loop endless ends by timeout, unless a test that fails comes
before; it is listed too, because a timeout may also mean that the machine was busy.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIST = Path(__file__).with_name("mutants.toml")
KILLED = "killed"
SURVIVED = "survived"
TIMEOUT = "timeout"


@dataclass(frozen=True, order=True)
class Mutant:
    """One change, told without mutmut's numbers, which change with every line of a function.

    Attributes:
        function: where it is, such as ``pinghub.channels.Channel.flush``.
        before: the lines that it changes, without indentation.
        after: the same lines in the mutant.
    """

    function: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.function}\n  - {self.before}\n  + {self.after}"


def mutmut(*arguments: str) -> str:
    """The output of a command of mutmut."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def statuses() -> dict[str, str]:
    """What became of each mutant, by the name that mutmut gives it."""
    lines = mutmut("results", "--all", "true").splitlines()
    return dict(line.strip().split(": ", 1) for line in lines if ": " in line)


def function_of(name: str) -> str:
    """The function that a mutant changes.

    ``pinghub.channels.xǁChannelǁflush__mutmut_1`` changes ``pinghub.channels.Channel.flush``,
    ``pinghub.outbox.x__take__mutmut_8`` changes ``pinghub.outbox._take``.
    """
    module, _, mangled = name.rpartition("__mutmut_")[0].rpartition(".")
    method = mangled.startswith("xǁ")
    return f"{module}." + (mangled[2:].replace("ǁ", ".") if method else mangled.removeprefix("x_"))


def mutant(name: str) -> Mutant:
    """The change that mutmut knows by this name, read from the difference that it shows."""
    changed: dict[str, list[str]] = {"-": [], "+": []}
    _, _, difference = mutmut("show", name).partition("\n@@")
    for line in difference.splitlines():
        if line[:1] in changed:
            changed[line[0]].append(line[1:].strip())
    return Mutant(function_of(name), "\n".join(changed["-"]), "\n".join(changed["+"]))


def listed(entries: list[dict[str, Any]]) -> Counter[Mutant]:
    """The mutants of one table of the list; each entry has to give its reason."""
    for entry in entries:
        if not entry["because"]:
            raise ValueError(f"an entry without a reason: {entry}")
    return Counter(
        Mutant(entry["function"], entry["before"], after)
        for entry in entries
        for after in entry["after"]
    )


def report(title: str, mutants: Counter[Mutant]) -> int:
    """Print mutants that should not be; how many they are."""
    for each in sorted(mutants.elements()):
        print(f"{title}: {each}")
    return mutants.total()


def main() -> int:
    """Compare, report, and count; the exit status."""
    tables = tomllib.loads(LIST.read_text(encoding="utf-8"))
    equivalent, endless = listed(tables["equivalent"]), listed(tables["endless"])
    by_name = statuses()
    if not by_name:
        print("mutmut has no results here: run `make mutants`")
        return 1
    with ThreadPoolExecutor() as threads:
        alive = [name for name, status in by_name.items() if status != KILLED]
        found = dict(zip(alive, threads.map(mutant, alive), strict=True))

    survivors = Counter(found[name] for name in alive if by_name[name] == SURVIVED)
    timeouts = Counter(found[name] for name in alive if by_name[name] == TIMEOUT)
    # Not checked, without a test, or ended in some way that says nothing about the tests.
    unclear = Counter(found[name] for name in alive) - survivors - timeouts
    survived = (
        report("No test notices this", survivors - equivalent)
        + report("The tests take too long, and no endless loop is listed", timeouts - endless)
        + report("mutmut came to no result", unclear)
    )
    stale = report("This is listed and does not survive", equivalent - survivors)
    known = (survivors & equivalent).total()
    print(f"{len(by_name) - known - survived} killed, {known} equivalent, {survived} survived")
    return 1 if survived or stale else 0


if __name__ == "__main__":
    sys.exit(main())
