"""The log: what peers can make of it, and what becomes of the server when nobody reads it."""

from __future__ import annotations

import fcntl
import io
import os
import re
import select
import signal
import subprocess
import time

from twisted.logger import globalLogPublisher

from pinghub import Limits, OriginPolicy
from pinghub.cli import log_observer
from pinghub.testing import (
    CLOSE,
    PING,
    TEXT,
    MemoryServer,
    client_frame,
    http_request,
    upgrade_request,
)
from tests.faults.harness import PATIENCE, FaultTests, Peer, connect, environment
from tests.faults.places import ROOT
from tests.faults.sabotaged import command

# What a terminal, or a program that reads lines, takes for something else than text.
CONTROL = bytes([*range(0x20), 0x7F]) + "\x85\x9b\u2028\u202e".encode()
FIELD = 200
LINE = re.compile(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[pinghub#(debug|info)\] [ -~]+\Z")
LEFT_OUT = re.compile(rb"^(\d+) log lines were left out here\n", re.MULTILINE)
BETWEEN_FIELDS = re.compile(" (?=(?:channel|peer|client|origin|path|code|reason)=)")


class ControlBytesTests(FaultTests):
    """R27, the first half."""

    def test_control_bytes(self) -> None:
        """R27: control bytes of a peer are escaped in the log, at most 200 characters of each.

        In a path, in a header, in the handshake's key and subprotocol, and in a close frame.
        """
        # In memory, because a server writes ten lines of a kind per second and no more.
        stream = io.StringIO()
        observer = log_observer(stream, "debug")
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        limits = Limits(log_rate=1_000_000)
        server = MemoryServer(limits, origins=OriginPolicy(["https://a.example"]))
        for data in self.attacks():
            peer = server.connect()
            peer.send(data)
            peer.close()
        output = stream.getvalue()
        for escaped in ("\\x1b", "\\x85", "\\x9b", "\\u2028", "\\r", "\\n"):
            self.assertIn(escaped, output)
        longest = 0
        for line in output.split("\n")[:-1]:
            self.assertRegex(line, LINE)
            values = [field.partition("=")[2] for field in BETWEEN_FIELDS.split(line)[1:]]
            longest = max([longest, *(len(value) for value in values)])
        self.figure("R27", "longest field of the log", longest, FIELD, "characters")

    def attacks(self) -> list[bytes]:
        """Requests with control bytes, one place at a time."""
        attacks = []
        escaped = "".join(f"%{byte:02X}" for byte in CONTROL)
        for long in (1, 20):
            text = "".join(chr(byte) for byte in CONTROL) * long
            path = "/" + escaped * min(long, 4)
            for headers in (
                {"Origin": "https://a.example"},
                {"Origin": "https://b.example/" + text},
                {"Origin": "https://b.example/" + text.replace("\r", "").replace("\n", "")},
                {"Origin": "https://b.example/" + "\x1b[31m" * 10 * long},
                {"X-Forwarded-For": "\x1b[31m" * long},
                {"Sec-WebSocket-Key": "\x1b[31m" * long},
                {"Sec-WebSocket-Protocol": "\x1b[31m" * long},
            ):
                attacks += [
                    upgrade_request(path, headers),
                    http_request("POST", path, b"x", headers),
                ]
            for control in CONTROL:
                attacks.append(b"GET /%c HTTP/1.1\r\nHost: h\r\n\r\n" % control)
                origin = {"Origin": chr(control) * long}
                attacks.append(http_request("POST", "/a", b"x", origin))
        for frame in (
            client_frame(TEXT, CONTROL),
            client_frame(PING, CONTROL),
            client_frame(CLOSE, b"\x03\xe8\x1b[31m\r\n"),
            client_frame(CLOSE, b"\x03\xe8\xff\x1b"),
            client_frame(CLOSE, b"\x00\x1b"),
        ):
            attacks.append(upgrade_request("/a", {"Origin": "https://a.example"}) + frame)
        return attacks


class BlockedLogTests(FaultTests):
    """R27, the second half."""

    NOISE = 1000
    STRIKES = 10

    def start(self) -> tuple[subprocess.Popen[bytes], int]:
        """A server whose log goes to a small pipe that nobody reads any more; and its port."""
        process = subprocess.Popen(
            [*command(f"noise:{self.NOISE}"), "--addr=127.0.0.1:0", "--log-level=debug"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            # Most people run it with the buffers that Python has by default.
            env={key: value for key, value in environment().items() if key != "PYTHONUNBUFFERED"},
        )

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        assert process.stderr is not None
        fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        found = re.search(rb"Listening on 127\.0\.0\.1:(\d+);", process.stderr.readline())
        assert found is not None
        return process, int(found[1])

    def answers(self, port: int) -> float:
        """Have something logged, and something answered; how many seconds that took."""
        begun = time.monotonic()
        peer = Peer(connect(("127.0.0.1", port)))
        self.addCleanup(peer.close)
        self.assertEqual(peer.post("/a", b"x")[0], 200)
        peer.upgrade("/a")
        peer.close()
        return time.monotonic() - begun

    def test_a_blocked_pipe(self) -> None:
        """R27: while nobody reads the log it goes on serving; lines that are lost are counted."""
        process, port = self.start()
        slowest = 0.0
        for _ in range(self.STRIKES):
            process.send_signal(signal.SIGUSR1)
            slowest = max(slowest, self.answers(port))
        self.figure("R27", "slowest answer while the log is blocked", slowest, 1, "s")
        output = self.read_log(process, port)
        counts = [int(count) for count in LEFT_OUT.findall(output)]
        self.assertGreater(sum(counts), 0)
        known = output.count(b"\n") - len(counts) + sum(counts)
        noise = self.STRIKES * self.NOISE
        self.figure("R27", "log lines written or counted", known, noise, "", at_least=True)
        # Besides the noise each answer is logged, in some lines.
        more = 10 * (self.STRIKES + len(counts) + 2)
        self.figure("R27", "log lines written or counted, at most", known, noise + more, "")

    def read_log(self, process: subprocess.Popen[bytes], port: int) -> bytes:
        """Read the log again, until it tells of lines that were left out, and some more."""
        assert process.stderr is not None
        output = b""
        deadline = time.monotonic() + PATIENCE
        more = 2
        while more:
            self.assertLess(time.monotonic(), deadline, "lines that are lost have to be counted")
            if select.select([process.stderr], [], [], 0.2)[0]:
                output += os.read(process.stderr.fileno(), 65536)
            else:
                more -= bool(LEFT_OUT.search(output))
                # The next line that is written tells how many are missing.
                self.answers(port)
        return output

    def test_the_end(self) -> None:
        """R27: a log that is blocked does not keep the server from ending properly."""
        process, port = self.start()
        process.send_signal(signal.SIGUSR1)
        self.answers(port)
        begun = time.monotonic()
        process.terminate()
        self.assertEqual(process.wait(PATIENCE), 0)
        took, bound = time.monotonic() - begun, Limits().drain + 1
        self.figure("R27", "exit while the log is blocked", took, bound, "s")
