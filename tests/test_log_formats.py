"""The log for machines."""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pinghub.limits import Limits
from pinghub.log_formats import JsonObserver, json_line
from pinghub.logs import Log


class JsonTests(SynchronousTestCase):
    """Events as lines of JSON."""

    def setUp(self) -> None:
        self.stream = io.StringIO()
        self.publisher = LogPublisher(JsonObserver(self.stream))
        logger = Logger(namespace="pinghub", observer=self.publisher)
        self.log = Log(Clock(), Limits(log_field=20), logger)

    def line(self) -> dict[str, Any]:
        """The only line."""
        text = self.stream.getvalue()
        self.assertEqual((text.count("\n"), text[-1:]), (1, "\n"))
        self.assertTrue(text.isascii())
        found: dict[str, Any] = json.loads(text)
        return found

    def test_plain(self) -> None:
        """Every line has a time, a level, a logger and a message."""
        self.log.plain("Listening on {here}")
        line = self.line()
        when = datetime.fromisoformat(line.pop("time"))
        self.assertEqual(when.utcoffset(), timedelta(0))
        self.assertLess(abs(when.timestamp() - datetime.now().timestamp()), 60)
        expected = {"level": "info", "logger": "pinghub", "message": "Listening on {here}"}
        self.assertEqual(line, expected)

    def test_fields(self) -> None:
        """What it is about has a key of its own: escaped once, cut, numbers as numbers."""
        self.log.info(
            "Evicted",
            channel='/\x1b"\n\u2028',
            peer=lambda: "::1",
            path=b"\xff" * 30,
            code=1008,
            seconds=0.5,
        )
        line = self.line()
        self.assertEqual(line["message"], "Evicted")
        self.assertEqual(line["channel"], '/\x1b"\n\u2028')
        self.assertEqual((line["peer"], line["code"], line["seconds"]), ("::1", 1008, 0.5))
        self.assertEqual(line["path"], "\xff" * 20)

    def test_long_text(self) -> None:
        """A long value is cut, and one sees that it was."""
        self.log.info("Evicted", channel="x" * 21)
        self.assertEqual(self.line()["channel"], "x" * 17 + "...")

    def test_failure(self) -> None:
        """A fault of ours has its traceback, in the same line."""
        try:
            raise RuntimeError("broken")
        except RuntimeError as error:
            self.log.failure("A request failed", error)
        line = self.line()
        self.assertEqual((line["level"], line["message"]), ("critical", "A request failed"))
        self.assertIn("RuntimeError: broken", line["traceback"])

    def test_others(self) -> None:
        """Lines of Twisted's own are there as well, whatever they lack."""
        Logger(namespace="twisted", observer=self.publisher).warn("a {b}", b="c")
        self.assertEqual(self.line()["message"], "a c")
        line = json.loads(json_line({"log_format": "old"}))
        self.assertEqual((line["level"], line["logger"], line["message"]), ("info", "", "old"))
