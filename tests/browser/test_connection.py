"""Connections that are lost, and come back."""

from __future__ import annotations

import re
import signal

from playwright.sync_api import expect

from tests.browser.harness import BrowserTests

AGAIN = "Reconnected; messages may be missing"
GONE = re.compile(r"^Disconnected \(1001(: .+)?\)$")


class ConnectionTests(BrowserTests):
    """A server that goes and comes back on the same port."""

    complains = True  # Chromium itself, about connections that are refused.

    def test_restart(self) -> None:
        """The page reconnects by itself, says what happened, and keeps what it has."""
        console = self.console()
        self.post("before")
        console.see("before")
        self.server.stop()
        expect(console.id("state-text")).to_have_text("Reconnecting")
        console.see("before", GONE)
        self.restart()
        console.see("before", GONE, AGAIN)
        expect(console.id("state-text")).to_have_text("Connected")
        expect(console.id("countdown")).to_have_text("")
        self.assertEqual(self.post("after"), 1)
        console.see("before", GONE, AGAIN, "after")
        expect(console.id("total")).to_have_text("2")

    def test_killed(self) -> None:
        """The same where the server says nothing; a filter hides no remark of the page."""
        console = self.console()
        console.id("filter").fill("nothing")
        self.server.stop(signal.SIGKILL)
        expect(console.page.locator(".row .text")).to_have_text(["Disconnected (1006)"])
        self.restart()
        console.see("Disconnected (1006)", AGAIN)

    def test_waiting(self) -> None:
        """While it waits the page says how long, sends nothing, and has a button for now."""
        console = self.blank()
        # Time stands still: nothing but the button makes the page try again.
        console.page.clock.install()
        console.page.add_init_script("Math.random = () => 0.999")
        console.open(self.server.http("/news"))
        expect(console.id("reconnect")).to_be_hidden()
        console.page.clock.pause_at(console.run("Date.now() + 1000"))
        self.server.stop()
        expect(console.id("countdown")).to_have_text("in 1 s")
        expect(console.id("state-text")).to_have_text("Reconnecting")
        console.publish("not now")
        expect(console.id("answer")).to_have_text("Not published: there is no connection.")
        expect(console.id("message")).to_have_value("not now")
        self.restart()
        console.click("reconnect")
        expect(console.id("state-text")).to_have_text("Connected")
        expect(console.id("reconnect")).to_be_hidden()
        console.id("message").press("Enter")
        expect(console.id("message")).to_have_value("")

    def test_countdown(self) -> None:
        """The countdown counts, and what is read out does not change with it."""
        console = self.blank()
        console.page.clock.install()
        console.page.add_init_script("Math.random = () => 0.999")
        console.open(self.server.http("/news"))
        console.page.clock.pause_at(console.run("Date.now() + 1000"))
        self.server.stop()
        for wait in (1, 1, 2, 4):
            expect(console.id("countdown")).to_have_text(f"in {wait} s")
            if wait < 4:
                console.page.clock.run_for(wait * 1000)
        expect(console.id("state-text")).to_have_text("Reconnecting")
        console.run(
            "window.changes = 0; new MutationObserver(() => changes++).observe("
            "document.getElementById('state-text'), {childList: true, characterData: true})"
        )
        console.page.clock.run_for(1000)
        expect(console.id("countdown")).to_have_text("in 3 s")
        self.assertEqual(console.run("changes"), 0)
        self.restart()

    def test_offline(self) -> None:
        """Without a network the page waits for one, and then does not wait any longer."""
        console = self.console()
        self.server.stop()
        expect(console.id("state-text")).to_have_text(re.compile("Reconnecting|Connecting"))
        console.page.context.set_offline(True)
        expect(console.id("state-text")).to_have_text("Offline")
        expect(console.id("reconnect")).to_be_visible()
        self.restart()
        console.page.context.set_offline(False)
        expect(console.id("state-text")).to_have_text("Connected")

    def test_refusal(self) -> None:
        """A POST that reaches nobody is a failure in words, and the text is not lost."""
        console = self.console()
        self.server.stop()
        console.id("message").fill("keep me")
        console.click("post")
        expect(console.id("answer")).to_have_class("failed")
        expect(console.id("answer")).to_have_text(re.compile("^POST: .+"))
        expect(console.id("message")).to_have_value("keep me")
        self.restart()
