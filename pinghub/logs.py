"""What goes to the log, and how much of it.

Whatever comes from a peer is written as its Python representation, so that control bytes and
terminal escapes stay text, and is cut. Lines of one kind are limited in number per second;
those left out are counted, and a second later a line says how many they were.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from pinghub.limits import Limits
from pinghub.sweep import Clock


def quoted(value: object, limit: int = 200) -> str:
    """A peer's text as one harmless word: its representation, cut to ``limit`` characters."""
    # Cutting before the representation is made keeps a huge value from being copied.
    text = repr(value[:limit] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def as_text(value: object, limit: int = 200) -> str | float:
    """A peer's text for a format that escapes it: cut to ``limit`` characters, and no more."""
    if isinstance(value, (int, float)):
        return value
    text = value[:limit].decode("latin-1") if isinstance(value, bytes) else str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class Log:
    """The log of one manager's connections.

    Bounded: of each kind at most ``Limits.log_rate`` lines are written per second. The number
    of kinds is fixed by the code, never by a peer.

    Args:
        clock: tells the time.
        limits: the bounds.
        logger: where the lines go.
    """

    def __init__(self, clock: Clock, limits: Limits, logger: Logger | None = None) -> None:
        self._clock = clock
        self._limits = limits
        self._logger = logger or Logger(namespace="pinghub")
        self._seconds: dict[str, int] = {}
        self._lines: dict[str, int] = {}
        self._left_out: dict[str, int] = {}

    def plain(self, line: str) -> None:
        """Write a line of our own, about the server itself."""
        self._logger.emit(LogLevel.info, "{line}", line=line)

    def debug(self, kind: str, **peer: object) -> None:
        """Write a line for people who look for a fault."""
        self._write(LogLevel.debug, kind, peer)

    def info(self, kind: str, **peer: object) -> None:
        """Write a line for operators.

        Args:
            kind: what happened, as the text of the line; one of a fixed set.
            peer: what it happened to; each value is quoted and cut. A function is called for
                its value, if the line is written.
        """
        self._write(LogLevel.info, kind, peer)

    def warn(self, kind: str, **peer: object) -> None:
        """Write a line about something that operators have to look after; see ``info``."""
        self._write(LogLevel.warn, kind, peer)

    def failure(self, kind: str, error: BaseException | None) -> None:
        """Write a fault of our own, with its traceback."""
        if self._passes(LogLevel.critical, kind):
            self._logger.failure("{line}", Failure(error), line=kind)

    def _write(self, level: Any, kind: str, peer: dict[str, object]) -> None:
        if not self._passes(level, kind):
            return
        most = self._limits.log_field
        known = {key: each() if callable(each) else each for key, each in peer.items()}
        line = kind + "".join(f" {key}={quoted(each, most)}" for key, each in known.items())
        fields = {key: as_text(each, most) for key, each in known.items()}
        self._logger.emit(level, "{line}", line=line, kind=kind, fields=fields)

    def _passes(self, level: Any, kind: str) -> bool:
        second = int(self._clock.seconds())
        if self._seconds.get(kind) != second:
            self._seconds[kind] = second
            self._lines[kind] = 0
        self._lines[kind] += 1
        if self._lines[kind] <= self._limits.log_rate:
            return True
        if kind not in self._left_out:
            self._left_out[kind] = 0
            self._clock.callLater(1.0, self._tell_left_out, level, kind)
        self._left_out[kind] += 1
        return False

    def _tell_left_out(self, level: Any, kind: str) -> None:
        count = self._left_out.pop(kind)
        self._logger.emit(level, "{line}", line=f"{kind} ({count} lines like this left out)")


def address_text(address: object) -> str:
    """A peer's address for the log: ``host:port``, or ``unix``."""
    if isinstance(address, (IPv4Address, IPv6Address)):
        return f"{address.host.removeprefix('::ffff:')}:{address.port}"
    return "unix"
