"""The running server: it listens while it runs, and drains when it stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory

from pinghub.access_log import AccessLog
from pinghub.backplane import Backplane, InProcess
from pinghub.channels import ChannelManager
from pinghub.draining import Drain
from pinghub.errors import ListenError
from pinghub.listeners import Listeners
from pinghub.logs import Log
from pinghub.logwriter import LogWriter
from pinghub.signals import Signals


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
        access_log: the access log of the site, which is written to the end when it stops.
        handle_signals: whether to take over SIGTERM, SIGINT and SIGHUP of the process once
            the reactor runs.
        backplane: what connects the channels to those of other servers; started and stopped with
            the service.

    Attributes:
        log_files: what is told to open its file anew at a SIGHUP.
        failed: whether it stopped the reactor because it cannot do its work.

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
        access_log: AccessLog | None = None,
        handle_signals: bool = False,
        backplane: Backplane | None = None,
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
            Signals(reactor, hurry=self.hurry, hangup=self._hangup, note=self._log.info)
            if handle_signals
            else None
        )
        self._started = False
        self._backplane: Backplane = backplane or InProcess(manager)
        self._patience: Any = None
        self.failed = False
        self._access_log = access_log
        self.log_files: list[LogWriter | AccessLog] = [access_log] if access_log else []

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
        if not self._backplane.immediate:
            # Nobody is to be refused only because it was never tried.
            self._public.pause()
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
        self._reactor.callWhenRunning(self._connect)

    def _connect(self) -> None:
        """Accept connections as soon as the backplane was tried, whether it is there or not."""
        wait = self._manager.limits.backplane_wait
        if wait:
            self._patience = self._manager.clock.callLater(wait, self._give_up)
        self._backplane.start().addCallback(lambda _: self._announce())

    def _give_up(self) -> None:
        self._patience = None
        state = self._backplane.state()
        if state.reached < state.instances:
            self._log.warn("The backplane is not there: see --backplane", reason=state.problem)
            self.failed = True
            self._reactor.stop()

    def _announce(self) -> None:
        self._public.resume()
        # Whoever reads these lines may rely on them: connections are accepted, signals handled.
        if self._admin.addresses:
            self._log.plain(f"Private endpoint on {self._admin}")
        self._log.plain(f"Listening on {self._public}; allowed origins: {self._origins}")

    def stopService(self) -> Deferred[None]:
        """Tell balancers, stop listening, then drain.

        The result fires when all connections are closed.
        """
        super().stopService()
        self._started = False
        if self._patience is not None:
            self._patience.cancel()
        self._manager.connections.leaving = True
        draining = self._drain = Drain(self._manager)
        stopped = self._serve_on()
        # Listeners close in the next turn of the reactor; who is told to reconnect before
        # that would be accepted once more.
        stopped.addCallback(lambda _: self._public.close())
        stopped.addCallback(lambda _: draining.start())
        stopped.addCallback(lambda _: self._admin.close())
        stopped.addCallback(lambda _: self._backplane.stop())
        return stopped.addCallback(self._stopped)

    def _hangup(self) -> None:
        """Open the log files anew, as logrotate asks for."""
        for each in self.log_files:
            each.reopen()
        done = "opened its log files anew" if self.log_files else "has no log file to open anew"
        self._log.info(f"Received SIGHUP: {done}")

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
        if self._access_log is not None:
            self._access_log.finish()
        connections = self._manager.connections
        connections.leaving = connections.draining = False
        self._log.plain("Stopped")
