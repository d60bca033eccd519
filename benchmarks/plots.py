"""Pictures of the results: throughput, latency and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.report import Results
from benchmarks.workloads import LATENCY, MEMORY, SIZES, Workload, fan_out, fan_out_in_flight

matplotlib.use("Agg")

from matplotlib import pyplot

PERCENTILES = {"p50": "50 %", "p90": "90 %", "p99": "99 %", "p999": "99.9 %"}


def draw(results: Results, into: Path) -> None:
    """Draw what there are results for."""
    _throughput(results, into / "throughput.png")
    _latency(results, into / "latency.png")
    _memory(results, into / "memory.png")


def _save(figure: Any, path: Path) -> None:
    """Save a picture, if there is anything in it."""
    drawn = [axes for axes in figure.axes if axes.lines]
    if drawn:
        drawn[-1].legend()
        figure.tight_layout()
        figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _line(axes: Any, points: dict[Any, float], label: str) -> None:
    if points:
        axes.plot(list(points), list(points.values()), marker="o", label=label)


def _throughput(results: Results, path: Path) -> None:
    """Deliveries per CPU-second against subscribers."""
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for axes, title, workload_of in (
        (panels[0], "the next POST when all have it", fan_out),
        (panels[1], "16 in flight by websocket", fan_out_in_flight),
    ):
        for server in results.servers:
            points = {
                size: found
                for size in SIZES
                if (found := results.median(workload_of(size), server, "per_cpu_second"))
            }
            _line(axes, points, server)
        axes.set(title=title, xscale="log", yscale="log", xlabel="subscribers")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("deliveries per CPU-second")
    _save(figure, path)


def _figures(results: Results, workload: Workload, server: str, prefix: str) -> dict[str, float]:
    """The medians of all figures whose name begins like this."""
    names = results.names(workload, server)
    found = {name: results.median(workload, server, name) for name in names}
    return {
        name: value
        for name, value in found.items()
        if name.startswith(prefix) and value is not None
    }


def _latency(results: Results, path: Path) -> None:
    """Percentiles of the time from publishing to delivery."""
    figure, axes = pyplot.subplots(figsize=(6.5, 4.5))
    for server in results.servers:
        found = _figures(results, LATENCY, server, "p")
        points = {text: found[name] for name, text in PERCENTILES.items() if name in found}
        _line(axes, points, server)
    axes.set(title=LATENCY.name, yscale="log", xlabel="percentile", ylabel="ms")
    axes.grid(alpha=0.3)
    _save(figure, path)


def _memory(results: Results, path: Path) -> None:
    """Memory against idle connections."""
    figure, axes = pyplot.subplots(figsize=(6.5, 4.5))
    for server in results.servers:
        found = _figures(results, MEMORY, server, "mib_at_")
        points = {int(name.removeprefix("mib_at_")): found[name] for name in found}
        _line(axes, points, server)
    axes.set(title="idle subscribers of one channel", xlabel="subscribers", ylabel="MiB")
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    _save(figure, path)
