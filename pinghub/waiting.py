"""A request whose answer waits for something, while its client may leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

T = TypeVar("T")
Answer = Callable[[Any], bytes | int]
"""Makes the answer to a request: its body, or ``NOT_DONE_YET``."""


class _Waiting:
    """Keeps a request until there is an answer, and no longer: it keeps us as well."""

    def __init__(self, request: Any, guarded: Callable[[Any, Answer], bytes | int]) -> None:
        self._request = request
        self._guarded = guarded
        request.notifyFinish().addErrback(self._gone)

    def _gone(self, _: Failure) -> None:
        self._request = None

    def answer(self, answer: Answer) -> None:
        """Answer, unless the client is gone."""
        request, self._request = self._request, None
        if request is None or request.transport.disconnecting:
            return
        body = self._guarded(request, answer)
        if isinstance(body, bytes):
            request.setHeader("Content-Length", str(len(body)))
            request.write(body)
            request.finish()


def answer_later(
    request: Any,
    outcome: Deferred[T],
    answer: Callable[[Any, T], bytes | int],
    guarded: Callable[[Any, Answer], bytes | int],
) -> int:
    """Answer a request when something has come out, and not if its client has left before.

    Args:
        request: a request of twisted.web.
        outcome: what is waited for.
        answer: makes the answer of the request and what came out: a body, or ``NOT_DONE_YET``.
        guarded: calls what makes an answer with the request, and answers what that raises. Where
            the outcome is a failure, that is raised.

    Returns:
        ``NOT_DONE_YET``, for ``render`` to return.
    """
    waiting = _Waiting(request, guarded)

    def came_out(value: T) -> None:
        waiting.answer(lambda request: answer(request, value))

    def failed(failure: Failure) -> None:
        waiting.answer(lambda _: failure.raiseException())

    outcome.addCallbacks(came_out, failed)
    return NOT_DONE_YET
