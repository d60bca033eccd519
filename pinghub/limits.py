"""Every bound of Pinghub: its name, unit, default, option, and what happens at it.

The options, ``--help``, the README's table and the tests all read this one dataclass, so that
they cannot disagree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from typing import Any

from pinghub.errors import ConfigurationError

KIB = 1024
MIB = 1024 * 1024

_SIZE = re.compile(r"(\d{1,15})([kmg]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_SIZE_UNITS = {"": 1, "k": KIB, "m": MIB, "g": 1024 * MIB}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|)", re.ASCII)
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)


@dataclass(frozen=True)
class Bound:
    """What is known of one bound besides its default.

    Attributes:
        what: what is bounded, for people.
        unit: ``bytes``, ``seconds``, ``per second`` or ``count``.
        at: what happens at the bound.
        option: the command line option without its dashes; none when it is fixed.
        least: the smallest value accepted.
        most: the largest; the same as ``least`` for what is fixed by a standard.
        off: whether 0 turns the bound, or the function, off.
        auto: what an absent value stands for; None when a value is required.
    """

    what: str
    unit: str
    at: str
    option: str | None = None
    least: float = 1
    most: float = math.inf
    off: bool = False
    auto: str | None = None

    @property
    def accepted(self) -> str:
        """Half a sentence that says which values are accepted."""
        if self.least == self.most:
            return f"leave it at {self.least:g}"
        forms = {
            "bytes": f"a number of bytes from {self.least:g}, such as 65536, 64k or 1m",
            "seconds": f"a time from {self.least:g} seconds, such as 10, 2.5s, 500ms or 1m",
            "per second": f"a number per second from {self.least:g}",
            "count": f"a whole number from {self.least:g}",
        }
        off = ", or 0 to turn it off" if self.off and self.least > 0 else ""
        auto = ", or auto" if self.auto else ""
        return f"give {forms[self.unit]}{off}{auto}"

    def allows(self, value: object) -> bool:
        """Whether a value is one that this bound can have."""
        if value is None:
            return self.auto is not None
        number = int if self.unit in ("bytes", "count") else (int, float)
        if isinstance(value, bool) or not isinstance(value, number) or not math.isfinite(value):
            return False
        return self.least <= value <= self.most or (self.off and value == 0)

    def parse(self, text: str) -> float | None:
        """Read a value as users write it.

        Raises:
            ValueError: the text is not such a value.
        """
        if self.auto and text == "auto":
            return None
        if self.unit == "bytes":
            size = _match(_SIZE, text)
            return int(size[1]) * _SIZE_UNITS[size[2].lower()]
        if self.unit == "seconds":
            duration = _match(_DURATION, text)
            return float(duration[1]) * _DURATION_UNITS[duration[2]]
        value = float(_match(_NUMBER, text)[0])
        return int(value) if self.unit == "count" and value.is_integer() else value


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return match


def _bound(default: float | None, what: str, unit: str, at: str, **more: Any) -> Any:
    bound = Bound(what, unit, at, **more)
    return field(default=default, metadata={"bound": bound})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Every queue, timer and size, with its default.

    Sizes are bytes, times are seconds. ``Limits()`` is what ``pinghub`` runs with when no
    option is given.

    Raises:
        ConfigurationError: a value is not one that its bound can have, or two of them
            contradict each other.
    """

    max_message: int = _bound(
        65_536,
        "one message, by websocket or POST",
        "bytes",
        "close 1009, or 413",
        option="max-message",
    )
    max_fragments: int = _bound(64, "fragments of one message", "count", "close 1009")
    control_payload: int = _bound(
        125,
        "payload of a ping, pong or close frame (RFC 6455)",
        "bytes",
        "close 1002",
        least=125,
        most=125,
    )
    controls_per_second: int = _bound(
        20, "pings and pongs from one client per second, one pong pending", "count", "drop"
    )
    max_backlog: int = _bound(
        1 * MIB,
        "bytes waiting for one subscriber",
        "bytes",
        "evict",
        option="max-backlog",
        least=1024,
    )
    stall_timeout: float = _bound(
        10.0,
        "time without progress while bytes wait for a subscriber",
        "seconds",
        "evict",
        option="stall-timeout",
        least=0.5,
    )
    max_total_backlog: int = _bound(
        256 * MIB,
        "bytes waiting for all subscribers together",
        "bytes",
        "evict the largest first",
        option="max-total-backlog",
        least=1024,
    )
    ping_interval: float = _bound(
        27.0,
        "time between pings to an idle subscriber",
        "seconds",
        "ping",
        option="ping-interval",
        least=0.5,
        off=True,
    )
    ping_timeout: float = _bound(
        30.0,
        "time for anything to arrive after a ping",
        "seconds",
        "drop",
        option="ping-timeout",
        least=0.5,
    )
    close_timeout: float = _bound(3.0, "closing of a connection", "seconds", "abort", least=0.5)
    head_line: int = _bound(
        8 * KIB, "one line of a request head", "bytes", "414, or 431", least=256
    )
    head_size: int = _bound(16 * KIB, "a request head", "bytes", "431", least=256)
    head_fields: int = _bound(100, "header fields of a request", "count", "431")
    head_timeout: float = _bound(
        10.0, "a request head, in total", "seconds", "408", option="head-timeout", least=0.5
    )
    body_timeout: float = _bound(
        20.0,
        "a POST body, or a websocket message that comes in parts, in total",
        "seconds",
        "408, or close 1008",
        option="body-timeout",
        least=0.5,
    )
    keepalive_timeout: float = _bound(
        75.0,
        "idle time between two requests of a connection",
        "seconds",
        "close",
        option="keepalive-timeout",
        least=0.5,
    )
    response_queue: int = _bound(
        64 * KIB,
        "answers queued for a client that pipelines and does not read",
        "bytes",
        "stop reading from it",
    )
    max_connections: int | None = _bound(
        None,
        "connections",
        "count",
        "503 for all but POST",
        option="max-connections",
        auto="80 % of the descriptor limit",
    )
    max_connections_per_address: int = _bound(
        0,
        "connections of one address (of one /64 network, in IPv6)",
        "count",
        "429; from twice as many on, abort",
        option="max-connections-per-address",
        off=True,
    )
    max_publish_rate: float = _bound(
        0.0,
        "messages published by one websocket client per second",
        "per second",
        "close 1008",
        option="max-publish-rate",
        least=0.001,
        off=True,
    )
    max_age: float = _bound(
        0.0,
        "age of a websocket connection, less up to a tenth at random",
        "seconds",
        "close 1001",
        option="max-age",
        least=1,
        off=True,
    )
    accept_slice: int = _bound(
        16, "connections accepted in one reactor turn", "count", "the rest in the next"
    )
    listen_backlog: int = _bound(
        1024, "connections that wait to be accepted", "count", "the kernel refuses more"
    )
    channel_name: int = _bound(256, "characters of a channel name", "count", "400")
    join_size: int = _bound(256 * KIB, "messages joined into one write", "bytes", "write at once")
    fanout_slice: int = _bound(
        500, "deliveries in one reactor turn", "count", "the rest in the next turns"
    )
    frame_slice: int = _bound(
        100, "frames taken from one client in one reactor turn", "count", "the rest in the next"
    )
    request_slice: int = _bound(
        16, "requests taken from one client in one reactor turn", "count", "the rest in the next"
    )
    publish_window: int = _bound(
        256 * KIB,
        "bytes of messages from one client that the backplane has not taken yet",
        "bytes",
        "stop reading from it",
    )
    backplane_queue: int = _bound(
        16 * MIB,
        "bytes of messages that one instance of the backplane has not taken yet",
        "bytes",
        "503, or close 1013",
        option="backplane-queue",
        least=1024,
    )
    backplane_reply: int = _bound(
        64 * MIB,
        "bytes of an answer of the backplane that has begun to arrive, besides a message",
        "bytes",
        "connect anew",
    )
    backplane_timeout: float = _bound(
        5.0,
        "time for the backplane to answer",
        "seconds",
        "503, or close 1013, and connect anew",
        option="backplane-timeout",
        least=1.5,
    )
    backplane_wait: float = _bound(
        0.0,
        "starting: time for the backplane to be there",
        "seconds",
        "exit: `pinghub` with status 1, `twistd` and `twist` with 0",
        option="backplane-wait",
        least=0.001,
        off=True,
    )
    log_field: int = _bound(200, "characters of a peer's text in the log", "count", "cut")
    log_rate: int = _bound(10, "log lines of one kind per second", "count", "left out, and counted")
    log_queue: int = _bound(
        4096, "log lines that wait to be written", "count", "left out, and counted"
    )
    stop_delay: float = _bound(
        0.0,
        "stopping: time to serve on, while `/readyz` says 503 to balancers",
        "seconds",
        "stop listening, then drain",
        option="stop-delay",
        least=0.001,
        off=True,
    )
    drain: float = _bound(
        5.0, "stopping: time to close all connections", "seconds", "abort", option="drain", least=0
    )

    def __post_init__(self) -> None:
        for name, bound in bounds():
            value = getattr(self, name)
            if not bound.allows(value):
                raise ConfigurationError(_label(name, bound), value, bound.accepted)
        # One write holds up to a quarter of a backlog and one message more, see join_at: it
        # has to fit, or it would evict a subscriber that has read everything so far.
        if self.max_backlog < 2 * self.max_message:
            raise ConfigurationError(
                "--max-backlog",
                self.max_backlog,
                f"give at least twice --max-message, which is {self.max_message}",
            )
        if self.backplane_queue < self.max_message:
            raise ConfigurationError(
                "--backplane-queue",
                self.backplane_queue,
                f"give at least --max-message, which is {self.max_message}",
            )
        if self.max_total_backlog < self.max_backlog:
            raise ConfigurationError(
                "--max-total-backlog",
                self.max_total_backlog,
                f"give at least --max-backlog, which is {self.max_backlog}",
            )

    @property
    def join_at(self) -> int:
        """How many bytes of messages are joined at the most, before they are written."""
        return min(self.join_size, self.max_backlog // 4)


def bounds() -> Iterator[tuple[str, Bound]]:
    """The bounds in their order: the name of the field, and what is known of it."""
    for entry in fields(Limits):
        yield entry.name, _bound_of(entry)


def default_text(name: str) -> str:
    """The default of a bound, with its unit, for people."""
    entry = Limits.__dataclass_fields__[name]
    bound = _bound_of(entry)
    value: Any = entry.default
    if value is None:
        return f"auto: {bound.auto}"
    if bound.off and value == 0:
        return "0: off"
    if bound.unit == "bytes":
        return _size_text(value)
    return f"{value:g}" + (" s" if bound.unit == "seconds" else "")


def _size_text(size: int) -> str:
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"


def _bound_of(entry: Field[Any]) -> Bound:
    bound = entry.metadata["bound"]
    assert isinstance(bound, Bound)
    return bound


def _label(name: str, bound: Bound) -> str:
    return f"--{bound.option}" if bound.option else name
