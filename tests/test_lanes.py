"""R11: the quick lanes cannot be told from the full parsers, whatever comes in what segments."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from dataclasses import replace
from itertools import zip_longest
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pinghub import site, websocket
from pinghub.backplane.redis import RedisBackplane
from pinghub.backplane.urls import BrokerURL
from pinghub.channels import ChannelManager
from pinghub.limits import Limits
from pinghub.origins import OriginPolicy
from pinghub.plain_posts import plain_post
from pinghub.proxies import TrustedProxies
from pinghub.testing import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    MemoryReactor,
    MemoryServer,
    client_frame,
    http_request,
    upgrade_request,
)
from tests.redis_in_memory import MemoryRedis


def examples(usual: int) -> settings:
    """How many examples are tried: as PINGHUB_EXAMPLES says, or as many as take a moment."""
    return settings(max_examples=int(os.environ.get("PINGHUB_EXAMPLES", usual)), deadline=None)


LIMITS = Limits(max_message=300, max_fragments=3, frame_slice=4, ping_interval=0)
COUNTING = replace(LIMITS, max_connections_per_address=2)
MASKS = st.binary(min_size=4, max_size=4)
LENGTHS = st.sampled_from([0, 1, 124, 125, 126, 127, 299, 300, 301])
CHARACTERS = st.characters(exclude_categories=["Cs"])
PAYLOADS = (
    LENGTHS.map(lambda length: b"x" * length)
    | st.text(CHARACTERS, max_size=80).map(str.encode)
    | st.binary(max_size=8)
)
PLAIN_FRAMES = st.builds(
    lambda payload, mask: client_frame(TEXT, payload, mask=mask), PAYLOADS, MASKS
)
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


DAMAGED = st.builds(damaged, PLAIN_FRAMES, st.integers(0, 7), st.integers(0, 255))
FRAMES = st.lists(
    PLAIN_FRAMES | PLAIN_FRAMES | PLAIN_FRAMES | ANY | DAMAGED | PAYLOADS.map(long_form),
    max_size=12,
)
HEAD_FIELDS = st.sampled_from(
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
        "X-Forwarded-For: 198.51.100.7",
        "x-forwarded-for: 198.51.100.8 , 192.0.2.1",
        "X-Forwarded-For: unknown",
    ]
)
PATHS = st.sampled_from(["/a", "/", "/%zz?x=%", "/b?" + "y" * 300, "/" + "z" * 300, "/%ff", "x"])


def upgrade_head(target: str, fields: list[str], where: int) -> bytes:
    """A handshake with more fields, or other ones, than are needed."""
    line, *lines = upgrade_request("/a").decode().split("\r\n")[:-2]
    lines[where:where] = fields
    return "\r\n".join([line.replace("/a", target), *lines, "", ""]).encode()


HEADS = st.builds(upgrade_head, PATHS, st.lists(HEAD_FIELDS, max_size=3), st.integers(0, 5))
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


class FrameLaneTests(SynchronousTestCase):
    """The same websocket bytes with the quick lane and without it."""

    @given(FRAMES.map(b"".join), CUTS)
    @example(client_frame(TEXT, b"x") * 20, [])
    @example(client_frame(TEXT, b"x") * 3 + client_frame(TEXT, b"\xff") * 3, [])
    @examples(1500)
    def test_frames(self, data: bytes, cuts: list[int]) -> None:
        """R11: the same messages in the same order, the same answers, or the same refusal."""
        quick = outcome(data, cuts)
        with (
            patch.object(websocket, "plain_texts", return_value=([], 0)),
            patch.object(websocket, "plain_control", return_value=None),
        ):
            self.assertEqual(quick, outcome(data, cuts))

    @given(FRAMES.map(b"".join), CUTS, KEYS)
    @examples(200)
    def test_handshake(self, data: bytes, cuts: list[int], key: bytes) -> None:
        """R11: the same answer to a handshake, and the same after it, as from Autobahn."""

        def answers() -> tuple[object, ...]:
            server = MemoryServer(LIMITS)
            other, peer = server.subscribe("/a"), server.connect()
            head = upgrade_request("/a", {"Sec-WebSocket-Key": b64encode(key).decode()})
            peer.send(http_request("POST", "/a", b"x") + head + data)
            server.run(21)
            posted, opened, frames = peer.response(), peer.response(), peer.frames()
            # Autobahn's 101 waits for the end of the turn, a pong behind it, and no other follows.
            pongs = [number for number, each in enumerate(frames) if each.opcode == PONG][1:]
            frames = [each for number, each in enumerate(frames) if number not in pongs]
            return posted.status, opened, frames, other.take(), outcome(data, cuts)

        quick = answers()
        with patch.object(websocket, "is_bare", return_value=False):
            self.assertEqual(quick, answers())

    @given(HEADS, FRAMES.map(b"".join), st.integers(0, 4))
    @example(upgrade_head("/a", ["X-Forwarded-For: 198.51.100.7"], 1), b"", 4)
    @examples(300)
    def test_head(self, head: bytes, data: bytes, state: int) -> None:
        """R11: the same answer to a head that is read at once as from twisted.web's parser."""

        def answers() -> tuple[object, ...]:
            origins = OriginPolicy(["http://good"]) if state == 1 else None
            proxies = TrustedProxies(["192.0.2.1"] if state == 4 else [])
            server = MemoryServer(COUNTING if state == 4 else LIMITS, proxies, origins=origins)
            if state == 2:
                server.manager.connections.limit = 1
            other, peer = server.subscribe("/a"), server.connect()
            server.manager.connections.draining = state == 3
            peer.send(head + data)
            server.run(61)
            connections = server.manager.connections
            addresses = [each.address() for each in connections.subscribers]  # type: ignore[attr-defined]
            return (
                sorted(addresses),
                len(server.manager.clients),
                re.sub(rb"Date: [^\r]*", b"", peer.take()),
                (peer.transport.ended, peer.transport.reset, peer.transport.reading),
                other.take(),
                (len(connections.subscribers), len(connections.requesters)),
            )

        quick = answers()
        with patch.object(site, "plain_handshake", return_value=None):
            self.assertEqual(quick, answers())

    @given(FRAMES.map(b"".join), CUTS)
    @examples(500)
    def test_segments(self, data: bytes, cuts: list[int]) -> None:
        """R11: the same in one segment and in any number of them."""
        whole, parts = outcome(data, []), outcome(data, cuts)
        self.assertEqual(whole[1:], parts[1:])


HTTP_LIMITS = Limits(
    max_message=80,
    head_line=256,
    head_size=320,
    head_fields=6,
    channel_name=12,
    request_slice=3,
    response_queue=1000,
    ping_interval=0,
)
WINDOW_LIMITS = replace(HTTP_LIMITS, publish_window=3000)
ORIGIN = "https://ws.example.com"
TARGETS = st.sampled_from(
    [b"/a"] * 6
    + [b"/", b"//a", b"/a?b=c", b"/%61", b"/%ff", b"/caf\xc3\xa9", b"/twelve-chars", b"*", b"a"]
    + [b"/b" * 6, b"/a b", b"http://h/a", b"", b"/a?" + b"q" * 225, b"/a?" + b"q" * 240]
)
BODIES = (
    st.sampled_from(
        [b"hello", b"", b"\xff", b"x" * 80, b"x" * 81, http_request("POST", "/b", b"?")]
    )
    | st.text(CHARACTERS, max_size=8).map(str.encode)
    | st.binary(max_size=5)
)
FIELDS = st.sampled_from(
    [
        b"User-Agent: curl/8.5.0",
        b"Content-Type: application/x-www-form-urlencoded",
        b"Connection: keep-alive",
        b"connection: Keep-Alive",
        b"Connection: keep-alive, close",
        b"Connection: close",
        b"Host: other",
        b"Content-Length: 5",
        b"content-length:\t5 ",
        b"Content-Length: 05",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: +5",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: identity",
        b"Expect: 100-continue",
        b"Origin: " + ORIGIN.encode(),
        b"Origin: https://evil.example",
        b"Upgrade: websocket",
        b"Cookie: a=b; c",
        b"X: folded\r\n more",
        b"X: \xe9",
        b"X: \x00",
        b"X: a\rb",
        b"X: a\nb",
        b"X : y",
        b"no colon",
        b"X:" + b"x" * 240,
        b"X: " + b"x" * 255,
        b"X: y\r\nX: z\r\nX: z\r\nX: z",
    ]
)


def post_of(target: bytes, body: bytes, fields: list[bytes]) -> bytes:
    """A POST with more header fields than it needs."""
    fields = [b"Host: h", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join([b"POST " + target + b" HTTP/1.1", *fields, b"", b""]) + body


def changed(data: bytes, where: int, value: int) -> bytes:
    """A request with one byte changed."""
    where %= len(data)
    return data[:where] + bytes([value]) + data[where + 1 :]


PLAIN = post_of(b"/a", b"hello", [])
A, HELLO = st.just(b"/a"), st.just(b"hello")
NONE: st.SearchStrategy[list[bytes]] = st.just([])
PLAIN_POSTS = st.just(PLAIN)
# With one thing unusual about them.
ALMOST = (
    st.builds(post_of, A, HELLO, FIELDS.map(lambda field: [field]))
    | st.builds(post_of, A, BODIES, NONE)
    | st.builds(post_of, TARGETS, HELLO, NONE)
)
POSTS = st.builds(post_of, TARGETS, BODIES, st.lists(FIELDS, max_size=3))
CHANGED = st.builds(changed, PLAIN_POSTS, st.integers(0), st.integers(0, 255))
OTHERS = st.sampled_from(
    [
        http_request("GET", "/a"),
        http_request("HEAD", "/a"),
        http_request("OPTIONS", "/a"),
        http_request("PUT", "/a", b"x"),
        http_request("POST", "/a", b"old").replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"\r\n",
        b"\n",
        b"POST",
        upgrade_request("/a", {"Sec-WebSocket-Key": "A" * 22 + "=="}) + client_frame(TEXT, b"x"),
    ]
)
REQUESTS = st.lists(PLAIN_POSTS | ALMOST | POSTS | CHANGED | OTHERS, max_size=5).map(b"".join)
SEGMENTS = st.lists(REQUESTS, max_size=5)
SPLITS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 160)), max_size=5)
ROOMS = st.none() | st.integers(1, 500)
DRAINS = st.none() | st.integers(0, 10)
DATE = re.compile(rb"Date: [^\r]*")


def split(segments: list[bytes], splits: list[tuple[int, int]]) -> list[bytes]:
    """The same bytes in more segments."""
    segments = list(segments)
    for which, where in splits:
        for segment in segments[which : which + 1]:
            segments[which : which + 1] = [segment[:where], segment[where:]]
    return segments


def answers(
    segments: list[bytes], room: int | None, restrict: bool, drain: int | None
) -> tuple[object, ...]:
    """What a server makes of some requests, as seen by the peer, by another, and by itself."""
    server = MemoryServer(HTTP_LIMITS, origins=OriginPolicy([ORIGIN] if restrict else ()))
    sender, other = server.connect(room), server.subscribe("/a")
    transport, stats = sender.transport, server.manager.stats
    seen: list[object] = []
    received = b""
    for number, segment in enumerate(segments):
        server.manager.connections.draining = number == drain
        sender.deliver(segment)
        if room is None:
            # Where answers wait, the lane may be ahead by the requests of one turn.
            busy = [each.busy for each in server.manager.connections.requesters]
            seen.append((stats.published, busy))
        server.reactor.turn()
        if room is None:
            # Answers of the parser wait for the turn to end, those of the lane do not.
            seen.append(transport.reading)
        if not transport.reading:
            received += sender.take()
    # Less than a refusal waits for a peer that does not read.
    server.run(2)
    received += sender.take()
    server.run(80)
    return (
        DATE.sub(b"", received + sender.take()),
        other.take(),
        (transport.ended, transport.reset, transport.reading),
        (stats.published, stats.dropped, stats.deliveries),
        seen,
        len(server.manager.sweep),
    )


def answers_in_time(segments: list[bytes], restrict: bool, stops: list[bool]) -> tuple[object, ...]:
    """The same with a backplane, which answers only now and then; as seen in the end."""
    reactor = MemoryReactor()
    redis = MemoryRedis(reactor)

    def backplane(manager: ChannelManager) -> RedisBackplane:
        urls = [BrokerURL("redis://host")]
        return RedisBackplane(urls, manager, reactor, endpoint=lambda *_: redis)

    origins = OriginPolicy([ORIGIN] if restrict else ())
    server = MemoryServer(WINDOW_LIMITS, reactor=reactor, backplane=backplane, origins=origins)
    server.backplane.start()
    reactor.turn()
    sender, other = server.connect(), server.connect()
    other.send(upgrade_request("/a", {"Sec-WebSocket-Key": "A" * 22 + "=="}))
    for segment, stop in zip_longest(segments, stops[: len(segments)]):
        if stop:
            redis.stop()
        else:
            redis.resume()
        sender.deliver(segment or b"")
        reactor.turn()
    redis.resume()
    server.run(2)
    received = sender.take()
    server.run(80)
    stats = server.manager.stats
    return (
        DATE.sub(b"", received + sender.take()),
        other.take(),
        (sender.transport.ended, sender.transport.reset),
        (stats.published, stats.dropped, stats.deliveries, stats.posted, dict(stats.refusals)),
        (len(server.manager.sweep), server.backplane.state().pending),
    )


class PostLaneTests(SynchronousTestCase):
    """The same requests with the quick lane and without it."""

    @given(SEGMENTS, SPLITS, ROOMS, st.booleans(), DRAINS)
    @example([PLAIN * 20], [], None, False, None)
    @example([PLAIN + http_request("HEAD", "/a") * 2], [], None, False, None)
    @example([PLAIN + b"\r\n", PLAIN, b"\r\n" + PLAIN], [], None, False, None)
    @example([post_of(b"/a", PLAIN, [])[: -len(PLAIN)], PLAIN], [], None, False, None)
    @example([post_of(b"/a", b"x", [b"X: y"] * count) for count in (4, 5)], [], None, False, None)
    @examples(1500)
    def test_requests(
        self,
        segments: list[bytes],
        splits: list[tuple[int, int]],
        room: int | None,
        restrict: bool,
        drain: int | None,
    ) -> None:
        """R11: the same answers, byte for byte but for the date, messages, counts and end."""
        segments = split(segments, splits)
        quick = answers(segments, room, restrict, drain)
        with patch.object(site, "plain_post", return_value=None):
            self.assertEqual(quick, answers(segments, room, restrict, drain))

    @given(SEGMENTS, SPLITS, st.booleans(), st.lists(st.booleans(), max_size=10))
    @example([PLAIN * 20], [], False, [True])
    @example([PLAIN * 2 + http_request("HEAD", "/a") * 2 + PLAIN], [], False, [True])
    @example([PLAIN + post_of(b"/a", b"", []) + PLAIN, PLAIN[:9], PLAIN[9:]], [], False, [True] * 3)
    @examples(500)
    def test_requests_that_wait(
        self,
        segments: list[bytes],
        splits: list[tuple[int, int]],
        restrict: bool,
        stops: list[bool],
    ) -> None:
        """R11: the same with a backplane that takes its time, when all is over."""
        segments = split(segments, splits)
        quick = answers_in_time(segments, restrict, stops)
        with patch.object(site, "plain_post", return_value=None):
            self.assertEqual(quick, answers_in_time(segments, restrict, stops))

    def test_the_lane_is_used(self) -> None:
        """Plain POSTs are no requests of twisted.web, in whatever segments they come."""
        server = MemoryServer(HTTP_LIMITS)
        sender, other = server.connect(), server.subscribe("/a")
        sender.send(http_request("GET", "/a"))
        sender.take()
        sender.transport.protocol.requestFactory = None
        for segment in (PLAIN * 7 + PLAIN[:10], PLAIN[10:], PLAIN[:3], PLAIN[3:]):
            sender.send(segment)
        self.assertEqual([sender.response().status for _ in range(9)], [200] * 9)
        self.assertEqual(other.texts(), ["hello"] * 9)

    @given(REQUESTS)
    @examples(200)
    def test_the_grammar_is_strict(self, data: bytes) -> None:
        """What the lane takes is a prefix that ends with the body, whatever comes behind it."""
        post = plain_post(data, 0, HTTP_LIMITS)
        if post is not None:
            _, body, end = post
            self.assertEqual(post, plain_post(data[:end], 0, HTTP_LIMITS))
            self.assertTrue(data[:end].endswith(b"\r\n\r\n" + body))
