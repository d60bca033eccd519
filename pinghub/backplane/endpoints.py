"""How to connect to what a URL names: by TCP or a unix socket, with TLS, asking sentinels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import txredisapi
from twisted.internet.defer import CancelledError, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectingCancelledError, VerifyError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from pinghub.backplane.reasons import reason_of
from pinghub.backplane.urls import BrokerURL
from pinghub.errors import ConfigurationError
from pinghub.tls import TLSEndpoint

CONNECT_TIMEOUT = 1.0
"""How long one attempt may take to reach a host, in seconds.

Where packets are lost the kernel waits ever longer before it tries again; a new attempt does not.
"""

_PEM = "-----BEGIN CERTIFICATE-----"


class TLS:
    """How connections are encrypted. Certificates are verified, always.

    Args:
        url: names the files.

    Raises:
        ConfigurationError: one of them cannot be used.
    """

    def __init__(self, url: BrokerURL) -> None:
        self._trust: Any = platformTrust()
        self._own: PrivateCertificate | None = None
        if url.authorities:
            self._trust = _load("ssl_ca_certs", url.authorities, _authorities)
        if url.certificate:
            files = [url.certificate, *filter(None, [url.key])]
            self._own = _load("ssl_certfile", *files, _own_certificate)

    def wrap(self, endpoint: IStreamClientEndpoint, host: str) -> IStreamClientEndpoint:
        """Encrypt the connections of an endpoint, to a server with a certificate for that host."""
        options = optionsForClientTLS(host, trustRoot=self._trust, clientCertificate=self._own)
        return TLSEndpoint(options, endpoint)


def _load(name: str, *files: Any) -> Any:
    *paths, read = files
    try:
        return read("\n".join(Path(path).read_text() for path in paths))
    except VerifyError:
        reason = "the key is not that of the certificate"
        raise ConfigurationError(f"--backplane: {name}", ", ".join(paths), reason) from None
    except Exception as error:  # OpenSSL's own, OSError, ValueError
        reason = getattr(error, "strerror", None) or "there is no such certificate, or key, in it"
        raise ConfigurationError(f"--backplane: {name}", ", ".join(paths), reason.lower()) from None


def _authorities(text: str) -> Any:
    parts = text.split(_PEM)[1:]
    if not parts:
        raise ValueError
    return trustRootFromCertificates(
        [Certificate.loadPEM((_PEM + part).encode()) for part in parts]
    )


def _own_certificate(text: str) -> PrivateCertificate:
    certificate: PrivateCertificate = PrivateCertificate.loadPEM(text)
    return certificate


class _Network:
    """Endpoints of hosts, encrypted or not."""

    def __init__(self, reactor: Any, url: BrokerURL) -> None:
        self._reactor = reactor
        self._tls = TLS(url) if url.tls else None

    def endpoint(self, host: str, port: int) -> IStreamClientEndpoint:
        plain = HostnameEndpoint(self._reactor, host, port, timeout=CONNECT_TIMEOUT)
        return plain if self._tls is None else self._tls.wrap(plain, host)


def broker_endpoint(reactor: Any, url: BrokerURL) -> IStreamClientEndpoint:
    """The endpoint of a broker.

    Raises:
        ConfigurationError: a file that the URL names cannot be used.
    """
    if url.path:
        return UNIXClientEndpoint(reactor, url.path, timeout=CONNECT_TIMEOUT)
    network = _Network(reactor, url)
    if url.name:
        return SentinelEndpoint(reactor, url, network)
    return network.endpoint(*url.hosts[0])


class UnknownMasterError(Exception):
    """No sentinel says where the master is."""


@implementer(IStreamClientEndpoint)
class SentinelEndpoint:
    """Connects to the master that the sentinels know by a name, asking them each time.

    Args:
        reactor: the reactor.
        url: the sentinels, and the name.
        network: makes the endpoints.
    """

    def __init__(self, reactor: Any, url: BrokerURL, network: _Network) -> None:
        self._reactor = reactor
        self._url = url
        self._network = network
        self._first = 0

    @inlineCallbacks
    def connect(self, protocolFactory: IProtocolFactory) -> Any:
        """Connect (IStreamClientEndpoint)."""
        host, port = yield self._master()
        protocol = yield self._network.endpoint(host, port).connect(protocolFactory)
        return protocol

    @inlineCallbacks
    def _master(self) -> Any:
        """Host and port, from one sentinel that knows them; the next time from another one."""
        problem, hosts, first = "", self._url.hosts, self._first
        self._first = (first + 1) % len(hosts)
        for host, port in hosts[first:] + hosts[:first]:
            try:
                return (yield self._ask(host, port))
            except (CancelledError, ConnectingCancelledError):
                raise
            except Exception as error:
                problem = f"{host}:{port}: {reason_of(Failure(error))}"
        raise UnknownMasterError(f"no sentinel knows {self._url.name}; {problem}")

    @inlineCallbacks
    def _ask(self, host: str, port: int) -> Any:
        sentinel = yield self._network.endpoint(host, port).connect(QuietFactory(_sentinel))
        try:
            answer = yield self._question(sentinel).addTimeout(CONNECT_TIMEOUT, self._reactor)
        finally:
            sentinel.transport.abortConnection()
        if answer is None:
            raise UnknownMasterError("it knows no such name")
        return answer[0].decode(), int(answer[1])

    @inlineCallbacks
    def _question(self, sentinel: Any) -> Any:
        if self._url.sentinel_password:
            yield sentinel.auth(self._url.sentinel_password, self._url.sentinel_user or None)
        return (yield sentinel.sentinel_get_master_addr_by_name(self._url.name))


class QuietFactory(Factory):
    """Makes connections, and logs nothing.

    Args:
        make: makes a protocol.
    """

    noisy = False

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def buildProtocol(self, addr: object) -> Any:
        """Make one (IProtocolFactory)."""
        return self._make()


def _sentinel() -> Any:
    return txredisapi.RedisProtocol(charset=None, convertNumbers=False)
