"""Prometheus, its alerts and the dashboard, with a server that has something to tell."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from unittest import skipUnless
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pinghub.channels import ChannelManager
from pinghub.metrics import Metrics, refusal_labels
from pinghub.testing import PING, TEXT, client_frame, http_request, upgrade_request
from tests.faults.harness import PATIENCE, FaultTests, eventually
from tests.monitoring.harness import (
    DASHBOARD,
    HERE,
    MISSING,
    SOURCE,
    TARGETS,
    Prometheus,
    filled_in,
    names_in,
    panels,
    promtool,
    queries,
    replaced,
    variables,
)
from tests.proxies.harness import free_port
from tests.running import Server

NOT_SHOWN: set[str] = set()
"""Metrics that neither the dashboard nor an alert needs."""
MAY_WAIT = {"PinghubReactorLag", "PinghubSlowDelivery"}
"""Alerts that a machine that is too busy may get to see."""
RULE = re.compile(r"- alert: (\w+)\n(?: +#[^\n]*\n)* +expr: (.*?)\n +for: (\w+)\n", re.DOTALL)
BINARY, CLOSE_CODES = 0x2, (1002, 1003, 1007, 1008, 1009)


def alerts() -> dict[str, tuple[str, str]]:
    """Expression and waiting time of the alerts, as the file has them."""
    found = RULE.findall((SOURCE / "alerts.yml").read_text())
    return {name: (expression, wait) for name, expression, wait in found}


class MonitoredTests(FaultTests):
    """A server with a private endpoint, and what it tells there."""

    def monitored(self, *options: str) -> Server:
        """A running server."""
        self.admin = f"127.0.0.1:{free_port()}"
        return self.server(f"--admin={self.admin}", *options)

    def metrics(self) -> bytes:
        """What Prometheus would read."""
        with urlopen(f"http://{self.admin}/metrics", timeout=PATIENCE) as answer:
            return bytes(answer.read())

    def counted(self, name: str) -> dict[str, float]:
        """The values of a counter by its label, without those that are 0."""
        return {
            next(iter(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(self.metrics().decode())
            for sample in family.samples
            if sample.name == name and sample.value
        }


@skipUnless(HERE, MISSING)
class MetricsTests(MonitoredTests):
    """The text, after all that can go wrong."""

    def setUp(self) -> None:
        self.bus = self.monitored(
            "--origin=https://a.example",
            "--no-console",
            "--head-timeout=0.5",
            "--max-message=16k",
            "--max-backlog=32k",
            "--max-connections=12",
            "--max-connections-per-address=16",
            "--post-only=/news",
        )

    def ask(self, request: bytes) -> int:
        """The status that answers a request."""
        peer = self.peer(self.bus)
        peer.send(request)
        status, _, _ = peer.response()
        peer.close()
        return status

    def refuse(self) -> None:
        """Make it refuse in each way but a fault and for connections."""
        text = b"x" * 20_000
        for request, status in (
            (b"nonsense\r\n\r\n", 400),
            (http_request("POST", "/a", b"\xff"), 400),
            (http_request("POST", "/a", b"x", {"Origin": "https://b.example"}), 403),
            (http_request("GET", "/a", b""), 404),
            (http_request("DELETE", "/a", b""), 405),
            (b"POST / HT", 408),
            (http_request("POST", "/a", text), 413),
            (b"GET /" + text, 414),
            (upgrade_request("/a", {"Sec-WebSocket-Version": "7"}), 426),
            (b"GET / HTTP/1.1\r\nA: " + text, 431),
        ):
            self.assertEqual(self.ask(request), status)

    def fill(self) -> None:
        """Open as many connections as there may be, and then as many as one client may have."""
        # All others are closed, but for the one that asks.
        gone = {"http": 1.0}
        eventually(lambda: self.counted("pinghub_connections") == gone, PATIENCE, "nobody is left")
        peers = [self.subscriber(self.bus) for _ in range(12)]
        self.assertEqual(self.ask(upgrade_request("/a")), 503)
        peers += [self.peer(self.bus) for _ in range(4)]
        one_more = self.peer(self.bus)
        self.assertEqual(one_more.response()[0], 429)
        for each in (*peers, one_more):
            each.close()

    def break_rules(self) -> None:
        """Fail a websocket with each close code that there is for it."""
        for path, data in (
            ("/a", b"\xff\x80\0\0\0\0"),
            ("/a", client_frame(BINARY, b"x")),
            ("/a", client_frame(TEXT, b"\xff")),
            ("/news", client_frame(TEXT, b"x")),
            ("/a", client_frame(TEXT, b"x" * 20_000)),
        ):
            peer = self.subscriber(self.bus, path)
            peer.send(data)
            peer.rest()
            peer.close()

    def evict(self) -> None:
        """Give up a client that sends pings in a loop, and one that does not read."""
        peer = self.subscriber(self.bus)
        peer.try_to_send(client_frame(PING, b"") * 1000)
        self.stalled(self.bus)
        publisher = self.peer(self.bus)
        eventually(lambda: publisher.post("/a", b"x" * 16_000)[1] == 0, PATIENCE, "eviction")
        publisher.close()

    def test_accepted(self) -> None:
        """Promtool accepts it, with traffic, refusals, failures and evictions of all kinds."""
        self.refuse()
        self.break_rules()
        self.evict()
        self.fill()
        refused = set(self.counted("pinghub_refusals_total"))
        # Only a fault of ours is missing, and what takes a backplane.
        missing = {each for each in refusal_labels() if each.startswith("backplane-")}
        self.assertEqual(refused, set(refusal_labels()) - missing - {"internal-error"})
        failed = set(self.counted("pinghub_failures_total"))
        self.assertEqual(failed, set(map(str, CLOSE_CODES)))
        evicted = set(self.counted("pinghub_evictions_total"))
        self.assertEqual(evicted, {"control-flood", "backlog"})
        self.assertEqual(promtool("check", "metrics", given=self.metrics()), (0, ""))


@skipUnless(HERE, MISSING)
class FilesTests(SynchronousTestCase):
    """What is in ``deploy/prometheus``."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)

    def check(self, *arguments: str, cwd: Path = SOURCE) -> str:
        """Run promtool, which has to be content; what it says."""
        status, said = promtool(*arguments, cwd=cwd)
        self.assertEqual(status, 0, said)
        return said

    def test_configuration(self) -> None:
        """The configuration is good, with each of its lists of targets."""
        self.check("check", "config", "prometheus.yml")
        text = (SOURCE / "prometheus.yml").read_text()
        others = re.findall(r"#- targets: (\[.*\])", text)
        self.assertEqual(len(others), 2)
        shutil.copy(SOURCE / "alerts.yml", self.directory)
        for other in others:
            changed = replaced(
                text,
                {
                    f"      - targets: {TARGETS}\n": "",
                    "#- targets: " + other: f"- targets: {other}",
                },
            )
            (self.directory / "prometheus.yml").write_text(changed)
            self.check("check", "config", "prometheus.yml", cwd=self.directory)

    def test_rules(self) -> None:
        """The rules are good, and do in their own tests what they say."""
        self.assertIn(f"{len(alerts())} rules found", self.check("check", "rules", "alerts.yml"))
        self.check("test", "rules", "alerts_test.yml")

    def test_rules_are_complete(self) -> None:
        """Each waits, has a severity, and says what is wrong and what to do."""
        text = (SOURCE / "alerts.yml").read_text()
        rules = re.split(r"- alert: ", text)[1:]
        self.assertEqual(len(rules), len(alerts()))
        for rule in rules:
            self.assertRegex(rule, r"\n +for: \d+m\n")
            self.assertRegex(rule, r"\n +severity: (critical|warning|info)\n")
            self.assertRegex(rule, r'\n +summary: ".*\{\{ \$labels.instance \}\}')
            self.assertRegex(rule, r"\n +description: >-\n +\w")

    def broken(self, group: int, broken: str, name: str = "") -> str:
        """What the tests say when a part of each rule, or of one, is replaced."""

        def replace(match: re.Match[str]) -> str:
            if name not in ("", match[1]):
                return match[0]
            begin, end = (place - match.start() for place in match.span(group))
            return match[0][:begin] + broken + match[0][end:]

        text = (SOURCE / "alerts.yml").read_text()
        (self.directory / "alerts.yml").write_text(RULE.sub(replace, text))
        shutil.copy(SOURCE / "alerts_test.yml", self.directory)
        status, said = promtool("test", "rules", "alerts_test.yml", cwd=self.directory)
        self.assertEqual(status, 1, f"{name} with {broken}: {said}")
        return said

    def named(self, kind: str, said: str) -> set[str]:
        """The alerts that were expected (exp), or fired (got), where a test failed."""
        lines = re.findall(rf"^ *{kind}: (.*)$", said, re.MULTILINE)
        return {each for line in lines for each in re.findall(r'alertname="(\w+)"', line)}

    def test_tests_notice(self) -> None:
        """For each rule, its tests notice if it never fires, always does, or waits otherwise."""
        every = set(alerts())
        for group, broken in ((2, "up > 2"), (3, "90m")):
            self.assertEqual(self.named("exp", self.broken(group, broken)), every)
        self.assertEqual(self.named("got", self.broken(3, "0s")), every)
        for name in every:
            self.assertIn(name, self.named("got", self.broken(2, LIVE, name)))


LIVE = "'max by (instance, job) ({job=\"pinghub\"}) > -1'"
"""An expression that always has a value."""


@skipUnless(HERE, MISSING)
class ScrapedTests(MonitoredTests):
    """A Prometheus that scrapes a server."""

    def setUp(self) -> None:
        self.bus = self.monitored()
        self.subscribed = self.subscriber(self.bus)
        self.publisher = self.peer(self.bus)
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        self.prometheus = Prometheus(self.admin, directory)
        self.prometheus.start()
        self.addCleanup(self.prometheus.stop)

    def traffic(self) -> None:
        """Publish a message in each way."""
        self.subscribed.send(client_frame(TEXT, b"x"))
        self.assertEqual(self.publisher.post("/a", b"x"), (200, 1))
        self.assertEqual(self.publisher.post("/nobody", b"x"), (200, 0))
        self.assertEqual([self.subscribed.message() for _ in range(2)], [b"x", b"x"])

    def states(self) -> dict[str, str]:
        """The alerts by name, once all were evaluated without an error."""
        rules = self.prometheus.rules()
        self.assertEqual({each.get("lastError", "") for each in rules.values()}, {""})
        return {name: each["state"] for name, each in rules.items() if each["health"] == "ok"}

    def test_dashboard(self) -> None:
        """Each query of the dashboard has something to show."""
        left = list(map(filled_in, queries()))
        self.assertGreater(len(left), 30)

        def shown() -> bool:
            self.traffic()
            left[:] = [query for query in left if not self.prometheus.values(query)]
            return not left

        try:
            eventually(shown, PATIENCE, "all queries")
        except AssertionError:
            raise AssertionError(f"without data: {left}") from None

    def test_variables(self) -> None:
        """The dashboard finds the job and the server."""

        def found() -> dict[str, list[str]]:
            return {
                name: self.prometheus.ask(f"label/{label}/values", **{"match[]": metric})
                for name, metric, label in variables()
            }

        expected = {"job": ["pinghub"], "instance": [self.admin]}
        eventually(lambda: found() == expected, PATIENCE, "they are found")

    def test_alerts(self) -> None:
        """A healthy server has no alert; a dead one has that it is down, and no other."""

        def evaluated() -> bool:
            self.traffic()
            # Rules are evaluated twice for each scrape: these were, with data.
            scraped = self.prometheus.values("count_over_time(pinghub_draining[1m])")
            return len(self.states()) == len(alerts()) and scraped >= [3.0]

        eventually(evaluated, PATIENCE, "all alerts are evaluated")
        self.assertEqual(self.disturbed(), {})
        self.bus.kill()
        eventually(lambda: "PinghubDown" in self.disturbed(), PATIENCE, "it is noticed")
        self.assertEqual(self.disturbed(), {"PinghubDown": "pending"})

    def disturbed(self) -> dict[str, str]:
        """The alerts that are not at rest."""
        states = self.states()
        return {
            name: state
            for name, state in states.items()
            if state == "firing" or (state != "inactive" and name not in MAY_WAIT)
        }


class DashboardTests(SynchronousTestCase):
    """What can be said of the files alone."""

    def exported(self) -> set[str]:
        """The metrics that there are, without the suffixes of histograms."""
        body, _ = Metrics(ChannelManager(Clock())).render("")
        return {
            re.sub(r"_(bucket|sum|count)$", "", sample.name)
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
            if sample.name.startswith("pinghub_")
        }

    def test_every_metric(self) -> None:
        """All that the server exports is shown or watched, and nothing else is asked for."""
        rules = (SOURCE / "alerts.yml").read_text()
        expressions = " ".join(queries()) + rules
        used = {re.sub(r"_(bucket|sum|count)$", "", each) for each in names_in(expressions)}
        self.assertEqual(used | NOT_SHOWN, self.exported())

    def test_panels(self) -> None:
        """Each panel has a title, a text, a unit, a legend, and the chosen Prometheus."""
        for panel in panels():
            self.assertTrue(panel["title"] and panel["description"], panel)
            targets = panel["targets"]
            self.assertTrue(all(each["legendFormat"] for each in targets), panel["title"])
            if panel["type"] != "heatmap":
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"], panel["title"])
            for each in (panel, *targets):
                self.assertEqual(each["datasource"]["uid"], "${datasource}")

    def test_layout(self) -> None:
        """No panel covers another, and each has a number of its own."""
        everything = json.loads(DASHBOARD.read_text())["panels"]
        self.assertEqual(len({panel["id"] for panel in everything}), len(everything))
        taken: set[tuple[int, int]] = set()
        for place in (panel["gridPos"] for panel in everything):
            self.assertLessEqual(place["x"] + place["w"], 24)
            cells = {
                (place["x"] + column, place["y"] + line)
                for column in range(place["w"])
                for line in range(place["h"])
            }
            self.assertFalse(cells & taken, place)
            taken |= cells
