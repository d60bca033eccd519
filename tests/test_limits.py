"""The bounds: their defaults, what they accept, and how users write them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pinghub.errors import ConfigurationError
from pinghub.limits import KIB, MIB, Bound, Limits, bounds, default_text

DEFAULTS = {
    "max_message": 65_536,
    "max_fragments": 64,
    "control_payload": 125,
    "controls_per_second": 20,
    "max_backlog": 1 * MIB,
    "stall_timeout": 10,
    "max_total_backlog": 256 * MIB,
    "ping_interval": 27,
    "ping_timeout": 30,
    "close_timeout": 3,
    "head_line": 8 * KIB,
    "head_size": 16 * KIB,
    "head_fields": 100,
    "head_timeout": 10,
    "body_timeout": 20,
    "keepalive_timeout": 75,
    "response_queue": 64 * KIB,
    "max_connections": None,
    "max_connections_per_address": 0,
    "max_publish_rate": 0,
    "max_age": 0,
    "accept_slice": 16,
    "listen_backlog": 1024,
    "channel_name": 256,
    "join_size": 256 * KIB,
    "fanout_slice": 500,
    "frame_slice": 100,
    "request_slice": 16,
    "publish_window": 256 * KIB,
    "backplane_queue": 16 * MIB,
    "backplane_reply": 64 * MIB,
    "backplane_timeout": 5,
    "backplane_wait": 0,
    "log_queue": 4096,
    "log_field": 200,
    "log_rate": 10,
    "stop_delay": 0,
    "drain": 5,
}

OPTIONS = {
    "max-message",
    "max-backlog",
    "stall-timeout",
    "max-total-backlog",
    "ping-interval",
    "ping-timeout",
    "head-timeout",
    "body-timeout",
    "keepalive-timeout",
    "max-connections",
    "max-connections-per-address",
    "max-publish-rate",
    "max-age",
    "backplane-queue",
    "backplane-timeout",
    "backplane-wait",
    "stop-delay",
    "drain",
}

# The smallest value of each bound where that is not 1.
LEAST = {
    "control_payload": 125,
    "max_backlog": 1024,
    "stall_timeout": 0.5,
    "max_total_backlog": 1024,
    "ping_interval": 0.5,
    "ping_timeout": 0.5,
    "close_timeout": 0.5,
    "head_line": 256,
    "head_size": 256,
    "head_timeout": 0.5,
    "body_timeout": 0.5,
    "keepalive_timeout": 0.5,
    "max_publish_rate": 0.001,
    "backplane_queue": 1024,
    "backplane_timeout": 1.5,
    "backplane_wait": 0.001,
    "stop_delay": 0.001,
    "drain": 0,
}

BYTES = Bound("size", "bytes", "refuse")
SECONDS = Bound("time", "seconds", "close", least=0.5)
COUNT = Bound("number", "count", "close")
RATE = Bound("rate", "per second", "close", least=0.001, off=True)


class LimitsTests(SynchronousTestCase):
    """The values together."""

    def refused(self, **values: Any) -> ConfigurationError:
        """The error about some values."""
        try:
            limits = Limits(**values)
        except ConfigurationError as error:
            return error
        self.fail(f"{values} is taken for {limits}")

    def test_defaults(self) -> None:
        """The defaults are the documented ones."""
        self.assertEqual(dataclasses.asdict(Limits()), DEFAULTS)

    def test_options(self) -> None:
        """The options are the documented ones, named like the bounds."""
        options = {bound.option: name for name, bound in bounds() if bound.option}
        self.assertEqual(set(options), OPTIONS)
        for option, name in options.items():
            self.assertEqual(option.replace("-", "_"), name)

    def test_what_is_accepted(self) -> None:
        """The least value of each bound, what 0 turns off, and what can be left to Pinghub."""
        self.assertEqual({name: bound.least for name, bound in bounds() if bound.least != 1}, LEAST)
        off = {name for name, bound in bounds() if bound.off}
        self.assertEqual(
            off,
            {
                "ping_interval",
                "max_connections_per_address",
                "max_publish_rate",
                "max_age",
                "backplane_wait",
                "stop_delay",
            },
        )
        self.assertEqual([name for name, bound in bounds() if bound.auto], ["max_connections"])

    def test_every_bound_is_described(self) -> None:
        """Each bound says what it bounds, in which unit, and what happens at it."""
        for name, bound in bounds():
            self.assertIn(bound.unit, ("bytes", "seconds", "per second", "count"), name)
            self.assertTrue(bound.what and bound.at, name)
            self.assertTrue(bound.allows(getattr(Limits(), name)), name)

    def test_what_a_standard_fixes(self) -> None:
        """The payload of a control frame is what RFC 6455 says, and nothing else."""
        for size in (124, 126):
            with self.assertRaises(ConfigurationError) as caught:
                Limits(control_payload=size)
            self.assertIn("leave it at 125", str(caught.exception))

    def test_keepalive_outlasts_proxies(self) -> None:
        """Idle connections are kept longer than the 60 s for which proxies use them again."""
        self.assertGreater(Limits().keepalive_timeout, 60)

    def test_by_name(self) -> None:
        """Bounds are given by name: nobody knows two dozen of them by their order."""
        limits: Any = Limits
        self.assertRaises(TypeError, limits, 65_536)

    def test_frozen(self) -> None:
        """Bounds do not change while a server runs."""
        self.assertRaises(dataclasses.FrozenInstanceError, setattr, Limits(), "max_message", 1)

    def test_every_value_is_checked(self) -> None:
        """Each bound refuses what is below its least value, no number, or not finite."""
        for name, bound in bounds():
            wrong = [math.nan, math.inf, -math.inf, -1, "1", True, b"1"]
            if bound.least > 0:
                wrong.append(bound.least / 2)
            if bound.unit in ("bytes", "count"):
                wrong.append(float(bound.least))
            if bound.auto is None:
                wrong.append(None)
            if not bound.off and bound.least > 0:
                wrong.append(0)
            for value in wrong:
                error = self.refused(**{name: value})
                label = f"--{bound.option}" if bound.option else name
                self.assertEqual(str(error), f"{label}={value}: {bound.accepted}")

    def test_least_values(self) -> None:
        """Each bound accepts its least value, and 0 where that turns it off."""
        small = {"max_message": 1, "max_backlog": 1024, "max_total_backlog": 1024}
        for name, bound in bounds():
            whole = bound.unit in ("bytes", "count")
            least = int(bound.least) if whole else bound.least
            values: dict[str, Any] = {**small, name: least}
            self.assertEqual(getattr(Limits(**values), name), least)
            if bound.off:
                self.assertEqual(getattr(Limits(**{name: 0}), name), 0)

    def test_a_backlog_holds_a_message(self) -> None:
        """A backlog that cannot hold one message, or one other backlog, is refused."""
        error = self.refused(max_message=2 * MIB)
        self.assertIn("--max-backlog=1048576", str(error))
        self.assertIn(f"twice --max-message, which is {2 * MIB}", str(error))
        error = self.refused(max_total_backlog=64 * KIB)
        self.assertIn("--max-total-backlog=65536", str(error))
        self.assertIn("--max-backlog", str(error))
        limits = Limits(max_message=2 * MIB, max_backlog=4 * MIB, max_total_backlog=4 * MIB)
        self.assertEqual(limits.max_total_backlog, limits.max_backlog)

    def test_a_queue_holds_a_message(self) -> None:
        """What is on its way to the backplane may be as large as a message."""
        error = self.refused(backplane_queue=64 * KIB - 1)
        self.assertEqual(error.name, "--backplane-queue")
        self.assertIn("--max-message, which is 65536", error.accepted)
        Limits(backplane_queue=64 * KIB)


class TextTests(SynchronousTestCase):
    """What people read."""

    def test_default_text(self) -> None:
        """A default is shown with its unit, as it could be typed, or by what it stands for."""
        cases = {
            "max_message": "64 KiB",
            "max_total_backlog": "256 MiB",
            "control_payload": "125 bytes",
            "ping_interval": "27 s",
            "max_fragments": "64",
            "max_connections": "auto: 80 % of the descriptor limit",
            "max_publish_rate": "0: off",
            "max_age": "0: off",
        }
        for name, text in cases.items():
            self.assertEqual(default_text(name), text)

    def test_a_default_can_be_typed(self) -> None:
        """Each default comes back when it is typed as it is shown, without the space."""
        for name, bound in bounds():
            text = default_text(name).partition(":")[0].removesuffix(" bytes")
            self.assertEqual(bound.parse(text.replace(" ", "")), DEFAULTS[name], name)

    def test_accepted(self) -> None:
        """What is accepted is said with the least value and examples that are accepted."""
        cases = {
            BYTES: "give a number of bytes from 1, such as 65536, 64k or 1m",
            SECONDS: "give a time from 0.5 seconds, such as 10, 2.5s, 500ms or 1m",
            COUNT: "give a whole number from 1",
            RATE: "give a number per second from 0.001, or 0 to turn it off",
            Bound("n", "count", "refuse", auto="many"): "give a whole number from 1, or auto",
            Bound("t", "seconds", "abort", least=0, off=True): (
                "give a time from 0 seconds, such as 10, 2.5s, 500ms or 1m"
            ),
        }
        for bound, text in cases.items():
            self.assertEqual(bound.accepted, text)
        for bound, texts in {BYTES: "65536 64k 1m", SECONDS: "10 2.5s 500ms 1m"}.items():
            for text in texts.split():
                self.assertTrue(bound.allows(bound.parse(text)), text)


class ParseTests(SynchronousTestCase):
    """What people write."""

    def test_values(self) -> None:
        """Sizes come in bytes or binary multiples, times in seconds or other units."""
        cases: list[tuple[Bound, str, float | None]] = [
            (BYTES, "0", 0),
            (BYTES, "65536", 65_536),
            (BYTES, "65536b", 65_536),
            (BYTES, "64k", 65_536),
            (BYTES, "64K", 65_536),
            (BYTES, "64KiB", 65_536),
            (BYTES, "64kb", 65_536),
            (BYTES, "1m", MIB),
            (BYTES, "2G", 2048 * MIB),
            (SECONDS, "10", 10),
            (SECONDS, "10s", 10),
            (SECONDS, "2.5", 2.5),
            (SECONDS, "500ms", 0.5),
            (SECONDS, "1.5m", 90),
            (SECONDS, "2h", 7200),
            (COUNT, "7", 7),
            (RATE, "0.25", 0.25),
            (RATE, "0", 0),
            (Bound("n", "count", "refuse", auto="many"), "auto", None),
            (Bound("n", "count", "refuse", auto="many"), "12", 12),
        ]
        for bound, text, value in cases:
            parsed = bound.parse(text)
            self.assertEqual(parsed, value, text)
            if bound.unit in ("bytes", "count") and value is not None:
                self.assertIsInstance(parsed, int, text)

    def test_garbage(self) -> None:
        """Whatever is not a number with a unit of its kind is no value; the error has it."""
        anywhere = ["", " ", "x", "-1", "+1", "1 ", " 1", "1\n", "1e3", "0x10", "1_000", "nan"]
        anywhere += ["\u0661", "1\u0661"]
        anywhere += ["inf", "-inf", "Infinity", "1,5", ".5", "5.", "1.2.3", "None", "auto"]
        cases = {
            BYTES: [*anywhere, "1.5", "1.5k", "k", "1t", "1kk", "64 k", "1s", "1" * 16],
            SECONDS: [*anywhere, "s", "1d", "1M", "10 s", "1sec", "1k", "1" * 10],
            COUNT: [*anywhere, "1k", "1s", "1" * 10],
            RATE: [*anywhere, "1/s", "1k", "1" * 10],
        }
        for bound, texts in cases.items():
            for text in texts:
                try:
                    value = bound.parse(text)
                except ValueError as error:
                    self.assertEqual(str(error), text)
                else:
                    self.fail(f"{text!r} is taken for {value} {bound.unit}")

    def test_fractions_are_no_counts(self) -> None:
        """A count with a fraction is not allowed."""
        self.assertFalse(COUNT.allows(COUNT.parse("1.5")))

    @settings(deadline=None, max_examples=100)
    @given(number=st.integers(0, 10**9 - 1), unit=st.sampled_from(["", "k", "m", "g"]))
    def test_any_size(self, number: int, unit: str) -> None:
        """A size is its number times the unit, exactly."""
        factor = 1024 ** ["", "k", "m", "g"].index(unit)
        for suffix in (unit, unit.upper(), unit + "b", unit + "iB"):
            self.assertEqual(BYTES.parse(f"{number}{suffix}"), number * factor)

    @settings(deadline=None, max_examples=100)
    @given(
        thousandths=st.integers(0, 10**9),
        unit=st.sampled_from([("ms", 0.001), ("s", 1), ("", 1), ("m", 60), ("h", 3600)]),
    )
    def test_any_time(self, thousandths: int, unit: tuple[str, float]) -> None:
        """A time is its number times the unit."""
        suffix, factor = unit
        text = f"{thousandths // 1000}.{thousandths % 1000:03}{suffix}"
        parsed = SECONDS.parse(text)
        assert parsed is not None
        self.assertTrue(math.isclose(parsed, thousandths / 1000 * factor, abs_tol=1e-9), text)

    @settings(deadline=None, max_examples=100)
    @given(number=st.integers(0, 10**9 - 1))
    def test_any_count(self, number: int) -> None:
        """A count or a rate is the number itself."""
        self.assertEqual(COUNT.parse(str(number)), number)
        self.assertEqual(RATE.parse(f"{number}"), number)
        self.assertEqual(RATE.parse(f"{number}.5"), number + 0.5)

    @settings(deadline=None, max_examples=200)
    @given(text=st.text("0123456789.kmgsbih -+eE_") | st.text())
    def test_any_text(self, text: str) -> None:
        """Whatever is typed is a finite number of at least 0, or refused with ValueError."""
        for bound in (BYTES, SECONDS, COUNT, RATE):
            try:
                value = bound.parse(text)
            except ValueError:
                continue
            assert value is not None
            self.assertTrue(math.isfinite(value) and value >= 0, text)
