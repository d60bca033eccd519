"""Websocket and POST agree on the channel of every path."""

from __future__ import annotations

import os
from urllib.parse import unquote_to_bytes

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from pinghub.resource import PinghubResource
from pinghub.testing import MemoryServer, Peer, upgrade_request

EXAMPLES = int(os.environ.get("PINGHUB_PATHS", "10000"))

# What makes paths different: dots, empty segments, escapes good and bad, what other parsers
# take for a query, a fragment or parameters, raw bytes, absolute targets, long names.
_pieces = st.one_of(
    st.sampled_from(
        ["/", "//", ".", "..", ";", "?", "#", "%", "%2", "%2F", "%2f", "%25", "%61", "%00", "%0a"]
    ),
    st.sampled_from(
        ["a", "b=c", "&", "+", ":", "@", "*", "~", "|", "\\", "http://h/a", "é", "%C3%A9"]
    ),
    st.integers(0, 255).map(lambda byte: f"%{byte:02x}"),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=4),
    st.integers(0, 300).map(lambda count: "x" * count),
)
paths = st.lists(_pieces, max_size=8).map("".join)


def reference(target: str, mount: str) -> str | None:
    """The channel of a target, written down a second time; None if there is none."""
    if not target.startswith(mount + "/"):
        return None
    path = target[len(mount) :].split("?")[0]
    try:
        name = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return None
    return name if len(name) <= 256 else None


class PathTests(SynchronousTestCase):
    """Generated paths, at the root of our site and below somebody else's."""

    def refused(self, peer: Peer) -> bool:
        """Whether the answer is a 400, as it has to be if it is not a 101."""
        status = peer.response().status
        self.assertIn(status, (101, 400))
        return status == 400

    def check(self, server: MemoryServer, target: str, mount: str) -> None:
        """Both ways in name the channel of the reference, or both refuse."""
        raw = target.encode().decode("latin-1")
        name = reference(target, mount)
        peer = server.connect()
        peer.send(upgrade_request(raw))
        if self.refused(peer):
            self.assertIsNone(name)
            self.assertEqual(server.post(raw, b"x").status, 400)
        else:
            assert name is not None
            self.assertEqual(server.manager.subscribers(name), 1)
            self.assertEqual(server.post(raw, b"x").headers["pinghub-subscribers"], "1")
            self.assertEqual(peer.texts(), ["x"])
        peer.close()
        self.assertEqual(len(server.manager), 0)

    def test_at_the_root(self) -> None:
        """One function makes the name for websocket and POST alike."""
        server = MemoryServer()

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.booleans(), paths)
        def check(slash: bool, path: str) -> None:
            self.check(server, "/" + path if slash or not path else path, "")

        check()

    def test_below_a_mount(self) -> None:
        """Names are relative to the mount, in somebody else's Site."""
        server = MemoryServer()
        root = Resource()
        root.putChild(b"live", PinghubResource(server.manager))
        server.site = Site(root, reactor=server.reactor)
        server.site.startFactory()
        self.addCleanup(server.site.stopFactory)

        @settings(
            max_examples=EXAMPLES // 5, deadline=None, suppress_health_check=list(HealthCheck)
        )
        @given(paths.filter(str.isascii))
        def check(path: str) -> None:
            self.check(server, "/live/" + path, "/live")

        check()
