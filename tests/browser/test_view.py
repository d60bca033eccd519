"""What can be done with the messages of a page, by mouse and by keys."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any
from unittest import skipUnless

from playwright.sync_api import expect

from tests.browser.harness import PHONE, BrowserTests, Console, frames
from tests.faults.harness import PATIENCE

CURL = shutil.which("curl")
ROOM = """
(() => {
  const box = document.getElementById("messages");
  return box.scrollHeight - box.clientHeight - box.scrollTop;
})()
"""
"""Pixels of the list below what is in sight."""


class ViewTests(BrowserTests):
    """The list, its filter, its pause."""

    def filled(self, count: int, **more: Any) -> Console:
        """A page that has received so many messages."""
        console = self.console(**more)
        self.peer().send(frames(0, count))
        console.eventually(lambda: console.total() == count, "all messages")
        return console

    def test_pause(self) -> None:
        """While paused, messages are counted; afterwards they are shown, in order."""
        console = self.console()
        self.post("before")
        console.see("before")
        console.click("pause")
        self.post("one")
        self.post("two")
        expect(console.id("pause")).to_have_text("Resume (2)")
        self.assertEqual(console.id("pause").get_attribute("aria-pressed"), "true")
        expect(console.id("total")).to_have_text("3")
        console.see("before")
        console.click("pause")
        console.see("before", "one", "two")
        expect(console.id("pause")).to_have_text("Pause")

    def test_filter(self) -> None:
        """The filter is a text, not a pattern, in whatever case; what it hides is kept."""
        console = self.console()
        for text in ("Some [a-z]* text", "some text", "SOME [A-Z]* TEXT"):
            self.post(text)
        console.id("filter").fill("E [A-z]*")
        console.see("Some [a-z]* text", "SOME [A-Z]* TEXT")
        expect(console.id("count")).to_have_text("2 of 3")
        self.post("hidden")
        self.post("one [a-z]* more")
        console.see("Some [a-z]* text", "SOME [A-Z]* TEXT", "one [a-z]* more")
        console.id("filter").fill("")
        console.see(
            "Some [a-z]* text", "some text", "SOME [A-Z]* TEXT", "hidden", "one [a-z]* more"
        )

    def test_clear(self) -> None:
        """Clear forgets all messages, those that wait for the end of a pause too."""
        console = self.console()
        self.post("one")
        console.see("one")
        console.click("pause")
        self.post("two")
        expect(console.id("pause")).to_have_text("Resume (1)")
        console.click("clear")
        console.see()
        console.click("pause")
        self.post("three")
        console.see("three")

    def test_follow(self) -> None:
        """The list follows the end until somebody scrolls up; then a button tells what is new."""
        console = self.filled(500)
        console.eventually(lambda: console.run(ROOM) < 2, "the end")
        self.assertIn('"number": 499', console.rows()[-1])
        self.assertLess(len(console.rows()), 60)
        console.id("messages").hover()
        console.page.mouse.wheel(0, -2000)
        console.eventually(lambda: console.run(ROOM) > 1000, "scrolled up")
        before = console.run("document.getElementById('messages').scrollTop")
        self.peer().send(frames(500, 1234))
        expect(console.id("new")).to_have_text("\u2193 1,234 new")
        self.assertEqual(console.run("document.getElementById('messages').scrollTop"), before)
        console.click("new")
        console.eventually(lambda: console.run(ROOM) < 2, "the end")
        expect(console.id("new")).to_be_hidden()
        self.peer().send(frames(2000, 1))
        console.eventually(lambda: '"number": 2000' in console.rows()[-1], "following")

    def test_follow_while_typing(self) -> None:
        """A box for the message that grows, and so leaves less to the list, is no scrolling up."""
        console = self.filled(500, size=PHONE)
        # At once, so that the box changes while the list is still scrolling.
        for number in range(30):
            console.publish(f"{number}\n" * 8)
        console.eventually(lambda: "29\u21b5" in console.rows()[-1], "the last one in sight")
        self.assertLess(console.run(ROOM), 2)

    def test_bounds(self) -> None:
        """The last 10 000 messages are kept, what is looked at stays, and the rest is counted."""
        console = self.filled(10_000)
        console.id("messages").hover()
        console.page.mouse.wheel(0, -100_000)
        console.eventually(lambda: console.run(ROOM) > 90_000, "scrolled up")
        row = console.page.locator(".row").nth(15)
        text = row.locator(".text").text_content() or ""
        top = row.bounding_box()
        self.peer().send(frames(10_000, 100))
        expect(console.id("count")).to_have_text("100 older ones dropped")
        same = console.page.locator(".row", has_text=text)
        self.assertEqual(same.bounding_box(), top)

    def test_details(self) -> None:
        """A chosen message is shown in full: JSON laid out, numbers as they were sent."""
        console = self.console()
        text = '{"id":12345678901234567890,"a":[],"b":[1.50,true],"a":null}'
        self.post(text)
        console.page.locator(".row").click()
        laid_out = (
            '{\n  "id": 12345678901234567890,\n  "a": [],\n'
            '  "b": [\n    1.50,\n    true\n  ],\n  "a": null\n}'
        )
        expect(console.id("details-body")).to_have_js_property("textContent", laid_out)
        console.click("details-raw")
        expect(console.id("details-body")).to_have_text(text)
        console.click("details-copy")
        expect(console.id("answer")).to_have_text("Copied the message.")
        self.assertEqual(console.run("navigator.clipboard.readText()"), text)
        console.click("details-close")
        expect(console.id("details")).to_be_hidden()

    def test_long(self) -> None:
        """Long messages are cut, in the list and in full, until somebody asks for all."""
        console = self.console()
        text = "".join(f"{number:9}\n" for number in range(6000))
        self.post(text)
        expect(console.page.locator(".row .size")).to_have_text("58.6 KiB")
        self.assertLess(len(console.rows()[0]), 1000)
        console.page.locator(".row").click()
        expect(console.id("details-all")).to_have_text("Show all 60,000 characters")
        self.assertEqual(len(console.text("details-body")), 10_001)
        console.click("details-all")
        self.assertEqual(console.text("details-body"), text)
        expect(console.id("details-all")).to_be_hidden()

    def test_history(self) -> None:
        """Arrow keys bring back what was sent, but never take away what is being written."""
        console = self.console()
        box = console.id("message")
        for text in ("one", "two\nlines"):
            console.publish(text)
        for key, text in (
            ("ArrowUp", "two\nlines"),
            ("ArrowUp", "one"),
            ("ArrowUp", "one"),
            ("ArrowDown", "two\nlines"),
            ("ArrowDown", ""),
        ):
            box.press(key)
            expect(box).to_have_value(text)
        box.fill("new")
        box.press("ArrowUp")
        expect(box).to_have_value("new")

    def test_no_clipboard(self) -> None:
        """Copying works on pages without a clipboard too: those of plain http, from elsewhere."""
        console = self.blank()
        console.page.add_init_script("delete Navigator.prototype.clipboard")
        console.open(self.server.http("/news"))
        self.assertEqual(console.run("typeof navigator.clipboard"), "undefined")
        console.id("message").fill("abc")
        console.click("curl")
        expect(console.id("answer")).to_have_text("Copied the command.")
        console.id("message").fill("")
        console.id("message").press("Control+v")
        command = f"curl --data-raw 'abc' '{self.server.http('/news')}'"
        expect(console.id("message")).to_have_value(command)


class KeyTests(BrowserTests):
    """The page without a mouse."""

    def test_publish(self) -> None:
        """Enter publishes, Ctrl-Enter POSTs, Shift-Enter begins a line; it starts in the box."""
        console = self.console()
        keys = console.page.keyboard
        keys.type("one")
        keys.press("Enter")
        console.see("one")
        keys.type("two")
        keys.press("Shift+Enter")
        keys.type("lines")
        keys.press("Control+Enter")
        expect(console.id("answer")).to_have_text("POST: reached 1 subscriber.")
        console.see("one", "two\u21b5 lines")

    def test_shortcuts(self) -> None:
        """Letters pause, clear, filter and copy outside of boxes, and are letters inside."""
        console = self.console()
        keys = console.page.keyboard
        keys.type("pxec/?")
        keys.press("Enter")
        console.see("pxec/?")
        keys.press("Escape")
        expect(console.id("messages")).to_be_focused()
        keys.press("p")
        expect(console.id("pause")).to_have_text("Resume")
        keys.press("p")
        keys.press("ArrowUp")
        expect(console.id("details-body")).to_have_text("pxec/?")
        keys.press("c")
        expect(console.id("answer")).to_have_text("Copied the message.")
        keys.press("Escape")
        expect(console.id("details")).to_be_hidden()
        keys.press("/")
        keys.type("p")
        expect(console.id("filter")).to_have_value("p")
        keys.press("Escape")
        keys.press("x")
        console.see()
        keys.press("?")
        expect(console.id("shortcuts")).to_be_visible()
        keys.press("p")
        expect(console.id("pause")).to_have_text("Pause")
        keys.press("Escape")
        expect(console.id("shortcuts")).to_be_hidden()
        keys.press("m")
        expect(console.id("message")).to_be_focused()

    def test_choose(self) -> None:
        """Arrows, Home and End go through all messages; assistive technology is told which."""
        console = self.console()
        self.peer().send(frames(0, 1000))
        console.eventually(lambda: console.total() == 1000, "all messages")
        keys = console.page.keyboard
        keys.press("Escape")
        for key, number in (("End", 999), ("ArrowUp", 998), ("Home", 0), ("ArrowDown", 1)):
            keys.press(key)
            chosen = console.page.locator("[aria-selected=true]")
            expect(chosen).to_contain_text(f'"number": {number},')
            expect(chosen).to_have_attribute("aria-posinset", str(number + 1))
            expect(chosen).to_be_in_viewport(ratio=0.99)
            active = chosen.get_attribute("id") or ""
            expect(console.id("messages")).to_have_attribute("aria-activedescendant", active)

    def test_order(self) -> None:
        """Tab goes through the page from top to bottom, and what has the focus shows it."""
        console = self.console()
        self.post("x")
        console.see("x")
        keys = console.page.keyboard
        console.page.locator("h1").click()
        order = []
        for _ in range(9):
            keys.press("Tab")
            name, outline = console.run(
                "[document.activeElement.id || document.activeElement.className,"
                " getComputedStyle(document.activeElement).outlineStyle]"
            )
            self.assertEqual(outline, "solid", name)
            order.append(name)
        expected = [
            "filter",
            "pause",
            "clear",
            "help",
            "messages",
            "message",
            "first",
            "post",
            "curl",
        ]
        self.assertEqual(order[: len(expected)], expected)


@skipUnless(CURL, "no curl: apt install curl")
class CurlTests(BrowserTests):
    """The command that is copied."""

    def copied(self, console: Console, text: str) -> str:
        """The command for a text."""
        console.id("message").fill(text)
        console.click("curl")
        expect(console.id("answer")).to_have_text("Copied the command.")
        command: str = console.run("navigator.clipboard.readText()")
        return command

    def test_texts(self) -> None:
        """A shell and curl publish exactly the text in the box, whatever it is."""
        console = self.console()
        texts = [
            "plain",
            'it\'s "quoted" `id` $(id) $HOME \\n \\\\ !! %s %% ~ * ;&|<>#',
            "'",
            "@/etc/hostname",
            "-d",
            "two\nlines\n",
            "\n",
            "a=b&c=d+e%20",
            "\u00e9\U0001f389\u202e",
            "tab\tand\u0001control",
            "x" * 60_000,
        ]
        for number, text in enumerate(texts, 1):
            self.run_command(self.copied(console, text))
            console.eventually(lambda n=number: console.total() == n, text)  # type: ignore[misc]
            received = console.run("[...document.querySelectorAll('.row')].at(-1).entry.text")
            self.assertEqual(received, text)

    def test_paths(self) -> None:
        """The command is for the channel of the page, with whatever is in its path."""
        for path in ("/it's", "/[1-3]", "/{a,b}", "/a b&c;d$(id)", "/\u00e9", "/a%2Fb?token=a'b"):
            console = self.blank().open(self.server.http(path))
            self.run_command(self.copied(console, "hello"))
            console.see("hello")

    def test_long(self) -> None:
        """Texts that are too long for an argument of a command are piped into curl."""
        self.server.stop()
        self.server = self.start("--max-message=400k")
        console = self.console()
        text = "@it's long\n" * 30_000
        console.run("(text) => { document.getElementById('message').value = text; }", text)
        console.click("curl")
        expect(console.id("answer")).to_have_text("Copied the command.")
        self.run_command(console.run("navigator.clipboard.readText()"))
        console.eventually(lambda: console.total() == 1, "the message")
        received = console.run("document.querySelector('.row').entry.text")
        self.assertTrue(received == text)

    def test_nul(self) -> None:
        """No command can hold a NUL: the page says so, and copies nothing."""
        console = self.console()
        console.run("() => { document.getElementById('message').value = 'a\\0b'; }")
        console.click("curl")
        expect(console.id("answer")).to_have_text(re.compile("NUL"))

    def run_command(self, command: str) -> None:
        """Run a command as somebody would who pasted it: from the standard input of a shell."""
        done = subprocess.run(
            ["sh"], input=command.encode(), capture_output=True, timeout=PATIENCE, check=True
        )
        self.assertEqual(done.stdout, b"OK\n", command[:200])
