"""What every websocket client sees of Pinghub: one suite of cases, one port for the adapters."""

from __future__ import annotations

import atexit
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from http.client import HTTPConnection
from signal import SIGTERM
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from tests.running import Server

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase
else:
    SynchronousTestCase = object

SECONDS = 5.0
"""No test waits longer for anything."""

LARGEST = 65_536
"""The bytes of the largest message a Pinghub takes that was not told otherwise."""

UNICODE = "e\u0301 beside \u00e9, \U00010348 \U0001f9f6, \u0645\u0631\u062d\u0628\u0627"
"""A combining character, two characters of the astral planes, and a script from right to left."""


class Websocket(Protocol):
    """An open websocket as one library shows it to its users.

    What waits gives up after `SECONDS`. The cases that need `send_fragments` and `ping` are
    mixins of their own, for the libraries that can do that.
    """

    @property
    def subprotocol(self) -> str:
        """The subprotocol agreed on, empty for none."""

    @property
    def extensions(self) -> str:
        """The extensions agreed on, empty for none."""

    def send(self, text: str) -> None:
        """Send a text message in one frame."""

    def send_binary(self, data: bytes) -> None:
        """Send a binary message in one frame."""

    def send_fragments(self, *fragments: str) -> None:
        """Send one text message in several frames."""

    def receive(self) -> str:
        """Wait for the next text message; anything else is an error."""

    def ping(self, payload: bytes) -> bytes:
        """Send a ping and wait for a pong; the payload of the pong."""

    def close(self) -> int:
        """Close with 1000; the code the server answers (1006 or an error: none)."""

    def wait_closed(self) -> int:
        """Wait for the server to close; its code (1006 or an error: none)."""

    def drop(self) -> None:
        """Let go of the connection, whatever its state."""


class Answer(NamedTuple):
    """What the server answered to a POST."""

    status: int
    body: bytes
    subscribers: str | None


def post(server: Server, path: str, message: str) -> Answer:
    """Publish a message by POST, with the client of the standard library."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    try:
        connection.request("POST", path, message.encode())
        response = connection.getresponse()
        subscribers = response.getheader("Pinghub-Subscribers")
        return Answer(response.status, response.read(), subscribers)
    finally:
        connection.close()


class ServerCase(SynchronousTestCase):
    """A mixin: one server for the class, and a channel of its own for each test.

    Trial calls no ``setUpClass``, so the first test of a class starts what they share.
    """

    server: ClassVar[Server]

    @classmethod
    def start(cls, shared: ExitStack) -> None:
        """Start what the tests of the class share, which ends with the test run."""
        cls.server = shared.enter_context(Server())

    def setUp(self) -> None:
        """Choose a channel that nobody used before."""
        super().setUp()
        if "server" not in vars(type(self)):
            shared = ExitStack()
            atexit.register(shared.close)
            self.start(shared)
        self.path = f"/{secrets.token_hex(8)}"


class Cases(ServerCase, ABC):
    """The cases, as a mixin: an adapter says how its client opens a websocket."""

    @abstractmethod
    def connect(self, url: str, subprotocols: Sequence[str]) -> Websocket:
        """Open a websocket, offering permessage-deflate where the client is able to."""

    def subscribe(self, path: str = "", *, subprotocols: Sequence[str] = ()) -> Websocket:
        """A websocket on the channel of this test, or another one."""
        websocket = self.connect(self.server.ws(path or self.path), subprotocols)
        self.addCleanup(websocket.drop)
        return websocket

    def assert_works(self, websocket: Websocket) -> None:
        """It gets back what it sends."""
        websocket.send("does it work?")
        self.assertEqual(websocket.receive(), "does it work?")

    def test_own_message(self) -> None:
        """A message comes back to the websocket that sent it."""
        self.assert_works(self.subscribe())

    def test_other_subscriber(self) -> None:
        """A message reaches the other subscriber of the channel, and nobody elsewhere."""
        publisher, subscriber = self.subscribe(), self.subscribe()
        elsewhere = self.subscribe(self.path + "/")
        publisher.send("news")
        elsewhere.send("other news")
        self.assertEqual(subscriber.receive(), "news")
        self.assertEqual(elsewhere.receive(), "other news")

    def test_post(self) -> None:
        """A POST is answered with the number of subscribers, and its body reaches them."""
        subscriber = self.subscribe()
        answer = post(self.server, self.path, "posted")
        self.assertEqual(answer, Answer(200, b"OK\n", "1"))
        self.assertEqual(subscriber.receive(), "posted")

    def test_order(self) -> None:
        """Messages arrive in the order they were published, however they were."""
        subscriber = self.subscribe()
        subscriber.send("first")
        received = [subscriber.receive()]
        post(self.server, self.path, "second")
        post(self.server, self.path, "third")
        subscriber.send("fourth")
        received += [subscriber.receive() for _ in range(3)]
        self.assertEqual(received, ["first", "second", "third", "fourth"])

    def test_unicode(self) -> None:
        """Text arrives as it was sent, character by character, unnormalised."""
        subscriber = self.subscribe()
        subscriber.send(UNICODE)
        self.assertEqual(subscriber.receive(), UNICODE)

    def test_posted_unicode(self) -> None:
        """Posted text arrives as it was sent, character by character, unnormalised."""
        subscriber = self.subscribe()
        post(self.server, self.path, UNICODE)
        self.assertEqual(subscriber.receive(), UNICODE)

    def test_largest(self) -> None:
        """A message of exactly the limit arrives."""
        subscriber = self.subscribe()
        subscriber.send("x" * LARGEST)
        received = subscriber.receive()
        self.assertTrue(received == "x" * LARGEST, f"got {len(received)} characters")

    def test_limit_is_in_bytes(self) -> None:
        """A message whose bytes exceed the limit is closed with 1009, few as its characters are."""
        subscriber = self.subscribe()
        subscriber.send("\u00e9" * (LARGEST // 2) + "x")
        self.assertEqual(subscriber.wait_closed(), 1009)

    def test_too_large(self) -> None:
        """One byte more than the limit is closed with 1009."""
        subscriber = self.subscribe()
        subscriber.send("x" * (LARGEST + 1))
        self.assertEqual(subscriber.wait_closed(), 1009)

    def test_much_too_large(self) -> None:
        """A client that goes on sending megabytes sees the 1009 nevertheless."""
        subscriber = self.subscribe()
        subscriber.send("x" * (LARGEST << 6))
        self.assertEqual(subscriber.wait_closed(), 1009)

    def test_heartbeat(self) -> None:
        """An empty message comes back to its sender, and reaches nobody else."""
        sender, other = self.subscribe(), self.subscribe()
        sender.send("")
        self.assertEqual(sender.receive(), "")
        post(self.server, self.path, "next")
        self.assertEqual([sender.receive(), other.receive()], ["next", "next"])

    def test_close(self) -> None:
        """A client that closes is answered 1000, and is no subscriber any more."""
        leaving, staying = self.subscribe(), self.subscribe()
        self.assertEqual(leaving.close(), 1000)
        answer = post(self.server, self.path, "still here?")
        self.assertEqual(answer.subscribers, "1")
        self.assertEqual(staying.receive(), "still here?")

    def test_binary(self) -> None:
        """A binary message is closed with 1003, and the other subscribers do not notice."""
        sender, other = self.subscribe(), self.subscribe()
        sender.send_binary(b"\x00\x01")
        self.assertEqual(sender.wait_closed(), 1003)
        self.assert_works(other)

    def test_drain(self) -> None:
        """A server that stops closes with 1001, after what it still had to deliver."""
        with Server() as server:
            subscriber = self.connect(server.ws(self.path), ())
            self.addCleanup(subscriber.drop)
            post(server, self.path, "the last one")
            server.process.send_signal(SIGTERM)
            self.assertEqual(subscriber.receive(), "the last one")
            self.assertEqual(subscriber.wait_closed(), 1001)
            self.assertEqual(server.wait(), 0)

    def test_encoded_path(self) -> None:
        """Two spellings of a path in UTF-8 are one channel."""
        subscriber = self.subscribe(self.path + "/caf%C3%A9")
        answer = post(self.server, self.path + "/caf%c3%a9", "coffee")
        self.assertEqual(answer.subscribers, "1")
        self.assertEqual(subscriber.receive(), "coffee")

    def test_query(self) -> None:
        """The query is no part of the channel's name."""
        subscriber = self.subscribe(self.path + "?token=secret")
        post(self.server, self.path, "whatever you asked")
        self.assertEqual(subscriber.receive(), "whatever you asked")

    def test_subprotocol(self) -> None:
        """The first subprotocol offered is the one agreed on."""
        subscriber = self.subscribe(subprotocols=["token.abc", "pinghub"])
        self.assertEqual(subscriber.subprotocol, "token.abc")
        self.assert_works(subscriber)

    def test_no_subprotocol(self) -> None:
        """A client that offers no subprotocol is given none."""
        self.assertEqual(self.subscribe().subprotocol, "")

    def test_compression(self) -> None:
        """The offer of permessage-deflate is declined, and everything works without."""
        subscriber = self.subscribe()
        self.assertEqual(subscriber.extensions, "")
        self.assert_works(subscriber)


class FragmentCases(Cases):
    """The cases for clients that can send fragments."""

    def test_fragments(self) -> None:
        """A fragmented message arrives joined."""
        subscriber = self.subscribe()
        subscriber.send_fragments("in ", "three ", "parts")
        self.assertEqual(subscriber.receive(), "in three parts")

    def test_fragments_too_large(self) -> None:
        """Fragments that exceed the limit together are closed with 1009."""
        subscriber = self.subscribe()
        subscriber.send_fragments("x" * LARGEST, "x")
        self.assertEqual(subscriber.wait_closed(), 1009)


class PingCases(Cases):
    """The case for clients that can ping."""

    def test_ping(self) -> None:
        """A ping is answered with a pong that carries its payload."""
        self.assertEqual(self.subscribe().ping(b"are you there?"), b"are you there?")
