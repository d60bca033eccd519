"""What holds behind any proxy. Not in a test module, so that it runs in front of one only."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter

from pinghub.testing import PING, PONG, TEXT, client_frame, upgrade_request
from tests.faults.harness import PATIENCE, Crowd, eventually, numbered
from tests.proxies.harness import ProxyTests

SPELLINGS = (
    "/caf%C3%A9",
    "/caf%c3%a9",
    "/%63af%C3%A9",
    "/caf%C3%A9?token=1",
    "/caf%c3%a9?token=/other",
)


# Clients come from addresses of their own; the proxies come from 127.0.0.1, and are trusted.
CLIENT, OTHER = "127.0.0.2", "127.0.0.3"
MADE_UP = ("203.0.113.9", "127.0.0.1", "127.0.0.3, 127.0.0.1", "unknown", "", "203.0.113.9,,")


class AddressTests(ProxyTests):
    """The client's address: known, counted, and not to be made up."""

    def options(self) -> list[str]:
        return [
            "--trust-proxy=127.0.0.1",
            "--max-connections-per-address=2",
            "--origin=https://ws.example.com",
        ]

    def handshake(self, address: str, **headers: str) -> int:
        """The status that a handshake is answered with; the connection stays open."""
        peer = self.connect(address)
        peer.send(upgrade_request("/a", headers))
        status, _, _ = peer.response()
        return status

    def logged(self) -> list[str]:
        """Which clients the servers say they refused because of their origin."""
        text = "".join(line for server in self.servers for line in server.output)
        return re.findall(r"Refused an origin .*client='([^']*)'", text)

    def test_log(self) -> None:
        """The log has the client's address, whatever the client wrote into the field."""
        for said in MADE_UP:
            status = self.handshake(CLIENT, Origin="https://evil.example", X_Forwarded_For=said)
            self.assertEqual(status, 403)
        eventually(lambda: len(self.logged()) == len(MADE_UP), PATIENCE, "the lines")
        self.assertEqual(self.logged(), [CLIENT] * len(MADE_UP))

    def test_bound(self) -> None:
        """Each client has as many websockets as it may, whatever it says; the proxy any number."""
        for address in (CLIENT, OTHER):
            statuses = [self.handshake(address, X_Forwarded_For=said) for said in MADE_UP]
            self.assertEqual(statuses, [101] * 2 + [429] * (len(MADE_UP) - 2))
        publisher = self.connect(CLIENT)
        for _ in range(10):
            self.assertEqual(publisher.post("/a", b"x"), (200, 4))


class ChannelTests(ProxyTests):
    """One owner for each channel, nothing lost, and loud failures."""

    def test_one_owner(self) -> None:
        """Every spelling of a name, with or without a query, leads to the same server."""
        subscribers = [self.subscribe(spelling) for spelling in SPELLINGS]
        publisher = self.connect()
        for number, spelling in enumerate(SPELLINGS):
            body = f"{number}".encode()
            self.assertEqual(publisher.post(spelling, body), (200, len(SPELLINGS)), spelling)
            self.assertEqual([peer.message() for peer in subscribers], [body] * len(SPELLINGS))
        self.assertEqual(len(self.owners(SPELLINGS[0])), 1)

    def test_both_ways(self) -> None:
        """Messages of subscribers, and messages as large as they may be, pass the proxy."""
        peers = [self.subscribe("/a"), self.subscribe("/a")]
        peers[0].send(client_frame(TEXT, b"x" * 65_536))
        for peer in peers:
            self.assertEqual(peer.message(), b"x" * 65_536)
        status, _ = self.connect().post("/a", b"x" * 65_536)
        self.assertEqual(status, 200)
        status, _ = self.connect().post("/a", b"x" * 65_537)
        self.assertEqual(status, 413)

    def test_nothing_is_lost(self) -> None:
        """400 clients on 200 channels, on all three servers, get all messages in order."""
        channels = [f"/channel/{number}" for number in range(200)]
        with Crowd([self.subscribe(path) for path in channels for _ in range(2)]) as crowd:
            publisher = self.connect()
            for number in range(20):
                for path in channels:
                    self.assertEqual(publisher.post(path, numbered(number)), (200, 2))
            self.assertTrue(crowd.wait_for(20))
        for reader in crowd.readers:
            self.assertEqual(reader.numbers, list(range(20)))
        spread = Counter(self.owners(path)[0].port for path in channels)
        self.assertEqual(len(spread), 3)
        self.assertGreater(min(spread.values()), 10)

    def test_a_dead_owner(self) -> None:
        """A POST to a server that is dead is refused; never 200 as if it had been delivered."""
        peer = self.subscribe("/a")
        (owner,) = self.owners("/a")
        peer.message()
        owner.kill()
        answers: list[tuple[int, int]] = []
        begun = time.monotonic()
        while time.monotonic() - begun < 1:
            answers.append(self.connect().post("/a", b"x"))
        self.assertIn(answers[0][0], (502, 503))
        for status, subscribers in answers:
            # Where the channel has moved, the publisher learns that nobody is there yet.
            self.assertTrue(status in (502, 503) or (status, subscribers) == (200, 0), answers)

    def test_idle(self) -> None:
        """An idle websocket outlives the default timeout of 60 seconds."""
        peer = self.subscribe("/a")
        # It answers pings, as every client does; the first comes after 27 seconds at the latest.
        begun, pings = time.monotonic(), 0
        while time.monotonic() - begun < 63:
            peer.socket.settimeout(1)
            with contextlib.suppress(TimeoutError):
                self.assertEqual(peer.frame().opcode, PING)
                peer.send(client_frame(PONG, b""))
                pings += 1
        peer.socket.settimeout(PATIENCE)
        self.assertEqual(pings, 2)
        self.assertEqual(self.connect().post("/a", b"still there"), (200, 1))
        self.assertEqual(peer.message(), b"still there")
