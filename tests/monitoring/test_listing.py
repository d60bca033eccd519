"""Operators and Prometheus look at a hundred thousand channels; messages do not wait for that."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from unittest import skipUnless
from urllib.request import urlopen

from pinghub.testing import http_request
from tests.faults.harness import PATIENCE, FaultTests, Peer, connect, eventually
from tests.faults.places import ROOT
from tests.monitoring.crowded import CHANNELS, COMMAND, name
from tests.proxies.harness import free_port

CURL = shutil.which("curl")
BOUND = 20.0
"""How long 99 % of the round trips may take, in milliseconds."""
WINDOW = 2.0
"""How long they are measured, in seconds."""


class Fetcher:
    """Asks for one address again and again, in a process of its own.

    A thread of the test's process would take its time from what is measured there.

    Args:
        url: the address, with a query.
        directory: where the answers are noted.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self._notes = tempfile.NamedTemporaryFile(dir=directory)
        # Its standard output would come in large pieces.
        form = r"%{stderr}%{http_code} %{size_download}\n"
        self._process = subprocess.Popen(
            [str(CURL), "-s", "-o", "/dev/null", "-w", form, f"{url}&round=[1-1000000]"],
            stdin=subprocess.DEVNULL,
            stderr=self._notes,
        )

    def answers(self) -> list[tuple[int, int]]:
        """Status and size of the answers that are complete."""
        lines = Path(self._notes.name).read_text().rpartition("\n")[0].splitlines()
        return [(int(status), int(size)) for status, size in map(str.split, lines)]

    def wait(self) -> None:
        """Wait for the next answer."""
        seen = len(self.answers())
        eventually(lambda: len(self.answers()) > seen, PATIENCE, "an answer to a fetcher")

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._notes.close()


class ListingTests(FaultTests):
    """A server with a hundred thousand channels."""

    def setUp(self) -> None:
        self.port = free_port()
        address = f"127.0.0.1:{self.port}"
        self.admin = f"http://{address}"
        self.bus = self.server(f"--admin={address}", command=COMMAND, cwd=ROOT)

    def size(self, path: str) -> int:
        """How many bytes there are at a path."""
        with urlopen(self.admin + path, timeout=PATIENCE) as answer:
            return len(answer.read())

    def fetcher(self, path: str) -> Fetcher:
        """Asks for a path until the test is over, and has had an answer."""
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        fetcher = Fetcher(self.admin + path, directory)
        self.addCleanup(fetcher.stop)
        fetcher.wait()
        return fetcher

    def test_all(self) -> None:
        """Each of them is listed once."""
        with urlopen(f"{self.admin}/channels", timeout=PATIENCE) as answer:
            listed = json.load(answer)
        self.assertEqual((listed["total"], listed["more"]), (CHANNELS, False))
        self.assertEqual(
            [each["name"] for each in listed["channels"]], list(map(name, range(CHANNELS)))
        )

    @skipUnless(CURL, "no curl: apt install curl")
    def test_messages_do_not_wait(self) -> None:
        """While all are listed, a prefix is searched for and metrics are read, 99 % take 20 ms."""
        whole = self.size("/channels")
        prober = self.round_trips(self.bus)
        bound = self.bound_of(prober, BOUND)
        paths = ("/channels?", "/channels?prefix=/nothing", "/metrics?")
        fetchers = [self.fetcher(path) for path in paths]

        def measure() -> float:
            with prober.window() as window:
                self.pass_time(WINDOW)
            return window().p99

        p99 = self.least_of(measure, bound)
        for each in fetchers:  # On a slow machine the whole list takes longer than the window.
            each.wait()
        answers = [each.answers() for each in fetchers]
        self.assertLessEqual(p99, bound)
        for those in answers:
            self.assertEqual({status for status, _ in those}, {200})
        # Whole lists, and with the channel of the prober.
        self.assertGreater(min(size for _, size in answers[0]), whole)

    def test_hanging_up(self) -> None:
        """Who hangs up in the middle of the list leaves nothing behind, nor a line in the log."""
        for read in (0, 2_000_000):
            peer = Peer(connect(("127.0.0.1", self.port)))
            peer.send(http_request("GET", "/channels"))
            peer.exactly(read)
            peer.close()
        self.size("/channels")
        self.assertNotIn("Traceback", "".join(self.bus.output))
