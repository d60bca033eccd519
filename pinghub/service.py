"""The running server: its listeners, and how it stops."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from pinghub.accepts import guard_accepts
from pinghub.addresses import ACCEPTED, clear_stale_socket, endpoint_description, unix_path
from pinghub.channels import ChannelManager
from pinghub.connections import Connection
from pinghub.errors import ConfigurationError, ListenError
from pinghub.logs import Log
from pinghub.signals import Signals

STEP = 0.05
"""How often a drain closes some more connections, in seconds."""

SPREAD = 0.8
"""The share of the drain time in which connections are told to close.

The rest is for the last of them to answer.
"""


class Drain:
    """Closes all connections of a manager, politely and in bounded time.

    Requests are answered 503 from now on, what is pending is flushed, and subscribers get a
    close frame 1001, spread over the time so that they do not all come back at once. It is
    over when nobody is left, and after ``Limits.drain`` seconds whoever is left is aborted.

    Args:
        manager: whose connections to close.
    """

    def __init__(self, manager: ChannelManager) -> None:
        self._connections = manager.connections
        self._manager = manager
        self._seconds = manager.limits.drain
        self._left: deque[Connection] = deque()
        self._done: Deferred[None] = Deferred()
        self._loop = LoopingCall(self._step)
        self._loop.clock = cast(IReactorTime, manager.clock)

    def start(self) -> Deferred[None]:
        """Begin; the result fires when all connections are closed."""
        self._connections.draining = True
        self._manager.flush()
        self._left.extend(self._connections.subscribers)
        self._start = self._last = self._manager.clock.seconds()
        self._loop.start(STEP)
        return self._done

    def hurry(self) -> None:
        """Abort whoever is left now, or as soon as it has begun."""
        self._seconds = 0.0
        if self._loop.running:
            self._finish()

    def _step(self) -> None:
        now = self._manager.clock.seconds()
        elapsed, step, self._last = now - self._start, now - self._last, now
        for _ in range(self._due(elapsed, max(step, STEP))):
            self._tell(self._left.popleft())
        if elapsed >= self._seconds or not self._busy():
            self._finish()

    def _tell(self, connection: Connection) -> None:
        try:
            connection.go_away()
        except Exception as error:
            self._manager.report("A connection could not be closed politely", error)
            connection.abort()

    def _due(self, elapsed: float, step: float) -> int:
        """How many to tell now: at least one, and all when their time is over."""
        time_left = max(0.0, self._seconds * SPREAD - elapsed)
        return math.ceil(len(self._left) * step / (time_left + step))

    def _busy(self) -> bool:
        return bool(self._connections.subscribers) or any(
            each.busy for each in self._connections.requesters
        )

    def _finish(self) -> None:
        self._loop.stop()
        for connection in (*self._connections.subscribers, *self._connections.requesters):
            connection.abort()
        # Aborted connections are lost in the next turn of the reactor; be behind it.
        self._manager.clock.callLater(STEP, self._done.callback, None)


def drain(manager: ChannelManager) -> Deferred[None]:
    """Close all connections of a manager, for sites that stop by themselves.

    See ``Drain`` for what happens; the result fires when it is over.
    """
    return Drain(manager).start()


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
            guard_accepts(port, self._manager.clock, self._manager.limits, self._log)
            self._ports.append(port)

    def close(self) -> Deferred[Any]:
        """Stop to listen; the result fires when it is done."""
        ports, self._ports = self._ports, []
        return gatherResults([maybeDeferred(port.stopListening) for port in ports])


class PinghubService(Service):
    """Listens while it runs, and drains when it stops.

    Args:
        manager: the channels.
        site: the protocol factory for the connections, such as a ``PinghubSite``.
        addresses: where to listen, in any of the forms of ``-addr``.
        reactor: the reactor.
        origins: the origin rule, for the line that is logged at the start.
        log: where to log.
        admin_addresses: where operators and balancers find the private endpoint.
        admin_site: the protocol factory for that.
        handle_signals: whether to take over SIGTERM, SIGINT and SIGHUP of the process once
            the reactor runs.

    Raises:
        ConfigurationError: an address has none of the accepted forms, or its certificate
            cannot be read.
    """

    name = "pinghub"

    def __init__(
        self,
        manager: ChannelManager,
        site: IProtocolFactory,
        addresses: Sequence[str],
        reactor: Any,
        *,
        origins: str = "any",
        log: Log | None = None,
        admin_addresses: Sequence[str] = (),
        admin_site: IProtocolFactory | None = None,
        handle_signals: bool = False,
    ) -> None:
        self._manager = manager
        self._site = site
        self._reactor = reactor
        self._origins = origins
        self._log = log or Log(manager.clock, manager.limits)
        self._public = Listeners(reactor, manager, self._log, "--addr", addresses)
        self._admin = Listeners(reactor, manager, self._log, "--admin", admin_addresses)
        self._admin_site = admin_site
        self._delay: Deferred[None] | None = None
        self._drain: Drain | None = None
        self._signals = (
            Signals(reactor, hurry=self.hurry, note=self._log.info) if handle_signals else None
        )
        self._started = False

    @property
    def addresses(self) -> list[str]:
        """Where it listens, with the real port numbers."""
        return self._public.addresses

    def privilegedStartService(self) -> None:
        """Listen while the process may still use low ports.

        Raises:
            ListenError: an address is taken or not allowed. Nothing listens then.
        """
        self._started = True
        # Who is told that the server is ready has to find it listening.
        self._public.listen(self._site)
        if self._admin_site is not None:
            try:
                self._admin.listen(self._admin_site)
            except ListenError:
                self._public.close()
                raise

    def startService(self) -> None:
        """Listen, unless ``privilegedStartService`` did, and say where."""
        if not self._started:
            self.privilegedStartService()
        super().startService()
        if self._signals is not None:
            self._signals.start()
        # Whoever reads this line may rely on it: connections are accepted, signals handled.
        self._reactor.callWhenRunning(self._announce)

    def _announce(self) -> None:
        if self._admin.addresses:
            self._log.plain(f"Private endpoint on {self._admin}")
        self._log.plain(f"Listening on {self._public}; allowed origins: {self._origins}")

    def stopService(self) -> Deferred[None]:
        """Tell balancers, stop listening, then drain.

        The result fires when all connections are closed.
        """
        super().stopService()
        self._started = False
        self._manager.connections.leaving = True
        draining = self._drain = Drain(self._manager)
        stopped = self._serve_on()
        # Listeners close in the next turn of the reactor; who is told to reconnect before
        # that would be accepted once more.
        stopped.addCallback(lambda _: self._public.close())
        stopped.addCallback(lambda _: draining.start())
        stopped.addCallback(lambda _: self._admin.close())
        return stopped.addCallback(self._stopped)

    def hurry(self) -> None:
        """Serve no longer, and end the drain at once."""
        if self._drain is not None:
            self._drain.hurry()
        self._end_delay()

    def _serve_on(self) -> Deferred[Any]:
        """Wait for ``Limits.stop_delay``, or until somebody is in a hurry."""
        delay: Deferred[None] = Deferred()
        seconds = self._manager.limits.stop_delay
        if not seconds:
            delay.callback(None)
            return delay
        self._delay = delay
        call = self._manager.clock.callLater(seconds, self._end_delay)

        def over(_: object) -> None:
            if call.active():
                call.cancel()

        return delay.addCallback(over)

    def _end_delay(self) -> None:
        delay, self._delay = self._delay, None
        if delay is not None:
            delay.callback(None)

    def _stopped(self, _: object) -> None:
        if self._signals is not None:
            self._signals.stop()
        connections = self._manager.connections
        connections.leaving = connections.draining = False
        self._log.plain("Stopped")


def _endpoint(
    reactor: Any, option: str, addr: str, backlog: int
) -> tuple[IStreamServerEndpoint, str | None]:
    try:
        description = endpoint_description(addr, backlog)
    except ConfigurationError as error:
        raise ConfigurationError(option, error.value, error.accepted) from None
    try:
        return serverFromString(reactor, description), unix_path(description)
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
