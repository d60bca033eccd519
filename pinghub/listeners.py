"""Listening on the addresses that a user wrote, or one line about why not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.python.failure import Failure

from pinghub.accepts import guard_accepts
from pinghub.addresses import ACCEPTED, clear_stale_socket, endpoint_description, unix_path
from pinghub.adopted import AdoptingReactor
from pinghub.channels import ChannelManager
from pinghub.errors import ConfigurationError, ListenError
from pinghub.logs import Log
from pinghub.tls import tidy


class Listeners:
    """Some addresses, and the ports that listen on them.

    Args:
        reactor: the reactor.
        manager: the channels, which bring the bounds and the clock.
        log: where to log.
        option: the option that the addresses come from, for errors.
        addresses: where to listen, in any of the forms of ``-addr``.

    Raises:
        ConfigurationError: an address has none of the accepted forms, or its certificate
            cannot be read.
    """

    def __init__(
        self,
        reactor: Any,
        manager: ChannelManager,
        log: Log,
        option: str,
        addresses: Sequence[str],
    ) -> None:
        self._manager = manager
        self._log = log
        self._option = option
        backlog = manager.limits.listen_backlog
        self._endpoints = [(addr, *_endpoint(reactor, option, addr, backlog)) for addr in addresses]
        self._ports: list[IListeningPort] = []

    def __str__(self) -> str:
        """Where it listens, with the real port numbers."""
        return ", ".join(self.addresses)

    @property
    def addresses(self) -> list[str]:
        """The same, one by one."""
        return [_address_text(port.getHost()) for port in self._ports]

    def listen(self, site: IProtocolFactory) -> None:
        """Listen on all addresses.

        Raises:
            ListenError: one is taken or not allowed. Nothing listens then.
        """
        for addr, endpoint, path in self._endpoints:
            try:
                if path is not None:
                    clear_stale_socket(path)
                port = _listen(endpoint, site)
            except (OSError, OverflowError, CannotListenError) as error:
                self.close()
                raise ListenError(addr, _reason(error), self._option) from None
            tidy(getattr(port, "factory", None))
            guard_accepts(port, self._manager.clock, self._manager.limits, self._log)
            self._ports.append(port)

    def pause(self) -> None:
        """Accept nobody for now: who connects waits in the backlog (``Limits.listen_backlog``)."""
        for port in self._ports:
            if hasattr(port, "stopReading"):
                port.stopReading()

    def resume(self) -> None:
        """Accept again."""
        for port in self._ports:
            if hasattr(port, "startReading"):
                port.startReading()

    def close(self) -> Deferred[Any]:
        """Stop to listen; the result fires when it is done."""
        ports, self._ports = self._ports, []
        return gatherResults([maybeDeferred(port.stopListening) for port in ports])


def _endpoint(
    reactor: Any, option: str, addr: str, backlog: int
) -> tuple[IStreamServerEndpoint, str | None]:
    try:
        description = endpoint_description(addr, backlog)
    except ConfigurationError as error:
        raise ConfigurationError(option, error.value, error.accepted) from None
    try:
        endpoint = serverFromString(AdoptingReactor(reactor), description)
        return endpoint, unix_path(description)
    except Exception as error:
        # The parsers of endpoint descriptions raise whatever they stumble over: ValueError,
        # TypeError, OSError for a certificate, OpenSSL's own error for a bad one.
        reason = _reason(error)
        if isinstance(error, TypeError):  # A wrong argument; the text names our insides.
            reason = ACCEPTED
        elif addr.startswith("systemd:") and isinstance(error, LookupError):
            reason = "systemd handed over no such socket"
        raise ConfigurationError(option, addr, reason) from error


def _listen(endpoint: IStreamServerEndpoint, site: IProtocolFactory) -> IListeningPort:
    outcome: list[IListeningPort | Failure] = []
    endpoint.listen(site).addBoth(outcome.append)
    # All endpoints of Twisted listen before they return; one that does not cannot be used by
    # a service that promises to listen, or fail, when it starts.
    if not outcome:
        raise OSError("this endpoint does not listen at once")
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result


def _reason(error: BaseException) -> str:
    cause = error.socketError if isinstance(error, CannotListenError) else error
    if isinstance(cause, OSError) and cause.strerror:
        name = f" {cause.filename}" if cause.filename else ""
        return f"{cause.strerror.lower()}{name}"
    text = " ".join(str(cause).split())
    return text or type(cause).__name__


def _address_text(address: object) -> str:
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    name = getattr(address, "name", None)
    return os.fsdecode(name) if name else str(address)
