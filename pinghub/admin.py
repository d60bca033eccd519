"""The private endpoint, for operators, balancers and Prometheus: ``--admin``.

It has an address of its own, and answers until the last connection of a drain is closed.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from pinghub.backplane import Backplane, InProcess
from pinghub.channel_info import Listing, describe
from pinghub.channels import Channel, ChannelManager
from pinghub.closing import Closing
from pinghub.errors import BadRequest, MethodNotAllowed, NotFound, Refusal
from pinghub.frames import CloseCode
from pinghub.metrics import Metrics
from pinghub.names import channel_name
from pinghub.resource import SERVER, body_answer, refuse, text_answer

READ = (b"GET", b"HEAD")
CHANNELS = b"/channels"
CLOSED = "this channel was closed: reconnect"
_HELP = "There are /healthz, /readyz, /metrics, /channels and /channels/NAME here."


class AdminResource(Resource):
    """The root of the private endpoint.

    ``/healthz`` is answered 200 as long as the process serves anybody. ``/readyz`` is answered
    200 while new connections are welcome, and 503 from the moment at which the server is told
    to stop, and while the backplane is down: a balancer that asks it sends nobody any more.

    ``/metrics`` is for Prometheus. ``/channels`` lists the channels in JSON, those whose names
    begin with ``prefix``, and at most ``limit`` of them; ``/channels/NAME`` shows one, and
    DELETE closes its subscribers.

    Args:
        manager: the channels.
        backplane: what connects them to those of other servers, if anything does.
    """

    isLeaf = True

    def __init__(self, manager: ChannelManager, backplane: Backplane | None = None) -> None:
        super().__init__()
        self._manager = manager
        self._backplane: Backplane = backplane or InProcess(manager)
        self._metrics = Metrics(manager, self._backplane)

    def render(self, request: Any) -> bytes | int:
        """Answer a request (twisted.web.resource.IResource)."""
        request.setHeader("Server", SERVER)
        request.setHeader("Cache-Control", "no-store")
        try:
            if request.path.startswith(CHANNELS + b"/"):
                return self._one_channel(request)
            return self._answer(request)
        except Refusal as refusal:
            return refuse(request, refusal)

    def _answer(self, request: Any) -> bytes | int:
        if request.method not in READ:
            raise MethodNotAllowed("GET, HEAD")
        if request.path == b"/healthz":
            return text_answer(request, HTTPStatus.OK, "OK")
        if request.path == b"/readyz":
            return self._readiness(request)
        if request.path == b"/metrics":
            body, content_type = self._metrics.render(request.getHeader("accept") or "")
            request.setHeader("Content-Type", content_type)
            return body_answer(request, body)
        if request.path == CHANNELS:
            return self._list(request)
        raise NotFound(_HELP)

    def _readiness(self, request: Any) -> bytes:
        if self._manager.connections.leaving:
            return text_answer(request, HTTPStatus.SERVICE_UNAVAILABLE, "stopping")
        if not self._backplane.state().ready:
            return text_answer(request, HTTPStatus.SERVICE_UNAVAILABLE, "backplane down")
        return text_answer(request, HTTPStatus.OK, "OK")

    def _list(self, request: Any) -> bytes | int:
        prefix = _argument(request, b"prefix").decode(errors="replace")
        limit = _argument(request, b"limit")
        if (limit and not limit.isdigit()) or len(limit) > 9:
            raise BadRequest("limit has to be a number of channels.")
        request.setHeader("Content-Type", "application/json")
        if request.method == b"HEAD":
            return b""
        Listing(request, self._manager, prefix, int(limit) if limit else None).start()
        return NOT_DONE_YET

    def _one_channel(self, request: Any) -> bytes:
        channel = self._channel(request)
        if request.method in READ:
            return _json(request, describe(channel))
        if request.method == b"DELETE":
            subscribers = [(channel.name, each) for each in channel]
            closing = Closing(self._manager, subscribers, CloseCode.GOING_AWAY, CLOSED)
            told = len(closing)
            closing.step()
            return _json(request, {"name": channel.name, "closed": told})
        raise MethodNotAllowed("GET, HEAD, DELETE")

    def _channel(self, request: Any) -> Channel:
        name = channel_name(request.uri, 1, self._manager.limits.channel_name)
        channel = self._manager.channel(name)
        if channel is None:
            raise NotFound("Nobody listens to that channel.")
        return channel


def _argument(request: Any, name: bytes) -> bytes:
    """The value of an argument in the query; empty if it is not there."""
    value: bytes = request.args.get(name, [b""])[0]
    return value


def _json(request: Any, value: object) -> bytes:
    request.setHeader("Content-Type", "application/json")
    return body_answer(request, json.dumps(value).encode() + b"\n")
