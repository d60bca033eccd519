"""The command curl: what is published and asked for without a websocket."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPMessage, parse_headers
from io import BytesIO
from typing import ClassVar
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.cases import LARGEST, SECONDS, UNICODE, ServerCase
from tests.clients.lines import AUTOBAHN, Client, Websocket

CURL = shutil.which("curl") or ""
CHUNKED = ("-H", "Transfer-Encoding: chunked")
EXPECT = ("-H", "Expect: 100-continue")
AT_ONCE = ("-H", "Expect:")
"""For a body of more than 1 MiB curl asks first, unless told not to."""

ALLOWED = {"GET", "HEAD", "OPTIONS", "POST"}


@dataclass
class Answer:
    """An answer of the server, without the interim one before it.

    Attributes:
        continued: whether a 100 Continue came first.
        status: the status.
        headers: the header fields.
        body: the body.
    """

    continued: bool
    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def allowed(self) -> set[str]:
        """The methods of the field Allow."""
        return {each.strip() for each in self.headers.get("Allow", "").split(",")}


def parsed(output: bytes) -> Answer:
    """What ``curl --include`` wrote about one request."""
    statuses = []
    stream = BytesIO(output)
    while True:
        status = int(stream.readline().split()[1])
        headers = parse_headers(stream)
        if status >= 200:
            return Answer(100 in statuses, status, headers, stream.read())
        statuses.append(status)


def run(*arguments: str, data: bytes = b"") -> bytes:
    """The output of curl, which has to find nothing wrong."""
    command = [CURL, "-q", "-sS", "--noproxy", "*", "--max-time", str(SECONDS), *arguments]
    done = subprocess.run(command, input=data, capture_output=True, timeout=2 * SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


@skipUnless(CURL, "no curl: apt install curl")
class CurlTests(ServerCase, SynchronousTestCase):
    """What curl is answered, and what an Autobahn client gets of it."""

    client: ClassVar[Client]

    @classmethod
    def start(cls, shared: ExitStack) -> None:
        """Start the server and a process for the subscribers."""
        super().start(shared)
        cls.client = shared.enter_context(Client(AUTOBAHN))

    def subscribe(self, path: str = "") -> Websocket:
        """A subscriber of the channel of this test, or another one."""
        subscriber = self.client.connect(self.server.ws(path or self.path), ())
        self.addCleanup(subscriber.drop)
        return subscriber

    def ask(self, *options: str, path: str = "") -> Answer:
        """The answer to a request for the channel of this test, or another one."""
        return parsed(run("--include", *options, self.server.http(path or self.path)))

    def post(self, message: bytes, *options: str, path: str = "") -> Answer:
        """The answer to a POST."""
        url = self.server.http(path or self.path)
        return parsed(run("--include", "--data-binary", "@-", *options, url, data=message))

    def assert_published(self, answer: Answer, subscribers: int = 0) -> None:
        """It is the answer to a message that was handed to so many."""
        self.assertEqual((answer.status, answer.body), (200, b"OK\n"))
        self.assertEqual(answer.headers.get_content_type(), "text/plain")
        self.assertEqual(answer.headers["Pinghub-Subscribers"], str(subscribers))

    def assert_refused(self, answer: Answer, status: int) -> None:
        """It is the answer of this status, with a line that says why."""
        self.assertEqual(answer.status, status)
        self.assertEqual(answer.headers.get_content_type(), "text/plain")
        self.assertRegex(answer.body.decode(), r"\A[^\n]+\n\Z")

    def test_nobody_there(self) -> None:
        """A message on a channel without subscribers is accepted, and counted as handed to none."""
        self.assert_published(self.post(b"hello"), 0)

    def test_subscribers(self) -> None:
        """A message reaches the subscribers, and the answer says how many they are."""
        subscribers = [self.subscribe(), self.subscribe()]
        self.assert_published(self.post(UNICODE.encode()), 2)
        self.assertEqual([each.receive() for each in subscribers], [UNICODE, UNICODE])

    def test_form(self) -> None:
        """What curl calls a form is a message as any other."""
        subscriber = self.subscribe()
        answer = self.ask("--data", "a=1&b=%20+", "--data", "c")
        self.assert_published(answer, 1)
        self.assertEqual(subscriber.receive(), "a=1&b=%20+&c")

    def test_chunked(self) -> None:
        """A chunked body is a message as any other."""
        subscriber = self.subscribe()
        self.assert_published(self.post(b"in chunks", *CHUNKED), 1)
        self.assertEqual(subscriber.receive(), "in chunks")

    def test_empty(self) -> None:
        """An empty body is accepted, and reaches nobody."""
        subscriber = self.subscribe()
        self.assertEqual(self.post(b"").status, 200)
        self.post(b"next")
        self.assertEqual(subscriber.receive(), "next")

    def test_http_1_0(self) -> None:
        """A client of HTTP/1.0 is answered too."""
        self.assert_published(self.post(b"hello", "--http1.0"))

    def test_one_connection(self) -> None:
        """A connection is good for more than one request."""
        url = self.server.http(self.path)
        output = run("--data", "x", "--write-out", "%{num_connects}\n", url, url)
        self.assertEqual(output, b"OK\n1\nOK\n0\n")

    def test_offer_of_http_2(self) -> None:
        """An offer to change to HTTP/2 is passed over."""
        self.assert_published(self.post(b"hello", "--http2"))

    def test_not_utf_8(self) -> None:
        """A body that is not UTF-8 is refused with 400."""
        self.assert_refused(self.post(b"caf\xe9"), 400)

    def test_largest(self) -> None:
        """A body of exactly the limit is accepted."""
        self.assert_published(self.post(b"x" * LARGEST))

    def test_largest_chunked(self) -> None:
        """A chunked body of exactly the limit is accepted."""
        self.assert_published(self.post(b"x" * LARGEST, *CHUNKED))

    def test_too_large(self) -> None:
        """One byte more than the limit is refused with 413."""
        self.assert_refused(self.post(b"x" * (LARGEST + 1)), 413)

    def test_too_large_chunked(self) -> None:
        """One byte more than the limit, in chunks, is refused with 413."""
        self.assert_refused(self.post(b"x" * (LARGEST + 1), *CHUNKED), 413)

    def test_much_too_large(self) -> None:
        """A client that goes on sending megabytes sees the 413 nevertheless."""
        self.assert_refused(self.post(b"x" * (LARGEST << 7), *AT_ONCE), 413)

    def test_much_too_large_chunked(self) -> None:
        """A client that goes on sending megabytes of chunks sees the 413 nevertheless."""
        self.assert_refused(self.post(b"x" * (LARGEST << 7), *AT_ONCE, *CHUNKED), 413)

    def test_expect(self) -> None:
        """A client that asks before it sends is told to go on."""
        answer = self.post(b"may I?", *EXPECT)
        self.assert_published(answer)
        self.assertTrue(answer.continued)

    def test_expect_chunked(self) -> None:
        """A client that asks before it sends chunks is told to go on."""
        answer = self.post(b"may I?", *EXPECT, *CHUNKED)
        self.assert_published(answer)
        self.assertTrue(answer.continued)

    def test_expect_too_large(self) -> None:
        """A client that asks before it sends too much is refused, not told to go on."""
        answer = self.post(b"x" * (LARGEST + 1), *EXPECT)
        self.assert_refused(answer, 413)
        self.assertFalse(answer.continued)

    def test_expect_too_large_chunked(self) -> None:
        """Too much in chunks is refused once it is known."""
        self.assert_refused(self.post(b"x" * (LARGEST + 1), *EXPECT, *CHUNKED), 413)

    def test_get(self) -> None:
        """GET is answered with a page."""
        answer = self.ask()
        self.assertEqual((answer.status, answer.headers.get_content_type()), (200, "text/html"))
        self.assertIn(b"<html", answer.body)

    def test_head(self) -> None:
        """HEAD is answered like GET, without the page."""
        answer, page = self.ask("--head"), self.ask()
        self.assertEqual((answer.status, answer.body), (200, b""))
        for field in ("Content-Type", "Content-Length"):
            self.assertEqual(answer.headers[field], page.headers[field])

    def test_options(self) -> None:
        """OPTIONS is answered with the methods, and no body."""
        answer = self.ask("--request", "OPTIONS")
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertEqual(answer.allowed, ALLOWED)

    def test_other_methods(self) -> None:
        """Other methods are refused with 405, and those that are allowed."""
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "FROBNICATE"):
            answer = self.ask("--request", method)
            self.assert_refused(answer, 405)
            self.assertEqual(answer.allowed, ALLOWED)

    def test_upload(self) -> None:
        """A PUT with a body is refused with 405, and the connection stays in step."""
        self.assert_refused(self.ask("--upload-file", "-"), 405)

    def test_path_as_is(self) -> None:
        """Dots and slashes are part of a channel's name."""
        for spelling in self.spellings():
            subscriber = self.subscribe(spelling)
            answer = self.post(b"hello", "--path-as-is", path=spelling)
            self.assert_published(answer, 1)
            self.assertEqual(subscriber.receive(), "hello")

    def spellings(self) -> Iterator[str]:
        """Names that curl, without ``--path-as-is``, would often make the same of."""
        for name in ("{}", "{}/", "/{}", "{}//", "{}/./", "{}/.", "{}/../x", "/..{}", "{}/x/.."):
            yield name.format(self.path)

    def test_normalised_path(self) -> None:
        """Without --path-as-is curl takes the dots out, and the channel is the one it names."""
        subscriber = self.subscribe()
        self.assert_published(self.post(b"hello", path=f"/x/..{self.path}"), 1)
        self.assertEqual(subscriber.receive(), "hello")

    def test_encoded_path(self) -> None:
        """What is percent-encoded is decoded once."""
        subscriber = self.subscribe(self.path + "/%61%2Fb%2541")
        self.assert_published(self.post(b"hello", path=self.path + "/a/b%2541"), 1)
        self.assertEqual(subscriber.receive(), "hello")

    def test_path_not_utf_8(self) -> None:
        """A path that is not UTF-8 is refused with 400."""
        self.assert_refused(self.post(b"hello", path=self.path + "/caf%E9"), 400)

    def test_query(self) -> None:
        """The query is no part of the channel's name."""
        subscriber = self.subscribe()
        self.assert_published(self.post(b"hello", path=self.path + "?token=secret"), 1)
        self.assertEqual(subscriber.receive(), "hello")
