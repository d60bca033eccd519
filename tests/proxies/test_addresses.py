"""The client's address behind nginx and HAProxy, by header field and by the PROXY protocol."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pinghub.testing import upgrade_request
from tests.faults.harness import PATIENCE, Peer, eventually
from tests.proxies import cases
from tests.proxies.harness import HAProxyTests, NginxTests, free_port
from tests.running import Server

# What a balancer of connections is, that knows nothing of HTTP.
BALANCER = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen public
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{server} {header}
"""


class NginxAddressTests(NginxTests, cases.AddressTests):
    """Behind nginx."""


class HAProxyAddressTests(HAProxyTests, cases.AddressTests):
    """Behind HAProxy."""


class ProxyProtocolTests(SynchronousTestCase):
    """Behind HAProxy as a balancer of connections, which sends a PROXY header before them."""

    def listen(self, *options: str) -> Server:
        """A server that waits for PROXY headers."""
        server = Server("--addr=haproxy:tcp:0:interface=127.0.0.1", *options, addr=False)
        server.__enter__()
        self.addCleanup(server.kill)
        return server

    def balance(self, server: Server, header: str) -> int:
        """Start the balancer; its port."""
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        port = free_port()
        path = directory / "haproxy.cfg"
        path.write_text(BALANCER.format(port=port, server=server.port, header=header))
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(["haproxy", "-db", "-f", str(path)], stderr=log, stdout=log)
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.terminate)
        eventually(lambda: accepts(port), PATIENCE, "the balancer")
        return port

    def handshake(self, port: int, source: str, before: bytes = b"", **headers: str) -> Peer:
        """A client that asked for a websocket."""
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))
        peer = Peer(plain)
        self.addCleanup(peer.close)
        peer.send(before + upgrade_request("/a", headers))
        return peer

    def test_each_client_is_known(self) -> None:
        """In both versions: counted by its address, and logged with it."""
        for header in ("send-proxy", "send-proxy-v2"):
            server = self.listen("--max-connections-per-address=2", "--origin=https://a.example")
            port = self.balance(server, header)
            for source in (cases.CLIENT, cases.OTHER):
                peers = [self.handshake(port, source) for _ in range(3)]
                statuses = sorted(peer.response()[0] for peer in peers)
                self.assertEqual(statuses, [101, 101, 429], header)
            self.handshake(port, "127.0.0.4", Origin="https://evil.example").response()
            server.wait_for(re.compile(r"Refused an origin .*client='127\.0\.0\.4'"))

    def test_strangers(self) -> None:
        """Whoever is not trusted cannot say whose its connection is, nor connect at all."""
        server = self.listen("--trust-proxy=127.0.0.1")
        made_up = b"PROXY TCP4 203.0.113.9 127.0.0.1 50000 8081\r\n"
        with contextlib.suppress(ConnectionError):
            self.assertEqual(self.handshake(server.port, cases.CLIENT, made_up).rest(), b"")
        server.wait_for(re.compile(r"Refused a PROXY header: .*peer='127\.0\.0\.2'"))
        status, _, _ = self.handshake(server.port, "127.0.0.1", made_up).response()
        self.assertEqual(status, 101)


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True
