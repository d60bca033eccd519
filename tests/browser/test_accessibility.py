"""What axe-core finds, and what it cannot: width, motion, language."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import skipUnless

from playwright.sync_api import expect

from tests.browser.harness import DESKTOP, PHONE, BrowserTests, Console, frames

AXE = Path(__file__).with_name("node_modules") / "axe-core" / "axe.min.js"


@skipUnless(AXE.exists(), "no axe-core: run npm install in tests/browser")
class AxeTests(BrowserTests):
    """The rules of axe-core, its best practices among them."""

    complains = True  # Chromium itself, about the server that is gone.

    def found(self, console: Console) -> list[str]:
        """What axe-core objects to."""
        if not console.run("typeof axe === 'object'"):
            console.run(AXE.read_text())
        answer: dict[str, Any] = console.run("axe.run()")
        self.assertGreater(len(answer["passes"]), 15)
        return [
            f"{each['id']}: {node['html'][:200]}"
            for each in answer["violations"]
            for node in each["nodes"]
        ]

    def states(self, **how: Any) -> None:
        """No state of the page has a barrier."""
        console = self.console(**how)
        self.assertEqual(self.found(console), [], "empty")
        self.post('{"a": [1, "text", null]}')
        self.peer().send(frames(0, 100))
        console.eventually(lambda: console.total() == 101, "messages")
        console.publish("own")
        console.id("filter").fill("e")
        console.click("pause")
        self.post("waiting")
        expect(console.id("pause")).to_have_text("Resume (1)")
        self.assertEqual(self.found(console), [], "messages, filtered, paused")
        console.id("filter").fill("null")
        console.page.locator(".row").first.click()
        expect(console.id("details")).to_be_visible()
        self.assertEqual(self.found(console), [], "one in full")
        console.click("help")
        self.assertEqual(self.found(console), [], "help")
        console.page.keyboard.press("Escape")
        console.click("pause")
        self.server.stop()
        expect(console.id("reconnect")).to_be_visible()
        console.id("message").fill("x")
        console.id("message").press("Enter")
        self.assertEqual(self.found(console), [], "disconnected")
        self.restart()

    def test_light(self) -> None:
        """Light: no barrier."""
        self.states(color_scheme="light")

    def test_dark(self) -> None:
        """Dark: no barrier."""
        self.states(color_scheme="dark")

    def test_phone(self) -> None:
        """On a phone: no barrier."""
        self.states(size=PHONE, has_touch=True)


class LayoutTests(BrowserTests):
    """Screens and wishes."""

    def test_phone(self) -> None:
        """On a phone of 360x640 nothing is cut off, and several messages are in sight."""
        console = self.console("/a/rather/long/name-of-a-channel/as-they-come", size=PHONE)
        self.peer("/a/rather/long/name-of-a-channel/as-they-come").send(frames(0, 100))
        console.eventually(lambda: console.total() == 100, "messages")
        for name in ("filter", "pause", "clear", "help", "message", "post", "curl", "total"):
            expect(console.id(name)).to_be_in_viewport(ratio=1)
        box = console.id("messages").bounding_box()
        assert box is not None
        self.assertGreater(box["height"], 200)
        widths = console.run("[document.documentElement.scrollWidth, innerWidth]")
        self.assertEqual(widths, [360, 360])
        console.page.locator(".row").last.click()
        expect(console.id("details-body")).to_be_in_viewport()
        expect(console.id("details-close")).to_be_in_viewport(ratio=1)

    def test_sizes(self) -> None:
        """No size of a window makes the page wider than it, nor the list vanish."""
        console = self.console()
        for width in range(320, 1300, 60):
            console.page.set_viewport_size({"width": width, "height": 640})
            self.assertLessEqual(console.run("document.documentElement.scrollWidth"), width)
            self.assertGreater(console.run("document.getElementById('messages').clientHeight"), 150)

    def test_schemes(self) -> None:
        """It is as dark or as light as its user asked for, before the first style applies."""
        lightness = {}
        for scheme in ("light", "dark"):
            console = self.console(color_scheme=scheme, size=DESKTOP)
            color = console.run("getComputedStyle(document.body).backgroundColor")
            lightness[scheme] = sum(int(part) for part in color[4:-1].split(","))
            meta = console.page.locator("meta[name=color-scheme]")
            expect(meta).to_have_attribute("content", "light dark")
        self.assertLess(lightness["dark"], 120)
        self.assertGreater(lightness["light"], 700)

    def test_motion(self) -> None:
        """Nothing moves for those who asked for that."""
        for wish, moving in (("reduce", 0), ("no-preference", 1)):
            console = self.console(reduced_motion=wish)
            console.run("document.getElementById('state').dataset.state = 'waiting'")
            self.assertEqual(console.run("document.getAnimations().length"), moving)

    def test_language(self) -> None:
        """Screen readers are told that it is English."""
        self.assertEqual(self.console().run("document.documentElement.lang"), "en")
