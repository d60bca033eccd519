"""A million deliveries in one order: 1000 subscribers, 1000 POSTs over one connection.

Starts a Pinghub of its own, subscribes 1000 websockets to one channel, POSTs 1000 messages of
100 bytes over one keep-alive connection, and checks that every subscriber received every
message in the order in which they were posted. Prints what it measured; exits with status 1
if a single byte is missing or out of place.

Usage: ``python -m benchmarks.order [--subscribers N] [--messages N] [--size BYTES]``
"""

from __future__ import annotations

import argparse
import http.client
import os
import platform
import selectors
import socket
import sys
import threading
import time
from pathlib import Path

from pinghub.frames import text_frame
from pinghub.testing import upgrade_request
from tests.running import Server

CHANNEL = "/order"
PATIENCE = 60.0


class Reader:
    """One subscriber: compares what arrives with what has to arrive, byte for byte.

    Args:
        port: where the server listens.
        expected: all frames of the run, in order.
    """

    def __init__(self, port: int, expected: memoryview) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.sendall(upgrade_request(CHANNEL))
        self._expected = expected
        self._received = 0
        self.complete = False

    def shake_hands(self) -> None:
        """Wait for the 101."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise SystemExit(f"refused: {head!r}")
        self.socket.setblocking(False)

    def read(self) -> None:
        """Read what has arrived, and check it."""
        data = self.socket.recv(1 << 16)
        end = self._received + len(data)
        if not data or self._expected[self._received : end] != data:
            raise SystemExit(f"wrong or missing bytes behind byte {self._received}")
        self._received = end
        self.complete = end == len(self._expected)


def read_all(readers: list[Reader]) -> None:
    """Read until every reader has everything."""
    selector = selectors.DefaultSelector()
    for reader in readers:
        selector.register(reader.socket, selectors.EVENT_READ, reader)
    left = len(readers)
    while left:
        events = selector.select(PATIENCE)
        if not events:
            raise SystemExit(f"{left} subscribers wait in vain")
        for key, _ in events:
            key.data.read()
            if key.data.complete:
                selector.unregister(key.fileobj)
                left -= 1


def post_all(port: int, messages: list[bytes], subscribers: int) -> None:
    """POST all messages over one keep-alive connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    for message in messages:
        connection.request("POST", CHANNEL, message)
        response = connection.getresponse()
        response.read()
        if response.headers["Pinghub-Subscribers"] != str(subscribers):
            raise SystemExit(f"a subscriber was lost: {dict(response.headers)}")
    connection.close()


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(subscribers: int, count: int, size: int) -> str:
    """Run the measurement; what it found, as one line."""
    messages = [(b"%d " % number).ljust(size, b".") for number in range(count)]
    expected = memoryview(b"".join(text_frame(message) for message in messages))
    # Without pings: a reader compares all that comes.
    with Server("--ping-interval=0") as server:
        readers = [Reader(server.port, expected) for _ in range(subscribers)]
        for reader in readers:
            reader.shake_hands()
        publisher = threading.Thread(target=post_all, args=(server.port, messages, subscribers))
        used, begun = cpu_seconds(server.process.pid), time.perf_counter()
        publisher.start()
        read_all(readers)
        publisher.join()
        seconds = time.perf_counter() - begun
        used = cpu_seconds(server.process.pid) - used
        for reader in readers:
            reader.socket.close()
    deliveries = subscribers * count
    return (
        f"{deliveries} deliveries of {size} bytes to {subscribers} subscribers, all in one "
        f"order: {seconds:.1f} s, {used:.1f} s of server CPU, "
        f"{deliveries / used:,.0f} deliveries per CPU-second "
        f"({platform.python_implementation()} {platform.python_version()})"
    )


def main() -> None:
    """Read the command line, run, and print."""
    parser = argparse.ArgumentParser(description="Check and time a million deliveries.")
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--size", type=int, default=100)
    options = parser.parse_args()
    print(run(options.subscribers, options.messages, options.size))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
