"""What holds behind either proxy when the set of servers changes."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from itertools import count

import websockets
from websockets.exceptions import WebSocketException

from tests.faults.harness import PATIENCE, Peer, eventually
from tests.proxies.harness import WHO_IS_THERE, ProxyTests
from tests.running import Server

CHANNELS = tuple(f"/channel/{number}" for number in range(100))
MAX_AGE = 3.0
"""How long a websocket lives, in seconds: short, so that clients move soon."""

SLACK = 3.0
"""How much later the last client may be there, in seconds."""

A_SHARE = range(4, 61)
"""How many of the channels one of three to five servers may have.

A quarter, say, but which points of the ring are a server's depends on its port or path, new in each
run: of a thousand rings for five servers, the smallest share was 9, of 20 expected.
"""

Answer = tuple[int, int]
"""To a POST: the status, and the number of subscribers; -1 if it does not say."""

NO_ANSWER: Answer = (0, -1)
"""The connection was closed instead."""


class Clients:
    """One client on each channel, in a thread of their own; they reconnect when they are closed.

    Args:
        port: where the proxy listens.
        context: whom they trust.

    Attributes:
        received: the numbers that came, by channel, in the order in which they came.
        times: when each channel had its client: when it was open, and when it was closed.
    """

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.received: dict[str, list[int]] = defaultdict(list)
        self.times: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._url = f"wss://localhost:{port}"
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._run()])
        self._stop = asyncio.Event()

    def start(self) -> None:
        """Let them connect."""
        self._thread.start()

    def stop(self) -> None:
        """Close them all, once."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _run(self) -> None:
        tasks = [asyncio.create_task(self._follow(path)) for path in CHANNELS]
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _follow(self, path: str) -> None:
        while True:
            try:
                async with websockets.connect(self._url + path, ssl=self._context) as websocket:
                    begun = time.monotonic()
                    try:
                        await self._read(websocket, self.received[path])
                    finally:
                        self.times[path].append((begun, time.monotonic()))
            except (OSError, WebSocketException):
                await asyncio.sleep(0.05)

    async def _read(self, websocket: websockets.ClientConnection, received: list[int]) -> None:
        async for message in websocket:
            if message != WHO_IS_THERE:
                received.append(int(message))


class Publisher:
    """Posts numbers to all channels in turn, in a thread of its own, and keeps the answers.

    Args:
        connect: makes a connection to the proxy.

    Attributes:
        answers: the status and the number of subscribers, by channel and number.
        sweeps: when each turn began, and which answers came how often in it.
        sent: when each number was posted.
    """

    def __init__(self, connect: Callable[[], Peer]) -> None:
        self.answers: dict[str, dict[int, Answer]] = defaultdict(dict)
        self.sweeps: list[tuple[float, Counter[Answer]]] = []
        self.sent: dict[int, float] = {}
        self._connect = connect
        self._peer: Peer | None = None
        self._numbers = count(1)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Post no more."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            begun = time.monotonic()
            self.sweeps.append((begun, Counter(self._post(path) for path in CHANNELS)))

    def _post(self, path: str) -> Answer:
        number = next(self._numbers)
        self.sent[number] = time.monotonic()
        answer = self.answers[path][number] = self._answer(path, b"%d" % number)
        return answer

    def _answer(self, path: str, body: bytes) -> Answer:
        try:
            self._peer = self._peer or self._connect()
            return self._peer.post(path, body)
        except (EOFError, OSError):
            self._peer = None
            return NO_ANSWER

    def until_all_listen(self) -> float:
        """Wait until each channel has its subscriber; how long that took, in seconds."""
        begun = time.monotonic()

        def all_listen() -> bool:
            when, answers = self.sweeps[-1] if self.sweeps else (0.0, Counter())
            return when > begun and answers == {(200, 1): len(CHANNELS)}

        return eventually(all_listen, PATIENCE, "all channels have their subscriber")

    def post_to_all(self) -> None:
        """Wait until every channel was posted to once more."""
        begun = time.monotonic()
        eventually(lambda: self.sweeps[-1][0] > begun, PATIENCE, "a turn")

    def since(self, begun: float) -> set[Answer]:
        """Which answers came since some time."""
        return {answer for when, answers in self.sweeps if when > begun for answer in answers}


class ChangeTests(ProxyTests):
    """Adding, removing and restarting a server, with clients connected and messages coming."""

    WHILE_STOPPED: Collection[Answer]  # what else POSTs are answered while a server is restarted

    def options(self) -> list[str]:
        return [f"--max-age={MAX_AGE}s", "--drain=1s"]

    def setUp(self) -> None:
        super().setUp()
        self.clients = Clients(self.port, self.proxy.context)
        self.clients.start()
        self.addCleanup(self.clients.stop)
        self.publisher = Publisher(self.connect)
        self.publisher.start()
        self.addCleanup(self.publisher.stop)
        self.publisher.until_all_listen()

    def owners_of_all(self) -> dict[str, list[Server]]:
        """On which servers each channel has subscribers."""
        return {path: self.owners(path) for path in CHANNELS}

    def check_promise(self) -> None:
        """Nothing was lost without a word: what was answered with a subscriber has reached it.

        Each message came once, and all in order.
        """
        self.publisher.stop()
        for path in CHANNELS:
            received = self.clients.received[path]
            answers = self.publisher.answers[path]
            promised = {number for number, answer in answers.items() if answer == (200, 1)}
            eventually(lambda: promised <= set(received), PATIENCE, f"all messages of {path}")  # noqa: B023
            self.assertEqual(received, sorted(set(received)), path)
            refused = {number for number, answer in answers.items() if answer == (200, 0)}
            self.assertEqual(refused & set(received), set(), path)

    def test_adding(self) -> None:
        """A server more: some channels move to it, no others; their clients within --max-age."""
        before = self.owners_of_all()
        begun = time.monotonic()
        self.servers.append(self.server())
        self.use(self.servers)
        self.assertLess(self.publisher.until_all_listen(), MAX_AGE + SLACK)
        answers = self.publisher.since(begun)
        after = self.owners_of_all()
        moved = [path for path in CHANNELS if after[path] != before[path]]
        self.assertIn(len(moved), A_SHARE)
        self.assertEqual({owner for path in moved for owner in after[path]}, {self.servers[-1]})
        self.assertLessEqual(answers, {(200, 1), (200, 0), NO_ANSWER})
        self.check_promise()

    def test_removing(self) -> None:
        """A server less: its channels move, no others; then nobody is there when it stops."""
        before = self.owners_of_all()
        begun = time.monotonic()
        gone = self.servers[-1]
        self.use(self.servers[:-1])
        self.assertLess(self.publisher.until_all_listen(), MAX_AGE + SLACK)
        after = self.owners_of_all()
        moved = [path for path in CHANNELS if after[path] != before[path]]
        self.assertEqual(moved, [path for path in CHANNELS if before[path] == [gone]])
        self.assertIn(len(moved), A_SHARE)
        gone.process.terminate()
        self.assertEqual(gone.wait(PATIENCE), 0)
        self.publisher.until_all_listen()
        self.assertLessEqual(self.publisher.since(begun), {(200, 1), (200, 0), NO_ANSWER})
        self.check_promise()

    def test_restarting(self) -> None:
        """A server stops and starts: meanwhile its channels are elsewhere, or refused loudly."""
        before = self.owners_of_all()
        begun = time.monotonic()
        old = self.servers[-1]
        old.process.terminate()
        self.assertEqual(old.wait(PATIENCE), 0)
        self.publisher.post_to_all()
        new = self.servers[-1] = self.server(old.port, self.admin_ports[old])
        expected = {path: [new] if owners == [old] else owners for path, owners in before.items()}
        eventually(lambda: self.owners_of_all() == expected, PATIENCE, "all clients are back")
        answers = self.publisher.since(begun)
        self.assertLessEqual(answers, {(200, 1), (200, 0), *self.WHILE_STOPPED})
        self.check_promise()
