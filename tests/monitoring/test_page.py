"""The page docs/monitoring.md tells everything."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pinghub.channels import ChannelManager
from pinghub.metrics import Metrics
from tests.monitoring.harness import SOURCE
from tests.proxies.harness import DEPLOY

PAGE = (DEPLOY.parent / "docs" / "monitoring.md").read_text()
QUOTED = set(re.findall(r"`([^`\n]+)`", PAGE))
"""Whatever is written as code within a line."""
SUFFIX = re.compile(r"_(bucket|sum|count)$")
OWN_VALUES = {"version", "implementation", "major", "minor", "patchlevel"}
"""Labels whose values are those of an installation."""


class PageTests(SynchronousTestCase):
    """Names, values and bounds."""

    def setUp(self) -> None:
        body, _ = Metrics(ChannelManager(Clock())).render("")
        self.samples = [
            sample
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        ]

    def test_metrics(self) -> None:
        """Every metric of the server is there, and no other."""
        exported = {SUFFIX.sub("", each.name) for each in self.samples}
        named = {each for each in QUOTED if re.match(r"(pinghub|process|python)_\w+$", each)}
        self.assertEqual(named, exported)

    def test_labels(self) -> None:
        """Every label is there, and every value that it can have."""
        for sample in self.samples:
            for label, value in sample.labels.items():
                self.assertIn(label, QUOTED | {"reason", "code"})
                if label not in OWN_VALUES:
                    self.assertIn(value, QUOTED, f"{sample.name} {label}")

    def test_alerts(self) -> None:
        """Every alert is in the table, with its severity and how long it waits."""
        text = (SOURCE / "alerts.yml").read_text()
        form = r"- alert: (\w+)\n.*?\n +for: (\d+)m\n.*?severity: (\w+)\n"
        rules = re.findall(form, text, re.DOTALL)
        rows = re.findall(r"^\| `(\w+)` \| .*, (\d+) min \| (\w+) \| [^|]+ \|$", PAGE, re.MULTILINE)
        self.assertGreater(len(rules), 10)
        self.assertEqual(rows, rules)
