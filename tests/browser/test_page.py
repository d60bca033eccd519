"""What a page sends and shows, and that all of it is text."""

from __future__ import annotations

import re
from urllib.parse import quote

from playwright.sync_api import expect

from tests.browser.harness import BrowserTests

ATTACK = "</script></title><img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
NAMES = (
    f"/{ATTACK}",
    '/"onload="window.hacked=1',
    "/'onload='window.hacked=1",
    "/{{channel}}{{script}}{{style}}",
    "/\u202eevil\u2066\u200f",
    "/&lt;b&gt;&amp;",
    "/[1-3]{a,b}?#%",
    "/\u00e9\U0001f389",
)


class MessageTests(BrowserTests):
    """Messages, from everyone to everyone."""

    def test_two_pages(self) -> None:
        """Pages on a channel get each other's messages, their own, and those that are POSTed."""
        one, other = self.console(), self.console()
        elsewhere = self.console("/weather")
        one.publish("from one")
        other.see("from one")
        other.publish("from the other")
        one.see("from one", "from the other")
        self.assertEqual(self.post("by POST"), 2)
        for console in (one, other):
            console.see("from one", "from the other", "by POST")
        elsewhere.see()

    def test_post(self) -> None:
        """The button POSTs, and the page says how many subscribers it reached."""
        one, other = self.console(), self.console()
        one.id("message").fill("hello")
        one.click("post")
        expect(one.id("answer")).to_have_text("POST: reached 2 subscribers.")
        other.see("hello")
        expect(one.id("message")).to_have_value("")

    def test_refused(self) -> None:
        """What the server says when it refuses a POST is shown, and the text is given back."""
        self.complains = True  # Chromium itself, about the status.
        console = self.console()
        text = "x" * 70_000
        console.id("message").fill(text)
        console.click("post")
        expect(console.id("answer")).to_have_text(re.compile("^POST: 413: .+"))
        expect(console.id("message")).to_have_value(text)
        self.assertEqual(console.text("answer").count("\n"), 0)

    def test_time_and_size(self) -> None:
        """A row has the time of day, to the millisecond, and the size in bytes."""
        console = self.console(timezone_id="Asia/Kolkata")
        self.post("\u00e9\U0001f389")
        console.see("\u00e9\U0001f389")
        expect(console.page.locator(".row .size")).to_have_text("6 B")
        script = "new Date(document.querySelector('.row').entry.at).toTimeString().slice(0, 8)"
        expected = re.compile(f"^{console.run(script)}\\.\\d{{3}}$")
        expect(console.page.locator(".row .at")).to_have_text(expected)
        age = console.run("Date.now() - document.querySelector('.row').entry.at")
        self.assertTrue(0 <= age < 20_000, age)

    def test_figures(self) -> None:
        """The page counts messages, bytes and messages per second, and measures its own echoes."""
        console = self.console()
        self.post("not an echo")
        console.see("not an echo")
        self.assertEqual(console.text("latency"), "none yet")
        expect(console.id("rate")).to_have_text("1 /s")
        for _ in range(3):
            console.publish("twelve bytes")
        expect(console.id("total")).to_have_text("4")
        expect(console.id("bytes")).to_have_text(f"{len('not an echo') + 3 * 12} B")
        expect(console.id("latency")).to_have_text(re.compile(r"^\d+\.\d / \d+\.\d ms$"))
        expect(
            console.page.get_by_role("img", name="Time to the own echo: half within")
        ).to_be_visible()
        self.assertIn("L", console.id("plot").locator("path").get_attribute("d") or "")
        expect(console.id("rate")).to_have_text("0 /s")

    def test_heartbeat(self) -> None:
        """The echo of a heartbeat is measured, and is no message."""
        console = self.blank()
        console.page.clock.install()
        console.open(self.server.http("/news"))
        console.page.clock.fast_forward(21_000)
        self.post("x")
        console.page.clock.run_for(1000)
        expect(console.id("latency")).to_have_text(re.compile("ms$"))
        console.page.clock.run_for(1000)
        self.assertEqual(console.total(), 1)


class TextTests(BrowserTests):
    """Whatever peers write is text."""

    def test_names(self) -> None:
        """A channel of any name is shown by that name, and works."""
        console = self.blank()
        for name in NAMES:
            console.open(self.server.http(quote(name, safe="/")))
            self.assertEqual(console.text("shortcuts-title"), "Keyboard")
            self.assertEqual(console.page.locator("h1").text_content(), name)
            self.assertEqual(console.page.title(), f"{name} - Pinghub")
            console.publish(name)
            console.see(name)
            self.assertEqual(self.post("hello", name), 1)
            console.see(name, "hello")
            self.assertEqual(console.run("[window.hacked, document.images.length]"), [None, 0])

    def test_encoded_slash(self) -> None:
        """``%2F`` is a slash, for the page as for all others."""
        console = self.blank().open(self.server.http("/a%2Fb%2f..%2Fc"))
        self.assertEqual(console.page.locator("h1").text_content(), "/a/b/../c")
        console.publish("hello")
        console.see("hello")
        console.id("message").fill("by POST")
        console.click("post")
        console.see("hello", "by POST")

    def test_messages(self) -> None:
        """Messages of any text are shown as they are: in the list, in full, and laid out."""
        console = self.console()
        texts = [
            ATTACK,
            f'{{"<img src=x onerror=window.hacked=1>": ["{ATTACK}"], "__proto__": {{"a": 1}}}}',
            "\u202ereversed\u2066",
            "{{channel}}",
            "[" * 20_000,
            "[" * 20_000 + "]" * 20_000,
        ]
        for number, text in enumerate(texts, 1):
            self.post(text)
            expect(console.page.locator(".row")).to_have_count(number)
            console.page.locator(".row").last.click()
            shown = console.run("document.getElementById('details-body').textContent")
            self.assertEqual(
                shown.replace("\n", "").replace(" ", "")[:99], text.replace(" ", "")[:99]
            )
        self.assertEqual(console.rows(), [text[:500] for text in texts])
        self.assertEqual(console.run("[window.hacked, document.images.length]"), [None, 0])

    def test_bidi(self) -> None:
        """Controls of writing direction turn around nothing beside the text that has them."""
        console = self.console("/\u202eevil")
        self.post("\u202eabc", "/\u202eevil")
        expect(console.page.locator(".row")).to_have_count(1)
        lefts = console.run(
            "[...document.querySelector('.row').children].map(e => e.getBoundingClientRect().left)"
        )
        self.assertEqual(lefts, sorted(lefts))

    def test_policy(self) -> None:
        """The policy stops what the page does not do: markup, evaluation, other hosts."""
        self.complains = True
        console = self.console()
        tries = {
            "element.innerHTML = '<b>x</b>'": "require-trusted-types-for",
            "element.setAttribute('style', 'color: red')": "style-src-attr",
            "new WebSocket('ws://127.0.0.2:1/')": "connect-src",
            "fetch('http://127.0.0.2:1/').catch(() => 0)": "connect-src",
            "element.append(Object.assign(new Image(), {src: '/x'}))": "img-src",
        }
        for script, directive in tries.items():
            console.run(
                f"(element) => {{ window.violations = []; try {{ {script} }} catch {{}} }}",
                console.page.locator("h1").element_handle(),
            )
            console.eventually(lambda: bool(console.run("violations")), script)
            self.assertEqual(console.run("violations"), [directive])
        console.run("window.violations = []")
        console.requests = [url for url in console.requests if "127.0.0.2" not in url]
