"""R11: the quick lane cannot be told from the full parser, whatever comes in what segments."""

from __future__ import annotations

import re
from base64 import b64encode
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pinghub import OriginPolicy, site, websocket
from pinghub.limits import Limits
from pinghub.testing import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    MemoryServer,
    client_frame,
    http_request,
    upgrade_request,
)

LIMITS = Limits(max_message=300, max_fragments=3, frame_slice=4, ping_interval=0)
MASKS = st.binary(min_size=4, max_size=4)
LENGTHS = st.sampled_from([0, 1, 124, 125, 126, 127, 299, 300, 301])
CHARACTERS = st.characters(exclude_categories=["Cs"])
PAYLOADS = (
    LENGTHS.map(lambda length: b"x" * length)
    | st.text(CHARACTERS, max_size=80).map(str.encode)
    | st.binary(max_size=8)
)
PLAIN = st.builds(lambda payload, mask: client_frame(TEXT, payload, mask=mask), PAYLOADS, MASKS)
OPCODES = st.sampled_from([0x0, TEXT, TEXT, TEXT, BINARY, 0x3, CLOSE, PING, PONG, 0xF])
ANY = st.builds(client_frame, OPCODES, PAYLOADS, st.booleans(), MASKS)


def long_form(payload: bytes) -> bytes:
    """A text with its length in two bytes, whether it needs them or not."""
    frame = client_frame(TEXT, payload[:125])
    return frame[:1] + b"\xfe" + len(payload[:125]).to_bytes(2, "big") + frame[2:]


def damaged(frame: bytes, where: int, value: int) -> bytes:
    """A frame with one byte of its beginning changed."""
    where %= min(len(frame), 8)
    return frame[:where] + bytes([value]) + frame[where + 1 :]


DAMAGED = st.builds(damaged, PLAIN, st.integers(0, 7), st.integers(0, 255))
FRAMES = st.lists(PLAIN | PLAIN | PLAIN | ANY | DAMAGED | PAYLOADS.map(long_form), max_size=12)
FIELDS = st.sampled_from(
    [
        "Origin: http://good",
        "Origin: http://bad",
        "origin: null",
        "Cookie: a=b; c ",
        "X-Long: " + "x" * 20_000,
        "Host: other",
        "Connection: close",
        "Connection: keep-alive, Upgrade",
        "Upgrade: h2c",
        "Sec-WebSocket-Protocol: a, b",
        "Sec-WebSocket-Protocol: a b",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "Sec-WebSocket-Version: 8",
        "Content-Length: 0",
        "Content-Length: 3",
        "Expect: 100-continue",
        " folded",
        "X_y: z",
        "X y: z",
        "Empty:",
        "Tab: \t x",
        "Umlaut: \u00fc",
    ]
)
TARGETS = st.sampled_from(["/a", "/", "/%zz?x=%", "/b?" + "y" * 300, "/" + "z" * 300, "/%ff", "x"])


def upgrade_head(target: str, fields: list[str], where: int) -> bytes:
    """A handshake with more fields, or other ones, than are needed."""
    line, *lines = upgrade_request("/a").decode().split("\r\n")[:-2]
    lines[where:where] = fields
    return "\r\n".join([line.replace("/a", target), *lines, "", ""]).encode()


HEADS = st.builds(upgrade_head, TARGETS, st.lists(FIELDS, max_size=3), st.integers(0, 5))
KEYS = st.binary(min_size=16, max_size=16)
CUTS = st.lists(st.integers(1, 400), max_size=12)


def outcome(data: bytes, cuts: list[int]) -> tuple[object, ...]:
    """What a server makes of some bytes, as seen by the peer, by another, and by the server."""
    server = MemoryServer(LIMITS)
    sender, other = server.subscribe("/a"), server.subscribe("/a")
    for size in cuts:
        sender.send(data[:size])
        data = data[size:]
    sender.send(data)
    server.run(21)
    transport = sender.transport
    stats = server.manager.stats
    return (
        sender.take(),
        other.take(),
        (transport.ended, transport.reset, transport.reading),
        (stats.published, stats.deliveries, stats.evictions),
    )


class LaneTests(SynchronousTestCase):
    """The same bytes with the quick lane and without it."""

    @given(FRAMES.map(b"".join), CUTS)
    @example(client_frame(TEXT, b"x") * 20, [])
    @example(client_frame(TEXT, b"x") * 3 + client_frame(TEXT, b"\xff") * 3, [])
    @settings(max_examples=1500, deadline=None)
    def test_frames(self, data: bytes, cuts: list[int]) -> None:
        """R11: the same messages in the same order, the same answers, or the same refusal."""
        quick = outcome(data, cuts)
        with (
            patch.object(websocket, "plain_texts", return_value=([], 0)),
            patch.object(websocket, "plain_control", return_value=None),
        ):
            self.assertEqual(quick, outcome(data, cuts))

    @given(FRAMES.map(b"".join), CUTS, KEYS)
    @settings(max_examples=200, deadline=None)
    def test_handshake(self, data: bytes, cuts: list[int], key: bytes) -> None:
        """R11: the same answer to a handshake, and the same after it, as from Autobahn."""

        def answers() -> tuple[object, ...]:
            server = MemoryServer(LIMITS)
            other, peer = server.subscribe("/a"), server.connect()
            head = upgrade_request("/a", {"Sec-WebSocket-Key": b64encode(key).decode()})
            peer.send(http_request("POST", "/a", b"x") + head + data)
            server.run(21)
            return re.sub(rb"Date: [^\r]*", b"", peer.take()), other.take(), outcome(data, cuts)

        quick = answers()
        with patch.object(websocket, "is_bare", return_value=False):
            self.assertEqual(quick, answers())

    @given(HEADS, FRAMES.map(b"".join), st.integers(0, 3))
    @settings(max_examples=300, deadline=None)
    def test_head(self, head: bytes, data: bytes, state: int) -> None:
        """R11: the same answer to a head that is read at once as from twisted.web's parser."""

        def answers() -> tuple[object, ...]:
            origins = OriginPolicy(["http://good"]) if state == 1 else None
            server = MemoryServer(LIMITS, origins=origins)
            if state == 2:
                server.manager.connections.limit = 1
            other, peer = server.subscribe("/a"), server.connect()
            server.manager.connections.draining = state == 3
            peer.send(head + data)
            server.run(61)
            connections = server.manager.connections
            return (
                re.sub(rb"Date: [^\r]*", b"", peer.take()),
                (peer.transport.ended, peer.transport.reset, peer.transport.reading),
                other.take(),
                (len(connections.subscribers), len(connections.requesters)),
            )

        quick = answers()
        with patch.object(site, "plain_handshake", return_value=None):
            self.assertEqual(quick, answers())

    @given(FRAMES.map(b"".join), CUTS)
    @settings(max_examples=500, deadline=None)
    def test_segments(self, data: bytes, cuts: list[int]) -> None:
        """R11: the same in one segment and in any number of them."""
        whole, parts = outcome(data, []), outcome(data, cuts)
        self.assertEqual(whole[1:], parts[1:])
