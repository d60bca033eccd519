"""Pages with hundreds of channels: websockets over HTTP/2 (RFC 8441), through HAProxy."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from playwright.sync_api import Page

from tests import chromium
from tests.faults.harness import PATIENCE, eventually
from tests.proxies.harness import WHO_IS_THERE, HAProxyTests

ROOMS = [f"/room/{number}" for number in range(200)]
FEW = ROOMS[:20]

COMPLAINT = 14.0
"""How long 181 channels took in a page of the original: the median, in seconds."""

# Opens websockets, so many at a time; `took` is set once each is open, or has failed.
OPEN = """
([host, paths, together]) => {
  window.sockets = {};
  window.received = [];
  window.codes = {};
  window.took = null;
  const begun = performance.now();
  const left = [...paths];
  async function open() {
    while (left.length > 0) {
      const path = left.shift();
      const socket = sockets[path] = new WebSocket(`wss://${host}${path}`);
      socket.onmessage = (event) => received.push([path, event.data]);
      socket.addEventListener("close", (event) => { codes[path] = event.code; });
      await new Promise((done) => { socket.onopen = socket.onclose = done; });
    }
  }
  Promise.all(Array.from({length: together}, open)).then(() => {
    window.took = (performance.now() - begun) / 1000;
  });
}
"""
# What gives Chromium an HTTP/2 connection that its websockets use: it opens none for them.
REQUEST = """
async (host) => {
  await fetch(`https://${host}/`, {mode: "no-cors", credentials: "include"});
}
"""


class Sockets:
    """The websockets of a page, each on a channel of its own.

    Args:
        page: the page that has them.
        host: the host and port that they are opened to.
    """

    def __init__(self, page: Page, host: str) -> None:
        self._page = page
        self._host = host

    def start(self, paths: Sequence[str], together: int) -> None:
        """Begin to open some, so many at a time."""
        self._page.evaluate(OPEN, [self._host, paths, together])

    def open(self, paths: Sequence[str], together: int = 4) -> float:
        """Open some, so many at a time; how many seconds it took."""
        self.start(paths, together)
        eventually(lambda: self.took() is not None, PATIENCE, "all are open, or have failed")
        took = self.took()
        assert took is not None
        return took

    def took(self) -> float | None:
        """How many seconds it took until all were open or had failed; None as long as it does."""
        took: float | None = self._page.evaluate("took")
        return took

    def ready(self) -> list[str]:
        """Those that are open."""
        script = "Object.keys(sockets).filter((path) => sockets[path].readyState == 1)"
        paths: list[str] = self._page.evaluate(script)
        return paths

    def count(self) -> int:
        """How many are open."""
        return len(self.ready())

    def closed(self) -> dict[str, int]:
        """Those that are closed, with their codes."""
        codes: dict[str, int] = self._page.evaluate("codes")
        return codes

    def send(self, messages: Iterable[tuple[str, str]]) -> None:
        """Send messages, each on some channel."""
        script = "(all) => { for (const [path, text] of all) sockets[path].send(text); }"
        self._page.evaluate(script, list(messages))

    def close(self, paths: Sequence[str]) -> None:
        """Close some."""
        self._page.evaluate("(all) => { for (const path of all) sockets[path].close(); }", paths)

    def received(self, count: int) -> dict[str, list[str]]:
        """Wait for so many messages, on all channels together; those of each channel, in order."""
        eventually(lambda: self._page.evaluate("received.length") >= count, PATIENCE, "messages")
        found = defaultdict(list)
        for path, text in self._page.evaluate("received"):
            if text != WHO_IS_THERE:
                found[path].append(text)
        return found


class PageTests(HAProxyTests):
    """A Chromium that trusts the proxy."""

    def setUp(self) -> None:
        super().setUp()
        self.host = f"localhost:{self.port}"
        self.browser = chromium.start(self, self.certificate)

    def page(self, host: str = "localhost") -> Page:
        """A page that comes from Pinghub, through the proxy, by any name of it."""
        page = self.browser.new_page()
        page.goto(f"https://{host}:{self.port}/console")
        return page

    def console(self) -> Page:
        """A console page, subscribed to its own channel."""
        page = self.page()
        page.get_by_text("Connected").wait_for()
        return page

    def restart(self, changes: dict[str, str]) -> None:
        """Start the proxy anew with a changed configuration."""
        self.proxy.stop()
        self.proxy.configure(changes)
        self.proxy.start()

    def connections(self) -> int:
        """How many TCP connections the proxy has with clients."""
        return connections(self.port)


def connections(port: int) -> int:
    """How many TCP connections to a port of this machine are open, as the kernel knows it."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    established = "01"
    return sum(each[1].endswith(f":{port:04X}") and each[3] == established for each in fields)


class ManyChannelsTests(PageTests):
    """What a page with many channels gets."""

    def test_two_hundred(self) -> None:
        """A page has 200 channels on three servers, over one TCP connection, and gets all messages.

        The console is the page, with a websocket of its own: 201 of them.
        """
        sockets = Sockets(self.console(), self.host)
        # All at the same time, as a page does that does not care.
        self.assertLess(sockets.open(ROOMS, together=len(ROOMS)), COMPLAINT)
        self.assertEqual(sockets.count(), len(ROOMS))
        self.assertEqual(self.connections(), 1)
        # HTTP/1.1 behind the proxy: one for each websocket.
        behind = [connections(server.port) for server in self.servers]
        self.assertGreater(sum(behind), len(ROOMS))

        publisher = self.connect()
        for path in ROOMS:
            self.assertEqual(publisher.post(path, f"to {path}".encode()), (200, 1), path)
        sockets.received(len(ROOMS))
        # Behind a message that came twice these would not be the second ones.
        sockets.send((path, f"from {path}") for path in ROOMS)
        self.assertEqual(
            sockets.received(2 * len(ROOMS)),
            {path: [f"to {path}", f"from {path}"] for path in ROOMS},
        )

        owners = [self.owners(path) for path in ROOMS]
        self.assertEqual({len(each) for each in owners}, {1})
        spread = Counter(self.servers.index(each[0]) for each in owners)
        self.assertEqual(len(spread), 3)
        self.assertGreater(min(spread.values()), 10)

    def test_a_few_at_a_time(self) -> None:
        """A page that opens four at a time is not held up by Chromium, which slows down floods."""
        sockets = Sockets(self.console(), self.host)
        self.assertLess(sockets.open(ROOMS, together=4), COMPLAINT / 4)
        self.assertEqual((sockets.count(), self.connections()), (len(ROOMS), 1))

    def test_http1(self) -> None:
        """Over HTTP/1.1 each websocket of the same page is a connection."""
        self.restart({"alpn h2,http/1.1": "alpn http/1.1"})
        sockets = Sockets(self.console(), self.host)
        sockets.open(FEW)
        self.assertEqual(sockets.count(), len(FEW))
        # The console's own, and its page.
        self.assertGreaterEqual(self.connections(), len(FEW) + 1)

    def test_default_streams(self) -> None:
        """HAProxy's default is 100 in a connection: others wait until one of these is closed."""
        self.restart({"    tune.h2.max-concurrent-streams 300\n": ""})
        sockets = Sockets(self.console(), self.host)
        paths = ROOMS[:120]
        sockets.start(paths, together=4)
        # And the console's own.
        eventually(lambda: sockets.count() == 99, PATIENCE, "99 are open")
        ready = sockets.ready()
        for number in range(1, 11):
            sockets.send((path, "x") for path in ready)
            sockets.received(99 * number)
            self.assertEqual((sockets.ready(), sockets.took()), (ready, None))
        self.assertEqual(self.connections(), 1)
        sockets.close(ready[:30])
        eventually(lambda: sockets.took() is not None, PATIENCE, "the others are open")
        self.assertEqual((sockets.count(), self.connections()), (90, 1))

    def test_a_dead_server(self) -> None:
        """Where one server dies its channels are closed, and all others stay where they are."""
        sockets = Sockets(self.console(), self.host)
        sockets.open(ROOMS)
        gone = self.servers[-1]
        dead = [path for path in ROOMS if self.owners(path) == [gone]]
        gone.kill()
        eventually(lambda: len(sockets.closed()) >= len(dead), PATIENCE, "the page notices")
        publisher = self.connect()
        for path in sorted(set(ROOMS) - set(dead)):
            self.assertEqual(publisher.post(path, b"x"), (200, 1), path)
        self.assertEqual(sockets.closed(), dict.fromkeys(dead, 1006))


class IdleTests(PageTests):
    """Websockets over HTTP/2 on which nothing is said."""

    def options(self) -> list[str]:
        return ["--ping-interval=2s", "--no-console"]

    def test_idle(self) -> None:
        """Pings keep them open: each has its own ``timeout tunnel``, and no other timeout."""
        self.restart(
            {
                "timeout client 90s": "timeout client 1s",
                "timeout server 90s": "timeout server 1s",
                "timeout tunnel 90s": "timeout tunnel 4s",
            }
        )
        page = self.page()
        sockets = Sockets(page, self.host)
        sockets.open(FEW)
        page.wait_for_timeout(6000)
        self.assertEqual(sockets.closed(), {})
        publisher = self.connect()
        for path in FEW:
            self.assertEqual(publisher.post(path, b"x"), (200, 1))
        self.assertEqual(sockets.received(len(FEW)), {path: ["x"] for path in FEW})


class RequestFirstTests(PageTests):
    """When Chromium has no HTTP/2 connection to the host, a request has to come first."""

    def options(self) -> list[str]:
        # The page has no websocket of its own then, and reconnects none.
        return ["--no-console"]

    def reopen(self, page: Page, others: int) -> None:
        """Open websockets without a request, and with one.

        Args:
            page: where.
            others: how many connections the page has besides, at most.
        """
        sockets = Sockets(page, self.host)
        sockets.open(FEW)
        self.assertEqual(sockets.count(), len(FEW))
        self.assertGreaterEqual(self.connections(), len(FEW))
        sockets.close(FEW)
        eventually(lambda: self.connections() <= others, PATIENCE, "they are closed")
        page.evaluate(REQUEST, self.host)
        sockets.open(FEW)
        self.assertEqual(sockets.count(), len(FEW))
        self.assertLessEqual(self.connections(), others + 1)

    def test_cut(self) -> None:
        """When the connection is cut all websockets are closed; a request makes the next one."""
        page = self.page()
        sockets = Sockets(page, self.host)
        sockets.open(FEW)
        self.assertEqual(self.connections(), 1)
        self.restart({})
        eventually(lambda: len(sockets.closed()) == len(FEW), PATIENCE, "the page notices")
        self.assertEqual(set(sockets.closed().values()), {1006})
        self.reopen(page, others=0)

    def test_another_host(self) -> None:
        """A page from another host has one connection for all websockets, after a request to it."""
        self.reopen(self.page("app.localhost"), others=1)
