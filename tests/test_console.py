"""The page that GET shows for a channel."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from importlib.resources import files

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pinghub import console
from pinghub.console import HEADERS, page

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)


class Document(HTMLParser):
    """What a browser makes of a page: its elements, their attributes and their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, str] = {}
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        self._open = tag
        self.texts.setdefault(tag, "")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open] += data


def policy() -> dict[str, list[str]]:
    """The Content-Security-Policy, by directive."""
    directives = (each.split() for each in HEADERS["Content-Security-Policy"].split(";"))
    return {name: sources for name, *sources in directives}


class PageTests(SynchronousTestCase):
    """The page itself."""

    def test_the_name_of_the_channel(self) -> None:
        """Title and heading are the name of the channel, with nothing left to fill in."""
        text = page("/news").decode()
        document = Document(text)
        self.assertEqual(document.texts["title"], "/news - Pinghub")
        self.assertEqual(document.texts["h1"], "/news")
        self.assertNotIn("{{", text)

    def test_what_is_counted(self) -> None:
        """The page knows what the answer to a POST counts."""
        for text, counts in (
            (page("/news"), "subscriber"),
            (page("/news", "server"), "server"),
        ):
            self.assertIn(("data-counts", counts), Document(text.decode()).attributes)

    def test_a_name_is_no_markup(self) -> None:
        """Whatever a peer calls a channel, the page has the same elements and attributes."""
        plain = Document(page("/news").decode())
        for name in (
            "/<script>alert(1)</script>",
            "/</title><img src=x onerror=alert(1)>",
            "/\"'&lt;",
            "/{{channel}}",
            "/\u00e9\U0001f389",
        ):
            document = Document(page(name).decode())
            self.assertEqual(document.elements, plain.elements, name)
            self.assertEqual(document.attributes, plain.attributes, name)
            self.assertEqual(document.texts["h1"], name)

    @settings(deadline=None, max_examples=50)
    @given(name=NAMES)
    def test_any_name(self, name: str) -> None:
        """Every name is shown as it is, and changes nothing else."""
        document = Document(page("/" + name).decode())
        self.assertEqual(document.texts["h1"], "/" + name)
        self.assertEqual(document.texts["script"], Document(page("/").decode()).texts["script"])

    def test_nothing_from_elsewhere(self) -> None:
        """The page loads nothing and has no inline handlers: the policy would stop both."""
        document = Document(page("/news").decode())
        names = {name for name, _ in document.attributes}
        self.assertFalse(names & {"src", "action", "style", "srcset"})
        # The icon. Browsers would ask for /favicon.ico otherwise, and get a page like this one.
        links = [value or "" for name, value in document.attributes if name == "href"]
        self.assertEqual([link.partition(",")[0] for link in links], ["data:image/svg+xml"])
        self.assertEqual([name for name in names if name.startswith("on")], [])
        self.assertEqual(document.elements.count("script"), 1)
        self.assertEqual(document.elements.count("style"), 1)

    def test_size(self) -> None:
        """The page is less than 60 kB: each GET sends all of it, as it is."""
        self.assertLess(len(page("/news")), 60_000)

    def test_a_bare_tag(self) -> None:
        """The page has a lower-case ``<html>`` without attributes: what clients look for."""
        self.assertEqual(page("/news").count(b"<html>"), 1)

    def test_color_scheme_comes_first(self) -> None:
        """A browser knows that the page may be dark before it has read any style: no flash."""
        text = page("/news").decode()
        self.assertLess(text.index('name="color-scheme"'), text.index("<style>"))


class ScriptTests(SynchronousTestCase):
    """The one script that the modules of the page become."""

    def setUp(self) -> None:
        self.script = Document(page("/news").decode()).texts["script"]

    def modules(self) -> dict[str, str]:
        """The modules of the page, by file."""
        found = {each.name: each for each in files(console).iterdir()}
        return {name: each.read_text() for name, each in found.items() if name.endswith(".js")}

    def test_complete(self) -> None:
        """Every module is in it, once, behind those that it imports."""
        begun: set[str] = set()
        for name in sorted(self.modules(), key=lambda name: self.place(name)):
            imported = set(re.findall(r'from "\./(.+)";', self.modules()[name]))
            self.assertLessEqual(imported, begun, name)
            begun.add(name)
        self.assertIn("pinghub.js", begun)

    def place(self, name: str) -> int:
        """Where in the script a module is."""
        exported = re.findall(r"^export (\w+ \w+)", self.modules()[name], re.MULTILINE)
        mark = f"\n{exported[0]}" if exported else 'document.documentElement.lang = "en"'
        self.assertEqual(self.script.count(mark), 1, name)
        return self.script.index(mark)

    def test_no_imports(self) -> None:
        """Nothing is imported any more: there is nothing to load it from."""
        self.assertEqual(re.findall(r"^(?:import|export)\b.*", self.script, re.MULTILINE), [])
        self.assertNotIn("import(", self.script)

    def test_comments(self) -> None:
        """Lines of comment are left out, and nothing else: no template literal looks like one."""
        self.assertEqual(re.findall(r"^\s*(?://|/\*|\*).*", self.script, re.MULTILINE), [])
        for name, text in self.modules().items():
            for literal in re.findall(r"`[^`]*`", re.sub(r"(?m)^ *(//|/?\*).*", "", text)):
                self.assertNotIn("\n", literal, name)

    def test_no_end(self) -> None:
        """Nothing in it ends the script, or begins what hides its end."""
        for mark in ("</script", "<script", "<!--"):
            self.assertNotIn(mark, self.script.lower())


class HeaderTests(SynchronousTestCase):
    """The header lines that belong to the page."""

    def test_policy_names_what_the_page_runs(self) -> None:
        """The hashes in the policy are those of the script and the style of the page."""
        document = Document(page("/news").decode())
        for element in ("script", "style"):
            digest = hashlib.sha256(document.texts[element].encode()).digest()
            source = f"'sha256-{base64.b64encode(digest).decode()}'"
            self.assertEqual(policy()[f"{element}-src"], [source])

    def test_policy_allows_nothing_else(self) -> None:
        """The page may connect to its server; frames, forms and everything else are off."""
        hashed = ("script-src", "style-src")
        self.assertEqual(
            {name: sources for name, sources in policy().items() if name not in hashed},
            {
                "default-src": ["'none'"],
                # Websockets of the own server among them; tests/browser tries it.
                "connect-src": ["'self'"],
                "img-src": ["data:"],
                "base-uri": ["'none'"],
                "form-action": ["'none'"],
                "frame-ancestors": ["'none'"],
                "require-trusted-types-for": ["'script'"],
                "trusted-types": ["'none'"],
            },
        )

    def test_other_headers(self) -> None:
        """The page is UTF-8 HTML, not to be sniffed, and tells no referrer."""
        self.assertEqual(HEADERS["Content-Type"], "text/html; charset=utf-8")
        self.assertEqual(HEADERS["X-Content-Type-Options"], "nosniff")
        self.assertEqual(HEADERS["Referrer-Policy"], "no-referrer")
        self.assertEqual(HEADERS["Cache-Control"], "no-cache")
