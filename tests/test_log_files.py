"""Logs of real processes: in files, and opened anew for logrotate."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pinghub.testing import http_request
from tests.running import Server

PATIENCE = 10.0
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")


class LogFileTests(SynchronousTestCase):
    """A server on a unix socket, with its logs in a directory."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.address = self.directory / "p.sock"
        self.log = self.directory / "pinghub.log"
        self.access_log = self.directory / "access.log"

    def eventually(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.01)

    def has(self, path: Path, text: str) -> bool:
        """Whether a file is there and has some text."""
        return path.exists() and text in path.read_text()

    def post(self, path: str) -> None:
        """Publish something."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(PATIENCE)
            peer.connect(str(self.address))
            peer.sendall(http_request("POST", path, b"x"))
            self.assertTrue(peer.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n"))

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a server, and wait until it serves."""
        command = [sys.executable, "-m", "pinghub", f"--addr={self.address}", *options]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.terminate)
        self.eventually(lambda: self.has(self.log, "Listening on"), "it serves")
        return process

    def test_logrotate(self) -> None:
        """After SIGHUP both logs go to new files, and the old ones have what was before."""
        process = self.start(f"--log={self.log}", f"--access-log={self.access_log}")
        self.post("/before")
        self.eventually(lambda: self.has(self.access_log, "/before"), "the first line")
        old = [
            each.rename(each.with_suffix(".log.1")).read_text()
            for each in (self.log, self.access_log)
        ]
        process.send_signal(signal.SIGHUP)
        self.eventually(lambda: self.has(self.log, "opened its log files anew"), "a new log")
        self.eventually(self.access_log.exists, "a new access log")
        self.post("/after")
        self.eventually(lambda: self.has(self.access_log, "/after"), "a line in the new file")
        self.assertFalse(self.has(self.access_log, "/before"))
        self.assertEqual(
            [Path(f"{each}.1").read_text() for each in (self.log, self.access_log)], old
        )

    def test_standard_output(self) -> None:
        """The access log can go to the standard output."""
        with Server("--access-log=-") as server:
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as peer:
                peer.sendall(http_request("POST", "/a", b"x"))
            server.wait_for(
                re.compile(r'^127\.0\.0\.1 - - \[.*\] "POST /a HTTP/1\.1" 200 3 "-" "-"$')
            )

    def test_sighup_without_files(self) -> None:
        """SIGHUP is harmless where there is nothing to open."""
        with Server() as server:
            server.process.send_signal(signal.SIGHUP)
            server.wait_for(re.compile("Received SIGHUP: "))

    def test_daemon(self) -> None:
        """Under twistd, which forks after the log was opened, it is written all the same."""
        pid_file = self.directory / "pid"
        files = (f"--pidfile={pid_file}", f"--logfile={self.log}")
        options = (f"--addr={self.address}", f"--access-log={self.access_log}")
        subprocess.run([*TWISTD, *files, "pinghub", *options], check=True, stdin=subprocess.DEVNULL)
        self.eventually(lambda: self.has(self.log, "Listening on"), "it serves")
        pid = int(pid_file.read_text())
        try:
            self.post("/daemon")
            self.eventually(lambda: self.has(self.access_log, "/daemon"), "a line")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            self.eventually(lambda: not pid_file.exists(), "its end")
