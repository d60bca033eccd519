"""Servers that are told to end, or are ended, and start again."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pinghub.testing import CLOSE, client_frame, http_request
from tests.faults.harness import (
    KIB,
    PATIENCE,
    SMALL_BUFFER,
    Crowd,
    FaultTests,
    Peer,
    Reader,
    eventually,
    numbered,
    scale,
)
from tests.running import Server

READERS = 100
STALLED = 10
MESSAGES = 16
SIZE = 62 * KIB
"""So that a megabyte is in flight for each reader, a little less than a backlog may be."""


class DrainTests(FaultTests):
    """R20."""

    DRAIN = scale(3.0, 5.0)

    def loaded(self, server: Server, count: int) -> list[Peer]:
        """Subscribers that have not read yet."""
        return [self.subscriber(server, "/a", SMALL_BUFFER) for _ in range(count)]

    def publish(self, server: Server) -> None:
        """Put a megabyte in flight for every subscriber."""
        publisher = self.peer(server)
        for number in range(MESSAGES):
            self.assertEqual(publisher.post("/a", numbered(number, SIZE))[0], 200)

    def read_all(self, peers: list[Peer]) -> list[Reader]:
        """Begin to read, and answer the close frames."""
        for peer in peers:
            # Reading should not take longer than it has to.
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * KIB)
        with Crowd(peers) as crowd:
            readers = crowd.readers
            eventually(
                lambda: all(each.control or each.ended for each in readers),
                PATIENCE,
                "everyone is told to go",
            )
            for peer in peers:
                peer.try_to_send(client_frame(CLOSE, b"\x03\xe9"))
            eventually(lambda: all(each.ended for each in readers), PATIENCE, "everyone is gone")
        return readers

    def assert_complete(self, readers: list[Reader]) -> None:
        """Everyone has got everything, then 1001, and no more."""
        for reader in readers:
            self.assertEqual(reader.numbers, list(range(MESSAGES)))
            self.assertEqual([frame.code for frame in reader.control], [1001])

    def is_refused(self, server: Server) -> bool:
        """Whether nobody can connect any more."""
        try:
            socket.create_connection(("127.0.0.1", server.port), PATIENCE).close()
        except ConnectionRefusedError:
            return True
        return False

    def test_pending_messages_then_1001(self) -> None:
        """R20: what is in flight reaches every reader, then 1001; who stalls is aborted.

        Nobody can connect meanwhile, and requests on open connections are answered 503.
        """
        server = self.server(f"--drain={self.DRAIN}")
        peers, requester = self.loaded(server, READERS), self.peer(server)
        self.loaded(server, STALLED)
        self.publish(server)
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        took = eventually(lambda: self.is_refused(server), PATIENCE, "connections are refused")
        self.figure("R20", "connections refused", took, 1, "s")
        requester.send(http_request("POST", "/a", b"too late"))
        self.assertEqual(requester.response()[0], 503)
        self.assert_complete(self.read_all(peers))
        self.assertEqual(server.wait(PATIENCE), 0)
        took = time.monotonic() - begun
        self.figure("R20", "exit with stalled readers", took, self.DRAIN + 1, "s")

    def test_a_second_signal(self) -> None:
        """R20: a second signal ends it at once, whoever has not read yet."""
        server = self.server("--drain=1m")
        self.loaded(server, READERS)
        self.publish(server)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(re.compile("Received a signal: stopping"))
        begun = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.figure("R20", "exit after a second signal", time.monotonic() - begun, 1, "s")


class RestartTests(FaultTests):
    """R21."""

    def test_killed_and_started_again(self) -> None:
        """R21: killed and started again it listens at once, on its port and its socket."""
        path = Path(tempfile.mkdtemp()) / "s"
        self.addCleanup(shutil.rmtree, path.parent)
        addresses = ["--addr=127.0.0.1:0", f"--addr={path}"]
        for _ in range(3):
            server = self.server(*addresses, addr=False)
            addresses[0] = f"--addr=127.0.0.1:{server.port}"
            # Connections of the last server linger in the kernel, and more of them each time.
            peers = [self.subscriber(server, "/a") for _ in range(20)]
            publisher = Peer(self.unix_socket(path))
            self.assertEqual(publisher.post("/a", b"x"), (200, len(peers)))
            for peer in peers:
                self.assertEqual(peer.frame().payload, b"x")
            server.kill()

    def test_a_live_socket(self) -> None:
        """R21: a unix socket on which another one serves is left alone."""
        path = Path(tempfile.mkdtemp()) / "s"
        self.addCleanup(shutil.rmtree, path.parent)
        self.server(f"--addr={path}", addr=False)
        second = subprocess.run(
            [sys.executable, "-m", "pinghub", f"--addr={path}"], capture_output=True, timeout=20
        )
        self.assertNotEqual(second.returncode, 0)
        self.assertEqual(Peer(self.unix_socket(path)).post("/a", b"x"), (200, 0))

    def unix_socket(self, path: Path) -> socket.socket:
        """A connection to a unix socket."""
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        return connection

    def test_hangup(self) -> None:
        """R21: SIGHUP, as often as it comes, changes nothing."""
        server = self.server()
        crowd = self.crowd(server, "/a", 20)
        publisher = self.peer(server)
        for number in range(10):
            server.process.send_signal(signal.SIGHUP)
            self.assertEqual(publisher.post("/a", numbered(number)), (200, 20))
        crowd.wait_for(10)
        for reader in crowd.readers:
            self.assertEqual(reader.numbers, list(range(10)))
        self.assertEqual(server.stop(), 0)
