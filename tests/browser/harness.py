"""What the tests of the page share: a server, a browser, pages that nothing may be wrong with."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from playwright.sync_api import ConsoleMessage, Locator, Page, expect
from twisted.trial.unittest import SynchronousTestCase

from pinghub.testing import TEXT, client_frame
from tests import chromium
from tests.faults.harness import PATIENCE, Peer, connect, eventually
from tests.running import Server

CONSOLE = Path(__file__).parents[2] / "pinghub" / "console"
PHONE = {"width": 360, "height": 640}
DESKTOP = {"width": 1280, "height": 800}

# Violations of the policy are console messages as well; this also has those of inline styles.
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""

expect.set_options(timeout=PATIENCE * 1000)


class Console:
    """A page of the browser that shows a channel.

    Args:
        page: the page, not yet there.

    Attributes:
        page: the same.
        complaints: errors and warnings of the page, as the developer tools would show them.
        requests: where the page sent requests and opened websockets.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.add_init_script(WATCH)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, url: str) -> Console:
        """Go there, and wait for the websocket."""
        self.page.goto(url)
        expect(self.id("state-text")).to_have_text("Connected")
        return self

    def id(self, name: str) -> Locator:
        """The element with an id."""
        return self.page.locator(f"#{name}")

    def click(self, name: str) -> None:
        """Click on the element with an id."""
        self.id(name).click()

    def publish(self, text: str) -> None:
        """Write a message and press Enter."""
        self.id("message").fill(text)
        self.id("message").press("Enter")

    def see(self, *texts: str | re.Pattern[str]) -> None:
        """Wait until the rows in the list are these."""
        expect(self.page.locator(".row .text")).to_have_text(list(texts))

    def rows(self) -> list[str]:
        """The texts of the rows that exist."""
        script = "[...document.querySelectorAll('.row .text')].map((each) => each.textContent)"
        texts: list[str] = self.run(script)
        return texts

    def run(self, script: str, argument: Any = None) -> Any:
        """What a script gives in the page, which knows nothing of it."""
        return self.page.evaluate(script, argument)

    def total(self) -> int:
        """How many messages the page says that it received."""
        text = self.id("total").text_content() or ""
        return int(text.replace(",", ""))

    def text(self, name: str) -> str:
        """The text of the element with an id."""
        return self.id(name).text_content() or ""

    def eventually(self, condition: Callable[[], bool], what: str) -> None:
        """Look until something holds."""
        eventually(condition, PATIENCE, what)


class BrowserTests(SynchronousTestCase):
    """A server and a browser; pages that complain, or ask anybody else for anything, are failures.

    Attributes:
        server: the server.
        consoles: all pages that were opened.
        options: those of the server.
        complains: whether pages are expected to complain, as about a server that is gone.
    """

    complains = False
    options: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.browser = chromium.start(self)
        self.consoles: list[Console] = []
        self.server = self.start(*self.options)
        # Not tearDown, which trial calls behind all cleanups: the browser is gone then.
        self.addCleanup(self.check)

    def start(self, *options: str) -> Server:
        """Start another server."""
        server = Server(*options).__enter__()
        self.addCleanup(server.stop)
        return server

    def restart(self, *options: str) -> None:
        """Start the server again where it was."""
        address = f"--addr=127.0.0.1:{self.server.port}"
        self.server = Server(address, *options, addr=False).__enter__()
        self.addCleanup(self.server.stop)

    def check(self) -> None:
        """Nothing may be wrong with any page."""
        for console in self.consoles:
            if not self.complains:
                self.assertEqual(console.complaints, [])
            self.assertEqual(console.run("window.violations"), [])
            hosts = {urlsplit(url).netloc for url in console.requests}
            self.assertEqual(hosts, {f"127.0.0.1:{self.server.port}"})

    def console(
        self, channel: str = "/news", size: dict[str, int] = DESKTOP, **more: Any
    ) -> Console:
        """A page that shows a channel, and is subscribed to it."""
        console = self.blank(size, **more)
        return console.open(self.server.http(quote(channel)))

    def blank(self, size: dict[str, int] = DESKTOP, **more: Any) -> Console:
        """A page in a context of its own that shows nothing yet."""
        context = self.browser.new_context(
            viewport={"width": size["width"], "height": size["height"]},
            permissions=["clipboard-read", "clipboard-write"],
            **more,
        )
        console = Console(context.new_page())
        self.consoles.append(console)
        return console

    def post(self, text: str, channel: str = "/news") -> int:
        """POST a message; how many subscribers it was handed to."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port)) as connection:
            connection.request("POST", quote(channel), text.encode())
            answer = connection.getresponse()
            answer.read()
            self.assertEqual(answer.status, 200)
            return int(answer.headers["Pinghub-Subscribers"])

    def peer(self, channel: str = "/news") -> Peer:
        """A websocket of a client without a browser."""
        peer = Peer(connect(("127.0.0.1", self.server.port)))
        self.addCleanup(peer.close)
        peer.upgrade(channel)
        return peer


def frames(first: int, count: int) -> bytes:
    """So many numbered text messages, as one websocket client sends them."""
    texts = (f'{{"number": {first + each}, "text": "some words"}}' for each in range(count))
    return b"".join(client_frame(TEXT, text.encode()) for text in texts)
