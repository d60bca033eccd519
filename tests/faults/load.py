"""Publishers, subscribers, and others who come and go: a load that checks what everyone gets.

Runs in a process of its own, so that the test that starts it costs it nothing::

    python -m tests.faults.load '{"host": "127.0.0.1", "port": 8081, "messages": 500}'

and prints a report as JSON. All subscribers that are there throughout, the *members*, have to
receive the same bytes, the *history*. A *visitor*, who is there for a while, has to receive one
piece of it: no message that was published before it asked to subscribe, every message that was
sent after its handshake, and, if it closes properly, every message that was published before its
close frame, its own last one included.

Several servers may share the channel. A message is then on its way between them for a moment: a
visitor may receive one that was published just before it came, and waits for its own last one
before it closes.

The server must not ping (``--ping-interval=0``): the history consists of messages alone.
"""

from __future__ import annotations

import errno
import itertools
import json
import random
import selectors
import socket
import struct
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pinghub.connections import raise_descriptor_limit
from pinghub.frames import close_frame
from pinghub.testing import CLOSE, TEXT, client_frame, http_request, upgrade_request
from tests.faults.places import ROOT

CHANNEL = "/load"
LEAVING = client_frame(CLOSE, b"\x03\xe8")
LEFT = close_frame(1000)
"""What the server answers to ``LEAVING``."""

READ = 1 << 18
SIZES = (16, 16, 16, 60, 200, 1000)
"""Sizes of messages, each as likely as another."""
NAME = 10
"""A message begins with so many bytes of its own: two for the publisher, the rest a number."""
VISITORS = b"vv"
"""The publisher's name in the last messages of visitors."""
WAYS = ("close", "close", "vanish", "reset")
BEAT = 0.1
"""How often messages are sent, and visitors come and go, in seconds: all at the same moment."""


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        host: where the server is.
        port: its port.
        more_ports: those of other servers that share its channels; clients take turns.
        messages: how many messages are published, by all publishers together.
        rate: how many of them per second.
        subscribers: how many are there throughout, besides the publishers.
        heartbeats: how many of them send heartbeats all the time.
        websocket_publishers: how many publish by websocket; they subscribe as well.
        post_publishers: how many publish by POST, each on one connection.
        visits: how many others come, and go, per second.
        stay: how long these stay, in seconds: at least, and at most.
        window: how many messages of a websocket publisher may be on their way.
        patience: it must not happen that nothing at all arrives for so many seconds.
        seed: of sizes and visits.
    """

    host: str
    port: int
    messages: int
    rate: float = 100.0
    subscribers: int = 200
    heartbeats: int = 20
    websocket_publishers: int = 4
    post_publishers: int = 4
    visits: float = 20.0
    stay: tuple[float, float] = (0.1, 2.0)
    window: int = 64
    patience: float = 20.0
    seed: int = 1
    more_ports: Sequence[int] = ()


@dataclass
class Report:
    """What happened.

    Attributes:
        published: how many messages.
        deliveries: how many times one of them was received by a member.
        visits: how many others came and went, by the way in which they left.
        begun: when the first message was sent, as ``time.monotonic`` tells it.
        seconds: how long it took from then on.
        faults: whatever was wrong; at most the first hundred.
    """

    published: int = 0
    deliveries: int = 0
    visits: dict[str, int] = field(default_factory=dict)
    begun: float = 0.0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def run(plan: Plan, prefix: Sequence[str] = ()) -> Report:
    """Run a load in a process of its own.

    Args:
        plan: what to do.
        prefix: a command that is given the command to run.
    """
    command = [*prefix, sys.executable, "-m", "tests.faults.load", json.dumps(asdict(plan))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stderr)
    return Report(**json.loads(done.stdout))


class Source:
    """The messages of one publisher.

    Args:
        name: two characters.
        count: how many there are.
        interval: seconds between two of them.
        sizes: chooses their sizes.

    Attributes:
        offsets: where in the history each of them was found.
        sent: how many were sent.
    """

    def __init__(self, name: bytes, count: int, interval: float, sizes: random.Random) -> None:
        self.name = name
        self.offsets: list[int] = []
        self.sent = 0
        self._count = count
        self._interval = interval
        self._sizes = sizes
        self._begun = 0.0

    def begin(self) -> None:
        """From now on messages are due."""
        self._begun = time.monotonic()

    @property
    def left(self) -> int:
        """How many are not sent yet."""
        return self._count - self.sent

    @property
    def missing(self) -> int:
        """How many were sent, and nobody has received them yet."""
        return self.sent - len(self.offsets)

    def due(self) -> int:
        """How many should have been sent by now, and are not."""
        due = int((time.monotonic() - self._begun) / self._interval) + 1
        return max(0, min(due, self._count) - self.sent)

    def next(self) -> bytes:
        """The next message."""
        text = self.name + b"%08d" % self.sent
        self.sent += 1
        return text.ljust(self._sizes.choice(SIZES), b".")


class History:
    """What every member receives, put together from whoever is ahead.

    Args:
        sources: whose messages these are; each has to be there once, in its order.
        fault: told of anything else.

    Attributes:
        farewells: where the last messages of visitors are, by their number.
    """

    def __init__(self, sources: Sequence[Source], fault: Callable[[str], None]) -> None:
        self.data = bytearray()
        self.farewells: dict[int, int] = {}
        self._sources = {source.name: source for source in sources}
        self._fault = fault
        self._parsed = 0

    def __len__(self) -> int:
        return len(self.data)

    @property
    def messages(self) -> int:
        """How many messages it has."""
        return len(self.farewells) + sum(len(each.offsets) for each in self._sources.values())

    def matches(self, start: int, data: bytes) -> bool:
        """Whether these bytes are there; what goes beyond its end is added."""
        known = max(0, min(len(self.data) - start, len(data)))
        if data[:known] != self.data[start : start + known]:
            return False
        if known < len(data):
            self.data += data[known:]
            self._parse()
        return True

    def _parse(self) -> None:
        while (found := frame_at(self.data, self._parsed)) is not None:
            head, end = found
            self._note(*message_at(self.data, head))
            self._parsed = end

    def _note(self, name: bytes, number: int) -> None:
        start = self._parsed
        source = self._sources.get(name)
        if name == VISITORS and number not in self.farewells:
            self.farewells[number] = start
        elif source is not None and number == len(source.offsets):
            source.offsets.append(start)
        else:
            frame = bytes(self.data[start : start + 40])
            self._fault(f"lost, doubled, out of order or no message: {frame!r}")

    def find(self, name: bytes, number: int) -> int:
        """Where a message is; -1 if it is not there."""
        if name == VISITORS:
            return self.farewells.get(number, -1)
        source = self._sources.get(name)
        known = source is not None and 0 <= number < len(source.offsets)
        return source.offsets[number] if source is not None and known else -1


def frame_at(data: bytearray, start: int) -> tuple[int, int] | None:
    """Where the payload of the frame at ``start`` begins and ends, if it is all there."""
    if len(data) < start + 2:
        return None
    size, head = data[start + 1], start + 2
    if size > 125:
        head += 2 if size == 126 else 8
        size = int.from_bytes(data[start + 2 : head], "big")
    return (head, head + size) if len(data) >= head + size else None


def message_at(data: bytearray, head: int) -> tuple[bytes, int]:
    """Publisher and number of the message that begins at ``head``."""
    number = bytes(data[head + 2 : head + NAME])
    return bytes(data[head : head + 2]), int(number) if number.isdigit() else -1


class Client(ABC):
    """A connection that never blocks.

    Args:
        load: whose client it is.
        greeting: what to send first.
    """

    def __init__(self, load: Load, greeting: bytes = b"") -> None:
        self.load = load
        self.received = bytearray()
        self.closed = False
        self._connected = False
        self._outgoing = bytearray(greeting)
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = self.socket.connect_ex((load.plan.host, next(load.ports)))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, "cannot connect")
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        load.selector.register(self.socket, both, self)

    def on_event(self, mask: int) -> None:
        """Do what the socket is ready for."""
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush()
            if mask & selectors.EVENT_READ and not self.closed:
                data = self.socket.recv(READ)
                if data:
                    self.on_data(data)
                else:
                    self.on_end("ended")
        except BlockingIOError:
            pass
        except OSError as error:
            self.on_end(str(error))

    def send(self, data: bytes) -> None:
        """Send bytes as soon as possible."""
        self._outgoing += data
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        self.load.selector.modify(self.socket, both, self)

    def _flush(self) -> None:
        if not self._connected:
            self._connected = True
            self.on_connected()
        if self._outgoing:
            del self._outgoing[: self.socket.send(self._outgoing)]
        if not self._outgoing:
            self.load.selector.modify(self.socket, selectors.EVENT_READ, self)

    def on_connected(self) -> None:  # noqa: B027  # Most have nothing more to say then.
        """The greeting is about to be sent."""

    @abstractmethod
    def on_data(self, data: bytes) -> None:
        """Take what has arrived."""

    def on_end(self, how: str) -> None:
        """The server has ended the connection."""
        self.load.fault(f"{type(self).__name__} was given up: {how}")
        self.close()

    def close(self) -> None:
        """Close the socket."""
        if not self.closed:
            self.closed = True
            self.load.selector.unregister(self.socket)
            self.socket.close()


class Subscriber(Client):
    """A websocket; what comes behind the handshake is for ``on_frames``."""

    def __init__(self, load: Load) -> None:
        super().__init__(load, upgrade_request(CHANNEL))
        self.is_open = False

    def on_data(self, data: bytes) -> None:
        """Take the answer to the handshake, then frames."""
        if self.is_open:
            self.on_frames(data)
            return
        self.received += data
        head, blank, rest = self.received.partition(b"\r\n\r\n")
        if blank and not head.startswith(b"HTTP/1.1 101 "):
            self.on_end(f"refused, {bytes(head[:80])!r}")
        elif blank:
            self.is_open = True
            self.received.clear()
            self.on_open()
            self.on_frames(bytes(rest))

    def on_open(self) -> None:
        """It is subscribed."""

    @abstractmethod
    def on_frames(self, data: bytes) -> None:
        """Take frames, as they come."""


class Member(Subscriber):
    """A subscriber that is there throughout: whatever it gets has to be the history."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self.position = 0

    def on_frames(self, data: bytes) -> None:
        """Compare what comes with what others got before."""
        if not self.load.history.matches(self.position, data):
            self.on_end(f"other bytes than others got, behind {self.position}")
        self.position += len(data)


class Beating(Member):
    """A member that sends heartbeats, which must not change what else it gets."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._unread = bytearray()

    def on_frames(self, data: bytes) -> None:
        """Leave out the answers to its heartbeats."""
        self._unread += data
        messages = bytearray()
        while (found := frame_at(self._unread, 0)) is not None:
            head, end = found
            if head < end:
                messages += self._unread[:end]
            del self._unread[:end]
        super().on_frames(bytes(messages))

    def work(self) -> None:
        """Send a heartbeat."""
        self.send(client_frame(TEXT))


class Publisher(Member):
    """A member that publishes by websocket."""

    def __init__(self, load: Load, source: Source) -> None:
        super().__init__(load)
        self._source = source

    def work(self) -> None:
        """Send what is due, all of it at once, as far as its window allows."""
        source = self._source
        room = self.load.plan.window - source.missing
        count = min(room, source.due())
        if count > 0:
            self.send(b"".join(client_frame(TEXT, source.next()) for _ in range(count)))


class Poster(Client):
    """Publishes by POST, one request after the other on one connection."""

    def __init__(self, load: Load, source: Source) -> None:
        super().__init__(load)
        self._source = source
        self._waiting = False

    def work(self) -> None:
        """Send the next message if it is due and the one before is answered."""
        if not self._waiting and self._source.due():
            self._waiting = True
            self.send(http_request("POST", CHANNEL, self._source.next()))

    def on_data(self, data: bytes) -> None:
        """Take an answer: it went to all members at least."""
        self.received += data
        if not self.received.endswith(b"\r\n\r\nOK\n"):
            return
        answer = bytes(self.received)
        self.received.clear()
        self._waiting = False
        name, least = self.load.counted
        count = answer.partition(name + b": ")[2].partition(b"\r\n")[0]
        if not answer.startswith(b"HTTP/1.1 200 ") or int(count) < least:
            self.load.fault(f"a POST was answered {answer!r}")
        self.work()


class Visitor(Subscriber):
    """Comes, stays for a while, and leaves: properly, by closing its socket, or with a reset.

    Args:
        load: whose client it is.
        number: its own.
        stay: for how many seconds.
        way: how it leaves, one of ``WAYS``.
    """

    def __init__(self, load: Load, number: int, stay: float, way: str) -> None:
        super().__init__(load)
        self.way = way
        self._farewell = VISITORS + b"%08d" % number
        self._number = number
        self._stay = stay
        self._leave_at: float | None = None
        self._waits = False
        self._not_before = 0
        self._all_from: list[tuple[bytes, int]] = []
        self._all_until = 0

    def on_connected(self) -> None:
        """What is in the history now was published before it subscribes."""
        if not self.load.several:
            self._not_before = len(self.load.history)

    def on_open(self) -> None:
        """What is sent from now on has to arrive."""
        self._all_from = [(source.name, source.sent) for source in self.load.sources]
        self._leave_at = time.monotonic() + self._stay

    def on_frames(self, data: bytes) -> None:
        """Keep it all: where in the history it belongs shows in the end."""
        self.received += data
        if self._waits and self._farewell in self.received:
            self._waits = False
            self.send(LEAVING)

    def work(self) -> None:
        """Leave when it is time."""
        if self._leave_at is None or time.monotonic() < self._leave_at:
            return
        self._leave_at = None
        if self.way == "close":
            self._waits = self.load.several
            self._all_until = 0 if self._waits else len(self.load.history)
            farewell = client_frame(TEXT, self._farewell)
            self.send(farewell if self._waits else farewell + LEAVING)
            return
        if self.way == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def on_end(self, how: str) -> None:
        """The server ends what was closed properly, and nothing else."""
        if self.way == "close" and self._leave_at is None and self.received.endswith(LEFT):
            del self.received[-len(LEFT) :]
            self.close()
        else:
            super().on_end(how)

    def close(self) -> None:
        """Close the socket; be checked in the end."""
        if not self.closed:
            self.load.left.append(self)
        super().close()

    def check(self, history: History) -> None:
        """What it received has to be the right piece of the history."""
        if self.way == "close":
            last = history.find(VISITORS, self._number)
            if last < 0:
                self.load.fault("the last message of a visitor is lost")
            self._all_until = max(self._all_until, last + 1)
        due = [history.find(*each) for each in self._all_from]
        first = min((offset for offset in due if offset >= 0), default=len(history))
        found = frame_at(self.received, 0)
        if found is None:
            # At most a piece of a frame, for who did not wait for the end.
            if first < self._all_until:
                self.load.fault(f"a visitor missed all from {first} to {self._all_until}")
            return
        begin = history.find(*message_at(self.received, found[0]))
        end = begin + len(self.received)
        if begin < 0 or self.received != history.data[begin:end]:
            self.load.fault(f"a visitor got other bytes than the members, at {begin}")
        elif begin < self._not_before:
            self.load.fault(f"a visitor got at {begin} what was published before it came")
        elif begin > first:
            self.load.fault(f"a visitor missed what is between {first} and {begin}")
        elif end < self._all_until:
            self.load.fault(f"a visitor missed what is between {end} and {self._all_until}")


class Load:
    """All clients, and one loop.

    Args:
        plan: what to do.

    Attributes:
        plan: as given.
        selector: wakes the clients.
        sources: the messages of each publisher.
        history: what every member has to receive.
        several: whether several servers share the channel.
        ports: those of the servers, by turns.
        members: who is there throughout.
        left: visitors that have left.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.selector = selectors.DefaultSelector()
        ports = (plan.port, *plan.more_ports)
        self.several = len(ports) > 1
        self.ports = itertools.cycle(ports)
        self._servers = len(ports)
        self._random = random.Random(plan.seed)
        self._faults: list[str] = []
        names = [b"w%d" % each for each in range(plan.websocket_publishers)]
        names += [b"p%d" % each for each in range(plan.post_publishers)]
        count, interval = plan.messages // len(names), len(names) / plan.rate
        self.sources = [Source(name, count, interval, self._random) for name in names]
        self.history = History(self.sources, self.fault)
        self.members: list[Member] = []
        self.left: list[Visitor] = []
        self._visitors: list[Visitor] = []

    @property
    def counted(self) -> tuple[bytes, int]:
        """What the answer to a POST counts, and how many there are at least."""
        if self.several:
            return b"Pinghub-Servers", self._servers
        return b"Pinghub-Subscribers", len(self.members)

    def fault(self, text: str) -> None:
        """Note what is wrong; the load ends."""
        self._faults.append(text)

    def run(self) -> Report:
        """Do it all."""
        split = self.plan.websocket_publishers
        publishers = [Publisher(self, source) for source in self.sources[:split]]
        beating = [Beating(self) for _ in range(self.plan.heartbeats)]
        others = range(self.plan.subscribers - self.plan.heartbeats)
        self.members = [*publishers, *beating, *(Member(self) for _ in others)]
        posters = [Poster(self, source) for source in self.sources[split:]]
        self._until(lambda: all(member.is_open for member in self.members), lambda: None)
        begun = time.monotonic()
        for source in self.sources:
            source.begin()

        def work() -> None:
            for each in (*publishers, *posters, *beating, *self._visitors):
                each.work()  # type: ignore[attr-defined]
            if any(source.left for source in self.sources):
                self._receive_visitors(time.monotonic() - begun)
            else:
                self._visitors = [each for each in self._visitors if not each.closed]

        self._until(lambda: self._all_delivered() and not self._visitors, work)
        for visitor in self.left:
            visitor.check(self.history)
        return Report(
            published=self.history.messages,
            deliveries=self.history.messages * len(self.members),
            visits=dict(Counter(visitor.way for visitor in self.left)),
            begun=begun,
            seconds=time.monotonic() - begun,
            faults=self._faults[:100],
        )

    def _receive_visitors(self, elapsed: float) -> None:
        while len(self._visitors) < elapsed * self.plan.visits:
            stay = self._random.uniform(*self.plan.stay)
            way = self._random.choice(WAYS)
            self._visitors.append(Visitor(self, len(self._visitors), stay, way))

    def _all_delivered(self) -> bool:
        return all(source.left == 0 == source.missing for source in self.sources) and all(
            member.position == len(self.history) for member in self.members
        )

    def _until(self, condition: Callable[[], bool], work: Callable[[], None]) -> None:
        beat = last_news = time.monotonic()
        while not self._faults and not condition():
            now = time.monotonic()
            if now >= beat:
                beat = max(now, beat + BEAT)
                work()
            events = self.selector.select(max(0.0, beat - now))
            for key, mask in events:
                key.data.on_event(mask)
            if events:
                last_news = now
            elif now - last_news > self.plan.patience:
                self.fault("some wait in vain")


def main() -> None:
    """Run the plan that the command line describes."""
    raise_descriptor_limit()
    settings: dict[str, Any] = json.loads(sys.argv[1])
    print(json.dumps(asdict(Load(Plan(**settings)).run())))


if __name__ == "__main__":
    main()
