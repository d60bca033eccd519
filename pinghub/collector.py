"""Python's garbage collector, tuned for a process with very many connections.

A full collection looks at every object there is, which takes a second with some ten thousand
connections, and all of them wait. Connections here end without leaving cycles behind
(``tests/test_collector.py``), so that whatever has survived a collection need not be looked at
again: it is freed by its reference count when its time comes.

Attempts to connect to somebody else do leave cycles behind, in Twisted. While one is under way,
nothing is set aside, but once in a while.
"""

from __future__ import annotations

import gc
import time

YOUNGEST = 5_000
"""How many new objects are looked at in one go; some thousand take a millisecond."""

ROUNDS = 10
"""After how many such rounds their survivors are looked at once more, and then never again."""

PATIENCE = 60.0
"""How long attempts to connect may keep others from being set aside, in seconds.

Then what there is of them is set aside as well: some kilobytes, once in that time.
"""


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

    Nor after them, until a full collection has looked at what they left, if that has grown old. It
    is bounded by ``PATIENCE``. It is one of ``gc.callbacks``, where the collector is tuned at all.
    """

    def __init__(self) -> None:
        self._under_way = self._left_old = False
        self._since = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Follow what becomes of an attempt (a callback of ``gc``)."""
        if phase == "stop" and info["generation"] > 0:
            self._left_old = self._under_way or (self._left_old and info["generation"] < 2)

    def begin(self) -> None:
        """An attempt is under way."""
        if freeze_survivors in gc.callbacks and self not in gc.callbacks:
            self._since = time.monotonic()
            gc.callbacks.append(self)
        self._under_way = True

    def end(self) -> None:
        """It is over."""
        self._under_way = False

    def close(self) -> None:
        """There are going to be no more."""
        if self in gc.callbacks:
            gc.callbacks.remove(self)

    def lets_pass(self, generation: int) -> bool:
        """Whether something may be set aside, after a collection of this generation."""
        if self._under_way or self._left_old:
            return generation == 2 and time.monotonic() - self._since > PATIENCE
        return True

    def passed(self) -> None:
        """Something was set aside: the time for it begins anew."""
        self._since = time.monotonic()


def freeze_survivors(phase: str, info: dict[str, int]) -> None:
    """Set aside what has survived two collections (a callback of ``gc``)."""
    generation = info["generation"]
    if phase == "stop" and generation > 0:
        attempts = [each for each in gc.callbacks if isinstance(each, Attempts)]
        if all(each.lets_pass(generation) for each in attempts):
            gc.freeze()
            for each in attempts:
                each.passed()
