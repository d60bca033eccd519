"""The resource that is a bus: POST, websocket upgrade and console, for every path below it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from pinghub import console
from pinghub.answers import PLAIN_FAULT, http_date, plain_answer
from pinghub.arrivals import TOO_MANY, Arrival, count_websocket, host_of
from pinghub.backplane import Backplane, InProcess
from pinghub.channels import ChannelManager
from pinghub.errors import (
    ForbiddenOrigin,
    InternalError,
    MethodNotAllowed,
    NotFound,
    Refusal,
    TooManyConnections,
    Unavailable,
)
from pinghub.handshake import Handshake, PlainHandshake, asks_for_websocket, read_handshake
from pinghub.logs import Log, quoted
from pinghub.names import channel_name
from pinghub.origins import OriginPolicy
from pinghub.waiting import answer_later, guarded
from pinghub.websocket import SubscriberFactory

ALLOW = "GET, HEAD, OPTIONS, POST"
SERVER = "pinghub"


class PinghubResource(Resource):
    """Serves the channels of a manager; the catch-all child of a twisted.web site.

    Put it at the root of a ``PinghubSite``, or below any resource of any ``Site``::

        root.putChild(b"live", PinghubResource(manager))

    Channel names are relative to the place where it is put: ``/live/news`` is ``/news``.

    Args:
        manager: the channels; shared with whatever else publishes or subscribes.
        origins: which pages may open websockets and POST; all when absent.
        post_only: shell patterns of channels that take messages by POST only.
        show_console: whether GET shows the console page.
        log: where to log; a log of its own when absent.
        backplane: where messages are published; in this process only when absent.
    """

    isLeaf = True

    def __init__(
        self,
        manager: ChannelManager,
        *,
        origins: OriginPolicy | None = None,
        post_only: Iterable[str] = (),
        show_console: bool = True,
        log: Log | None = None,
        backplane: Backplane | None = None,
    ) -> None:
        super().__init__()
        self._manager = manager
        self._backplane: Backplane = backplane or InProcess(manager)
        counts = self._backplane.counts.encode()
        self._plain_ok = plain_answer(HTTPStatus.OK, counts + b": %d\r\n", "OK")
        self._origins = origins or OriginPolicy()
        self._vary = b"Vary: Origin\r\n" if self._origins.restricts else b""
        self._post_only = tuple(post_only)
        self._show_console = show_console
        self._log = log or Log(manager.clock, manager.limits)
        self._websockets = SubscriberFactory(
            manager, self._backplane, self._takes_posts_only, self._log
        )

    def render(self, request: Any) -> bytes | int:
        """Answer a request (twisted.web.resource.IResource)."""
        request.setHeader("Server", SERVER)
        return guarded(request, self._answer, self._refuse)

    def _refuse(self, request: Any, error: BaseException | None) -> bytes:
        return refuse(request, self._refusal(error))

    def _refusal(self, error: BaseException | None) -> Refusal:
        """What to answer for an exception; counted, and logged if it is a fault of ours."""
        refusal = error if isinstance(error, Refusal) else InternalError()
        if refusal is not error:
            self._log.failure("A request failed", error)
        self._manager.stats.refusals[refusal.label] += 1
        return refusal

    def post(self, target: bytes, body: bytes) -> bytes | Deferred[bytes] | None:
        """Answer a POST without a request of twisted.web; for a resource at the root.

        Args:
            target: the request target.
            body: the body of a request without an Origin header.

        Returns:
            The answer to a HTTP/1.1 client, byte for byte what ``render`` makes twisted.web
            write; if that takes some time, what comes to it and does not fail. None if ``render``
            has to make it: a refusal.
        """
        if self._manager.connections.draining:
            return None
        try:
            channel = channel_name(target, limit=self._manager.limits.channel_name)
            handed = self._publish_post(channel, body)
        except Refusal:
            return None
        except Exception as error:
            # Not left to ``render``, which would publish a second time.
            return self._plain_fault(error)
        if isinstance(handed, int):
            return self._plainly_published(handed)
        return handed.addCallbacks(self._plainly_published, self._plainly_refused)

    def _plainly_published(self, handed: int) -> bytes:
        try:
            return self._plain_ok % (http_date(int(time.time())), self._vary, handed)
        except TypeError as error:  # A broker may say anything.
            return self._plain_fault(error)

    def _plainly_refused(self, failure: Failure) -> bytes:
        refusal = self._refusal(failure.value)
        fields = "".join(f"{name}: {value}\r\n" for name, value in refusal.headers.items())
        answer = plain_answer(refusal.status, fields.encode(), refusal.text)
        return answer % (http_date(int(time.time())), self._vary)

    def _plain_fault(self, error: Exception) -> bytes:
        self._refusal(error)
        return PLAIN_FAULT % (http_date(int(time.time())), self._vary)

    def upgrade(self, http: Any, plain: PlainHandshake) -> bool:
        """Answer a handshake without a request of twisted.web; for a resource at the root.

        Args:
            http: the HTTPChannel that got it.
            plain: what was read.

        Returns:
            Whether it was a good one; a refusal is made by ``render``.
        """
        connections, limits = self._manager.connections, self._manager.limits
        if connections.draining or connections.full_for(http):
            return False
        if not self._origins.allows(plain.origins):
            return False
        try:
            channel = channel_name(plain.target, limit=limits.channel_name)
            if not self._backplane.subscribed(channel):
                return False
            arrival = count_websocket(http, plain.forwarded, self._manager)
        except Refusal:
            return False
        self._websockets.upgrade(http, channel, plain.handshake, arrival)
        return True

    def _answer(self, request: Any) -> bytes | int:
        origin_allowed = self._check_cors(request)
        self._admit(request)
        limit = self._manager.limits.channel_name
        channel = channel_name(request.uri, len(request.prepath), limit)
        if request.method == b"POST":
            self._check_origin(request, origin_allowed)
            return self._publish(request, channel)
        if request.method == b"GET" and asks_for_websocket(_values(request)):
            handshake = read_handshake(_values(request), request.clientproto)
            self._check_origin(request, origin_allowed)
            return self._open(request, channel, handshake)
        if request.method in (b"GET", b"HEAD"):
            return self._console(request, channel)
        if request.method == b"OPTIONS":
            return _options(request, self._origins.restricts and origin_allowed)
        raise MethodNotAllowed(ALLOW)

    def _open(self, request: Any, channel: str, handshake: Handshake) -> int:
        """Subscribe, once the backplane has: what is published after the 101 must not be missed."""
        backplane = self._backplane
        if backplane.subscribed(channel):
            return self._upgrade(request, channel, handshake)
        backplane.subscribe(channel)
        outcome = backplane.when_subscribed(channel)

        def subscribed(request: Any, _: None) -> int:
            self._admit(request)  # It may stop by now.
            return self._upgrade(request, channel, handshake)

        answer_later(request, outcome, subscribed, self._refuse)
        outcome.addBoth(lambda _: backplane.unsubscribe(channel))
        return NOT_DONE_YET

    def _upgrade(self, request: Any, channel: str, handshake: Handshake) -> int:
        arrival = self._count(request)
        self._websockets.upgrade(request.channel, channel, handshake, arrival)
        return NOT_DONE_YET

    def _count(self, request: Any) -> Arrival:
        try:
            return count_websocket(request.channel, _forwarded(request), self._manager)
        except TooManyConnections:
            self._log.info(TOO_MANY, client=lambda: self._client(request))
            raise

    def _client(self, request: Any) -> str:
        """The address of whoever sent a request, for the log."""
        peer = host_of(request.channel.transport)
        client = self._manager.proxies.client(peer, _forwarded(request))
        return str(client) if client is not None else "unix"

    def _check_cors(self, request: Any) -> bool:
        """Whether the origin is allowed; tells the browser if it is (Fetch standard, CORS)."""
        origins = request.requestHeaders.getRawHeaders(b"origin", ())
        allowed = self._origins.allows(origins)
        if self._origins.restricts:
            request.setHeader("Vary", "Origin")
            if allowed and origins:
                request.setHeader("Access-Control-Allow-Origin", origins[0])
                request.setHeader("Access-Control-Expose-Headers", self._backplane.counts)
        return allowed

    def _check_origin(self, request: Any, allowed: bool) -> None:
        if not allowed:
            origins = b", ".join(request.requestHeaders.getRawHeaders(b"origin"))
            text = quoted(origins.decode("latin-1"), self._manager.limits.log_field)
            self._log.info(
                "Refused an origin",
                origin=origins,
                path=request.path,
                client=lambda: self._client(request),
            )
            raise ForbiddenOrigin(f"The origin {text} is not allowed here.")

    def _admit(self, request: Any) -> None:
        connections = self._manager.connections
        if connections.draining:
            request.channel.persistent = False
            request.setHeader("Connection", "close")
            raise Unavailable("The server stops: try again in a moment.")
        if request.method != b"POST" and connections.full_for(request.channel):
            raise Unavailable("The server is full: try again later.")

    def _publish(self, request: Any, channel: str) -> bytes | int:
        handed = self._publish_post(channel, request.content.read())
        if isinstance(handed, int):
            return self._published(request, handed)
        return answer_later(request, handed, self._published, self._refuse)

    def _published(self, request: Any, handed: int) -> bytes:
        request.setHeader(self._backplane.counts, f"{handed:d}")
        return text_answer(request, HTTPStatus.OK, "OK")

    def _publish_post(self, channel: str, body: bytes) -> int | Deferred[int]:
        payload = self._manager.checked(body)
        if not payload:  # A heartbeat: nothing is broadcast.
            return 0
        handed = self._backplane.publish(channel, payload)
        self._manager.stats.posted += 1
        return handed

    def _takes_posts_only(self, channel: str) -> bool:
        if not self._post_only:  # as mostly, and this is asked for every message
            return False
        return any(fnmatchcase(channel, pattern) for pattern in self._post_only)

    def _console(self, request: Any, channel: str) -> bytes:
        if not self._show_console:
            raise NotFound("There is no page here: subscribe by websocket, publish by POST.")
        for name, value in console.HEADERS.items():
            request.setHeader(name, value)
        counted = self._backplane.counts.removeprefix("Pinghub-").removesuffix("s").lower()
        return body_answer(request, console.page(channel, counted))


def _values(request: Any) -> Any:
    return lambda name: request.requestHeaders.getRawHeaders(name, [])


def _forwarded(request: Any) -> list[bytes]:
    found: list[bytes] = request.requestHeaders.getRawHeaders(b"x-forwarded-for", [])
    return found


def _options(request: Any, cors: bool) -> int:
    request.setHeader("Allow", ALLOW)
    if cors and request.requestHeaders.hasHeader(b"origin"):
        request.setHeader("Access-Control-Allow-Methods", ALLOW)
        # A page may label its message, and authenticate itself to the proxy in front.
        request.setHeader("Access-Control-Allow-Headers", "Authorization, Content-Type")
        request.setHeader("Access-Control-Max-Age", "600")
    request.setResponseCode(HTTPStatus.NO_CONTENT)
    # Finished here: twisted.web would add a Content-Length, which a 204 must not have
    # (RFC 9110 section 8.6).
    request.finish()
    return NOT_DONE_YET


def refuse(request: Any, refusal: Refusal) -> bytes:
    """Answer a refusal: its status, its headers, and its one line of text."""
    for name, value in refusal.headers.items():
        request.setHeader(name, value)
    return text_answer(request, refusal.status, refusal.text)


def text_answer(request: Any, status: HTTPStatus, line: str) -> bytes:
    """Answer one line of plain text."""
    request.setResponseCode(status, status.phrase.encode())
    request.setHeader("Content-Type", "text/plain; charset=utf-8")
    return body_answer(request, line.encode() + b"\n")


def body_answer(request: Any, body: bytes) -> bytes:
    """Answer a body; a HEAD learns its length only (RFC 9110 section 9.3.2)."""
    if request.method == b"HEAD":
        request.setHeader("Content-Length", str(len(body)))
        return b""
    return body
