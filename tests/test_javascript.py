"""The client for JavaScript: its own tests, its npm package, its types, and a real server."""

from __future__ import annotations

import atexit
import itertools
import json
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import ClassVar
from unittest import SkipTest, skipUnless

from twisted.trial.unittest import SynchronousTestCase

import pinghub
from tests.clients.cases import LARGEST, SECONDS, ServerCase
from tests.clients.lines import Client, Event
from tests.clients.test_node import HOW, MODULES, NODE, has_websocket
from tests.proxies.harness import free_port
from tests.running import Server

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCE = CHECKOUT / "pinghub" / "console"
HERE = CHECKOUT / "tests" / "javascript"
TSC = HERE / "node_modules" / ".bin" / "tsc"
NPM = shutil.which("npm") or ""
NO_NODE = f"no node: install Node.js 20 or later, or {HOW}"
NO_TSC = "no TypeScript: run npm install in tests/javascript"

SOON = 100
"""The longest delay before an attempt in the tests with a server, in ms."""

TOO_LONG = "/" + "x" * 300
"""No channel has such a name: a handshake for it is refused with 400."""

# What a program of TypeScript is compiled with, in a project for browsers.
STRICT = ["--strict", "--noEmit", "--target", "es2022", "--module", "nodenext"]


def run(*command: str | Path, cwd: Path, seconds: float = 60.0) -> str:
    """What a command that has to succeed prints."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        timeout=seconds,
    )
    assert done.returncode == 0, f"status {done.returncode} from {command}:\n{done.stdout}"
    return done.stdout


@skipUnless(NODE, NO_NODE)
class OwnTests(SynchronousTestCase):
    """What the client does in a world of the tests' own: ``tests/javascript/*.test.js``."""

    def check(self, name: str) -> None:
        """All tests of a file pass, and there are some."""
        command = [NODE, "--expose-gc", "--test-reporter=spec", f"{name}.test.js"]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=60)
        failures = done.stdout.partition("failing tests:")[2] or done.stdout + done.stderr
        self.assertEqual(done.returncode, 0, failures)
        passed, skipped = (re.search(rf"{what} (\d+)", done.stdout) for what in ("pass", "skipped"))
        assert passed and skipped, done.stdout
        self.assertGreater(int(passed[1]), 0)
        self.assertEqual(int(skipped[1]), 0)

    def test_backoff(self) -> None:
        """When it tries again."""
        self.check("backoff")

    def test_channel(self) -> None:
        """URL, state, events, publishing, closing."""
        self.check("channel")

    def test_growth(self) -> None:
        """A thousand reconnects leave nothing behind."""
        self.check("growth")

    def test_heartbeat(self) -> None:
        """A dead connection is noticed."""
        self.check("heartbeat")

    def test_network(self) -> None:
        """Offline and online, hidden and shown."""
        self.check("network")

    def test_post(self) -> None:
        """Publishing by POST."""
        self.check("post")

    def test_token(self) -> None:
        """Tokens as text and as functions, in the query and as the subprotocol."""
        self.check("token")

    def test_all(self) -> None:
        """No file of tests is forgotten here."""
        names = {path.name.removesuffix(".test.js") for path in HERE.glob("*.test.js")}
        self.assertEqual(names, {name[5:] for name in dir(self) if name[:5] == "test_"} - {"all"})


class SourceTests(SynchronousTestCase):
    """What the file itself has to be."""

    def test_inline(self) -> None:
        """It can stand in a page: nothing in it ends a script, or begins a comment of HTML."""
        text = (SOURCE / "pinghub.js").read_text()
        for mark in ("</script", "<script", "<!--", "{{"):
            self.assertFalse(mark in text.lower(), mark)

    def test_one_export(self) -> None:
        """Channel is all that it exports, and it imports nothing."""
        text = (SOURCE / "pinghub.js").read_text()
        found = re.findall(r"^(?:export|import)\b.*", text, re.MULTILINE)
        self.assertEqual(found, ["export class Channel extends EventTarget {"])


@cache
def project() -> Path:
    """A project with the package in it: packed as for npm, and installed from the tarball."""
    if not NPM:
        raise SkipTest("no npm: install Node.js with npm")
    home = Path(tempfile.mkdtemp(prefix="pinghub-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    # A copy, because packing makes files, if only for a moment.
    shutil.copytree(SOURCE, home / "pinghub" / "console")
    shutil.copy(CHECKOUT / "LICENSE", home)
    npm("pack", "--pack-destination", home, home=home, cwd=home / "pinghub" / "console")
    scratch = home / "scratch"
    scratch.mkdir()
    (scratch / "package.json").write_text('{"type": "module"}')
    npm("install", "--offline", tarball(home), home=home, cwd=scratch)
    return home


def npm(*arguments: str | Path, home: Path, cwd: Path) -> None:
    """Run an npm that asks nobody about anything, and keeps its cache to itself."""
    quiet = ["--no-audit", "--no-fund", "--no-update-notifier", f"--cache={home / 'cache'}"]
    run(NPM, *arguments, *quiet, cwd=cwd)


def tarball(home: Path) -> Path:
    """The package."""
    return home / f"pinghub-{pinghub.__version__}.tgz"


@skipUnless(NODE, NO_NODE)
class PackageTests(SynchronousTestCase):
    """The package for npm."""

    def installed(self, name: str) -> str:
        """A file of the installed package."""
        return (project() / "scratch" / "node_modules" / "pinghub" / name).read_text()

    def evaluate(self, script: str) -> str:
        """What a script of a project that has the package prints."""
        command = [NODE, "--input-type=module", "--eval", script]
        return run(*command, cwd=project() / "scratch").strip()

    def test_content(self) -> None:
        """It has the client in both forms, its types, its README and the licence; nothing else."""
        with tarfile.open(tarball(project())) as archive:
            names = {name.removeprefix("package/") for name in archive.getnames()}
        ours = {"pinghub.js", "pinghub.classic.js", "pinghub.d.ts"}
        self.assertEqual(names, ours | {"package.json", "README.md", "LICENSE"})

    def test_as_in_the_checkout(self) -> None:
        """What is in it is what is in the checkout; packing leaves nothing behind there."""
        for name in ("pinghub.js", "pinghub.d.ts", "README.md"):
            self.assertEqual(self.installed(name), (SOURCE / name).read_text())
        self.assertEqual(self.installed("LICENSE"), (CHECKOUT / "LICENSE").read_text())
        packed = {path.name for path in (project() / "pinghub" / "console").iterdir()}
        self.assertEqual(packed & {"pinghub.classic.js", "LICENSE"}, set())

    def test_metadata(self) -> None:
        """Its version and its licence are Pinghub's, and it needs no other package."""
        data = json.loads((SOURCE / "package.json").read_text())
        self.assertEqual((data["name"], data["version"]), ("pinghub", pinghub.__version__))
        self.assertIn(f"{data['license']} License", (CHECKOUT / "LICENSE").read_text())
        self.assertEqual([name for name in data if name.endswith("ependencies")], [])

    def test_import(self) -> None:
        """A program that has installed it imports it by its name."""
        script = 'import * as all from "pinghub"; console.log(Object.keys(all).join());'
        self.assertEqual(self.evaluate(script), "Channel")

    def test_classic(self) -> None:
        """As a script without modules it makes one global, with the same class in it."""
        printed = self.evaluate(
            """
            import { readFileSync } from "node:fs";
            import { runInThisContext } from "node:vm";
            import { Channel } from "pinghub";
            const before = new Set(Object.getOwnPropertyNames(globalThis));
            const path = "node_modules/pinghub/pinghub.classic.js";
            runInThisContext(readFileSync(path, "utf-8"));
            const names = Object.getOwnPropertyNames(globalThis);
            console.log(names.filter((each) => !before.has(each)).join());
            console.log(Object.keys(Pinghub).join());
            console.log(`${Channel}` === `${Pinghub.Channel}`);
            try {
              new Pinghub.Channel("mailto:someone", { WebSocket: class {} });
            } catch (error) {
              console.log(error.name);
            }
            """
        )
        self.assertEqual(printed.split(), ["Pinghub", "Channel", "true", "SyntaxError"])

    def test_readme(self) -> None:
        """The options in the README are those of the types, with the same numbers."""
        types = self.installed("pinghub.d.ts")
        interface = types.partition("interface ChannelOptions {")[2].partition("\n}")[0]
        options = re.findall(r"^  (\w+)\?:", interface, re.MULTILINE)
        readme = self.installed("README.md")
        self.assertEqual(re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE), options)
        source = self.installed("pinghub.js")
        for name, number in re.findall(r"^\| `(\w+)` \| ([\d ]+) ", readme, re.MULTILINE):
            self.assertIn(f"      {name} = {number.strip().replace(' ', '_')},\n", source)

    @skipUnless(TSC.exists(), NO_TSC)
    def test_types(self) -> None:
        """A program in TypeScript has the types of everything, and mistakes do not compile."""
        self.compile("types.ts", "--lib", "es2022,dom")

    @skipUnless(TSC.exists(), NO_TSC)
    def test_types_node(self) -> None:
        """So does one for Node, where the types of browsers are not known."""
        modules = HERE / "node_modules" / "@types"
        self.compile("types-node.ts", "--lib", "es2022", "--typeRoots", modules, "--types", "node")

    def compile(self, name: str, *options: str | Path) -> None:
        """Compile a program, which has installed the package."""
        scratch = project() / "scratch"
        shutil.copy(HERE / name, scratch)
        run(TSC, *STRICT, *options, name, cwd=scratch)


class Process(Client):
    """A process with channels, which ends by itself once nothing is left to wait for."""

    def next(self, number: int) -> Event:
        """Wait for the next event of a channel."""
        deadline = time.monotonic() + SECONDS
        while not self._events[number]:
            self._read(deadline)
        return self._events[number].popleft()

    def end(self) -> int:
        """Tell it that nothing more is told; the status it ends with."""
        self.tell(0, "end")
        return self._process.wait(SECONDS)


class Remote:
    """A channel in another process.

    Args:
        process: the process.
        url: the channel.
        options: those of the client.
    """

    _numbers = itertools.count(1)

    def __init__(self, process: Process, url: str, **options: object) -> None:
        self._process = process
        self._number = next(self._numbers)
        self.tell("connect", url=url, options=options)

    def tell(self, what: str, **details: object) -> None:
        """Send a command."""
        self._process.tell(self._number, what, **details)

    def hear(self, wanted: str, *before: str) -> Event:
        """Wait for an event of this kind; those that may come before it are left out."""
        while (event := self._process.next(self._number))["event"] != wanted:
            assert event["event"] in before, event
        return event

    def receive(self) -> str:
        """Wait for a message."""
        return str(self.hear("message")["payload"])

    def reopen(self) -> Event:
        """Wait while it tries to connect, until it is open again; the gap that it tells of."""
        self.hear("open", "waiting", "connecting", "answered")
        return self.hear("gap")


class RealCases(ServerCase):
    """A mixin: what the client does with a Pinghub, by one kind of WebSocket."""

    which: ClassVar[str]
    process: ClassVar[Process]

    @classmethod
    def start(cls, shared: ExitStack) -> None:
        """Start the server and the process."""
        super().start(shared)
        cls.process = cls.begin(shared)

    @classmethod
    def begin(cls, shared: ExitStack) -> Process:
        """Start a process."""
        process = Process([NODE, str(HERE / "subscriber.js"), cls.which])
        shared.enter_context(process)
        return process

    def remote(self, server: Server, path: str, **options: object) -> Remote:
        """A channel that ends with the test."""
        remote = Remote(self.process, server.http(path), **options)
        self.addCleanup(remote.tell, "close")
        return remote

    def subscribe(self, server: Server | None = None, **options: object) -> Remote:
        """The channel of this test, on this server or the shared one, once it is open."""
        remote = self.remote(server or self.server, self.path, **options)
        remote.hear("open")
        return remote

    def serve(self, port: int) -> Server:
        """A server on this port, until the test ends."""
        server = Server(f"--addr=127.0.0.1:{port}", addr=False)
        server.__enter__()
        self.addCleanup(server.stop)
        return server

    def assert_works(self, remote: Remote) -> None:
        """It gets back what it publishes."""
        remote.tell("publish", payload="does it work?")
        self.assertEqual(remote.receive(), "does it work?")

    def test_order(self) -> None:
        """Messages arrive in the order in which they were published, character by character."""
        publisher, subscriber = self.subscribe(), self.subscribe()
        texts = [f"{number} \u00e9\U0001f9f6" for number in range(200)]
        for text in texts:
            publisher.tell("publish", payload=text)
        self.assertEqual([subscriber.receive() for _ in texts], texts)
        self.assertEqual([publisher.receive() for _ in texts], texts)

    def test_post(self) -> None:
        """A POST resolves to the number of subscribers, and reaches them."""
        publisher, subscriber = self.subscribe(), self.subscribe()
        # On a connection of its own: the answer may come before the message, or after it.
        publisher.tell("post", payload="posted")
        self.assertEqual(publisher.hear("posted", "message")["subscribers"], 2)
        self.assertEqual(subscriber.receive(), "posted")

    def test_post_refused(self) -> None:
        """A POST that is refused rejects with the status and the line of the server."""
        publisher = self.subscribe()
        publisher.tell("post", payload="x" * (LARGEST + 1))
        failed = publisher.hear("failed")
        self.assertEqual(failed["status"], 413)
        self.assertRegex(failed["message"], rf"^[^\n]*{LARGEST}[^\n]*$")

    def test_nobody(self) -> None:
        """Without a server nothing is published: not by websocket, and a POST has status 0."""
        with Server() as server:
            publisher = self.subscribe(server, maxDelay=SOON)
        publisher.hear("waiting")
        publisher.tell("publish", payload="anybody?")
        publisher.hear("refused", "waiting", "connecting")
        publisher.tell("post", payload="anybody?")
        self.assertEqual(publisher.hear("failed", "waiting", "connecting")["status"], 0)

    def test_refused(self) -> None:
        """A handshake that is refused is tried again and again, as if there were no server."""
        subscriber = self.remote(self.server, TOO_LONG, maxDelay=SOON)
        for _ in range(3):
            self.assertEqual(subscriber.hear("waiting")["code"], 1006)
            subscriber.hear("connecting")

    def test_too_large(self) -> None:
        """A message that is too large ends the connection with 1009; another one is opened."""
        publisher = self.subscribe(maxDelay=SOON)
        publisher.tell("publish", payload="x" * (LARGEST + 1))
        self.assertEqual(publisher.hear("waiting")["code"], 1009)
        publisher.reopen()
        self.assert_works(publisher)

    def test_heartbeat(self) -> None:
        """Heartbeats are answered, to the client alone, and are no messages."""
        other, subscriber = self.subscribe(), self.subscribe(heartbeat=20)
        for _ in range(5):
            subscriber.hear("answered")
        other.tell("publish", payload="next")
        self.assertEqual(subscriber.hear("message", "answered")["payload"], "next")
        self.assertEqual(other.receive(), "next")

    def test_silence(self) -> None:
        """A server that says nothing more is given up; once it goes on, the channel is open."""
        server = self.serve(0)
        subscriber = self.subscribe(
            server, heartbeat=50, deadline=1000, openTimeout=1000, maxDelay=SOON
        )
        subscriber.hear("answered")
        server.process.send_signal(signal.SIGSTOP)
        self.addCleanup(server.process.send_signal, signal.SIGCONT)
        reason = subscriber.hear("waiting", "answered")["reason"]
        self.assertEqual(reason, "Nothing came within 1000 ms of a heartbeat.")
        server.process.send_signal(signal.SIGCONT)
        subscriber.reopen()

    def test_kill(self) -> None:
        """A server is killed, and another one started: the channel is open again, after a gap."""
        port = free_port()
        server = self.serve(port)
        subscriber = self.subscribe(server, maxDelay=SOON)
        before = time.time() * 1000
        self.assert_works(subscriber)
        server.kill()
        after = time.time() * 1000
        self.assertEqual(subscriber.hear("waiting")["code"], 1006)
        self.serve(port)
        since = subscriber.reopen()["since"]
        self.assertTrue(before - 1 <= since <= after, (before, since, after))
        self.assert_works(subscriber)

    def test_stop(self) -> None:
        """A server that stops closes with 1001; the channel is open again on the next one."""
        port = free_port()
        server = self.serve(port)
        subscriber = self.subscribe(server, maxDelay=SOON)
        server.stop()
        self.assertEqual(subscriber.hear("waiting")["code"], 1001)
        self.serve(port)
        subscriber.reopen()
        self.assert_works(subscriber)

    def test_reconnect(self) -> None:
        """It opens another connection when asked to; the server has but that one."""
        subscriber, other = self.subscribe(), self.subscribe()
        subscriber.tell("reconnect")
        subscriber.hear("connecting")
        subscriber.reopen()
        self.assert_works(subscriber)
        self.assertEqual(other.receive(), "does it work?")
        subscriber.tell("post", payload="how many?")
        self.assertEqual(subscriber.hear("posted", "message")["subscribers"], 2)

    def test_token(self) -> None:
        """With a token, in the query or as the subprotocol, the channel is the same as without."""
        options = {"token": "a.b-c_d", "tokenIn": "subprotocol"}
        third = self.remote(self.server, self.path, **options)
        self.assertEqual(third.hear("agreed")["protocol"], "a.b-c_d")
        third.hear("open")
        everybody = [self.subscribe(), self.subscribe(token="a.b-c_d"), third]
        for each in everybody:
            each.tell("post", payload="who is there?")
            self.assertEqual(each.hear("posted", "message")["subscribers"], len(everybody))

    def test_close(self) -> None:
        """Once its channels are closed, nothing keeps a process from ending."""
        with ExitStack() as stack:
            process = self.begin(stack)
            server = stack.enter_context(Server())
            channels = [Remote(process, server.http(self.path)) for _ in range(2)]
            # One that waits for a heartbeat, and one that waits for its next attempt.
            channels[0].hear("open")
            channels.append(Remote(process, server.http(TOO_LONG), minDelay=30_000))
            channels[2].hear("waiting")
            for channel in channels:
                channel.tell("close", code=3001, reason="enough")
            for channel in channels:
                closed = channel.hear("closed", "open", "waiting", "connecting")
                self.assertEqual((closed["code"], closed["reason"]), (3001, "enough"))
            self.assertEqual(process.end(), 0)


@skipUnless(NODE, NO_NODE)
class BuiltInTests(RealCases, SynchronousTestCase):
    """With the WebSocket that Node 22 has from browsers."""

    which = "built-in"

    @classmethod
    def start(cls, shared: ExitStack) -> None:
        """Start, if this Node has a websocket built in."""
        if not has_websocket():
            raise SkipTest(f"a node without a websocket: {HOW}, or install Node.js 22 or later")
        super().start(shared)


@skipUnless(NODE, NO_NODE)
@skipUnless((MODULES / "ws").is_dir(), f"no package ws: {HOW}")
class WsTests(RealCases, SynchronousTestCase):
    """With the WebSocket of the package ws."""

    which = str(MODULES / "ws" / "wrapper.mjs")
