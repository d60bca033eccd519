"""A Prometheus that is gone when a test is over, and what is in ``deploy`` for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.faults.harness import PATIENCE, eventually
from tests.proxies.harness import DEPLOY, free_port

SOURCE = DEPLOY / "prometheus"
DASHBOARD = DEPLOY / "grafana" / "pinghub.json"
HERE = bool(shutil.which("prometheus") and shutil.which("promtool"))
MISSING = "no prometheus: apt install prometheus"
TARGETS = '["127.0.0.1:9081", "127.0.0.2:9081", "127.0.0.3:9081", "127.0.0.4:9081"]'
"""The servers in the configuration."""


def promtool(*arguments: str, cwd: Path | None = None, given: bytes = b"") -> tuple[int, str]:
    """Run promtool; its status, and all that it says."""
    done = subprocess.run(
        ["promtool", *arguments], input=given, capture_output=True, cwd=cwd, timeout=60
    )
    return done.returncode, (done.stdout + done.stderr).decode()


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """A text with replacements; each has to be in it, once."""
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in it"
        text = text.replace(old, new)
    return text


class Prometheus:
    """Prometheus as ``deploy/prometheus`` configures it, but quicker, and with other targets.

    Args:
        target: host and port of the private endpoint of a server.
        directory: where it keeps everything.
    """

    def __init__(self, target: str, directory: Path) -> None:
        self.directory = directory
        self.address = f"127.0.0.1:{free_port()}"
        quick = {
            "scrape_interval: 15s": "scrape_interval: 1s",
            "scrape_timeout: 5s": "scrape_timeout: 1s",
            "evaluation_interval: 15s": "evaluation_interval: 500ms",
            TARGETS: json.dumps([target]),
        }
        text = (SOURCE / "prometheus.yml").read_text()
        (directory / "prometheus.yml").write_text(replaced(text, quick))
        shutil.copy(SOURCE / "alerts.yml", directory)

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self.directory}/prometheus.yml",
                    f"--storage.tsdb.path={self.directory}/data",
                    f"--web.listen-address={self.address}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(self._is_ready, PATIENCE, "Prometheus is ready")

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, (self.directory / "log").read_text()
        try:
            with urlopen(f"http://{self.address}/-/ready", timeout=PATIENCE) as answer:
                return bool(answer.status == 200)
        except (URLError, ConnectionError):
            return False

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()

    def ask(self, path: str, **arguments: str) -> Any:
        """What its HTTP API says; a mistake in a query raises."""
        url = f"http://{self.address}/api/v1/{path}?{urlencode(arguments)}"
        with urlopen(url, timeout=PATIENCE) as answer:
            return json.load(answer)["data"]

    def values(self, query: str) -> list[float]:
        """The values that a query has now, without those that are not numbers."""
        found = [float(each["value"][1]) for each in self.ask("query", query=query)["result"]]
        return [value for value in found if value == value]

    def rules(self) -> dict[str, dict[str, Any]]:
        """The alert rules by their names, as it has evaluated them."""
        groups = self.ask("rules", type="alert")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}


def panels() -> Iterator[dict[str, Any]]:
    """The panels of the dashboard that show something."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        if panel["type"] != "row":
            yield panel


def queries() -> list[str]:
    """The queries of the dashboard, with its variables."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def variables() -> list[tuple[str, str, str]]:
    """The variables that are asked for: name, metric and label."""
    found = []
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked is not None, variable
            found.append((variable["name"], filled_in(asked[1]), asked[2]))
    return found


def filled_in(query: str) -> str:
    """A query as Grafana sends it."""
    for name, value in (("$__rate_interval", "10s"), ("$instance", ".*"), ("$job", "pinghub")):
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def names_in(text: str) -> set[str]:
    """The metrics of Pinghub that a text names."""
    return set(re.findall(r"\bpinghub_\w+", text))
