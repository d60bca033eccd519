"""What goes to the log, and how much of it."""

from __future__ import annotations

from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pinghub.limits import Limits
from pinghub.logs import Log, address_text, quoted


class QuotedTests(SynchronousTestCase):
    """A peer's text as one harmless word."""

    def test_representation(self) -> None:
        """Control bytes, terminal escapes and line ends stay text."""
        cases: dict[object, str] = {
            "/a": "'/a'",
            b"/a": "b'/a'",
            "a\r\n[error] b": "'a\\r\\n[error] b'",
            "\x1b]0;x\x07": "'\\x1b]0;x\\x07'",
            "\u202eb": "'\\u202eb'",
            None: "None",
            1001: "1001",
        }
        for value, text in cases.items():
            self.assertEqual(quoted(value), text)

    def test_cut(self) -> None:
        """What is longer than 200 characters is cut, and says so."""
        self.assertEqual(quoted("x" * 198), "'" + "x" * 198 + "'")
        self.assertEqual(quoted("x" * 199), "'" + "x" * 196 + "...")
        self.assertEqual(quoted(list(range(1000)), 20), "[0, 1, 2, 3, 4, 5...")
        self.assertEqual(quoted("\x00" * 1000, 10), "'\\x00\\x...")

    def test_cut_first(self) -> None:
        """A huge text is cut before its representation is made: that would copy all of it."""

        class Huge(str):
            def __repr__(self) -> str:
                raise MemoryError

        self.assertEqual(quoted(Huge("x" * 1000), 10), "'xxxxxx...")

    @settings(deadline=None, max_examples=100)
    @given(value=st.text() | st.binary(), limit=st.integers(5, 60))
    def test_any_value(self, value: str | bytes, limit: int) -> None:
        """Whatever it is, it is printable, in one line, and within the limit."""
        text = quoted(value * 20, limit)
        self.assertLessEqual(len(text), limit)
        self.assertTrue(text.isprintable(), text)


class LogTests(SynchronousTestCase):
    """A log whose events are kept."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.25)
        self.events: list[LogEvent] = []
        # A method of a list is an observer to Twisted, but not to its annotations.
        self.observer = cast(ILogObserver, self.events.append)
        logger = Logger(namespace="test", observer=self.observer)
        self.log = Log(self.clock, Limits(log_rate=3, log_field=20), logger)

    def lines(self) -> list[str]:
        """What was written since the last call."""
        lines = [formatEvent(event) for event in self.events]
        self.events.clear()
        return lines

    def test_levels(self) -> None:
        """Lines for operators, and for people who look for a fault, have different levels."""
        self.log.plain("Started")
        self.log.info("Evicted")
        self.log.debug("Subscribed")
        levels = [event["log_level"] for event in self.events]
        self.assertEqual(levels, [LogLevel.info, LogLevel.info, LogLevel.debug])

    def test_fields_are_quoted_and_cut(self) -> None:
        """What comes from a peer follows the kind of line, quoted and cut."""
        self.log.info("Evicted", channel="/a\n{b}", peer="x" * 50, code=1001)
        self.assertEqual(
            self.lines(), ["Evicted channel='/a\\n{b}' peer='xxxxxxxxxxxxxxxx... code=1001"]
        )

    def test_a_peers_text_is_no_format(self) -> None:
        """Braces in a peer's text are text, in our own lines as well."""
        self.log.info("Refused", origin="{log_level} {0} {")
        self.log.plain("Listening on {x}")
        self.assertEqual(self.lines(), ["Refused origin='{log_level} {0} {'", "Listening on {x}"])

    def test_rate(self) -> None:
        """Of one kind so many lines are written per second; other kinds have their own."""
        for number in range(10):
            self.log.info("Evicted", number=number)
        self.log.info("Refused")
        self.assertEqual(
            self.lines(),
            ["Evicted number=0", "Evicted number=1", "Evicted number=2", "Refused"],
        )

    def test_asked_when_written(self) -> None:
        """A function is called for its value, and only for lines that are written."""
        asked: list[int] = []

        def number() -> int:
            asked.append(len(asked))
            return asked[-1]

        for _ in range(10):
            self.log.debug("Subscribed", number=number)
        self.assertEqual(self.lines(), [f"Subscribed number={each}" for each in range(3)])
        self.assertEqual(asked, [0, 1, 2])

    def test_left_out_lines_are_counted(self) -> None:
        """A second later a line says how many were left out, whether or not others follow."""
        for number in range(10):
            self.log.info("Evicted", number=number)
        self.log.debug("Subscribed")
        self.lines()
        self.clock.advance(0.9)
        for number in range(10, 14):
            self.log.info("Evicted", number=number)
        self.assertEqual(
            self.lines(), ["Evicted number=10", "Evicted number=11", "Evicted number=12"]
        )
        self.clock.advance(0.1)
        self.assertEqual(self.events[-1]["log_level"], LogLevel.info)
        self.assertEqual(self.lines(), ["Evicted (8 lines like this left out)"])
        self.clock.advance(5)
        self.assertEqual((self.lines(), self.clock.getDelayedCalls()), ([], []))

    def test_a_new_second(self) -> None:
        """Every second has the full number of lines, and nothing was left out at the bound."""
        for _ in range(3):
            for _ in range(3):
                self.log.debug("Subscribed")
            self.clock.advance(1)
        self.assertEqual(self.lines(), ["Subscribed"] * 9)

    def test_failures(self) -> None:
        """A fault of our own is written with its traceback, at the same rate."""
        errors = [ValueError(str(number)) for number in range(5)]
        for error in errors:
            self.log.failure("A request failed", error)
        failures = [event["log_failure"] for event in self.events]
        self.assertEqual([getattr(each, "value", None) for each in failures], errors[:3])
        self.assertEqual(self.events[0]["log_level"], LogLevel.critical)
        self.assertEqual(self.lines()[0], "A request failed")
        self.clock.advance(1)
        self.assertEqual(self.lines(), ["A request failed (2 lines like this left out)"])

    def test_default_logger(self) -> None:
        """Without a logger, lines go to Twisted's log under the name of the package."""
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        Log(self.clock, Limits()).plain("hello")
        self.assertEqual([event["log_namespace"] for event in self.events], ["pinghub"])
        self.assertEqual(self.lines(), ["hello"])


class AddressTests(SynchronousTestCase):
    """Addresses of peers."""

    def test_addresses_in_the_log(self) -> None:
        """A peer's address is written without the prefix of mapped addresses."""
        self.assertEqual(address_text(IPv4Address("TCP", "192.0.2.1", 5)), "192.0.2.1:5")
        self.assertEqual(address_text(IPv6Address("TCP", "::ffff:192.0.2.1", 5)), "192.0.2.1:5")
        self.assertEqual(address_text(UNIXAddress(b"/run/s")), "unix")
