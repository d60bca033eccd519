"""From a request target to the name of a channel."""

from __future__ import annotations

import re
from urllib.parse import quote

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pinghub.errors import BadRequest
from pinghub.names import channel_name

# Pieces that decide something, and arbitrary bytes between them.
PIECES = st.sampled_from(
    [b"/", b"%", b"%2", b"%25", b"%2F", b"%61", b"%zz", b"%C3%A9", b"%FF", b";"]
)
TARGETS = st.lists(PIECES | st.binary(max_size=4), max_size=40).map(b"".join)
PATHS = TARGETS.map(lambda rest: b"/" + rest.replace(b"?", b""))
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=255).map(lambda rest: "/" + rest)

# What a client reads when its target is refused.
NO_SLASH = "The request target has to be a path that begins with a slash."
NO_TEXT = "The channel name is not valid UTF-8."
TOO_LONG = "The channel name is too long: use at most 256 characters."


def decode_once(path: bytes) -> bytes:
    """What percent-decoding is, in one line and without urllib."""
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes.fromhex(found[1].decode()), path)


class NameTests(SynchronousTestCase):
    """The rows of the promise."""

    def check_refused(self, target: bytes, text: str, mount: int = 0) -> None:
        """A target is refused, with this line."""
        try:
            name = channel_name(target, mount)
        except BadRequest as refusal:
            self.assertEqual(refusal.text, text, target)
        else:
            self.fail(f"{target!r} is taken for {name!r}")

    def test_path(self) -> None:
        """The channel is the path, decoded once and not normalised, without the query."""
        cases = {
            b"/": "/",
            b"/a": "/a",
            b"/a/": "/a/",
            b"//a": "//a",
            b"/a/../a": "/a/../a",
            b"/./a": "/./a",
            b"/%61": "/a",
            b"/a%2Fb": "/a/b",
            b"/%2f": "//",
            b"/%2561": "/%61",
            b"/a%3Fb": "/a?b",
            b"/a?b": "/a",
            b"/a?b?/c%ff": "/a",
            b"/?": "/",
            b"/a;b=c": "/a;b=c",
            b"/a+b": "/a+b",
            b"/a%20b": "/a b",
            b"/a#b": "/a#b",
            b"/%C3%A9": "/\u00e9",
            b"/\xc3\xa9": "/\u00e9",
            b"/%F0%9F%8E%89": "/\U0001f389",
            b"/%00": "/\x00",
            b"/%": "/%",
            b"/%zz%4": "/%zz%4",
            b"/http://h/a": "/http://h/a",
        }
        for target, name in cases.items():
            self.assertEqual(channel_name(target), name, target)

    def test_four_channels(self) -> None:
        """``/a``, ``/a/``, ``//a`` and ``/a/../a`` are four channels."""
        targets = (b"/a", b"/a/", b"//a", b"/a/../a")
        self.assertEqual(len({channel_name(target) for target in targets}), 4)

    def test_origin_form_only(self) -> None:
        """An absolute-form or ``*`` target, an authority and an empty one are refused."""
        for target in (b"http://h/a", b"*", b"h:80", b"", b"a", b"?/a", b"%2Fa"):
            self.check_refused(target, NO_SLASH)

    def test_utf8_only(self) -> None:
        """A name that is not valid UTF-8 is refused, surrogates and overlong forms too."""
        for target in (b"/\xff", b"/%FF", b"/%C3", b"/%C3%28", b"/%ED%A0%80", b"/%C0%AF"):
            self.check_refused(target, NO_TEXT)

    def test_length(self) -> None:
        """A name has 1 to 256 characters, however many bytes they take."""
        for character in (b"x", b"%78", b"%C3%A9", b"%F0%9F%8E%89"):
            self.assertEqual(len(channel_name(b"/" + character * 255)), 256, character)
            self.check_refused(b"/" + character * 256, TOO_LONG)
        self.assertEqual(channel_name(b"/abc", limit=4), "/abc")
        self.assertRaises(BadRequest, channel_name, b"/abcd", limit=4)

    def test_query_has_no_length(self) -> None:
        """A query counts neither for the length nor for the encoding of the name."""
        self.assertEqual(channel_name(b"/a?" + b"\xff" * 1000), "/a")

    def test_mount(self) -> None:
        """Names are relative to the place where the resource is mounted."""
        cases: dict[tuple[bytes, int], str] = {
            (b"/live/news", 1): "/news",
            (b"/live/", 1): "/",
            (b"/live", 1): "/",
            (b"/live?x=/y", 1): "/",
            (b"/li%2Fve/news", 1): "/news",
            (b"/live//news/", 1): "//news/",
            (b"/a/b/c/d", 2): "/c/d",
            (b"/a/b", 3): "/",
        }
        for (target, mount), name in cases.items():
            self.assertEqual(channel_name(target, mount), name, (target, mount))

    def test_mount_is_outside_the_length(self) -> None:
        """Only what is below the mount has to be UTF-8 and short."""
        self.assertEqual(channel_name(b"/%FF" + b"x" * 300 + b"/a", 1), "/a")
        self.check_refused(b"/live/%FF", NO_TEXT, 1)


class GeneratedNameTests(SynchronousTestCase):
    """What holds for every target."""

    @settings(deadline=None, max_examples=300)
    @given(path=PATHS)
    @example(path=b"/%2561")
    @example(path=b"/%%361")
    def test_decoded_exactly_once(self, path: bytes) -> None:
        """A name is its path decoded once, and is refused if that is not short UTF-8."""
        expected: str | None = None
        try:
            expected = decode_once(path).decode()
        except UnicodeDecodeError:
            pass
        if expected is None or len(expected) > 256:
            self.assertRaises(BadRequest, channel_name, path)
        else:
            self.assertEqual(channel_name(path), expected)
            self.assertEqual(channel_name(path + b"?" + path), expected)

    @settings(deadline=None, max_examples=100)
    @given(name=NAMES)
    def test_every_name_can_be_asked_for(self, name: str) -> None:
        """Every text of 1 to 256 characters with a slash in front is a channel's name."""
        self.assertEqual(channel_name(quote(name).encode()), name)
        escaped = "".join(f"%{byte:02x}" for byte in name[1:].encode())
        self.assertEqual(channel_name(b"/" + escaped.encode()), name)

    @settings(deadline=None, max_examples=100)
    @given(path=PATHS, mount=st.integers(1, 4))
    def test_a_mount_does_not_change_names(self, path: bytes, mount: int) -> None:
        """A resource has the same names below every mount as at the root."""

        def outcome(target: bytes, segments: int) -> str:
            try:
                return channel_name(target, segments)
            except BadRequest as refusal:
                return f"refused: {refusal.text}"

        self.assertEqual(outcome(b"/mount" * mount + path, mount), outcome(path, 0))

    @settings(deadline=None, max_examples=200)
    @given(target=TARGETS | st.binary(), mount=st.integers(0, 3))
    def test_nothing_else_happens(self, target: bytes, mount: int) -> None:
        """Whatever the target: there is a name within the bounds, or a refusal."""
        try:
            name = channel_name(target, mount)
        except BadRequest:
            return
        self.assertTrue(name.startswith("/"))
        self.assertLessEqual(len(name), 256)
        name.encode()
