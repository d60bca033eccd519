"""The errors, each with the answer it deserves."""

from __future__ import annotations

import inspect
import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pinghub import errors
from pinghub.errors import (
    BackplaneDown,
    BackplaneFull,
    BackplaneLost,
    BackplaneRefused,
    ConfigurationError,
    InternalError,
    ListenError,
    MessageTooLarge,
    NotText,
    PinghubError,
    Refusal,
    TooManyConnections,
    Unavailable,
    UpgradeRequired,
)


def drawn() -> dict[str, tuple[str, list[int]]]:
    """The tree in the module's docstring: each error with its parent and its numbers."""
    tree: dict[str, tuple[str, list[int]]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"    (?P<branch>[ │├└─]*)(?P<name>[A-Z]\w+)(?P<text>  .*)?", line)
        if found:
            path[len(found["branch"]) // 4 :] = [found["name"]]
            parent = path[-2] if len(path) > 1 else "Exception"
            numbers = re.findall(r"\b\d{3,4}\b", found["text"] or "")
            tree[found["name"]] = (parent, [int(number) for number in numbers])
    return tree


def defined() -> dict[str, Any]:
    """The errors that the module defines."""
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }


class TreeTests(SynchronousTestCase):
    """One base class, and a tree that is drawn as it is."""

    def test_the_drawing_is_true(self) -> None:
        """The tree in the docstring has every error, below the parent that it has."""
        actual = {name: error.__bases__[0].__name__ for name, error in defined().items()}
        self.assertEqual({name: parent for name, (parent, _) in drawn().items()}, actual)

    def test_status(self) -> None:
        """Every refusal is answered with the status that the tree names for it."""
        for name, (_, numbers) in drawn().items():
            error = defined()[name]
            if issubclass(error, Refusal) and error is not Refusal:
                self.assertEqual(error.status, numbers[0], name)

    def test_everything_is_a_pinghub_error(self) -> None:
        """Whatever Pinghub raises on purpose can be caught as one."""
        for error in defined().values():
            self.assertTrue(issubclass(error, PinghubError), error)


class RefusalTests(SynchronousTestCase):
    """What a peer gets to read."""

    def test_texts_of_their_own(self) -> None:
        """A refusal that brings its text says in one line what to do."""
        cases: dict[Refusal, str] = {
            TooManyConnections(): "close some",
            NotText(): "send text",
            MessageTooLarge(65_536): "at most 65536 bytes",
            InternalError(): "try again later",
            BackplaneDown(): "try again in a moment",
            BackplaneFull(): "try again in a moment",
            BackplaneLost(): "may have been published",
            BackplaneRefused(): "tell its operator",
        }
        for refusal, text in cases.items():
            self.assertIn(text, refusal.text)
            self.assertEqual(str(refusal), refusal.text)
            self.assertEqual(refusal.text.splitlines(), [refusal.text])

    def test_given_text(self) -> None:
        """Other refusals carry the text they are given."""
        refusal = Unavailable("Come back.")
        self.assertEqual((refusal.text, str(refusal)), ("Come back.", "Come back."))

    def test_headers(self) -> None:
        """426 names the version that is spoken, 429 and 503 when to come back, others nothing."""
        self.assertEqual(
            UpgradeRequired.headers, {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        )
        backplane = (BackplaneDown, BackplaneFull, BackplaneLost, BackplaneRefused)
        come_back = (TooManyConnections, Unavailable, *backplane)
        for refusal in come_back:
            self.assertEqual(list(refusal.headers), ["Retry-After"])
            self.assertGreater(int(refusal.headers["Retry-After"]), 0)
        for error in defined().values():
            if issubclass(error, Refusal) and error not in (UpgradeRequired, *come_back):
                self.assertEqual(error.headers, {}, error)


class ConfigurationErrorTests(SynchronousTestCase):
    """What an operator gets to read."""

    def test_one_line(self) -> None:
        """The line names the option, the value and what is accepted."""
        error = ConfigurationError("--drain", "soon", "give a time")
        self.assertEqual(str(error), "--drain=soon: give a time")
        self.assertEqual(
            (error.name, error.value, error.accepted), ("--drain", "soon", "give a time")
        )

    def test_a_value_is_no_second_line(self) -> None:
        """A value with line ends or escape sequences is quoted, so that there is one line."""
        for value in ("1\n", "a\nb", "\x1b[2J"):
            error = ConfigurationError("--drain", value, "give a time")
            self.assertEqual(str(error), f"--drain={value!r}: give a time")

    def test_an_address_that_cannot_be_listened_on(self) -> None:
        """It ends the process with status 1 and one line, and can be caught as an error too."""
        error = ListenError(":80", "permission denied")
        self.assertIsInstance(error, ConfigurationError)
        self.assertIsInstance(error, SystemExit)
        self.assertEqual(str(error), "--addr=:80: cannot listen: permission denied")
        # A text as its code makes the interpreter print it to stderr and exit with status 1.
        self.assertEqual(error.code, f"pinghub: {error}")
