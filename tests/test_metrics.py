"""What Prometheus reads."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pinghub import Limits, OriginPolicy, __version__
from pinghub.channels import ChannelManager
from pinghub.errors import Refusal
from pinghub.metrics import Metrics, refusal_labels
from pinghub.stats import SECONDS
from pinghub.testing import CLOSE, TEXT, MemoryServer, client_frame, http_request, upgrade_request


class MetricsTests(SynchronousTestCase):
    """The numbers of a server that does something."""

    def setUp(self) -> None:
        self.server = MemoryServer(
            Limits(max_message=100), origins=OriginPolicy(["https://a.example"])
        )
        self.metrics = Metrics(self.server.manager)

    def values(self) -> dict[str, float]:
        """All values of our own, by name and labels."""
        body, _ = self.metrics.render("")
        return {
            sample.name.removeprefix("pinghub_") + "".join(f" {each}" for each in labels): value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
            if sample.name.startswith("pinghub_")
            for labels, value in [(sample.labels.values(), sample.value)]
        }

    def check(self, **expected: float) -> None:
        """Check some values; two underscores stand before a label."""
        values = self.values()
        found = {name: values[name.replace("__", " ").replace("8_", "8-")] for name in expected}
        self.assertEqual(found, expected)

    def test_before_anything(self) -> None:
        """Everything is there, and is 0, but for the bounds."""
        values = self.values()
        for name in ("connections_limit", "backlog_limit_bytes"):
            self.assertGreater(values.pop(name), 0)
        self.assertEqual(values.pop(f"info {__version__}"), 1)
        self.assertEqual(set(values.values()), {0})

    def test_messages(self) -> None:
        """Messages by where they come from, to somebody or nobody, with their sizes."""
        peer, other = self.server.subscribe("/a"), self.server.subscribe("/a")
        peer.send(client_frame(TEXT, b"12345"))
        self.server.request("POST", "/a", b"123")
        self.server.request("POST", "/b", b"12")
        self.server.request("POST", "/a", b"")
        peer.send(client_frame(TEXT, b""))
        self.server.manager.publish("/a", "1")
        self.server.reactor.turn()
        self.check(
            messages_total__websocket=1,
            messages_total__post=2,
            messages_total__program=1,
            messages_dropped_total=1,
            message_bytes_total=11,
            deliveries_total=6,
            delivery_bytes_total=2 * (5 + 3 + 1 + 3 * 2),
            subscriptions_total=2,
            channels=1,
            connections__websocket=2,
        )
        other.close()
        self.check(connections__websocket=1)

    def test_ends(self) -> None:
        """Evictions, refusals and failures, by reason."""
        self.server.request("POST", "/a", b"x" * 101)
        self.server.request("POST", "/a", b"\xff")
        self.server.request("POST", "/a", b"x", Origin="https://b.example")
        self.server.request("DELETE", "/a")
        peer = self.server.subscribe("/a")
        peer.send(client_frame(TEXT, b"x" * 101))
        peer = self.server.subscribe("/a")
        peer.send(client_frame(0x9, b"") * 1000)
        peer = self.server.subscribe("/a")
        peer.send(client_frame(CLOSE, b"\x03\xe8"))
        values = self.values()
        self.assertEqual(
            {
                name: value
                for name, value in values.items()
                if value and name.startswith(("refusals", "failures"))
            },
            {
                "refusals_total message-too-large": 1,
                "refusals_total not-text": 1,
                "refusals_total forbidden-origin": 1,
                "refusals_total method-not-allowed": 1,
                "failures_total 1009": 1,
            },
        )
        self.assertEqual(values["evictions_total control-flood"], 1)

    def test_requests_that_are_not_parsed(self) -> None:
        """What never becomes a request is counted as refused as well."""
        peer = self.server.connect()
        peer.send(b"nonsense\r\n\r\n")
        self.assertEqual(self.values()["refusals_total bad-request"], 1)

    def test_backlog(self) -> None:
        """What waits for whoever does not read."""
        peer = self.server.subscribe("/a")
        peer.transport.room = len(peer.transport.sent)
        self.server.request("POST", "/a", b"12345")
        self.server.reactor.turn()
        self.check(backlog_bytes=7, backlog_subscribers=1)

    def test_durations(self) -> None:
        """Histograms are cumulative, and end with all."""
        self.server.reactor.advance(1)
        self.server.subscribe("/a")
        self.server.request("POST", "/a", b"12345")
        self.server.reactor.turn()
        self.check(publish_to_write_seconds_count=1, fan_out_seconds_count=1)
        values = self.values()
        counts = [values[f"fan_out_seconds_bucket {bound}"] for bound in (*SECONDS, "+Inf")]
        self.assertEqual(counts, sorted(counts))
        self.assertEqual(counts[-1], 1)

    def test_draining(self) -> None:
        """It is known that it is told to stop."""
        self.server.manager.connections.leaving = True
        self.check(draining=1)


class FormTests(SynchronousTestCase):
    """The text."""

    def test_types(self) -> None:
        """The format of Prometheus, or OpenMetrics for whoever asks for it."""
        metrics = Metrics(ChannelManager(Clock()))
        body, content_type = metrics.render("")
        self.assertTrue(content_type.startswith("text/plain; version=0.0.4"))
        self.assertIn(b"# TYPE pinghub_messages_total counter", body)
        accept = "application/openmetrics-text; version=1.0.0"
        body, content_type = metrics.render(accept)
        self.assertTrue(content_type.startswith(accept))
        self.assertTrue(body.endswith(b"# EOF\n"))

    def test_process(self) -> None:
        """The figures of the process are there."""
        body, _ = Metrics(ChannelManager(Clock())).render("")
        for name in ("process_resident_memory_bytes", "process_open_fds", "python_info"):
            self.assertIn(f"\n{name}".encode(), body)

    def test_labels_are_fixed(self) -> None:
        """Nothing that a peer says is in it, and nothing gets longer."""
        server = MemoryServer()
        metrics = Metrics(server.manager)
        before, _ = metrics.render("")
        for number in range(50):
            server.subscribe(f"/secret-{number}")
            server.request("POST", f"/secret-{number}", b"secret")
            server.request(f"SECRET{number}", "/secret")
            server.connect().send(http_request("GET", "/secret", b"", {"Host": "s", "Foo": "\0"}))
            server.connect().send(upgrade_request("/secret", {"Sec-WebSocket-Version": "7"}))
        after, _ = metrics.render("")
        self.assertNotIn(b"secret", after.lower())

        def names(text: bytes) -> list[bytes]:
            return re.findall(rb"^pinghub[^ ]* ", text, re.MULTILINE)

        self.assertEqual(names(after), names(before))

    def test_refusals(self) -> None:
        """All kinds of refusals are there, and no other name."""
        self.assertIn(Refusal.label, "refusal")
        self.assertIn("not-text", refusal_labels())
        self.assertIn("uri-too-long", refusal_labels())
        self.assertNotIn("refusal", refusal_labels())
