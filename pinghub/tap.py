"""Options, and the service they make: ``twistd pinghub``, ``twist pinghub`` and the command.

Options end here: whatever lies below gets arguments.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from pinghub import __version__
from pinghub.access_log import AccessLog
from pinghub.backplane import Backplane, InProcess
from pinghub.backplane.urls import parse as parse_url
from pinghub.channels import ChannelManager
from pinghub.collector import tune_collector
from pinghub.connections import raise_descriptor_limit
from pinghub.errors import ConfigurationError
from pinghub.limits import Bound, Limits, bounds, default_text
from pinghub.logs import Log
from pinghub.logwriter import LogFile, LogWriter, unbuffered
from pinghub.origins import OriginPolicy
from pinghub.proxies import TrustedProxies
from pinghub.resource import PinghubResource
from pinghub.service import PinghubService
from pinghub.site import PinghubSite

DEFAULT_ADDR = ":8081"
_REPEATABLE = ("addr", "origin", "post-only", "admin", "trust-proxy", "backplane")
_ON_GAP = ("keep", "close")
_FOR_BACKPLANES = ("on-gap", "backplane-queue", "backplane-timeout", "backplane-wait")
# Addresses that name no interface mean all of them.
_EVERYWHERE = re.compile(r":.*|(?:haproxy:)?(?:tcp6?|ssl):(?!.*interface=[^:]).*", re.DOTALL)
_PRIVATE = "name a private address, such as 127.0.0.1:9080 or the path of a unix socket"
_YES = ("1", "true", "yes", "on")
_NO = ("", "0", "false", "no", "off")


def _parameters() -> list[list[Any]]:
    rows = []
    for name, bound in bounds():
        if bound.option:
            text = f"{bound.what}; at the bound: {bound.at} (default {default_text(name)})"
            rows.append([bound.option, None, None, text])
    return rows


class Options(UsageOptions):
    """The options of the server.

    Each can also come from the environment, as ``PINGHUB_MAX_MESSAGE`` for
    ``--max-message``; several values of a repeatable one are separated by white space. The
    command line wins.

    A wrong option ends the process with one line that names the option, the value and what is
    accepted, and with status 2.
    """

    synopsis = "[options]"
    longdesc = (
        "Pinghub is a publish/subscribe message bus for websocket clients: a URL path is a "
        "channel, a websocket on it subscribes, a POST to it publishes. Sizes are bytes, or "
        "64k, 1m, 2g; times are seconds, or 500ms, 30s, 5m, 1h. Every option can also be set "
        "in the environment, as PINGHUB_MAX_MESSAGE for --max-message."
    )
    optParameters = [
        *_parameters(),
        [
            "access-log",
            None,
            None,
            "Write a line for each request to this file, or to - for standard output (none)",
        ],
        [
            "on-gap",
            None,
            None,
            "When the backplane was lost and is back: keep subscribers, who may have missed"
            " messages, or close them with 1013 (default keep)",
        ],
    ]
    optFlags = [["no-console", None, "Do not show the console page on GET"]]

    program = "pinghub"

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._environment = os.environ if environment is None else environment
        self._given: dict[str, list[str]] = {name: [] for name in _REPEATABLE}

    def opt_addr(self, value: str) -> None:
        """Listen on :PORT, HOST:PORT, /a/unix.sock or a Twisted endpoint (repeatable; :8081)."""
        self._given["addr"].append(value)

    def opt_origin(self, value: str) -> None:
        """Serve pages of https://HOST or https://*.HOST only (repeatable; any origin)."""
        self._given["origin"].append(value)

    def opt_post_only(self, value: str) -> None:
        """Take no websocket messages on channels like /news/* (repeatable; none)."""
        self._given["post-only"].append(value)

    def opt_admin(self, value: str) -> None:
        """Answer health checks, metrics and operators at 127.0.0.1:9080, say (repeatable; none)."""
        self._given["admin"].append(value)

    def opt_backplane(self, value: str) -> None:
        """Share channels with other servers, through redis://HOST:PORT/0 (repeatable; none)."""
        self._given["backplane"].append(value)

    def opt_trust_proxy(self, value: str) -> None:
        """Take a client's address from proxies like 10.0.0.0/8, or unix (repeatable; none)."""
        self._given["trust-proxy"].append(value)

    def opt_h(self) -> None:
        """Display this help and exit."""
        self.opt_help()

    def opt_version(self) -> None:
        """Show the version and exit."""
        print(f"pinghub {__version__}")
        raise SystemExit(0)

    def parseArgs(self, *arguments: str) -> None:
        """Refuse what is no option."""
        if arguments:
            raise UsageError(f"{arguments[0]!r} is unexpected, there are only options")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse and check; on a mistake, say so in one line and end the process."""
        try:
            super().parseOptions(options)
        except (UsageError, ConfigurationError) as error:
            hint = "" if isinstance(error, ConfigurationError) else "; see --help"
            print(f"{self.program}: {error}{hint}", file=sys.stderr)
            raise SystemExit(2) from None

    def postOptions(self) -> None:
        """Fill in the environment, and check every value."""
        for name in _REPEATABLE:
            from_environment = self._environment.get(_variable(name), "").split()
            self[name] = self._given[name] or from_environment
        self["addr"] = self["addr"] or [DEFAULT_ADDR]
        self["no-console"] = self["no-console"] or self._flag("no-console")
        if self["access-log"] is None:
            self["access-log"] = self._environment.get("PINGHUB_ACCESS_LOG", "")
        self["urls"] = [parse_url(each) for each in self["backplane"]]
        self["limits"] = Limits(**dict(self._bounds()))
        self._check_backplane()
        self["origins"] = OriginPolicy(self["origin"])
        self["proxies"] = TrustedProxies(self["trust-proxy"])
        for address in self["admin"]:
            if _EVERYWHERE.fullmatch(address):
                raise ConfigurationError("--admin", address, _PRIVATE)
        for pattern in self["post-only"]:
            if not pattern.startswith(("/", "*", "?", "[")):
                raise ConfigurationError("--post-only", pattern, "begin the pattern with a slash")

    def _check_backplane(self) -> None:
        """Refuse what would be without effect."""
        for name in _FOR_BACKPLANES:
            value = self[name] or self._environment.get(_variable(name))
            if value and not self["backplane"]:
                raise ConfigurationError(f"--{name}", value, "give a --backplane as well")
        self["on-gap"] = self["on-gap"] or self._environment.get("PINGHUB_ON_GAP") or _ON_GAP[0]
        if self["on-gap"] not in _ON_GAP:
            raise ConfigurationError("--on-gap", self["on-gap"], f"give {' or '.join(_ON_GAP)}")

    def _flag(self, name: str) -> bool:
        value = self._environment.get(_variable(name), "")
        if value.lower() not in _YES + _NO:
            raise ConfigurationError(_variable(name), value, "give 1 or 0")
        return value.lower() in _YES

    def _bounds(self) -> Any:
        for name, bound in bounds():
            if bound.option is None:
                continue
            label, value = f"--{bound.option}", self[bound.option]
            if value is None:
                label = _variable(bound.option)
                value = self._environment.get(label) or None  # An empty variable is none.
            if value is not None:
                yield name, _parse(label, bound, value)


def _parse(label: str, bound: Bound, value: str) -> float | None:
    try:
        parsed = bound.parse(value)
    except ValueError:
        raise ConfigurationError(label, value, bound.accepted) from None
    if not bound.allows(parsed):
        raise ConfigurationError(label, value, bound.accepted)
    return parsed


def _variable(option: str) -> str:
    return "PINGHUB_" + option.upper().replace("-", "_")


def _backplane(options: Options, manager: ChannelManager, reactor: Any, log: Log) -> Backplane:
    """What ``--backplane`` asks for; nothing of it is imported without."""
    if not options["urls"]:
        return InProcess(manager)
    try:
        from pinghub.backplane.redis import RedisBackplane
    except ImportError as error:
        raise ConfigurationError(
            "--backplane", options["urls"][0].text, f"{error}: install pinghub[redis]"
        ) from None
    return RedisBackplane(
        options["urls"], manager, reactor, log, close_on_gap=options["on-gap"] == "close"
    )


def _private_endpoint(
    options: Options, manager: ChannelManager, log: Log, backplane: Backplane
) -> dict[str, Any]:
    """What a service needs for ``--admin``; who has no use for it is not slowed down by it."""
    if not options["admin"]:
        return {}
    from pinghub.admin import AdminResource

    return {
        "admin_addresses": options["admin"],
        "admin_site": PinghubSite(AdminResource(manager, backplane), manager, log, private=True),
    }


def makeService(options: Options, reactor: Any = None) -> IService:
    """Make the service (twisted.application.service.IServiceMaker).

    Args:
        options: parsed options.
        reactor: the reactor; the global one when absent, as twistd knows no other.
    """
    if reactor is None:
        from twisted.internet import reactor
    raise_descriptor_limit()
    tune_collector()
    limits: Limits = options["limits"]
    log = Log(reactor, limits)
    manager = ChannelManager(reactor, limits, log.failure, options["proxies"])
    try:
        backplane = _backplane(options, manager, reactor, log)
        resource = PinghubResource(
            manager,
            origins=options["origins"],
            post_only=options["post-only"],
            show_console=not options["no-console"],
            log=log,
            backplane=backplane,
        )
        access_log = _access_log(options, manager)
        return PinghubService(
            manager,
            PinghubSite(resource, manager, log, access_log=access_log),
            options["addr"],
            reactor,
            origins=str(options["origins"]),
            log=log,
            handle_signals=True,
            access_log=access_log,
            backplane=backplane,
            **_private_endpoint(options, manager, log, backplane),
        )
    except ConfigurationError as error:
        print(f"{options.program}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _access_log(options: Options, manager: ChannelManager) -> AccessLog | None:
    path = options["access-log"]
    if not path:
        return None
    stream = unbuffered(sys.stdout) if path == "-" else log_file("--access-log", path)
    writer = LogWriter(stream, options["limits"].log_queue)
    return AccessLog(writer, manager.proxies, manager.clock)


def log_file(option: str, path: str) -> LogFile:
    """Open a log file.

    Raises:
        ConfigurationError: it cannot be written.
    """
    try:
        return LogFile(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(option, path, f"cannot write: {reason.lower()}") from None
