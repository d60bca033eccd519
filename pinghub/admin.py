"""The private endpoint, for operators and balancers: ``--admin``.

It has an address of its own, and answers until the last connection of a drain is closed.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from twisted.web.resource import Resource

from pinghub.connections import Connections
from pinghub.errors import MethodNotAllowed, NotFound
from pinghub.resource import SERVER, refuse, text_answer

METHODS = (b"GET", b"HEAD")


class AdminResource(Resource):
    """The root of the private endpoint.

    ``/healthz`` is answered 200 as long as the process serves anybody. ``/readyz`` is answered
    200 while new connections are welcome, and 503 from the moment at which the server is told
    to stop: a balancer that asks it sends nobody any more.

    Args:
        connections: those of the server.
    """

    isLeaf = True

    def __init__(self, connections: Connections) -> None:
        super().__init__()
        self._connections = connections

    def render(self, request: Any) -> bytes:
        """Answer a request (twisted.web.resource.IResource)."""
        request.setHeader("Server", SERVER)
        request.setHeader("Cache-Control", "no-store")
        if request.method not in METHODS:
            return refuse(request, MethodNotAllowed("GET, HEAD"))
        if request.path == b"/healthz":
            return text_answer(request, HTTPStatus.OK, "OK")
        if request.path == b"/readyz":
            if self._connections.leaving:
                return text_answer(request, HTTPStatus.SERVICE_UNAVAILABLE, "stopping")
            return text_answer(request, HTTPStatus.OK, "OK")
        return refuse(request, NotFound("There are /healthz and /readyz here."))
