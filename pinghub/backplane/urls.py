"""Where a Redis is, as users write it: the URLs of ``--backplane``.

``redis`` may be ``valkey`` in all of them, which speaks the same protocol::

    redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER]
    rediss://...                                      the same with TLS
    unix://[[USER]:PASSWORD@]/PATH[?db=NUMBER]
    redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/NAME[/NUMBER]
    rediss+sentinel://...                             the same with TLS
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote, urlsplit

from pinghub.errors import ConfigurationError

ACCEPTED = (
    "give redis://HOST:PORT/NUMBER, rediss:// with TLS, unix:///PATH,"
    " or redis+sentinel://HOST:PORT,HOST:PORT/NAME; see docs/backplane.md"
)
_SCHEME = re.compile(r"(?:redis|valkey)(?P<tls>s?)(?P<sentinel>\+sentinel)?|(?P<unix>unix)")
_HOST = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]+))?"
)
_NUMBER = re.compile(r"[0-9]{0,4}")
# What may be a password: all before an @, behind a ?, and behind a colon if it is no port.
_SECRET = re.compile(r"[@?]|//:|:(?!//|[0-9]{1,5}(?:[/,]|\Z))")
_TLS_FILES = {"ssl_ca_certs": "authorities", "ssl_certfile": "certificate", "ssl_keyfile": "key"}
_SENTINEL_LOGIN = {"sentinel_username": "sentinel_user", "sentinel_password": "sentinel_password"}
PORT, SENTINEL_PORT = 6379, 26379


@dataclass(frozen=True)
class BrokerURL:
    """One Redis, or those that some sentinels know by a name.

    Attributes:
        text: the URL without its user, password and query, for people.
        hosts: hosts and ports: of the Redis, or of the sentinels; none with a ``path``.
        path: its unix socket; empty if it has none.
        name: what the sentinels call it; empty without sentinels.
        number: the number of the database. Publishing knows no databases: it is part of the names
            of channels.
        user: who we are; empty for the default user.
        password: our password; empty for none.
        tls: whether connections are encrypted.
        authorities: file with the certificates to trust; empty for those of the system.
        certificate: file with our own certificate; empty for none.
        key: file with its key; empty if the certificate's file has it.
        sentinel_user: who we are to the sentinels.
        sentinel_password: and our password.
    """

    text: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    name: str = ""
    number: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    authorities: str = ""
    certificate: str = ""
    key: str = ""
    sentinel_user: str = ""
    sentinel_password: str = field(default="", repr=False)

    @property
    def namespace(self) -> bytes:
        """What our channels begin with at the broker."""
        return b"pinghub:%d:" % self.number


class _WrongError(Exception):
    """A URL that is not accepted, and what would be."""


def parse(text: str) -> BrokerURL:
    """Read a URL.

    Raises:
        ConfigurationError: it is none of the accepted forms. The error does not show a password.
    """
    try:
        return _parse(text)
    except _WrongError as error:
        accepted = str(error)
    except ValueError:  # What urlsplit says may have the password in it.
        accepted = ACCEPTED
    raise ConfigurationError("--backplane", _shown(text), accepted)


def _shown(text: str) -> str:
    """As much of a URL that is not accepted as cannot be a password."""
    if not _SECRET.search(text):
        return text
    scheme = re.match(r"[A-Za-z+]+://", text)
    return f"{scheme[0] if scheme else ''}..."


def _parse(text: str) -> BrokerURL:
    parts = urlsplit(text)
    scheme = _SCHEME.fullmatch(parts.scheme)
    if scheme is None or parts.fragment:
        raise _WrongError(ACCEPTED)
    login, _, hosts = parts.netloc.rpartition("@")
    user, colon, password = map(unquote, login.partition(":"))
    if login and not (colon and password):
        raise _WrongError("give :PASSWORD@ or USER:PASSWORD@ before the host")
    query = _query(parts.query, scheme)
    number = _number(query.pop("db", ""))
    if scheme["unix"]:
        url = _unix(hosts, parts.path)
    elif scheme["sentinel"]:
        url = _sentinel(hosts, parts.path)
    else:
        url = BrokerURL("", _hosts(hosts, PORT, 1), number=_number(parts.path[1:]))
    return replace(
        url,
        text=f"{parts.scheme}://{hosts}{parts.path}",
        number=url.number or number,
        user=user,
        password=password,
        tls=bool(scheme["tls"]),
        **query,  # type: ignore[arg-type]  # the names are those of _query
    )


def _unix(hosts: str, path: str) -> BrokerURL:
    path = unquote(path)
    if hosts or len(path) < 2 or "\0" in path:
        raise _WrongError("give the absolute path of a socket, as in unix:///run/redis.sock")
    return BrokerURL("", path=path)


def _sentinel(hosts: str, path: str) -> BrokerURL:
    name, _, number = path[1:].partition("/")
    if not name:
        raise _WrongError("give the name that the sentinels know, as redis+sentinel://HOST/NAME")
    return BrokerURL(
        "", _hosts(hosts, SENTINEL_PORT, 100), name=unquote(name), number=_number(number)
    )


def _hosts(text: str, default: int, most: int) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for each in text.split(","):
        host = _HOST.fullmatch(each)
        port = int((host and host["port"]) or default)
        if host is None or not 0 < port < 65536 or len(found) == most:
            raise _WrongError(ACCEPTED)
        found.append((host["six"] or host["name"], port))
    return tuple(found)


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise _WrongError("give a whole number for the database")
    return int(text or 0)


def _query(query: str, scheme: re.Match[str]) -> dict[str, str]:
    """What is behind the question mark, by the name of its attribute."""
    known = {**_SENTINEL_LOGIN} if scheme["sentinel"] else {"db": "db"}
    known |= _TLS_FILES if scheme["tls"] else {}
    found = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _TLS_FILES and not scheme["tls"] and not scheme["unix"]:
            first, plus, rest = scheme[0].partition("+")
            raise _WrongError(f"give {first}s{plus}{rest}:// for TLS, which {name} is a part of")
        if name not in known:
            raise _WrongError(f"{scheme[0]} knows {', '.join(known)} behind the question mark")
        found[known[name]] = value
    if found.get("key") and not found.get("certificate"):
        raise _WrongError("give ssl_certfile as well, the certificate that ssl_keyfile is for")
    return found
