"""Python's garbage collector, tuned for a process with very many connections.

A full collection looks at every object there is, which takes a second with some ten thousand
connections, and all of them wait. Connections here end without leaving cycles behind
(``tests/test_collector.py``), so that whatever has survived a collection need not be looked at
again: it is freed by its reference count when its time comes.
"""

from __future__ import annotations

import gc

YOUNGEST = 5_000
"""How many new objects are looked at in one go; some thousand take a millisecond."""

ROUNDS = 10
"""After how many such rounds their survivors are looked at once more, and then never again."""


def tune_collector() -> None:
    """Keep the collector's pauses short, in this process, from now on.

    For a process that serves and does little else: cycles that other code makes out of old
    objects are not collected any more.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST, ROUNDS, ROUNDS)
    if freeze_survivors not in gc.callbacks:
        gc.callbacks.append(freeze_survivors)


def freeze_survivors(phase: str, info: dict[str, int]) -> None:
    """Set aside what has survived two collections (a callback of ``gc``)."""
    if phase == "stop" and info["generation"] > 0:
        gc.freeze()
