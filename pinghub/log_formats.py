"""The log for machines: an object in JSON for each event, one in a line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TextIO

from twisted.logger import ILogObserver, LogEvent, formatEvent
from zope.interface import implementer


def json_line(event: LogEvent) -> str:
    """An event as a line of JSON, with the end of the line.

    It has ``time`` (RFC 3339, UTC), ``level``, ``logger`` and ``message``; what an event of ours
    is about, such as ``channel`` and ``peer``; and the ``traceback`` of a failure.
    """
    when = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    level = event.get("log_level")
    line: dict[str, object] = {
        "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level.name if level is not None else "info",
        "logger": event.get("log_namespace", ""),
        "message": event.get("kind") or formatEvent(event),
        **event.get("fields", {}),
    }
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return json.dumps(line) + "\n"


@implementer(ILogObserver)
class JsonObserver:
    """Writes each event to a stream, as ``json_line`` makes it.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        """Write an event (ILogObserver)."""
        self._stream.write(json_line(event))
