"""The examples of docs/publishing.md, each run as it stands but for host and port."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import skipIf
from urllib.parse import unquote

from twisted.trial.unittest import SynchronousTestCase

from pinghub.errors import BackplaneDown, BackplaneFull, BackplaneLost, BackplaneRefused
from pinghub.limits import Limits
from tests.clients.test_node import HOW, NODE
from tests.faults.harness import KIB, Peer, connect
from tests.running import Server

PAGE = (Path(__file__).parent.parent.parent / "docs" / "publishing.md").read_text()
CHANNEL = "/room/Caf%C3%A9%20%231"
MESSAGE = "Hello, Zoë!"
PATIENCE = 120.0
"""No example runs for longer, in seconds. Go may have to build its library first."""

if TYPE_CHECKING:
    TestCase = SynchronousTestCase
else:
    TestCase = object


def section(heading: str) -> str:
    """The text of the page below one of its headings, up to the next of the same level."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^\1 |\Z)", PAGE, re.DOTALL | re.M)
    assert found is not None, heading
    return found[2]


def blocks(text: str) -> list[tuple[str, str]]:
    """The code blocks of a text: the language and the code of each."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """One program of the page.

    Attributes:
        heading: of its section.
        file: what it is saved as.
        command: what runs it, before the file's name.
        missing: how to get what it needs; empty if that is there.
        line: whether it tells the line that the server says when it refuses.
        again: code that, at the end of the program, waits for a line of input and then publishes
            once more, or what comes to the same; empty if nothing is kept.
        watches: whether it closes a kept connection on its own as soon as the server has.
    """

    heading: str
    file: str
    command: tuple[str, ...]
    missing: str = ""
    line: bool = True
    again: str = ""
    watches: bool = False

    @property
    def code(self) -> str:
        """The program."""
        ((_, code),) = blocks(section(self.heading))
        return code


def unless(there: object, how: str) -> str:
    """How to get what is missing."""
    return "" if there else how


def has_php_with_curl() -> bool:
    """Whether there is a PHP that can be used."""
    ask = ["php", "-r", "exit(extension_loaded('curl') ? 0 : 1);"]
    return bool(shutil.which("php")) and subprocess.run(ask).returncode == 0


REQUESTS = Example(
    "Python, with requests",
    "publish.py",
    (sys.executable,),
    missing=unless(find_spec("requests"), "no requests: pip install requests"),
    again='input()\npublish("/again", "again")\n',
)
LIBRARY = Example(
    "Python, without packages",
    "publish.py",
    (sys.executable,),
    again='input()\npublisher.publish("/again", "again")\n',
)
PHP = Example(
    "PHP",
    "publish.php",
    ("php",),
    missing=unless(has_php_with_curl(), "no php with curl: apt install php-cli php-curl"),
    again="fgets(STDIN);\npublish('/again', 'again');\n",
)
NODE_JS = Example(
    "Node.js",
    "publish.mjs",
    (NODE,),
    missing=unless(NODE, f"no node: install Node.js 18 or later, or {HOW}"),
    again='await new Promise((go) => process.stdin.once("data", go));\n'
    'await publish("/again", "again");\nprocess.stdin.destroy();\n',
    watches=True,
)
GO = Example(
    "Go",
    "publish.go",
    ("go", "run"),
    missing=unless(shutil.which("go"), "no go: apt install golang-go"),
    # Go runs this before ``main``, wherever it stands.
    again='func init() {\n\tpublish("/first", "first")\n\tfmt.Scanln()\n}\n',
    watches=True,
)
RUBY = Example(
    "Ruby",
    "publish.rb",
    ("ruby",),
    missing=unless(shutil.which("ruby"), "no ruby: apt install ruby"),
)
CURL = Example(
    "curl",
    "publish.sh",
    ("sh",),
    missing=unless(shutil.which("curl"), "no curl: apt install curl"),
    line=False,
)
WGET = Example(
    "wget",
    "publish.sh",
    ("sh",),
    missing=unless(shutil.which("wget"), "no wget: apt install wget"),
)
EXAMPLES = (REQUESTS, LIBRARY, PHP, NODE_JS, GO, RUBY, CURL, WGET)


def environment() -> dict[str, str]:
    """The environment of an example: without the proxies that most of them would send to."""
    return {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}


def moved(code: str, port: int) -> str:
    """A program, for a server on another port."""
    for there in ("127.0.0.1:8081", '"127.0.0.1", 8081'):
        if there in code:
            return code.replace(there, there.replace("8081", str(port)))
    raise AssertionError(f"no server in {code}")


@contextmanager
def started(example: Example, port: int, code: str = "") -> Iterator[subprocess.Popen[str]]:
    """A running example, or another program in its language."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, example.file)
        path.write_text(moved(code or example.code, port), encoding="utf-8")
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*example.command, str(path)],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            encoding="utf-8",
            env=environment(),
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                # What it has started, as ``go run`` does, would hold on to the pipes.
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
        status: its exit status.
        said: what it printed.
        complaint: what it printed to standard error.
    """

    status: int
    said: str
    complaint: str


def ended(process: subprocess.Popen[str], typed: str = "") -> Outcome:
    """Wait for the end of a program.

    Args:
        process: the program.
        typed: what it gets to read.
    """
    said, complaint = process.communicate(typed, PATIENCE)
    return Outcome(process.returncode, said, complaint)


def run(example: Example, port: int, code: str = "") -> Outcome:
    """Run an example, or another program in its language, to its end."""
    with started(example, port, code) as process:
        return ended(process)


@dataclass(frozen=True)
class Answer:
    """What a ``Script`` does about one POST.

    Attributes:
        status: the status to answer; 0 to say something else instead.
        fields: further header fields.
        said: the body, or what is said instead; a short line if it is empty.
        keep: whether the connection stays open afterwards. If not, the client is not told.
    """

    status: int
    fields: tuple[tuple[str, str], ...] = ()
    said: bytes = b""
    keep: bool = True


GOOD = Answer(200, (("Pinghub-Subscribers", "1"),))
CLOSE = Answer(0, keep=False)


class Script(ThreadingHTTPServer):
    """A server that does to each POST what it is told, as a context manager.

    Args:
        answers: what it does, one POST after the other; the last of them for all that follow.
        patient: whether it closes a connection only when the client has closed its end too.

    Attributes:
        port: where it listens.
        requests: for each POST the number of its connection, and its body.
        settled: set when a POST has been answered, and its connection closed if it was to be.
    """

    # Otherwise it would wait for its connections when it ends.
    block_on_close = False

    def __init__(self, *answers: Answer, patient: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.port: int = self.server_address[1]
        self.requests: list[tuple[int, str]] = []
        self.settled = threading.Event()
        self._answers = list(answers)
        self._patient = patient
        self._connections: list[object] = []

    def __enter__(self) -> Script:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def take(self, conversation: Conversation, body: str) -> Answer:
        """Note a POST; what to do about it."""
        if conversation not in self._connections:
            self._connections.append(conversation)
        self.requests.append((self._connections.index(conversation), body))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, when everything is said."""
        if self._patient:
            request.shutdown(socket.SHUT_WR)
            request.settimeout(PATIENCE)
            request.recv(1)
        super().shutdown_request(request)
        self.settled.set()


class Conversation(BaseHTTPRequestHandler):
    """One connection to a ``Script``."""

    protocol_version = "HTTP/1.1"
    server: Script

    def do_POST(self) -> None:
        """Do what the script says."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        answer = self.server.take(self, body)
        if answer.status:
            self._answer(answer.status, answer.fields, answer.said)
        else:
            self.wfile.write(answer.said)
        if answer.keep:
            self.server.settled.set()
        else:
            self.close_connection = True

    def do_GET(self) -> None:
        """Show a page, as many servers do."""
        self._answer(200, ())

    def _answer(self, status: int, fields: tuple[tuple[str, str], ...], said: bytes = b"") -> None:
        said = said or b"OK\n"
        self.send_response(status)
        for name, value in (*fields, ("Content-Length", str(len(said)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Cases(TestCase):
    """What every example does, as a mixin."""

    example: ClassVar[Example]

    def server(self, *options: str) -> Server:
        """A running server."""
        server = Server(*options)
        server.__enter__()
        self.addCleanup(server.stop)
        return server

    def peer(self, server: Server) -> Peer:
        """A connection."""
        peer = Peer(connect(("127.0.0.1", server.port)))
        self.addCleanup(peer.close)
        return peer

    def subscriber(self, server: Server) -> Peer:
        """A subscriber of the channel of the examples."""
        peer = self.peer(server)
        peer.upgrade(CHANNEL)
        return peer

    def assert_failed(self, outcome: Outcome, *said: str) -> None:
        """The example says that it has failed, and why."""
        self.assertEqual((outcome.status, outcome.said), (1, ""), outcome)
        for text in ("failed: ", *said):
            self.assertIn(text, outcome.complaint)
        self.assertNotIn("Traceback", outcome.complaint)

    def test_delivered(self) -> None:
        """Subscribers get precisely the message, and the example says how many there are."""
        server = self.server()
        self.assertEqual(run(self.example, server.port), Outcome(0, "nobody was there\n", ""))
        subscriber = self.subscriber(server)
        self.assertEqual(run(self.example, server.port), Outcome(0, "subscribers: 1\n", ""))
        self.assertEqual(subscriber.message().decode(), MESSAGE)
        self.peer(server).post(CHANNEL, b"the next")
        self.assertEqual(subscriber.message(), b"the next")

    def test_refused(self) -> None:
        """What the server refuses, here a message that is too large, has failed."""
        server = self.server("--max-message=10")
        subscriber = self.subscriber(server)
        lines = ("The message is too large: send at most 10 bytes.",) * self.example.line
        self.assert_failed(run(self.example, server.port), "413", *lines)
        self.peer(server).post(CHANNEL, b"the next")
        self.assertEqual(subscriber.message(), b"the next")

    def test_down(self) -> None:
        """When nobody listens, it has failed."""
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            outcome = run(self.example, closed.getsockname()[1])
        self.assert_failed(outcome)
        self.assertRegex(outcome.complaint, "(?i)connect")

    def test_not_now(self) -> None:
        """What a busy server or a proxy answers is told, and not tried again.

        The status is enough, whatever other fields say.
        """
        fields = (("Retry-After", "1"), ("Pinghub-Subscribers", "1"))
        for status in (429, 502, 503, 504):
            with Script(Answer(status, fields)) as script:
                self.assert_failed(run(self.example, script.port), str(status))
            self.assertEqual(script.requests, [(0, MESSAGE)])

    def test_closed(self) -> None:
        """When the connection is closed instead of an answer, it has failed, after one try."""
        with Script(CLOSE) as script:
            self.assert_failed(run(self.example, script.port))
        self.assertEqual(script.requests, [(0, MESSAGE)])

    def test_no_http(self) -> None:
        """A server that speaks something else has not taken the message."""
        with Script(Answer(0, said=b"SSH-2.0-OpenSSH_9.2\r\n", keep=False)) as script:
            self.assert_failed(run(self.example, script.port))

    def test_somebody_else(self) -> None:
        """A 200 that does not say how many subscribers there are has failed."""
        with Script(Answer(200)) as script:
            self.assert_failed(run(self.example, script.port), *("200",) * self.example.line)

    def test_redirect(self) -> None:
        """A redirect to a page has failed, whether the library follows it or not."""
        with Script(Answer(302, (("Location", "/page"),))) as script:
            self.assert_failed(run(self.example, script.port))


class KeepingCases(Cases):
    """The same, for examples that keep their connection, as a mixin."""

    sent_when_closed: ClassVar[int] = 1

    def publish_twice(self, *answers: Answer, patient: bool = False) -> tuple[Script, Outcome]:
        """Let the example publish twice, and not before all is said about the first message."""
        code = self.example.code + self.example.again
        with (
            Script(*answers, patient=patient) as script,
            started(self.example, script.port, code) as process,
        ):
            self.assertTrue(script.settled.wait(PATIENCE), script.requests)
            return script, ended(process, "\n")

    def test_kept(self) -> None:
        """The second message goes over the same connection."""
        script, outcome = self.publish_twice(GOOD)
        self.assertEqual(outcome, Outcome(0, "subscribers: 1\n", ""))
        self.assertEqual([number for number, _ in script.requests], [0, 0])

    def test_kept_too_long(self) -> None:
        """If the server has closed the connection, the second message goes over another one."""
        close = Answer(200, GOOD.fields, keep=False)
        # Who watches may be about to notice; who does not, looks before the next message.
        script, outcome = self.publish_twice(close, GOOD, patient=self.example.watches)
        self.assertEqual(outcome, Outcome(0, "subscribers: 1\n", ""))
        self.assertEqual([number for number, _ in script.requests], [0, 1])

    def test_closed_when_kept(self) -> None:
        """A kept connection that is closed instead of an answer: as the page says of each."""
        script, outcome = self.publish_twice(GOOD, CLOSE, GOOD)
        self.assertEqual(len(script.requests), 1 + self.sent_when_closed)
        self.assertEqual(outcome.status == 0, self.sent_when_closed > 1, outcome)


@skipIf(REQUESTS.missing, REQUESTS.missing)
class RequestsTests(KeepingCases, SynchronousTestCase):
    """Python, with requests."""

    example = REQUESTS

    def again(self, *answers: Answer) -> tuple[list[tuple[int, str]], Outcome]:
        """What the example does to a server once it tries again."""
        ((_, code),) = blocks(section("Trying again"))
        function, call = "\n\ndef publish(", "subscribers = publish("
        for text in (function, call):
            self.assertEqual(self.example.code.count(text), 1)
        code = self.example.code.replace(function, f"{code}{function}")
        code = code.replace(call, "subscribers = publish_or_wait(")
        with Script(*answers) as script:
            outcome = run(self.example, script.port, code)
        return script.requests, outcome

    def test_trying_again(self) -> None:
        """What was not published is tried again."""
        requests, outcome = self.again(Answer(503), Answer(429), GOOD)
        self.assertEqual(outcome, Outcome(0, "subscribers: 1\n", ""))
        self.assertEqual([body for _, body in requests], [MESSAGE] * 3)

    def test_giving_up(self) -> None:
        """After three more tries it has failed, with what was answered."""
        requests, outcome = self.again(Answer(503))
        self.assert_failed(outcome, "failed: 503 OK")
        self.assertEqual(len(requests), 4)

    def test_not_trying_again(self) -> None:
        """What may have been published is not tried again."""
        lost = Answer(503, said=f"{BackplaneLost()}\n".encode())
        for answer in (CLOSE, Answer(502), Answer(504), Answer(413), Answer(200), lost):
            requests, outcome = self.again(answer)
            self.assert_failed(outcome)
            self.assertEqual(len(requests), 1)

    def test_what_was_not_published(self) -> None:
        """All else that a backplane does not take is tried again, after the time it says."""
        for refusal in (BackplaneDown(), BackplaneFull(), BackplaneRefused()):
            answer = Answer(503, (("Retry-After", "0"),), f"{refusal}\n".encode())
            requests, outcome = self.again(answer, GOOD)
            self.assertEqual(outcome, Outcome(0, "subscribers: 1\n", ""))
            self.assertEqual(len(requests), 2)


class LibraryTests(KeepingCases, SynchronousTestCase):
    """Python, without packages."""

    example = LIBRARY


@skipIf(PHP.missing, PHP.missing)
class PhpTests(KeepingCases, SynchronousTestCase):
    """PHP."""

    example = PHP
    sent_when_closed = 2

    def test_not_kept(self) -> None:
        """With the option that the page names, nothing is sent twice."""
        option = "CURLOPT_FORBID_REUSE => true"
        self.assertIn(f"`{option}`", PAGE)
        code = self.example.code.replace("CURLOPT_TIMEOUT", f"{option}, CURLOPT_TIMEOUT")
        with Script(GOOD, CLOSE, GOOD) as script:
            outcome = run(self.example, script.port, code + self.example.again)
        self.assertEqual(script.requests, [(0, MESSAGE), (1, "again")])
        self.assertNotEqual(outcome.status, 0)


@skipIf(NODE_JS.missing, NODE_JS.missing)
class NodeTests(KeepingCases, SynchronousTestCase):
    """Node.js."""

    example = NODE_JS


@skipIf(GO.missing, GO.missing)
class GoTests(KeepingCases, SynchronousTestCase):
    """Go."""

    example = GO


@skipIf(RUBY.missing, RUBY.missing)
class RubyTests(Cases, SynchronousTestCase):
    """Ruby."""

    example = RUBY


@skipIf(CURL.missing, CURL.missing)
class CurlTests(Cases, SynchronousTestCase):
    """curl."""

    example = CURL

    def test_one_line(self) -> None:
        """The first line of the page publishes."""
        (_, code), *_ = blocks(PAGE)
        server = self.server()
        subscriber = self.peer(server)
        subscriber.upgrade("/news")
        outcome = run(self.example, server.port, code)
        self.assertEqual((outcome.status, outcome.said), (0, "OK\n"))
        self.assertEqual(subscriber.message(), b"Hello, world!")


@skipIf(WGET.missing, WGET.missing)
class WgetTests(Cases, SynchronousTestCase):
    """wget."""

    example = WGET


class PageTests(SynchronousTestCase):
    """The page as a whole."""

    def test_no_answer(self) -> None:
        """Each example gives up a server that takes the message and says nothing."""
        with ExitStack() as stack:
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = silent.getsockname()[1]
            processes = [
                (example.heading, stack.enter_context(started(example, port)))
                for example in EXAMPLES
                if not example.missing
            ]
            for heading, process in processes:
                outcome = ended(process)
                self.assertEqual((outcome.status, outcome.said), (1, ""), heading)
                self.assertIn("failed: ", outcome.complaint, heading)
                self.assertNotIn("Traceback", outcome.complaint, heading)

    def test_every_block(self) -> None:
        """Every block of code on the page is one that is run here."""
        first, *others = blocks(PAGE)
        ((_, again),) = blocks(section("Trying again"))
        self.assertEqual(first, ("sh", "curl -d 'Hello, world!' http://127.0.0.1:8081/news\n"))
        known = {example.code for example in EXAMPLES} | {again}
        self.assertEqual({code for _, code in others}, known)
        self.assertEqual(PAGE.count("```"), 2 * (1 + len(known)))

    def test_names(self) -> None:
        """The encoded names in the table are the name in its heading, and need no more encoding."""
        (table,) = re.findall(r"^\| language (?:.+\n)+", PAGE, re.MULTILINE)
        name, *encoded = re.findall(r"`([^`]+)` \|$", table, re.MULTILINE)
        self.assertEqual(len(encoded), 6)
        for each in encoded:
            self.assertRegex(each, r"\A[A-Za-z0-9%]+\Z")
            self.assertEqual(unquote(each), name)

    def test_largest(self) -> None:
        """The bound on messages is the one that the page names."""
        self.assertIn("**At most 64 KiB** (`--max-message`)", PAGE)
        self.assertEqual(Limits().max_message, 64 * KIB)
