"""How many connections each client has open."""

from __future__ import annotations

from ipaddress import IPv6Address

from pinghub.proxies import Address

_HOST_BITS = 64


class Place:
    """One of the connections of a client, until it is given back.

    Attributes:
        over: whether the client has more connections than it may have, and is told so.
        far_over: whether it has twice as many, and is not even told.
    """

    __slots__ = ("_clients", "_key", "far_over", "over")

    def __init__(self, clients: Clients, key: Address, number: int) -> None:
        self._clients: Clients | None = clients
        self._key = key
        self.over = number > clients.limit
        self.far_over = number > 2 * clients.limit

    def leave(self) -> None:
        """Give it back; further calls do nothing."""
        clients, self._clients = self._clients, None
        if clients is not None:
            clients.forget(self._key)


class Clients:
    """Counts the connections of each client.

    A client is an IPv4 address, or a network of 64 bits of IPv6, which is what one household or
    one rented machine has. Whoever is not connected is not remembered.

    Args:
        limit: how many connections a client may have; 0 for any number, and no counting.

    Attributes:
        limit: the same.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: dict[Address, int] = {}

    def __len__(self) -> int:
        """How many clients are connected."""
        return len(self._open)

    def enter(self, client: Address | None) -> Place | None:
        """Count one more connection.

        Args:
            client: who connects; None if it has no address, and is not counted.

        Returns:
            Its place, for the caller to give back when the connection ends; None if it is not
            counted.
        """
        if not self.limit or client is None:
            return None
        key = _key(client)
        number = self._open[key] = self._open.get(key, 0) + 1
        return Place(self, key, number)

    def forget(self, key: Address) -> None:
        """Count one less (for ``Place``)."""
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]


def _key(client: Address) -> Address:
    if isinstance(client, IPv6Address):
        return IPv6Address(int(client) >> _HOST_BITS << _HOST_BITS)
    return client
