"""Who is at the other end of a connection, and whether it may have one more.

Counted are the connections of clients. One of a trusted proxy carries requests of many clients,
and is not counted; a websocket through it belongs to one client, and is, from its handshake on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pinghub.channels import ChannelManager
from pinghub.clients import Place
from pinghub.errors import TooManyConnections
from pinghub.proxies import parse_address

TOO_MANY = "Refused a connection: its address has too many"
"""What is logged about it."""


class Arrival(NamedTuple):
    """A client that opens a websocket.

    Attributes:
        client: its address, if a trusted proxy said it; None if it is the address that the
            connection comes from.
        place: its place among the connections of the client, if they are counted.
    """

    client: str | None
    place: Place | None


ANYBODY = Arrival(None, None)
"""A client that connects itself, and is not counted."""


def host_of(transport: Any) -> str | None:
    """The address that a connection comes from; None for a unix socket."""
    host: str | None = getattr(transport.getPeer(), "host", None)
    return host


def count_connection(transport: Any, manager: ChannelManager) -> Place | None:
    """Count a connection that speaks HTTP.

    Returns:
        Its place, for the caller to give back; None if it is not counted.
    """
    if not manager.clients.limit:
        return None
    peer = host_of(transport)
    if manager.proxies.trusts(peer):
        return None
    return manager.clients.enter(manager.proxies.client(peer, ()))


def count_websocket(http: Any, forwarded: Sequence[bytes], manager: ChannelManager) -> Arrival:
    """Count a connection that becomes a websocket.

    Args:
        http: the HTTPChannel. If it has a place of its own, that is taken over.
        forwarded: the values of the X-Forwarded-For header lines.
        manager: the channels.

    Returns:
        Who it is, and its place, for the caller to give back.

    Raises:
        TooManyConnections: the client has as many as it may have.
    """
    proxies, clients = manager.proxies, manager.clients
    if not (proxies or clients.limit):
        return ANYBODY
    peer = host_of(http.transport)
    client = proxies.client(peer, forwarded)
    known = client is None or (peer is not None and client == parse_address(peer))
    # Sites other than ours have channels that know no places.
    place: Place | None = getattr(http, "place", None)
    if place is not None:
        http.place = None
    else:
        place = clients.enter(client)
        if place is not None and place.over:
            place.leave()
            raise TooManyConnections
    return Arrival(None if known else str(client), place)
