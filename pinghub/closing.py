"""Closing many subscribers at once, a part of them in each turn of the reactor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeGuard

from pinghub.channels import ChannelManager, Closeable, Subscriber
from pinghub.frames import CloseCode

SLICE = 200
"""How many subscribers are closed in one turn."""


def is_closeable(subscriber: Subscriber) -> TypeGuard[Closeable]:
    """Whether a subscriber is ours to close: those of a program are not, unless they say so."""
    return getattr(subscriber, "closeable", False) is True


class Closing:
    """Closes subscribers; those that are not ours to close are unsubscribed only.

    Who subscribes meanwhile stays.

    Args:
        manager: the channels.
        subscribers: the names of channels, with the subscribers to close.
        code: the code to close them with.
        reason: why, for people.
    """

    def __init__(
        self,
        manager: ChannelManager,
        subscribers: Iterable[tuple[str, Subscriber]],
        code: CloseCode,
        reason: str,
    ) -> None:
        self._manager = manager
        self._left = list(subscribers)
        self._code = code
        self._reason = reason

    def __len__(self) -> int:
        """How many are still to be closed."""
        return len(self._left)

    def step(self) -> None:
        """Close some, and the others later."""
        for name, subscriber in self._left[:SLICE]:
            self._close(name, subscriber)
        del self._left[:SLICE]
        if self._left:
            self._manager.clock.callLater(0, self.step)

    def _close(self, name: str, subscriber: Subscriber) -> None:
        try:
            if is_closeable(subscriber):
                subscriber.close(self._code, self._reason)
            self._manager.unsubscribe(name, subscriber)
        except Exception as error:
            self._manager.report("A subscriber could not be closed politely", error)
