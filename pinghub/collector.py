"""Python's garbage collector, tuned for a process with very many connections.

A full collection looks at every object there is, which takes a second with some ten thousand
connections, and all of them wait. Connections here end without leaving cycles behind
(``tests/test_collector.py``), so that whatever has survived a collection need not be looked at
again: it is freed by its reference count when its time comes.

Attempts to connect to somebody else do leave cycles behind, in Twisted. While one is under way,
nothing is set aside.
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


class Attempts:
    """The attempts of somebody to connect, which leave cycles: nothing is set aside meanwhile.

    It is one of ``gc.callbacks`` as long as an attempt is under way, where the collector is tuned
    at all.
    """

    def __init__(self) -> None:
        self._seen = False

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Note that what there is of an attempt has grown old (a callback of ``gc``)."""
        if phase == "stop" and info["generation"] > 0:
            self._seen = True

    def begin(self) -> None:
        """An attempt is under way."""
        if freeze_survivors in gc.callbacks and self not in gc.callbacks:
            self._seen = False
            gc.callbacks.append(self)

    def end(self) -> None:
        """It is over: what it has left is young, and soon collected, or is collected now."""
        if self in gc.callbacks:
            gc.callbacks.remove(self)
            if self._seen:
                gc.collect()


def freeze_survivors(phase: str, info: dict[str, int]) -> None:
    """Set aside what has survived two collections (a callback of ``gc``)."""
    if phase == "stop" and info["generation"] > 0:
        if not any(isinstance(each, Attempts) for each in gc.callbacks):
            gc.freeze()
