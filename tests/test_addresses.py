"""From what users write after ``-addr`` to Twisted endpoint descriptions."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import tempfile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from pinghub import addresses
from pinghub.addresses import clear_stale_socket, endpoint_description, unix_path
from pinghub.errors import ConfigurationError

PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)


class Network:
    """The ``socket`` module of a machine with names and protocols of its own.

    Args:
        hosts: the addresses of its hosts, in the order in which they are found.
        services: the ports of its services.
        ipv6: whether it speaks IPv6.
        ipv6_up: whether any interface has an IPv6 address.
        only_v6: whether its IPv6 sockets take IPv6 connections only.
    """

    AF_INET = socket.AF_INET
    AF_INET6 = socket.AF_INET6
    SOCK_STREAM = socket.SOCK_STREAM
    AI_PASSIVE = socket.AI_PASSIVE
    IPPROTO_IPV6 = socket.IPPROTO_IPV6
    IPV6_V6ONLY = socket.IPV6_V6ONLY

    def __init__(
        self,
        hosts: dict[str, list[str]] | None = None,
        services: dict[str, int] | None = None,
        ipv6: bool = True,
        ipv6_up: bool = True,
        only_v6: bool = False,
    ) -> None:
        self._hosts = hosts or {}
        self._services = services or {}
        self._ipv6 = ipv6
        self._ipv6_up = ipv6_up
        self._only_v6 = only_v6

    def getaddrinfo(self, host: str, port: None, **hints: int) -> list[Any]:
        if host not in self._hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (self.AF_INET6 if ":" in address else self.AF_INET, 1, 6, "", (address, 0))
            for address in self._hosts[host]
        ]

    def getservbyname(self, name: str, protocol: str) -> int:
        if protocol != "tcp" or name not in self._services:
            raise OSError("service/proto not found")
        return self._services[name]

    def socket(self, family: int, kind: int) -> Network:
        if not self._ipv6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return self

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *error: object) -> None:
        """There is nothing to close."""

    def getsockopt(self, level: int, option: int) -> int:
        assert (level, option) == (self.IPPROTO_IPV6, self.IPV6_V6ONLY)
        return int(self._only_v6)

    def bind(self, address: tuple[str, int]) -> None:
        assert address == ("::", 0)
        if not self._ipv6_up:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")


def listening(description: str) -> tuple[Any, ...]:
    """Where an endpoint listens, as Twisted reads its description; without the factory."""
    reactor = MemoryReactorClock()
    serverFromString(reactor, description).listen(Factory.forProtocol(Protocol))
    ((where, _, *rest),) = reactor.tcpServers + reactor.unixServers
    return (where, *rest)


class DescriptionTests(SynchronousTestCase):
    """The three forms of an address."""

    def setUp(self) -> None:
        self.network(Network())

    def network(self, network: Network) -> None:
        """Be on some machine."""
        self.patch(addresses, "socket", network)

    def refused(self, addr: str) -> str:
        """What would be accepted instead of an address."""
        try:
            description = endpoint_description(addr)
        except ConfigurationError as error:
            self.assertEqual((error.name, error.value), ("--addr", addr))
            return error.accepted
        self.fail(f"{addr!r} is taken for {description!r}")

    def test_all_interfaces(self) -> None:
        """``:8081`` listens on all interfaces, IPv4 and IPv6."""
        self.assertEqual(listening(endpoint_description(":8081")), (8081, 1024, "::"))

    def test_all_interfaces_without_ipv6(self) -> None:
        """Where there is no IPv6, or IPv6 sockets take no IPv4, all interfaces are IPv4."""
        for network in (Network(ipv6=False), Network(ipv6_up=False), Network(only_v6=True)):
            self.network(network)
            self.assertEqual(listening(endpoint_description(":8081")), (8081, 1024, "0.0.0.0"))

    def test_go_addresses(self) -> None:
        """Go listen addresses: a host, an address in brackets, a port or the name of one."""
        self.network(
            Network(
                hosts={
                    "127.0.0.1": ["127.0.0.1"],
                    "localhost": ["::1", "127.0.0.1"],
                    "six": ["::6"],
                },
                services={"https": 4430, "http-alt": 8008},
            )
        )
        cases = {
            "127.0.0.1:8081": (8081, "127.0.0.1"),
            "localhost:8081": (8081, "127.0.0.1"),
            "six:8081": (8081, "::6"),
            "[::1]:8081": (8081, "::1"),
            "[::ffff:127.0.0.1]:8081": (8081, "::ffff:127.0.0.1"),
            ":http": (80, "::"),
            ":https": (443, "::"),
            ":http-alt": (8008, "::"),
            ":0": (0, "::"),
            ":00": (0, "::"),
            ":0008081": (8081, "::"),
            ":65535": (65_535, "::"),
        }
        for addr, (port, interface) in cases.items():
            found = listening(endpoint_description(addr))
            self.assertEqual(found, (port, 1024, interface), addr)

    def test_real_machine(self) -> None:
        """The names that every machine has are found, and all interfaces can be had."""
        self.network(socket)  # type: ignore[arg-type]
        self.assertEqual(listening(endpoint_description("localhost:0")), (0, 1024, "127.0.0.1"))
        self.assertIn(listening(endpoint_description(":0"))[2], ("::", "0.0.0.0"))

    def test_unix_sockets(self) -> None:
        """An absolute path is a unix socket, whatever characters are in it."""
        for path in (
            "/run/pinghub.sock",
            "/run/a:b=c",
            "/run/a\\b",
            "/run/tcp:80",
            "/r\u00fcn/[x]",
        ):
            description = endpoint_description(path)
            where, backlog, _, lockfile = listening(description)
            self.assertEqual((os.fsdecode(where), backlog), (path, 1024))
            self.assertFalse(lockfile, "a lock file would be left behind")
            self.assertEqual(unix_path(description), path)

    def test_descriptions(self) -> None:
        """A Twisted endpoint description stays as it is, but for the backlog."""
        cases = {
            "tcp:8081": "tcp:8081:backlog=1024",
            "tcp:8081:interface=127.0.0.1": "tcp:8081:interface=127.0.0.1:backlog=1024",
            "tcp:port=8081": "tcp:port=8081:backlog=1024",
            "tcp6:8081": "tcp6:8081:backlog=1024",
            "unix:socket": "unix:socket:lockfile=0:backlog=1024",
            "unix:/run/p.sock:mode=660": "unix:/run/p.sock:mode=660:lockfile=0:backlog=1024",
            "haproxy:unix:/run/p.sock": "haproxy:unix:/run/p.sock:lockfile=0:backlog=1024",
            "unix:/run/p.sock:lockfile=1": "unix:/run/p.sock:lockfile=1:backlog=1024",
            "ssl:8443:privateKey=k.pem": "ssl:8443:privateKey=k.pem:backlog=1024",
            "haproxy:tcp:8081": "haproxy:tcp:8081:backlog=1024",
            "systemd:domain=INET:index=0": "systemd:domain=INET:index=0",
            "haproxy:systemd:domain=INET:index=0": "haproxy:systemd:domain=INET:index=0",
            "tls:/etc/keys:tcp:443": "tls:/etc/keys:tcp:443",
            "txtorcon.onion:80:x=y": "txtorcon.onion:80:x=y",
        }
        for addr, description in cases.items():
            self.assertEqual(endpoint_description(addr), description)

    def test_kinds_are_no_hosts(self) -> None:
        """What begins like an endpoint description is one, even if it could be a host."""
        for kind in ("tcp", "tcp6", "ssl", "unix", "systemd", "haproxy", "tls"):
            description = endpoint_description(f"{kind}:80")
            options = re.sub(r":(?:backlog|lockfile)=[0-9]+", "", description)
            self.assertEqual(options, f"{kind}:80")

    def test_backlog(self) -> None:
        """The backlog can be chosen, and one in a description is kept."""
        self.assertEqual(listening(endpoint_description(":80", 7)), (80, 7, "::"))
        self.assertEqual(listening(endpoint_description("tcp:80", 7)), (80, 7, ""))
        self.assertEqual(listening(endpoint_description("tcp:80:backlog=5", 7)), (80, 5, ""))
        self.assertEqual(listening(endpoint_description("/run/x", 7))[1], 7)

    def test_no_form(self) -> None:
        """What has none of the forms is refused, with the forms that are accepted."""
        for addr in (
            "",
            ":",
            "8081",
            "localhost",
            "run/pinghub.sock",
            "127.0.0.1",
            "::1:8081",
            ":80:80",
            "[::1]",
            "[::1]8081",
            "[::1]:",
            ":80 ",
            ":80\n",
            ":8_0",
            "h st:a:b",
        ):
            self.assertIn("give :PORT, HOST:PORT, [IPV6]:PORT, the", self.refused(addr), addr)

    def test_ports(self) -> None:
        """A port beyond 65535 and a service that nobody knows are refused."""
        for port in ("65536", "99999", "123456", "1" * 5000):
            self.assertEqual(self.refused(f":{port}"), "a port is a number from 0 to 65535")
        self.assertEqual(self.refused(":nonsense"), "no service is called nonsense")

    def test_hosts(self) -> None:
        """A host that nobody knows and a bad IPv6 address are refused."""
        self.assertEqual(self.refused("nowhere:80"), "no host is called nowhere")
        self.network(socket)  # type: ignore[arg-type]
        for host in ("a" * 64, "a..b"):
            self.assertEqual(self.refused(f"{host}:80"), f"no host is called {host}")
        for host in ("", "::z", "1:2", "127.0.0.1", "localhost"):
            self.assertEqual(self.refused(f"[{host}]:80"), f"{host} is not an IPv6 address")

    @settings(deadline=None, max_examples=100)
    @given(addr=st.text(":[]./\\=0189ahtp%-", max_size=12) | st.text(max_size=12))
    def test_anything(self, addr: str) -> None:
        """Whatever is given, it is described in one of the ways, or refused."""
        try:
            description = endpoint_description(addr)
        except ConfigurationError:
            return
        self.assertRegex(description, r"\A[A-Za-z0-9_.+-]+:")


class UnixPathTests(SynchronousTestCase):
    """Which socket file a description is about."""

    def test_paths(self) -> None:
        """A ``unix:`` description names its path first, or as ``address``; others have none."""
        cases = {
            "unix:/run/p.sock": "/run/p.sock",
            "unix:/run/p.sock:mode=660:backlog=5": "/run/p.sock",
            "unix:/run/a\\:b\\=c\\\\d:mode=660": "/run/a:b=c\\d",
            "unix:mode=660:address=/run/p.sock": "/run/p.sock",
            "unix:relative": "relative",
            "unix:/run/x\\\\:mode=660": "/run/x\\",
            "haproxy:unix:/run/p.sock:mode=660": "/run/p.sock",
            "haproxy:tcp:8081": None,
            "tcp:8081": None,
            "tcp6:8081:interface=\\:\\:": None,
            "systemd:domain=UNIX:index=0": None,
        }
        for description, path in cases.items():
            self.assertEqual(unix_path(description), path, description)

    @settings(deadline=None, max_examples=100)
    @given(rest=PATHS)
    def test_any_path(self, rest: str) -> None:
        """Every path comes back out of its description."""
        path = f"/{rest}"
        self.assertEqual(unix_path(endpoint_description(path)), path)


class StaleSocketTests(SynchronousTestCase):
    """Real sockets, in a directory whose name is short enough for them."""

    def setUp(self) -> None:
        directory = tempfile.mkdtemp(prefix="pinghub")
        self.addCleanup(shutil.rmtree, directory)
        self.path = os.path.join(directory, "s")

    def new_socket(self) -> socket.socket:
        """A unix socket that is closed after the test."""
        made = socket.socket(socket.AF_UNIX)
        self.addCleanup(made.close)
        return made

    def listen(self, backlog: int) -> socket.socket:
        """A server at the path."""
        server = self.new_socket()
        server.bind(self.path)
        server.listen(backlog)
        return server

    def check_refused(self, number: int) -> None:
        """The path is left alone, with an error that says why."""
        before = self.identity()
        error = self.assertRaises(OSError, clear_stale_socket, self.path)
        self.assertEqual(error.errno, number)
        self.assertEqual(self.identity(), before)

    def identity(self) -> tuple[int, ...]:
        """What changes if the path is touched; not when it was looked at."""
        found = os.lstat(self.path)
        return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def test_nothing_there(self) -> None:
        """Where nothing is, there is nothing to do."""
        clear_stale_socket(self.path)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), [])

    def test_stale(self) -> None:
        """The socket of a server that was killed is removed."""
        self.listen(5).close()
        self.assertTrue(os.path.exists(self.path))
        clear_stale_socket(self.path)
        self.assertFalse(os.path.exists(self.path))

    def test_live(self) -> None:
        """The socket of a running server is an error."""
        self.listen(5)
        self.check_refused(errno.EADDRINUSE)

    def test_live_and_busy(self) -> None:
        """A server whose backlog is full runs too."""
        self.listen(0)
        for _ in range(3):
            waiting = self.new_socket()
            waiting.setblocking(False)
            if waiting.connect_ex(self.path) == errno.EAGAIN:
                break
        else:
            self.fail("the backlog is never full")
        self.check_refused(errno.EADDRINUSE)

    def test_something_else(self) -> None:
        """What is not a socket is not removed."""
        with open(self.path, "w") as file:
            file.write("precious")
        self.check_refused(errno.EEXIST)

    def test_a_directory(self) -> None:
        """A directory is not removed either."""
        os.mkdir(self.path)
        self.check_refused(errno.EEXIST)
