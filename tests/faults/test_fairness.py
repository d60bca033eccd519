"""Peers that send as fast as they can, and read what comes back: nothing is wrong but the rate."""

from __future__ import annotations

import threading

from pinghub.testing import PONG, TEXT, client_frame, http_request
from tests.faults.harness import FaultTests, Peer, RoundTrips, scale
from tests.running import Server

CHUNK = 65536


class Flooder:
    """Sends the same bytes again and again, and reads and forgets what comes back.

    Args:
        peer: a connection.
        data: what to send, complete frames or requests.
    """

    def __init__(self, peer: Peer, data: bytes) -> None:
        self._peer = peer
        self._data = data * (CHUNK // len(data))
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._send, self._read)
        ]

    def start(self) -> None:
        """Begin."""
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        """End the connection."""
        self._peer.close()
        for each in self._threads:
            each.join()

    def _send(self) -> None:
        while self._peer.try_to_send(self._data):
            pass

    def _read(self) -> None:
        try:
            while self._peer.socket.recv(1 << 20):
                pass
        except OSError:
            pass


class FairnessTests(FaultTests):
    """One client that sends all it can takes its share of the server, and no more."""

    SECONDS = scale(1.0, 10.0)

    def assert_fair(self, what: str, data: bytes, upgrade: bool = True) -> None:
        """Others have short round trips while one client floods the server with this."""
        server = self.server()
        prober = self.round_trips(server)
        bound = self.bound_of(prober, 20)
        p99 = self.least_of(lambda: self.flooded(server, prober, data, upgrade), bound, 5)
        self.figure("R9", f"round trip of others, flood of {what}, p99", p99, bound, "ms")

    def flooded(self, server: Server, prober: RoundTrips, data: bytes, upgrade: bool) -> float:
        """The p99 of others while one client floods the server."""
        peer = self.peer(server)
        if upgrade:
            peer.upgrade("/flood")
        flooder = Flooder(peer, data)
        flooder.start()
        try:
            with prober.window() as latency:
                self.pass_time(self.SECONDS)
            return latency().p99
        finally:
            flooder.stop()

    def test_tiny_messages(self) -> None:
        """R9: one client with as many tiny messages as it can send does not starve others."""
        self.assert_fair("1-byte messages", client_frame(TEXT, b"x"))

    def test_messages_in_fragments(self) -> None:
        """R9: nor with messages that need the whole parser."""
        message = client_frame(TEXT, b"", fin=False) + client_frame(0, b"x")
        self.assert_fair("messages in two fragments", message)

    def test_heartbeats(self) -> None:
        """R9: nor with empty messages, each of which is answered."""
        self.assert_fair("heartbeats", client_frame(TEXT))

    def test_pongs(self) -> None:
        """R9: nor with pongs that answer nothing."""
        self.assert_fair("pongs", client_frame(PONG))

    def test_pipelined_requests(self) -> None:
        """R9: nor with tiny requests, pipelined without end."""
        self.assert_fair("pipelined POSTs", http_request("POST", "/flood", b"x"), upgrade=False)
