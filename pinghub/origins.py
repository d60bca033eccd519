"""Which pages may use the server: a check of the Origin header (RFC 6454).

Origins are compared as whole triples of scheme, host and port, never as text, so that
neither a prefix nor a suffix nor an unusual spelling gets through.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pinghub.errors import ConfigurationError

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?",
    re.IGNORECASE | re.ASCII,
)
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
# Browsers and the codec of the standard library map these characters to different names.
_AMBIGUOUS_IN_IDNA = re.compile("[ßς\u200c\u200d]")
_LONGEST = 1024

ACCEPTED = (
    "give scheme://host or scheme://host:port, such as https://ws.example.com, or "
    "https://*.example.com for every host below example.com"
)


@dataclass(frozen=True)
class Origin:
    """One origin; the port is None where the scheme has no default and none was given."""

    scheme: str
    host: str
    port: int | None


class OriginPolicy:
    """The origins that may open websockets and POST; with none given, all may.

    Args:
        allowed: origins as ``scheme://host[:port]``; ``*.`` in front of the host stands for
            one or more labels, never for none.

    Raises:
        ConfigurationError: one of them is not such an origin.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._texts = tuple(allowed)
        self._exact: set[Origin] = set()
        self._suffixes: list[Origin] = []
        for text in self._texts:
            self._add(text)

    def _add(self, text: str) -> None:
        scheme, separator, rest = text.partition("://")
        wildcard = rest.startswith("*.")
        origin = _parse(scheme + separator + _ascii(text, rest[2:] if wildcard else rest))
        if origin is None or (wildcard and origin.host.startswith("[")):
            raise ConfigurationError("--origin", text, ACCEPTED)
        if wildcard:
            suffix = Origin(origin.scheme, "." + origin.host, origin.port)
            self._suffixes.append(suffix)
        else:
            self._exact.add(origin)

    @property
    def restricts(self) -> bool:
        """Whether any origin is refused at all."""
        return bool(self._texts)

    def __str__(self) -> str:
        return ", ".join(self._texts) if self._texts else "any"

    def allows(self, headers: Sequence[bytes]) -> bool:
        """Whether a request with these Origin header values may pass.

        Args:
            headers: the values of all Origin header lines. None at all passes: application
                servers and native clients send none, and browsers always do.

        Returns:
            True if there is no header or no restriction, or the one origin is allowed. More
            than one header, ``null`` and whatever cannot be parsed are refused.
        """
        if not self._texts or not headers:
            return True
        if len(headers) != 1 or len(headers[0]) > _LONGEST:
            return False
        origin = _parse(headers[0].decode("latin-1"))
        if origin is None:
            return False
        return origin in self._exact or any(_below(origin, suffix) for suffix in self._suffixes)


def _below(origin: Origin, suffix: Origin) -> bool:
    return (
        origin.scheme == suffix.scheme
        and origin.port == suffix.port
        and origin.host.endswith(suffix.host)
    )


def _parse(text: str) -> Origin | None:
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme = match["scheme"].lower()
    host = _host(match["host"].lower())
    port = int(match["port"]) if match["port"] else _DEFAULT_PORTS.get(scheme)
    if host is None or (port is not None and port > 65535):
        return None
    return Origin(scheme, host, port)


def _host(host: str) -> str | None:
    if not host.startswith("["):
        return host
    try:
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    except ValueError:
        return None


def _ascii(text: str, rest: str) -> str:
    """The host as browsers send it: in its ASCII form (RFC 5890)."""
    if rest.isascii():
        return rest
    if not _AMBIGUOUS_IN_IDNA.search(rest):
        host, separator, port = rest.partition(":")
        try:
            return host.encode("idna").decode() + separator + port
        except UnicodeError:
            pass
    raise ConfigurationError("--origin", text, "write the host in its ASCII form (xn--...)")
