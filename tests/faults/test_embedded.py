"""Channels inside other people's sites, and other people's code inside channels."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from pinghub import Limits
from pinghub.draining import drain
from pinghub.testing import (
    BINARY,
    CLOSE,
    TEXT,
    Frame,
    MemoryServer,
    MemoryTransport,
    client_frame,
    http_request,
    upgrade_request,
)
from pinghub.testing import Peer as MemoryPeer
from tests.faults.harness import PATIENCE, FaultTests
from tests.faults.places import ROOT

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class MountedTests(FaultTests):
    """R26, in a Site of twisted.web."""

    SITE = "Site"

    def setUp(self) -> None:
        command = [sys.executable, "-m", "tests.faults.embedding", self.SITE]
        self.site = self.server(command=command, addr=False, cwd=ROOT)

    def request(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, bytes]:
        """One request; status and body."""
        peer = self.peer(self.site)
        peer.send(http_request(method, path, body, headers))
        status, _, answer = peer.response()
        return status, answer

    def test_names_are_relative(self) -> None:
        """R26: names begin below the mount; one manager's channels are the same everywhere."""
        first = self.subscriber(self.site, "/live/news")
        second = self.subscriber(self.site, "/deep/er/news?x=1")
        other = self.subscriber(self.site, "/live/live/news")
        root = self.subscriber(self.site, "/live/")
        publisher = self.peer(self.site)
        self.assertEqual(publisher.post("/live/news", b"1"), (200, 2))
        self.assertEqual(publisher.post("/deep/er/news", b"2"), (200, 2))
        self.assertEqual(publisher.post("/live/live/news", b"3"), (200, 1))
        self.assertEqual(publisher.post("/live", b"4"), (200, 1))
        self.assertEqual(publisher.post("/deep/er/", b"5"), (200, 1))
        for peer, texts in ((first, b"12"), (second, b"12"), (other, b"3"), (root, b"45")):
            received = b"".join(peer.frame().payload for _ in texts)
            self.assertEqual(received, texts)

    def test_semantics(self) -> None:
        """R26: messages, heartbeats, close codes and refusals are those of a Pinghub alone."""
        peer = self.subscriber(self.site, "/live/a")
        peer.send(client_frame(TEXT, b"x") + client_frame(TEXT))
        self.assertEqual([peer.frame(), peer.frame()], [Frame(TEXT, b"x"), Frame(TEXT, b"")])
        for path, data, code in (
            ("/live/a", client_frame(BINARY, b"x"), 1003),
            ("/live/a", client_frame(TEXT, b"\xff"), 1007),
            ("/live/a", client_frame(TEXT, b"x" * 65_537)[:100], 1009),
            ("/live/a", b"\xff\xff", 1002),
            ("/deep/er/news", client_frame(TEXT, b"x"), 1008),
            ("/live/a", client_frame(CLOSE, b"\x0b\xb8"), 3000),
        ):
            peer = self.subscriber(self.site, path)
            peer.send(data)
            frame = peer.frame()
            self.assertEqual((frame.opcode, frame.code), (CLOSE, code))
            self.assertEqual(peer.rest(), b"")
        for method, path, body, status in (
            ("POST", "/live/a", b"x" * 65_536, 200),
            ("POST", "/live/a", b"x" * 65_537, 413),
            ("POST", "/live/a", b"\xff", 400),
            ("GET", "/live/a", b"", 200),
            ("PUT", "/live/a", b"x", 405),
            ("OPTIONS", "/live/a", b"", 204),
            ("GET", "/live/%ff", b"", 400),
        ):
            self.assertEqual(self.request(method, path, body)[0], status, (method, path))

    def test_a_form_is_a_message(self) -> None:
        """R26: a POST that looks like a form is a message like any other, byte for byte."""
        peer = self.subscriber(self.site, "/live/a")
        self.assertEqual(self.peer(self.site).post("/live/a", b"a=1&b=%00", **FORM), (200, 1))
        self.assertEqual(peer.frame().payload, b"a=1&b=%00")

    def test_siblings(self) -> None:
        """R26: the other resources answer as ever, whatever the channels do."""
        self.subscriber(self.site, "/live/form")
        self.assertEqual(self.request("GET", "/"), (200, b"our own page\n"))
        self.assertEqual(self.request("POST", "/")[0], 405)
        self.assertEqual(self.request("GET", "/lively")[0], 404)
        self.assertEqual(self.request("GET", "/deep/")[0], 404)
        status, answer = self.request("POST", "/form/x", b"y=z" * 10)
        self.assertEqual((status, json.loads(answer)), (200, [["x"], 30, {}]))

    def test_forms_of_siblings(self) -> None:
        """R26: the site parses the forms of its own resources, of any size."""
        body = b"field=" + b"x" * 200_000
        status, answer = self.request("POST", "/form", body, **FORM)
        below, size, fields = json.loads(answer)
        self.assertEqual((status, below, size), (200, [], len(body)))
        self.assertEqual(fields, {"field": "x" * 200_000})

    def test_pipelined_upgrade(self) -> None:
        """R26: requests to all parts, an upgrade and frames in one segment: all in their order."""
        listener = self.subscriber(self.site, "/live/a")
        peer = self.peer(self.site)
        peer.send(
            http_request("GET", "/")
            + http_request("POST", "/live/a", b"posted")
            + http_request("POST", "/form/x")
            + upgrade_request("/live/a")
            + client_frame(TEXT, b"first")
            + client_frame(TEXT, b"second")
        )
        self.assertEqual([peer.response()[0] for _ in range(4)], [200, 200, 200, 101])
        self.assertEqual([peer.frame().payload for _ in range(2)], [b"first", b"second"])
        received = [listener.frame().payload for _ in range(3)]
        self.assertEqual(received, [b"posted", b"first", b"second"])

    def test_drain(self) -> None:
        """R26: when the site stops, ``drain`` lets what is pending arrive, then 1001."""
        peers = [self.subscriber(self.site, "/live/a") for _ in range(20)]
        publisher = self.peer(self.site)
        self.assertEqual(publisher.post("/live/a", b"last"), (200, 20))
        begun = time.monotonic()
        self.site.process.send_signal(signal.SIGTERM)
        for peer in peers:
            self.assertEqual(peer.frame(), Frame(TEXT, b"last"))
            self.assertEqual(peer.frame().code, 1001)
            peer.send(client_frame(CLOSE, b"\x03\xe9"))
            self.assertEqual(peer.rest(), b"")
        self.assertEqual(self.site.wait(PATIENCE), 0)
        self.figure("R26", "drain inside another site", time.monotonic() - begun, 3, "s")


class PinghubSiteTests(MountedTests):
    """R26, in a PinghubSite that has other resources as well."""

    SITE = "PinghubSite"

    def test_forms_of_siblings(self) -> None:
        """R26: the bound on bodies, and that forms are not parsed, holds for the whole tree."""
        self.assertEqual(self.request("POST", "/form", b"x" * 70_000, **FORM)[0], 413)
        status, answer = self.request("POST", "/form", b"field=x", **FORM)
        self.assertEqual((status, json.loads(answer)), (200, [[], 7, {}]))


class Fault(Exception):
    """Raised where nobody expects it."""


class FaultyTransport(MemoryTransport):
    """A connection in which sending raises, once it is told to."""

    faulty = False

    def send(self, data: bytes) -> int:
        """Send, or raise."""
        if self.faulty:
            raise Fault("while sending")
        return super().send(data)


class Hook:
    """An embedder's subscriber whose ``deliver`` raises."""

    def __init__(self) -> None:
        self.calls = 0

    def deliver(self, frames: bytes) -> None:
        self.calls += 1
        raise Fault("in a hook")


class FaultyMemberTests(FaultTests):
    """R14, in memory."""

    def setUp(self) -> None:
        self.memory = MemoryServer(Limits(ping_interval=0))
        self.before = self.memory.subscribe("/a")
        self.faulty = self.faulty_subscriber()
        self.after = self.memory.subscribe("/a")

    def faulty_subscriber(self) -> MemoryPeer:
        """A subscriber that can be made faulty."""
        transport = FaultyTransport(self.memory.reactor)
        transport.protocol = self.memory.site.buildProtocol(transport.getPeer())
        transport.protocol.makeConnection(transport)
        peer = MemoryPeer(self.memory, transport)
        peer.send(upgrade_request("/a"))
        self.assertEqual(peer.response().status, 101)
        return peer

    def strike(self) -> None:
        """From now on the subscriber in the middle is faulty."""
        transport = self.faulty.transport
        assert isinstance(transport, FaultyTransport)
        transport.faulty = True

    def assert_others_are_well(self) -> None:
        """The others are subscribed still, and served."""
        self.assertEqual(self.memory.manager.subscribers("/a"), 2)
        self.before.send_text("later")
        for peer in (self.before, self.after):
            self.assertEqual(peer.texts()[-1], "later")

    def test_its_delivery(self) -> None:
        """R14: when taking a message raises in one subscriber, all others get it.

        Whether it was published by POST or by a websocket that wants to go on.
        """
        self.strike()
        response = self.memory.post("/a", b"posted")
        self.assertEqual((response.status, response.body), (200, b"OK\n"))
        self.before.send_text("sent")
        for peer in (self.before, self.after):
            self.assertEqual(peer.texts(), ["posted", "sent"])
        self.assertTrue(self.faulty.transport.reset)
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)
        self.assert_others_are_well()

    def test_a_hook(self) -> None:
        """R14: an embedder's subscriber that raises is unsubscribed, and nobody else notices."""
        self.faulty.close()
        hook = Hook()
        self.memory.manager.subscribe("/a", hook)
        with self.assertLogs("pinghub", logging.ERROR) as logged:
            for text in ("first", "second"):
                self.before.send_text(text)
        self.assertEqual((len(logged.records), hook.calls), (1, 1))
        for peer in (self.before, self.after):
            self.assertEqual(peer.texts(), ["first", "second"])
        self.assert_others_are_well()

    def test_its_end(self) -> None:
        """R14: when closing one subscriber raises, all others are closed all the same."""
        self.strike()
        with self.assertLogs("pinghub", logging.ERROR) as logged:
            stopped = drain(self.memory.manager)
            # Everyone has been told by then, and nobody is aborted for being late.
            self.memory.run(Limits().drain * 0.9)
            self.assertTrue(self.faulty.transport.reset)
            self.memory.run(4)
        self.assertEqual(len(logged.records), 1)
        for peer in (self.before, self.after):
            self.assertEqual([frame.code for frame in peer.frames()], [1001])
        self.successResultOf(stopped)
        self.assertEqual(len(self.memory.manager.connections), 0)

    def test_its_answer_to_a_close(self) -> None:
        """R14: when answering the close frame of one subscriber raises, it alone is lost."""
        self.strike()
        with self.assertRaises(Fault):
            self.faulty.send(client_frame(CLOSE, b"\x03\xe8"))
        # What a reactor does with a connection that raises, besides logging it.
        self.faulty.transport.connectionLost(Failure(ConnectionLost()))
        self.assert_others_are_well()
        self.assertEqual(len(self.memory.manager.connections), 2)
