"""From what users write after ``-addr`` to Twisted endpoint descriptions.

Three forms are accepted: a Go listen address (``:8081``, ``127.0.0.1:8081``, ``[::1]:8081``,
``localhost:8081``, ``:http``), an absolute path for a unix socket, and a Twisted endpoint
description (``tcp:8081:interface=127.0.0.1``).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import stat

from pinghub.errors import ConfigurationError

ACCEPTED = (
    "give :PORT, HOST:PORT, [IPV6]:PORT, the absolute path of a unix socket, or a Twisted "
    "endpoint such as tcp:8081:interface=127.0.0.1"
)

_GO = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[A-Za-z0-9-]+)")
_KINDS = ("tcp", "tcp6", "ssl", "unix", "systemd", "haproxy", "tls")
_WITH_BACKLOG = re.compile(r"(?:haproxy:)?(?:tcp6?|ssl|unix):")
_UNIX = re.compile(r"(?:haproxy:)?unix:")
# Debian leaves /etc/services to a package that small systems do not have.
_SERVICES = {"http": 80, "https": 443}


def endpoint_description(addr: str, backlog: int = 1024) -> str:
    """The Twisted endpoint description for an address.

    Args:
        addr: the address as the user wrote it.
        backlog: how many connections may wait to be accepted; a description that names a
            backlog of its own keeps it.

    Raises:
        ConfigurationError: the address has none of the accepted forms, or its host or
            service name is unknown.
    """
    kind, colon, _ = addr.partition(":")
    if addr.startswith("/"):
        return f"unix:{_escape(addr)}:lockfile=0:backlog={backlog}"
    go = _GO.fullmatch(addr)
    if go and kind not in _KINDS:
        return _tcp(addr, go, backlog)
    if not colon or kind == "stdio" or not re.fullmatch(r"[A-Za-z0-9_.+-]+", kind):
        raise ConfigurationError("--addr", addr, ACCEPTED)
    description = addr
    if _UNIX.match(addr) and ":lockfile=" not in addr:
        # Twisted's lock file names a process id. In a container that is always the same one,
        # so that after a crash the lock would seem to be held for ever.
        description += ":lockfile=0"
    if _WITH_BACKLOG.match(addr) and ":backlog=" not in addr:
        description += f":backlog={backlog}"
    return description


def _tcp(addr: str, go: re.Match[str], backlog: int) -> str:
    port = _port(addr, go["port"])
    if go["v6"] is not None:
        host = _ipv6(addr, go["v6"])
    elif go["host"]:
        host = _resolve(addr, go["host"])
    else:
        host = "::" if _dual_stack() else "0.0.0.0"
    return f"tcp:{port}:interface={_escape(host)}:backlog={backlog}"


def _port(addr: str, text: str) -> int:
    if text.isdigit():
        port = int(text.lstrip("0")[:6] or "0")
    elif text in _SERVICES:
        port = _SERVICES[text]
    else:
        try:
            port = socket.getservbyname(text, "tcp")
        except OSError:
            raise ConfigurationError("--addr", addr, f"no service is called {text}") from None
    if port > 65535:
        raise ConfigurationError("--addr", addr, "a port is a number from 0 to 65535")
    return port


def _ipv6(addr: str, text: str) -> str:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise ConfigurationError("--addr", addr, f"{text} is not an IPv6 address") from None
    return text


def _resolve(addr: str, host: str) -> str:
    """One address of a host, IPv4 before IPv6, as Go's net.Listen chooses."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):  # A name that IDNA cannot express is a UnicodeError.
        raise ConfigurationError("--addr", addr, f"no host is called {host}") from None
    found.sort(key=lambda each: each[0] != socket.AF_INET)
    return str(found[0][4][0])


def _dual_stack() -> bool:
    """Whether a socket that listens on :: takes IPv4 connections too."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            only_v6 = probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            probe.bind(("::", 0))
            return not only_v6
    except OSError:
        return False


def _escape(text: str) -> str:
    """Escape an argument of an endpoint description."""
    return re.sub(r"([\\:=])", r"\\\1", text)


def unix_path(description: str) -> str | None:
    """The socket path of a ``unix:`` or ``haproxy:unix:`` description; None for other kinds."""
    kind, *arguments = re.findall(r"((?:\\.|[^\\:])*)(?::|$)", description, re.DOTALL)
    if kind == "haproxy":
        kind, *arguments = arguments
    if kind != "unix":
        return None
    path = next((each[8:] for each in arguments if each.startswith("address=")), arguments[0])
    return re.sub(r"\\(.)", r"\1", path, flags=re.DOTALL)


def clear_stale_socket(path: str) -> None:
    """Remove a unix socket that a server left behind when it was killed.

    Raises:
        OSError: somebody listens on it (EADDRINUSE), or it is something else (EEXIST).
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "a file that is not a socket is in the way")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # Its backlog is full: it is alive.
    raise OSError(errno.EADDRINUSE, "another server listens there")
