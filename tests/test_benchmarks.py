"""The benchmarks run: that they have something to say is not for a shared machine to judge."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.report import Results
from benchmarks.workloads import LATENCY, MEMORY, also, fan_out
from tests.running import Server

SOURCE = Path(__file__).parent.parent / "benchmarks" / "load.c"
BRIEFLY = ("--seconds=0.05", "--warmup=0.02")


class GeneratorTests(SynchronousTestCase):
    """The load generator, against a real server."""

    def setUp(self) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise SkipTest("no C compiler: install gcc")
        self.load = os.path.abspath(self.mktemp())
        warnings = ["-Wall", "-Wextra", "-Werror"]
        subprocess.run([compiler, *warnings, "-o", self.load, SOURCE], check=True)

    def measured(self, server: Server, command: str, *arguments: str) -> float:
        """How many units of work the generator counted."""
        line = [self.load, command, f"--port={server.port}", f"--pids={server.process.pid}"]
        done = subprocess.run(
            [*line, *arguments, *BRIEFLY], capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""), arguments)
        found: dict[str, float] = json.loads(done.stdout)
        return found["units"]

    def test_every_command(self) -> None:
        """Every kind of workload comes to something."""
        with Server() as server:
            for command, *arguments in (
                ("pubsub", "--subscribers=20"),
                ("pubsub", "--subscribers=20", "--window=16", "--publish=websocket"),
                ("pubsub", "--channels=20", "--window=8", "--publish=websocket"),
                ("pubsub", "--subscribers=3", "--size=16384"),
                ("pubsub", "--subscribers=3", "--rate=100"),
                ("pubsub", "--subscribers=3", "--rate=100", "--stalled=2"),
                ("post", "--connections=3"),
                ("post", "--connections=3", "--window=16"),
                ("handshakes", "--in-flight=3"),
            ):
                self.assertGreater(self.measured(server, command, *arguments), 0, arguments)

    def test_idle(self) -> None:
        """Idle subscribers get one message for each of them, and close."""
        with Server("--ping-interval=1") as server:
            done = subprocess.run(
                [self.load, "idle", f"--port={server.port}", "--connections=20", "--channels=7"],
                input="publish",
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(len(done.stdout.splitlines()), 3)

    def test_a_server_that_has_ended(self) -> None:
        """The generator says so, and fails."""
        with Server() as server:
            port = server.port
        done = subprocess.run(
            [self.load, "post", f"--port={port}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn("lost", done.stderr)


class ReportTests(SynchronousTestCase):
    """The table."""

    def test_table(self) -> None:
        """It has medians with their spread, and says what failed."""
        row = fan_out(10)
        last = also(LATENCY, "the last one", "ms, p50", "last_p50")
        results = Results(["one", "other"], [row, LATENCY, last, MEMORY])
        for figure in (90_000.0, 100_000.0, 110_000.0):
            cell = {"per_cpu_second": figure, "generator_cpu": 0.5, "seconds": 2}
            results.add(row, "one", cell)
        results.add(row, "other", "refused")
        results.add(LATENCY, "one", {"p99": 1.25, "last_p50": 0.5})
        results.add(LATENCY, "one", "refused")
        self.assertEqual(
            results.markdown().splitlines()[-6:],
            [
                "| workload | unit | one | other | generator |",
                "|---|---|---:|---:|---:|",
                "| fan-out to 10 | deliveries per CPU-s | 100k ±10% | failed | 25% |",
                "| 10 messages/s to 1000 | ms, p99 | 1.25 (1 of 2 failed) | - | - |",
                "| the last one | ms, p50 | 0.5 (1 of 2 failed) | - | - |",
                "| memory of an idle subscriber | KiB | - | - | - |",
            ],
        )
