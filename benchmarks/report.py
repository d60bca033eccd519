"""The results: a table in Markdown, and everything in JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.servers import versions
from benchmarks.workloads import Figures, Workload

Cell = Figures | str
"""What one measurement found, or why it found nothing."""


def number(value: float) -> str:
    """A figure, with no more digits than it deserves."""
    if value >= 1e6:
        return f"{value / 1e6:.2f}M"
    if value >= 1e4:
        return f"{value / 1e3:.0f}k"
    if value >= 1e3:
        return f"{value / 1e3:.1f}k"
    return f"{value:.3g}"


def shown(workload: Workload, cell: Cell | None) -> str:
    """One measurement, as a word."""
    if cell is None:
        return "not applicable"
    return cell if isinstance(cell, str) else number(cell[workload.figure])


def conditions() -> dict[str, str]:
    """What is measured where."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "interpreter": f"{platform.python_implementation()} {platform.python_version()}"
        f" ({platform.python_compiler()})",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": str(os.cpu_count()),
        "versions": ", ".join(f"{name} {each}" for name, each in versions().items()),
    }


class Results:
    """What has been measured.

    Args:
        servers: their names, in the order of the columns.
        workloads: the rows.

    Attributes:
        conditions: what was measured where.
    """

    def __init__(self, servers: list[str], workloads: list[Workload]) -> None:
        self.servers = servers
        self.workloads = workloads
        self.conditions = conditions()
        self._cells: dict[tuple[str, str], list[Cell]] = {}

    def add(self, workload: Workload, server: str, cell: Cell) -> None:
        """Add one measurement."""
        self._cells.setdefault((workload.name, server), []).append(cell)

    def _of(self, workload: Workload, server: str) -> list[Cell]:
        return self._cells.get((workload.source or workload.name, server), [])

    def figures(self, workload: Workload, server: str, figure: str) -> list[float]:
        """One figure from all rounds that found it."""
        cells = self._of(workload, server)
        return [cell[figure] for cell in cells if isinstance(cell, dict)]

    def names(self, workload: Workload, server: str) -> list[str]:
        """All figures that were found."""
        cells = self._of(workload, server)
        return [name for cell in cells[:1] if isinstance(cell, dict) for name in cell]

    def median(self, workload: Workload, server: str, figure: str) -> float | None:
        """The median of one figure over all rounds."""
        figures = self.figures(workload, server, figure)
        return statistics.median(figures) if figures else None

    def _entry(self, workload: Workload, server: str) -> str:
        cells = self._of(workload, server)
        figures = self.figures(workload, server, workload.figure)
        if not figures:
            return "failed" if cells else "-"
        middle = statistics.median(figures)
        spread = (max(figures) - min(figures)) / 2 / middle if middle else 0
        text = number(middle)
        if len(figures) > 1:
            text += f" ±{spread:.0%}"
        if len(figures) < len(cells):
            text += f" ({len(cells) - len(figures)} of {len(cells)} failed)"
        return text

    def _generator(self, workload: Workload) -> str:
        """The generator's processor time as a part of the time, at its worst."""
        parts = [
            cell["generator_cpu"] / cell["seconds"]
            for name in self.servers
            for cell in self._of(workload, name)
            if isinstance(cell, dict) and "generator_cpu" in cell
        ]
        return f"{max(parts):.0%}" if parts else "-"

    def markdown(self) -> str:
        """The table."""
        lines = [f"* {name}: {value}" for name, value in self.conditions.items()]
        lines += ["", f"| workload | unit | {' | '.join(self.servers)} | generator |"]
        lines.append("|---|---|" + "---:|" * (len(self.servers) + 1))
        for workload in self.workloads:
            per = " per CPU-s" if workload.figure == "per_cpu_second" else ""
            entries = [self._entry(workload, server) for server in self.servers]
            row = [workload.name, workload.unit + per, *entries, self._generator(workload)]
            lines.append("| " + " | ".join(row) + " |")
        return "\n".join(lines) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Everything that was measured."""
        measured: dict[str, dict[str, list[Cell]]] = {}
        for (workload, server), cells in self._cells.items():
            measured.setdefault(workload, {})[server] = cells
        return {"conditions": self.conditions, "measured": measured}

    def write(self, into: Path) -> None:
        """Write all of it into a directory."""
        into.mkdir(parents=True, exist_ok=True)
        (into / "results.md").write_text(self.markdown())
        (into / "results.json").write_text(json.dumps(self.as_json(), indent=1) + "\n")
