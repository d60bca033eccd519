"""The README and the pages of ``docs/`` do what they say."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import skipUnless

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from pinghub.limits import bounds, default_text
from tests.clients.test_node import HOW, NODE, has_websocket
from tests.running import Server

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SECURITY = (ROOT / "docs" / "security.md").read_text()
EMBEDDING = (ROOT / "docs" / "embedding.md").read_text()
CURL = shutil.which("curl")
PATIENCE = 10.0


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def limits_table() -> str:
    """The table of all bounds, as the README has it."""
    rows = ["| what | default | option | at the bound |", "|---|---|---|---|"]
    for name, bound in bounds():
        option = f"`--{bound.option}`" if bound.option else "none"
        rows.append(f"| {bound.what} | {default_text(name)} | {option} | {bound.at} |")
    return "\n".join(rows)


class ReadmeTests(SynchronousTestCase):
    """What a new user does first."""

    def test_the_table_of_bounds(self) -> None:
        """The tables of the README and of docs/security.md are what ``Limits`` says."""
        for page in (README, SECURITY):
            self.assertIn(limits_table(), page)

    @skipUnless(CURL, "no curl: apt install curl")
    @skipUnless(find_spec("websockets"), "no websockets: pip install websockets")
    def test_subscribe_and_publish(self) -> None:
        """The subscriber and the curl line print what the README shows."""
        _, subscribe, publish = blocks(README, "sh")[:3]
        (shown,) = blocks(README, "text")
        with Server("--log-level=debug") as server:
            code = re.search(r"-c '\n(.*)'\n", subscribe, re.DOTALL)
            assert code is not None
            subscriber = subprocess.Popen(
                [sys.executable, "-c", self.here(code[1], server)], stdout=subprocess.PIPE
            )
            self.addCleanup(subscriber.communicate)
            self.addCleanup(subscriber.kill)
            server.wait_for(re.compile("Subscribed"))
            printed = subprocess.run(
                ["bash", "-c", self.here(publish, server)], capture_output=True, check=True
            )
            assert subscriber.stdout is not None
            self.assertEqual(printed.stdout, b"OK\n")
            self.assertEqual(subscriber.stdout.readline().decode(), shown)

    @skipUnless(NODE, f"no node: install Node.js 22 or later, or {HOW}")
    def test_three_lines_of_javascript(self) -> None:
        """The three lines of JavaScript subscribe and publish."""
        if not has_websocket():
            self.skipTest(f"a node without a websocket: {HOW}")
        (code,) = blocks(README, "js")
        with Server() as server:
            process = subprocess.Popen(
                [NODE, "--eval", self.here(code, server)], stdout=subprocess.PIPE
            )
            self.addCleanup(process.communicate)
            self.addCleanup(process.kill)
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), b"Hello from a browser!\n")

    def here(self, code: str, server: Server) -> str:
        """The code, for a server on another port."""
        self.assertIn("localhost:8081", code)
        return code.replace("localhost:8081", f"127.0.0.1:{server.port}")


class EmbeddingTests(SynchronousTestCase):
    """The examples of docs/embedding.md."""

    def test_the_site(self) -> None:
        """The first example serves its own page, and publishes to websockets and from POST."""
        code = blocks(EMBEDDING, "python")[0]
        self.assertIn("listenTCP(8080,", code)
        code = code.replace("reactor.listenTCP(8080,", "port = reactor.listenTCP(0,").replace(
            "reactor.run()",
            "print(f'Listening on 127.0.0.1:{port.getHost().port};', flush=True)\nreactor.run()",
        )
        with Server(command=[sys.executable, "-c", code], addr=False) as server:
            self.assertEqual(self.ask(server, "GET", "/"), b"our own page\n")
            self.assertEqual(self.ask(server, "POST", "/live/news", b"x"), b"OK\n")
            reader = (
                "import sys; from websockets.sync.client import connect\n"
                "with connect(sys.argv[1]) as socket: print(socket.recv(timeout=5))"
            )
            printed = subprocess.run(
                [sys.executable, "-c", reader, server.ws("/live/news")],
                capture_output=True,
                timeout=PATIENCE,
            )
            self.assertEqual(printed.stdout, b"a message from Python\n")

    test_the_site.skip = (  # type: ignore[attr-defined]
        None if find_spec("websockets") else "no websockets: pip install websockets"
    )

    def ask(self, server: Server, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request(method, path, body)
        answer = connection.getresponse().read()
        connection.close()
        return answer

    def test_the_functions(self) -> None:
        """The other examples run, and make what they say."""
        found: dict[str, object] = {}
        for code in blocks(EMBEDDING, "python")[1:]:
            exec(compile(code, "embedding.md", "exec"), found)
        reactor = MemoryReactorClock()
        resource = found["make_resource"](reactor)  # type: ignore[operator]
        self.assertTrue(resource.isLeaf)
        service = found["make_service"](reactor, Resource())  # type: ignore[operator]
        service.startService()
        self.assertEqual(reactor.tcpServers[0][0], 8080)
        share: Any = found["make_shared_resource"]
        backplane, resource = share(MemoryReactorClock(), "unix:///run/redis.sock")
        self.assertEqual(backplane.state().instances, 1)
        self.assertTrue(resource.isLeaf)
        counter = found["Counter"]()  # type: ignore[operator]
        counter.deliver(b"")
        self.assertEqual(counter.count, 1)


class PagesTests(SynchronousTestCase):
    """All pages together."""

    def test_links(self) -> None:
        """Links between pages lead somewhere."""
        for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
                self.assertTrue((page.parent / link).exists(), f"{page.name}: {link}")

    def test_every_option_is_known(self) -> None:
        """An option that a page names exists."""
        from pinghub.cli import CommandOptions

        known = set(CommandOptions().longOpt)
        known = {each.rstrip("=") for each in known}
        for page in (ROOT / "README.md", *ROOT.glob("docs/p*.md")):
            for option in re.findall(r"`--([a-z-]+)", page.read_text()):
                self.assertIn(option, known, page.name)
