"""Python's garbage collector, tuned for a process with very many connections.

A full collection looks at every object there is, which takes a second with some ten thousand
connections, and all of them wait. Connections here end without leaving cycles behind
(``tests/test_collector.py``), so that whatever has survived a collection need not be looked at
again: it is freed by its reference count when its time comes.

Attempts to connect to somebody else do leave cycles behind, in Twisted. While there are any,
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

    It is one of ``gc.callbacks`` as long as it has begun, where the collector is tuned at all.
    """

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Nothing, before and after a collection (a callback of ``gc``)."""

    def begin(self) -> None:
        """From now on."""
        if freeze_survivors in gc.callbacks and self not in gc.callbacks:
            gc.callbacks.append(self)

    def end(self) -> None:
        """Not any more: collect what they have left."""
        if self in gc.callbacks:
            gc.callbacks.remove(self)
            gc.collect()


def freeze_survivors(phase: str, info: dict[str, int]) -> None:
    """Set aside what has survived two collections (a callback of ``gc``)."""
    if phase == "stop" and info["generation"] > 0:
        if not any(isinstance(each, Attempts) for each in gc.callbacks):
            gc.freeze()
