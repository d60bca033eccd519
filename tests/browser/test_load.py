"""A page that gets more than anybody can read."""

from __future__ import annotations

import contextlib
import threading

from playwright.sync_api import expect

from tests.browser.harness import BrowserTests, Console, frames
from tests.faults.harness import Peer, connect, eventually

COUNT = 100_000
BATCH = 100
MIB = 2**20

# How late a frame is, and what a key changes on the screen; and how often a frame was asked for.
MEASURE = """
window.measured = {gap: 0, key: 0, frames: 0, asked: 0};
const frame = requestAnimationFrame.bind(window);
window.requestAnimationFrame = (callback) => { measured.asked++; return frame(callback); };
let last = null;
function tick(now) {
  measured.gap = Math.max(measured.gap, last === null ? 0 : now - last);
  measured.frames++;
  last = now;
  frame(tick);
}
addEventListener("load", () => {
  frame(tick);
  const total = document.getElementById("total");
  new MutationObserver(() => arrived(total.textContent)).observe(total, {childList: true});
});
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    measured.key = Math.max(measured.key, entry.name === "keydown" ? entry.duration : 0);
  }
}).observe({type: "event", durationThreshold: 16});
"""


class LoadTests(BrowserTests):
    """A flood, as fast as one client is able to send it."""

    # The page is slower than the server. It would be evicted where the machine is slow as well.
    options = ("--max-backlog=64m",)

    def flood(self, count: int) -> threading.Thread:
        """Begin to publish so many messages by websocket."""
        peer = self.peer()
        # Made before: Python would have no time to drive the browser meanwhile.
        flood = frames(0, count)

        def publish() -> None:
            peer.send(flood)

        def read() -> None:
            with contextlib.suppress(OSError):  # Closed, when the test is over.
                while peer.socket.recv(MIB):
                    pass

        reader = threading.Thread(target=read, daemon=True)
        publisher = threading.Thread(target=publish, daemon=True)
        reader.start()
        publisher.start()
        return publisher

    def heap(self, console: Console) -> int:
        """The memory that the page's script holds, in bytes, without garbage."""
        session = console.page.context.new_cdp_session(console.page)
        session.send("HeapProfiler.collectGarbage")
        used: int = session.send("Runtime.getHeapUsage")["usedSize"]
        return used

    def test_flood(self) -> None:
        """100 000 messages at once: frames and keys go on, none is lost, memory is bounded."""
        console = self.blank()
        arrived = [""]
        console.page.expose_function("arrived", lambda total: arrived.append(total))
        console.page.add_init_script(MEASURE)
        console.open(self.server.http("/news"))
        before = self.heap(console)
        publisher = self.flood(COUNT)
        typed = 0
        # The page tells how far it is. Asking it would have to wait for what comes by websocket.
        while arrived[-1] != f"{COUNT:,}":
            console.page.keyboard.press("a")
            typed += 1
            self.assertLess(typed, 10_000, "the page does not keep up")
        publisher.join()
        grown = self.heap(console) - before
        measured = console.run("measured")
        print(f"\n{COUNT} messages: {measured}, {typed} keys, heap {grown / MIB:.1f} MiB more")
        self.assertEqual(console.id("message").input_value(), "a" * typed)
        eventually(lambda: f'"number": {COUNT - 1}' in console.rows()[-1], 5, "the last one")
        self.assertEqual(console.text("count"), "90,000 older ones dropped")
        self.assertEqual(console.text("state-text"), "Connected")
        self.assertLessEqual(measured["asked"], measured["frames"] + 1)
        self.assertLess(measured["gap"], 2000)
        self.assertLess(measured["key"], 1000)
        self.assertLess(grown, 16 * MIB)
        self.assertLess(console.run("document.querySelectorAll('*').length"), 1000)

    def test_bytes(self) -> None:
        """Of long messages the page keeps 16 MiB, and the newest one in any case."""
        console = self.console()
        text = b"x" * 60_000
        peer = Peer(connect(("127.0.0.1", self.server.port)))
        self.addCleanup(peer.close)
        kept = 16 * MIB // len(text)
        for number in range(1, 301):
            peer.post("/news", b"%d%b" % (number, text))
            if number % 10 == 0:  # More than that is the backlog of a slow consumer.
                expect(console.id("total")).to_have_text(str(number))
        dropped = 300 - kept
        console.eventually(
            lambda: (
                console.text("count") == f"{dropped + 1} older ones dropped"
                or console.text("count") == f"{dropped} older ones dropped"
            ),
            "the oldest are dropped",
        )

    def test_read_out(self) -> None:
        """A few messages are read out by screen readers, a flood is not."""
        console = self.console()
        self.post("hello")
        console.see("hello")
        self.assertEqual(console.run("document.getElementById('spoken').innerText"), "hello")
        self.assertEqual(console.id("spoken").get_attribute("aria-live"), "polite")
        self.flood(BATCH).join()
        console.eventually(lambda: console.total() == BATCH + 1, "all messages")
        self.assertLess(console.run("document.getElementById('spoken').childElementCount"), 5)
