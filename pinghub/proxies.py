"""The client's address behind trusted proxies, as pure functions of what was received.

A client can write whatever it likes into a header field. What a proxy added is the last entry of
``X-Forwarded-For``, and is as good as the proxy. So the entries are read from the right, each as
long as whoever added it is trusted; what stands left of the first stranger was said by a stranger.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from pinghub.errors import ConfigurationError

Address = IPv4Address | IPv6Address

UNIX = "unix"
"""Stands for whoever connects through a unix socket."""

ACCEPTED = "give a network such as 10.0.0.0/8, an address, or unix"

# Some proxies write the port as well.
_ENTRY = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?|([0-9.]+):\d+|([0-9A-Fa-f:.]+)", re.ASCII)


class TrustedProxies:
    """Whose word about a client's address is taken; with none given, nobody's.

    Args:
        networks: each a network such as ``10.0.0.0/8``, an address, or ``unix`` for whoever
            connects through a unix socket.

    Raises:
        ConfigurationError: one of them is none of these, or is every address there is: a
            client could then say of itself what it likes.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._unix = False
        self._networks: list[IPv4Network | IPv6Network] = []
        for text in networks:
            if text == UNIX:
                self._unix = True
            else:
                self._networks.append(_network(text))

    def __bool__(self) -> bool:
        """Whether anybody is trusted."""
        return self._unix or bool(self._networks)

    def trusts(self, peer: str | None) -> bool:
        """Whether a connection comes from a trusted proxy.

        Args:
            peer: the address that it comes from; None for a unix socket.
        """
        if peer is None:
            return self._unix
        address = parse_address(peer)
        return address is not None and self._trusts(address)

    def may_introduce(self, peer: str | None) -> bool:
        """Whether a connection may begin with a PROXY header that names the client.

        With no proxies given, those of this machine may: a listener for the PROXY protocol is
        of no use to anybody else.

        Args:
            peer: the address that it comes from; None for a unix socket.
        """
        if self:
            return self.trusts(peer)
        address = None if peer is None else parse_address(peer)
        return peer is None or (address is not None and address.is_loopback)

    def client(self, peer: str | None, forwarded: Sequence[bytes]) -> Address | None:
        """The address of the client: the first one, from the right, that is no trusted proxy.

        Args:
            peer: the address that the connection comes from; None for a unix socket.
            forwarded: the values of all X-Forwarded-For header lines of a request on it.

        Returns:
            That address; if all are trusted the leftmost; if an entry is no address, the one
            to the right of it. None if there is none: behind a unix socket.
        """
        client = None if peer is None else parse_address(peer)
        trusted = self.trusts(peer)
        entries = b",".join(forwarded).decode("latin-1").split(",")
        while trusted and entries:
            address = parse_address(entries.pop().strip(" \t"))
            if address is None:
                break
            client, trusted = address, self._trusts(address)
        return client

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def parse_address(text: str) -> Address | None:
    """An address as proxies write it, with or without a port; None if it is none.

    IPv4 in its IPv6 form becomes IPv4, and the zone of a link-local address is left out.
    """
    entry = _ENTRY.fullmatch(text.partition("%")[0])
    if entry is None:
        return None
    try:
        address = ipaddress.ip_address(entry[1] or entry[2] or entry[3])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ConfigurationError("--trust-proxy", text, ACCEPTED) from None
    if not network.prefixlen:
        reason = "this would take every client's own word: name the proxies"
        raise ConfigurationError("--trust-proxy", text, reason)
    return network
