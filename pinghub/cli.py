"""The ``pinghub`` command: the service of ``tap.py``, run in the foreground.

Single-dash long options, as Go programs have them, work as well as double-dash ones.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO, cast

import twisted.internet
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from pinghub.errors import ConfigurationError
from pinghub.log_formats import JsonObserver
from pinghub.logwriter import LogWriter, Unbuffered, unbuffered
from pinghub.tap import Options, log_file, makeService

LEVELS = ("debug", "info", "warn", "error")
FORMATS: dict[str, Callable[[TextIO], ILogObserver]] = {
    "text": textFileLogObserver,
    "json": JsonObserver,
}


class CommandOptions(Options):
    """The options of the server, and what twistd would bring."""

    synopsis = "Usage: pinghub [options]"
    optParameters = [
        [
            "log-level",
            None,
            None,
            f"Write lines of this level and above: {', '.join(LEVELS)} (default info)",
        ],
        [
            "log-format",
            None,
            None,
            f"How to write them: {', '.join(FORMATS)} (default text)",
        ],
        [
            "log",
            None,
            None,
            "Write them to this file, opened anew at SIGHUP (default standard error)",
        ],
    ]

    def postOptions(self) -> None:
        """Check what is ours."""
        super().postOptions()
        self["log-level"] = self._choice("log-level", LEVELS, "info")
        self["log-format"] = self._choice("log-format", tuple(FORMATS), "text")
        if self["log"] is None:
            self["log"] = self._environment.get("PINGHUB_LOG", "")

    def _choice(self, option: str, accepted: Sequence[str], default: str) -> str:
        label, value = f"--{option}", self[option]
        if value is None:
            label = "PINGHUB_" + option.upper().replace("-", "_")
            value = self._environment.get(label) or default
        if value not in accepted:
            raise ConfigurationError(label, value, f"give one of {', '.join(accepted)}")
        return str(value)


def double_dashes(arguments: Sequence[str]) -> list[str]:
    """Write ``-addr`` as ``--addr``; ``-h`` and values stay as they are."""
    return [
        f"-{each}" if each[:1] == "-" and each[1:2].isalpha() and len(each) > 2 else each
        for each in arguments
    ]


def log_observer(stream: TextIO | LogWriter, level: str, log_format: str = "text") -> ILogObserver:
    """Our own lines of a level and above, and everybody's warnings."""
    predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    predicate.setLogLevelForNamespace("pinghub", LogLevel.levelWithName(level))
    observer = FORMATS[log_format](cast(TextIO, stream))
    return FilteringLogObserver(observer, [predicate])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the server until it is told to stop; exit with status 0 then.

    Args:
        arguments: the command line without the name of the command.
    """
    options = CommandOptions()
    options.parseOptions(double_dashes(sys.argv[1:] if arguments is None else arguments))
    run(options, the_reactor())


def the_reactor() -> Any:
    """The reactor of this process: if there is none yet, and the system has epoll, our own."""
    if not hasattr(twisted.internet, "reactor"):
        with contextlib.suppress(ImportError):
            from pinghub.reactor import install

            install()
    from twisted.internet import reactor

    return reactor


def run(options: CommandOptions, reactor: Any) -> None:
    """Run the server that the options describe."""
    stream: Unbuffered | TextIO = unbuffered(sys.stderr)
    if options["log"]:
        try:
            stream = log_file("--log", options["log"])
        except ConfigurationError as error:
            print(f"{options.program}: {error}", file=sys.stderr)
            raise SystemExit(2) from None
    writer = LogWriter(stream, options["limits"].log_queue)
    service: Any = makeService(options, reactor)
    service.log_files.append(writer)
    observer = log_observer(writer, options["log-level"], options["log-format"])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    try:
        service.startService()
        reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
        reactor.run()
    finally:
        for each in service.log_files:
            each.finish()
    if service.failed:
        raise SystemExit(1)
