"""An event loop for clients that are made for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.clients import cases

T = TypeVar("T")


class Loop:
    """An event loop that runs while a test waits for something, and for `SECONDS` at most.

    The server is another process, so nothing is lost while the loop stands still.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def wait(self, something: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine."""
        return self._runner.run(asyncio.wait_for(something, cases.SECONDS))

    def close(self) -> None:
        """Cancel what is left, and close the loop."""
        self._runner.close()


class LoopCases(cases.Cases):
    """The cases for a client that needs a loop: a new one for each test."""

    def setUp(self) -> None:
        """Make the loop."""
        super().setUp()
        self.loop = Loop()
        self.addCleanup(self.loop.close)
