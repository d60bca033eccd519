"""Thousands of connections from one process, without a thread or a loop for them."""

from __future__ import annotations

import resource
import socket

from twisted.trial.unittest import SkipTest

from pinghub.connections import raise_descriptor_limit
from pinghub.testing import upgrade_request
from tests.faults.harness import PATIENCE, connect

AT_A_TIME = 100


def need_descriptors(count: int) -> None:
    """Make sure that this process, and one that it starts, may open so many connections.

    Raises:
        SkipTest: they may not.
    """
    raise_descriptor_limit()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A server admits as many as 80 % of its descriptors.
    if soft * 0.8 < count + 100:
        raise SkipTest(f"only {soft} descriptors: ulimit -Hn {2 * count}, as root")


def open_websockets(address: tuple[str, int], path: str, count: int) -> list[socket.socket]:
    """Open many websockets on one channel."""
    found: list[socket.socket] = []
    while len(found) < count:
        few = [connect(address) for _ in range(min(AT_A_TIME, count - len(found)))]
        found += few
        for connection in few:
            connection.sendall(upgrade_request(path))
        for connection in few:
            connection.settimeout(PATIENCE)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                # Not a byte more: a message may follow.
                data = connection.recv(1)
                assert data, head
                head += data
            assert head.startswith(b"HTTP/1.1 101 "), head
    return found
