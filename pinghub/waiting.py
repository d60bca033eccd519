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
Refuse = Callable[[Any, BaseException | None], bytes]
"""Makes the answer to a request that came to an exception, which it logs if it is a fault."""


def guarded(request: Any, answer: Answer, refuse: Refuse) -> bytes | int:
    """Make the answer to a request, or refuse it."""
    try:
        return answer(request)
    except Exception as error:
        return refuse(request, error)


class _Waiting:
    """Keeps a request until there is an answer, and no longer: it keeps us as well."""

    def __init__(self, request: Any, refuse: Refuse) -> None:
        self._request = request
        self._refuse = refuse
        request.notifyFinish().addErrback(self._gone)

    def _gone(self, _: Failure) -> None:
        self._request = None

    def answer(self, answer: Answer) -> None:
        """Answer, unless the client is gone."""
        request, self._request = self._request, None
        # A request of HTTP/2 has no transport.
        if request is None or getattr(request.transport, "disconnecting", False):
            return
        try:
            body = guarded(request, answer, self._refuse)
            if isinstance(body, bytes):
                request.setHeader("Content-Length", str(len(body)))
                request.write(body)
                request.finish()
        except Exception as error:
            # Nobody else would: half an answer must not look like a whole one, nor none like one
            # that is still to come.
            (request.transport or request.channel).abortConnection()
            self._refuse(request, error)


def answer_later(
    request: Any, outcome: Deferred[T], answer: Callable[[Any, T], bytes | int], refuse: Refuse
) -> int:
    """Answer a request when something has come out, and not if its client has left before.

    Args:
        request: a request of twisted.web.
        outcome: what is waited for.
        answer: makes the answer of the request and what came out: a body, or ``NOT_DONE_YET``.
        refuse: makes that of the request and an exception: where the outcome is a failure, or
            ``answer`` raises.

    Returns:
        ``NOT_DONE_YET``, for ``render`` to return.
    """
    waiting = _Waiting(request, refuse)

    def came_out(value: T) -> None:
        waiting.answer(lambda request: answer(request, value))

    def failed(failure: Failure) -> None:
        # Not raised: its traceback would keep this frame, which keeps it, and the connection.
        waiting.answer(lambda request: refuse(request, failure.value))

    outcome.addCallbacks(came_out, failed)
    return NOT_DONE_YET
