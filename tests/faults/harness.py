"""What the fault suites share: figures, raw peers, a prober, and what /proc knows of a process.

Nothing here sleeps for a fixed time. What can only be seen by looking again, as in /proc, is
looked for with a deadline (``eventually``).
"""

from __future__ import annotations

import atexit
import json
import math
import os
import re
import select
import selectors
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from twisted.trial.unittest import SynchronousTestCase

from pinghub.testing import (
    PING,
    PONG,
    TEXT,
    Frame,
    client_frame,
    http_request,
    parse_frame,
    upgrade_request,
)
from tests.running import Server

KIB = 1024
MIB = 1024 * 1024
PATIENCE = 20.0
SMALL_BUFFER = 4096
"""SO_RCVBUF of a peer that is meant to be slow: loopback swallows megabytes otherwise."""

_FORM = os.environ.get("PINGHUB_FAULTS") or "short"
if _FORM not in ("short", "full"):
    raise ValueError(f"PINGHUB_FAULTS={_FORM}: give short or full")
FULL = _FORM == "full"
"""Whether the long forms run."""

T = TypeVar("T")


def scale(short: T, full: T) -> T:
    """What to use in the form that runs."""
    return full if FULL else short


# Figures.


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        id: which row of the list of checks it belongs to, such as ``R1``.
        what: what was measured.
        figure: how much it was.
        unit: in which unit.
        bound: how much it may be, or has to be.
        at_least: whether the figure has to reach the bound instead of staying within it.
        passed: whether it did.
    """

    id: str
    what: str
    figure: float
    unit: str
    bound: float
    at_least: bool
    passed: bool


class Figures:
    """All figures of a run: one table at its end, and JSON in the file PINGHUB_FIGURES names."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Add a figure."""
        if not self._rows:
            # Trial has no hook for the end of a run.
            atexit.register(self.report)
        self._rows.append(row)

    def report(self) -> None:
        """Print the table, and write the file."""
        print(self.table(), flush=True)
        path = os.environ.get("PINGHUB_FIGURES")
        if path:
            report = {"form": _FORM, "rows": [asdict(row) for row in self._sorted()]}
            Path(path).write_text(json.dumps(report, indent=2) + "\n")

    def table(self) -> str:
        """The figures as aligned text."""
        cells = [("", "measured", "figure", "", "bound", "")]
        for row in self._sorted():
            bound = f"{'>=' if row.at_least else '<='} {_number(row.bound)}"
            verdict = "" if row.passed else "FAILED"
            cells.append((row.id, row.what, _number(row.figure), row.unit, bound, verdict))
        widths = [max(len(line[column]) for line in cells) for column in range(6)]
        lines = [
            f"{id:{widths[0]}}  {what:{widths[1]}}  {figure:>{widths[2]}} "
            f"{unit:{widths[3]}}  {bound:{widths[4]}}  {verdict}".rstrip()
            for id, what, figure, unit, bound, verdict in cells
        ]
        return "\n".join(["", f"Faults, {_FORM} form", *lines])

    def _sorted(self) -> list[Row]:
        return sorted(self._rows, key=lambda row: int(re.sub(r"\D", "", row.id) or 0))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"


# Module state, because a run consists of many test classes and has no other common place.
FIGURES = Figures()


# What /proc knows.


def rss(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    # The counters in status and statm lag behind by some pages per CPU; this one is exact.
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Rss")


def _kilobytes(path: Path, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB$", path.read_text(), re.MULTILINE)
    assert found is not None, f"no {key} in {path}"
    return int(found[1]) * KIB


class PeakMemory:
    """The highest resident memory of a process since this was made, as the kernel keeps it.

    Args:
        pid: the process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        # Resets the high-water mark (proc_pid_clear_refs(5)).
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._before = self._peak()

    def _peak(self) -> int:
        return _kilobytes(Path(f"/proc/{self._pid}/status"), "VmHWM")

    @property
    def growth(self) -> int:
        """How many bytes it was above what there was at the beginning."""
        return self._peak() - self._before


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


_STATES = {
    "01": "ESTABLISHED",
    "02": "SYN_SENT",
    "03": "SYN_RECV",
    "04": "FIN_WAIT1",
    "05": "FIN_WAIT2",
    "06": "TIME_WAIT",
    "07": "CLOSE",
    "08": "CLOSE_WAIT",
    "09": "LAST_ACK",
    "0A": "LISTEN",
    "0B": "CLOSING",
}


def socket_states(pid: int) -> Counter[str]:
    """The TCP sockets that a process has open, by state."""
    inodes = set()
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # Closed in between.
            inodes.add(os.readlink(f"/proc/{pid}/fd/{entry}"))
    states: Counter[str] = Counter()
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError), open(f"/proc/{pid}/net/{table}") as lines:
            next(lines)
            for line in lines:
                fields = line.split()
                if f"socket:[{fields[9]}]" in inodes:
                    states[_STATES[fields[3]]] += 1
    return states


def send_queue(peer: Peer) -> int:
    """How many bytes the other end's kernel holds for a peer on this machine; 0 once it is gone."""
    try:
        (_, near), (_, far) = peer.socket.getsockname(), peer.socket.getpeername()
    except OSError:  # It has just been reset.
        return 0
    with open("/proc/net/tcp") as lines:
        next(lines)
        for line in lines:
            fields = line.split()
            ports = tuple(int(address.rpartition(":")[2], 16) for address in fields[1:3])
            if ports == (far, near):
                return int(fields[4].partition(":")[0], 16)
    return 0


def eventually(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Look until something holds; how many seconds it took.

    Raises:
        AssertionError: it does not hold in time.
    """
    begun = time.monotonic()
    look_again = threading.Event()
    while True:
        holds = condition()
        took = time.monotonic() - begun
        if holds:
            return took
        if took > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        look_again.wait(0.005)


# Latencies.


@dataclass(frozen=True)
class Latency:
    """How long things took, in milliseconds.

    Attributes:
        count: how many there were.
        p50: half of them took no longer.
        p99: 99 % of them took no longer.
        worst: none took longer.
    """

    count: int
    p50: float
    p99: float
    worst: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency:
        """Of durations in seconds; at least one."""
        ordered = sorted(seconds)
        assert ordered, "nothing was measured"
        p50, p99 = (percentile(ordered, share) * 1000 for share in (0.5, 0.99))
        return cls(len(ordered), p50, p99, ordered[-1] * 1000)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that a share of an ordered sequence does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class RoundTrips:
    """Measures how long a message takes from a websocket back to itself, all the time.

    A thread sends one message every ``interval`` seconds on a channel of its own. While the
    server is busy the messages that would have been sent count as well, each with the time
    that it would have waited: one long pause is not one sample among many.

    Args:
        address: host and port of the server.
        path: the channel.
        interval: seconds between two messages.
    """

    def __init__(
        self, address: tuple[str, int], path: str = "/round-trips", interval: float = 0.004
    ) -> None:
        self._interval = interval
        self._peer = Peer(connect(address))
        self._peer.upgrade(path)
        self._samples: list[tuple[float, float]] = []
        self._news = threading.Condition()
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> RoundTrips:
        # The thread must not wait long for whatever the test itself computes.
        self._switching = sys.getswitchinterval()
        sys.setswitchinterval(0.0005)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._peer.close()
        sys.setswitchinterval(self._switching)

    def _run(self) -> None:
        try:
            number = 0
            while not self._stop.wait(self._interval):
                self._one(b"%d" % number)
                number += 1
        except Exception as error:
            with self._news:
                self._failure = error
                self._news.notify_all()

    def _one(self, payload: bytes) -> None:
        begun = time.monotonic()
        self._peer.send(client_frame(TEXT, payload))
        received = self._peer.message()
        took = time.monotonic() - begun
        if received != payload:
            raise AssertionError(f"{payload!r} came back as {received!r}")
        with self._news:
            self._samples.append((begun, took))
            self._news.notify_all()

    def during(self, start: float, end: float) -> Latency:
        """The round trips under way in a time window, as ``time.monotonic`` measures it.

        Waits until all of them are over.

        Raises:
            AssertionError: the prober was not served any more.
        """
        with self._news:
            self._news.wait_for(lambda: self._failure or self._is_past(end), PATIENCE)
            if self._failure is not None or not self._is_past(end):
                raise AssertionError(f"the prober is not served: {self._failure}")
            found = [took for begun, took in self._samples if begun < end and begun + took > start]
        return Latency.of(each for took in found for each in self._with_unsent(took))

    def _is_past(self, end: float) -> bool:
        return bool(self._samples) and self._samples[-1][0] >= end

    def _with_unsent(self, took: float) -> Iterator[float]:
        while took > 0:
            yield took
            took -= self._interval

    @contextmanager
    def window(self) -> Iterator[Callable[[], Latency]]:
        """Measure during a block; what it yields gives the result once the block is left."""
        start = time.monotonic()
        end = math.inf
        yield lambda: self.during(start, end)
        end = time.monotonic()


def send_time(count: int) -> float:
    """How long this machine takes to send a small message to so many sockets, in milliseconds.

    The least processor time of some rounds: how quick the machine is, whatever else it does.
    """
    least = math.inf
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=count))
        senders = []
        for _ in range(count):
            senders.append(stack.enter_context(connect(listener.getsockname())))
            stack.enter_context(listener.accept()[0])
        for _ in range(10):
            begun = time.thread_time()
            for sender in senders:
                sender.send(b"x" * 100)
            least = min(least, time.thread_time() - begun)
    return least * 1000


# Peers.


def connect(address: tuple[str, int], receive_buffer: int | None = None) -> socket.socket:
    """Connect to a server.

    Args:
        address: host and port.
        receive_buffer: SO_RCVBUF, which has to be set before.
    """
    connection = socket.socket()
    try:
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(PATIENCE)
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


class Peer:
    """A raw client: sends any bytes, reads when it is told to, and notices how it ends.

    Args:
        connection: a connected socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._received = b""

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def try_to_send(self, data: bytes) -> bool:
        """Send bytes, as far as the server takes them; whether it took them all."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def until(self, end: bytes) -> bytes:
        """Read up to and including some bytes."""
        while end not in self._received:
            self._more()
        found, _, self._received = self._received.partition(end)
        return found + end

    def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        while len(self._received) < size:
            self._more()
        found, self._received = self._received[:size], self._received[size:]
        return found

    def frame(self) -> Frame:
        """Read one frame."""
        while (parsed := parse_frame(self._received)) is None:
            self._more()
        frame, self._received = parsed
        return frame

    def message(self) -> bytes:
        """Read up to the next text message, past the pings before it; its payload."""
        while (frame := self.frame()).opcode == PING:
            pass
        assert frame.opcode == TEXT, frame
        return frame.payload

    def rest(self) -> bytes:
        """Read to the end of the stream; a reset raises."""
        data = self._received
        while piece := self.socket.recv(65536):
            data += piece
        self._received = b""
        return data

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"the server ended the stream behind {self._received[-200:]!r}")
        self._received += data

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """Read one response: status, header fields by lower-case name, body."""
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        fields = (line.partition(": ") for line in lines[1:] if line)
        headers = {name.lower(): value for name, _, value in fields}
        body = self.exactly(int(headers.get("content-length", 0)))
        return int(lines[0].split()[1]), headers, body

    def upgrade(self, path: str, **headers: str) -> None:
        """Open a websocket."""
        self.send(upgrade_request(path, headers))
        head = self.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, int]:
        """POST on this connection, which stays open.

        Returns:
            The status, and how many subscribers it was handed to, or servers with a backplane; -1
            if it does not say.
        """
        self.send(http_request("POST", path, body, headers))
        status, fields, _ = self.response()
        counted = fields.get("pinghub-subscribers") or fields.get("pinghub-servers")
        return status, int(counted or -1)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def until_hung_up(peers: Iterable[Peer], seconds: float) -> dict[Peer, float]:
    """Wait, without reading a byte, until the server has given all of these up.

    Returns:
        When each was reset, as ``time.monotonic`` tells it. Who is missing was not, in time.
    """
    waiting = {peer.socket.fileno(): peer for peer in peers}
    deadline = time.monotonic() + seconds
    found: dict[Peer, float] = {}
    poller = select.poll()
    for descriptor in waiting:
        poller.register(descriptor, 0)  # Errors and hang-ups are always told.
    while waiting and (left := deadline - time.monotonic()) > 0:
        for descriptor, _ in poller.poll(left * 1000):
            poller.unregister(descriptor)
            found[waiting.pop(descriptor)] = time.monotonic()
    return found


class Reader:
    """One healthy reader of a crowd: notes the number that each message begins with.

    It answers pings, without waiting for room to do so.

    Args:
        peer: an open websocket.

    Attributes:
        numbers: the numbers of the messages, in the order in which they came.
        times: when each came.
        control: the control frames that came.
        ended: whether the stream has ended.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.numbers: list[int] = []
        self.times: list[float] = []
        self.control: list[Frame] = []
        self.ended = False
        self._received = bytearray()

    def read(self) -> None:
        """Take what has arrived; at least one byte has, or the stream has ended."""
        try:
            data = self.peer.socket.recv(256 * KIB)
            if isinstance(self.peer.socket, ssl.SSLSocket):
                # Nobody is told of what has been decrypted already.
                while self.peer.socket.pending():
                    data += self.peer.socket.recv(256 * KIB)
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return
        now = time.monotonic()
        self._received += data
        start = 0
        while (found := self._payload_at(start)) is not None:
            head, end = found
            opcode = self._received[start] & 0xF
            if opcode == TEXT:
                self.numbers.append(int(self._received[head : min(end, head + NUMBER)]))
                self.times.append(now)
            else:
                self._control(Frame(opcode, bytes(self._received[head:end])))
            start = end
        del self._received[:start]

    def _control(self, frame: Frame) -> None:
        self.control.append(frame)
        if frame.opcode == PING:
            flags = 0 if isinstance(self.peer.socket, ssl.SSLSocket) else socket.MSG_DONTWAIT
            with suppress(OSError):
                self.peer.socket.send(client_frame(PONG, frame.payload), flags)

    def _payload_at(self, start: int) -> tuple[int, int] | None:
        """Where the payload of a frame begins and ends, if it is complete."""
        received = self._received
        if len(received) < start + 2:
            return None
        size, head = received[start + 1], start + 2
        if size > 125:
            head = start + (4 if size == 126 else 10)
            if len(received) < head:
                return None
            size = int.from_bytes(received[start + 2 : head], "big")
        return (head, head + size) if len(received) >= head + size else None


NUMBER = 8
"""How many digits a numbered message begins with."""


def numbered(number: int, size: int = NUMBER) -> bytes:
    """A message of so many bytes that begins with a number."""
    return b"%0*d" % (NUMBER, number) + b"x" * (size - NUMBER)


class Crowd:
    """Healthy readers: a thread that reads whatever arrives, as fast as it can.

    Args:
        peers: open websockets, which receive numbered messages only.
    """

    def __init__(self, peers: Iterable[Peer]) -> None:
        self.readers = [Reader(peer) for peer in peers]
        self._news = threading.Condition()
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.close()
        self._thread.join()
        self._stopped.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stopped, selectors.EVENT_READ)
            for reader in self.readers:
                selector.register(reader.peer.socket, selectors.EVENT_READ, reader)
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    key.data.read()
                    if key.data.ended:
                        selector.unregister(key.fileobj)
                with self._news:
                    self._news.notify_all()

    def wait_for(self, count: int, seconds: float = PATIENCE) -> bool:
        """Wait until everyone has so many messages or is gone; whether it came to that."""
        with self._news:
            return self._news.wait_for(
                lambda: all(each.ended or len(each.numbers) >= count for each in self.readers),
                seconds,
            )


# Tests.


def environment() -> dict[str, str]:
    """The environment of a server: without what would measure its coverage, and slow it down."""
    return {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}


class FaultTests(SynchronousTestCase):
    """Servers and peers that are gone when a test is over, and figures."""

    def figure(
        self,
        id: str,
        what: str,
        measured: float,
        bound: float,
        unit: str,
        at_least: bool = False,
    ) -> None:
        """Note a figure, and assert that it is within its bound.

        Args:
            id: the row of the list of checks, such as ``R1``.
            what: what was measured.
            measured: the figure.
            bound: the most, or with ``at_least`` the least, that it may be.
            unit: of both.
            at_least: whether the bound is a lower one.
        """
        passed = measured >= bound if at_least else measured <= bound
        FIGURES.add(Row(id, what, measured, unit, bound, at_least, passed))
        sign = ">=" if at_least else "<="
        self.assertTrue(passed, f"{id} {what}: {measured:g} {unit}, has to be {sign} {bound:g}")

    def least_of(self, measure: Callable[[], float], bound: float, attempts: int = 3) -> float:
        """The least of up to so many measurements; the first within the bound will do.

        For what only ever gets worse by noise, on a machine that has other things to do.
        """
        least = math.inf
        for _ in range(attempts):
            least = min(least, measure())
            if least <= bound:
                break
        return least

    def bound_of(self, prober: RoundTrips, milliseconds: float) -> float:
        """A bound on latencies; a larger one while the machine itself is not that fast.

        Returns:
            The bound, or three times the p99 of a second in which nothing else happens.
        """
        with prober.window() as window:
            self.pass_time(1.0)
        return max(milliseconds, 3 * window().p99)

    def server(self, *options: str, quiet: bool = True, **more: object) -> Server:
        """A running server.

        Args:
            options: its command line options.
            quiet: whether the test fails if there is a traceback in its log.
            more: further arguments of ``Server``.
        """
        server = Server(*options, environment=environment(), **more)  # type: ignore[arg-type]
        server.__enter__()
        self.addCleanup(self._end, server, quiet)
        return server

    def _end(self, server: Server, quiet: bool) -> None:
        server.stop()
        if quiet:
            self.assertNotIn("Traceback", "".join(server.output))

    def peer(self, server: Server, receive_buffer: int | None = None) -> Peer:
        """A connection."""
        peer = Peer(connect(("127.0.0.1", server.port), receive_buffer))
        self.addCleanup(peer.close)
        return peer

    def subscriber(
        self, server: Server, path: str = "/a", receive_buffer: int | None = None
    ) -> Peer:
        """A subscriber."""
        peer = self.peer(server, receive_buffer)
        peer.upgrade(path)
        return peer

    def stalled(self, server: Server, path: str = "/a") -> Peer:
        """A subscriber whose kernel takes little, and who is not going to read."""
        return self.subscriber(server, path, SMALL_BUFFER)

    def crowd(self, server: Server, path: str, count: int) -> Crowd:
        """Healthy readers of a channel."""
        crowd = Crowd([self.subscriber(server, path) for _ in range(count)])
        crowd.__enter__()
        self.addCleanup(crowd.__exit__, None, None, None)
        return crowd

    def round_trips(self, server: Server, path: str = "/round-trips") -> RoundTrips:
        """A prober."""
        prober = RoundTrips(("127.0.0.1", server.port), path)
        prober.__enter__()
        self.addCleanup(prober.__exit__, None, None, None)
        return prober

    def pass_time(self, seconds: float) -> None:
        """Let a measurement go on for so long. Nothing is awaited this way."""
        threading.Event().wait(max(0.0, seconds))
