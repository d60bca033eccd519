"""Networks that fail."""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
from pathlib import Path

from tests.faults import load
from tests.faults.harness import PATIENCE, FaultTests, Peer, eventually, scale
from tests.faults.listener import end_listener, start_listener
from tests.faults.networks import (
    SERVER,
    LossyNetwork,
    Network,
    Quality,
    inside,
    ip,
    plain_network,
)
from tests.running import Server

PING_INTERVAL = scale(1.0, 27.0)
PING_TIMEOUT = scale(1.0, 30.0)


class NetworkTests(FaultTests):
    """Servers and clients, each in a namespace of their own."""

    def server_in(self, network: Network, *options: str) -> Server:
        """A server in a namespace."""
        command = [*inside(network.server), sys.executable, "-m", "pinghub"]
        return self.server(f"--addr={SERVER}:0", *options, addr=False, command=command)


class DeadLinkTests(NetworkTests):
    """R15; see ``test_process`` for processes that stop."""

    def test_a_link_that_goes_down(self) -> None:
        """R15: a subscriber behind a dead link is unsubscribed, and the others are served."""
        network = plain_network()
        self.addCleanup(network.close)
        # A unix socket can be reached from any namespace.
        path = Path(tempfile.mkdtemp()) / "s"
        self.addCleanup(shutil.rmtree, path.parent)
        server = self.server_in(
            network,
            f"--addr={path}",
            f"--ping-interval={PING_INTERVAL}",
            f"--ping-timeout={PING_TIMEOUT}",
        )
        for namespace in (network.client, network.server):
            listener = start_listener(SERVER, server.port, "/a", inside(namespace))
            self.addCleanup(end_listener, listener)
        publisher = Peer(socket.socket(socket.AF_UNIX))
        self.addCleanup(publisher.close)
        publisher.socket.settimeout(PATIENCE)
        publisher.socket.connect(str(path))
        self.assertEqual(publisher.post("/a", b"x"), (200, 2))
        ip("-n", network.client, "link", "set", network.link, "down")
        took = eventually(
            lambda: publisher.post("/a", b"x") == (200, 1),
            PING_INTERVAL + PING_TIMEOUT + 10,
            "it is unsubscribed",
        )
        bound = PING_INTERVAL + PING_TIMEOUT + 2
        self.figure("R15", "unsubscribed: link down", took, bound, "s")


class LossTests(NetworkTests):
    """R22."""

    def test_order_over_a_bad_link(self) -> None:
        """R22: a link that delays, loses and reorders packets changes nothing of R12."""
        network = LossyNetwork(Quality(delay=0.05, loss=0.05, early=0.1))
        network.open()
        self.addCleanup(network.close)
        server = self.server_in(network, "--ping-interval=0")
        deliveries = scale(1e5, 1e6)
        plan = load.Plan(SERVER, server.port, messages=round(deliveries / 200))
        report = load.run(plan, inside(network.client))
        self.assertEqual(report.faults[:3], [])
        self.figure("R22", "deliveries", report.deliveries, deliveries, "", at_least=True)
        traffic = network.traffic()
        lost = traffic.lost / traffic.packets * 100
        self.figure("R22", "packets lost", lost, 4, "%", at_least=True)
        ahead = traffic.ahead / traffic.packets * 100
        self.figure("R22", "packets that got ahead of others", ahead, 8, "%", at_least=True)
        self.assertNotIn("Evicted", "".join(server.output))
