"""The ``pinghub`` command: the service of ``tap.py``, run in the foreground.

Single-dash long options, as Go programs have them, work as well as double-dash ones.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
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
from pinghub.logwriter import LogWriter, Unbuffered
from pinghub.tap import Options, makeService

LEVELS = ("debug", "info", "warn", "error")


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
    ]

    def postOptions(self) -> None:
        """Check the level."""
        super().postOptions()
        label, level = "--log-level", self["log-level"]
        if level is None:
            label = "PINGHUB_LOG_LEVEL"
            level = self._environment.get(label) or "info"
        if level not in LEVELS:
            raise ConfigurationError(label, level, f"give one of {', '.join(LEVELS)}")
        self["log-level"] = level


def double_dashes(arguments: Sequence[str]) -> list[str]:
    """Write ``-addr`` as ``--addr``; ``-h`` and values stay as they are."""
    return [
        f"-{each}" if each[:1] == "-" and each[1:2].isalpha() and len(each) > 2 else each
        for each in arguments
    ]


def log_observer(stream: TextIO | LogWriter, level: str) -> ILogObserver:
    """Our own lines of a level and above, and everybody's warnings."""
    predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    predicate.setLogLevelForNamespace("pinghub", LogLevel.levelWithName(level))
    return FilteringLogObserver(textFileLogObserver(cast(TextIO, stream)), [predicate])


def unbuffered(stream: TextIO) -> TextIO | Unbuffered:
    """The descriptor below a stream, if it has one."""
    try:
        return Unbuffered(stream.fileno())
    except OSError:
        return stream


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
    service: Any = makeService(options, reactor)
    writer = LogWriter(unbuffered(sys.stderr), options["limits"].log_queue)
    observer = log_observer(writer, options["log-level"])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    try:
        service.startService()
        reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
        reactor.run()
    finally:
        writer.finish()
