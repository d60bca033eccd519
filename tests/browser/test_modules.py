"""The modules of the page by themselves, where the page is no way to their bounds."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Route
from twisted.trial.unittest import SynchronousTestCase

from tests import chromium
from tests.browser.harness import CONSOLE

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class ModuleTests(SynchronousTestCase):
    """Modules as the files that they are, in a browser without a server."""

    def setUp(self) -> None:
        browser = chromium.start(self)
        self.page = browser.new_page()
        self.page.route("**/*", self._serve)
        self.page.goto("http://modules.test/")

    def _serve(self, route: Route) -> None:
        path = CONSOLE / urlsplit(route.request.url).path.lstrip("/")
        if path.suffix == ".js":
            route.fulfill(path=path, content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html>", content_type="text/html")

    def run_with(self, names: str, module: str, body: str, argument: Any = None) -> Any:
        """What a function gives that has the names which a module exports."""
        script = (
            f"async (argument) => {{ const {{ {names} }} = await import('./{module}'); {body} }}"
        )
        return self.page.evaluate(script, argument)


class TextTests(ModuleTests):
    """text.js."""

    @settings(deadline=None, max_examples=5)
    @given(values=st.lists(VALUES, min_size=20, max_size=40))
    def lay_out(self, values: list[Any]) -> None:
        """Compare with Python's own; many in one call, which takes longer than all that it does."""
        documents = [each if isinstance(each, dict | list) else [each] for each in values]
        for escaped in (True, False):
            texts = [json.dumps(each, ensure_ascii=escaped) for each in documents]
            expected = [json.dumps(each, ensure_ascii=escaped, indent=2) for each in documents]
            body = """
              return argument.map((text) => layOut(text).map(([, piece]) => piece).join(""));
            """
            self.assertEqual(self.run_with("layOut", "text.js", body, texts), expected)

    def test_layout(self) -> None:
        """JSON is laid out as Python does it, with everything in it as it was sent."""
        self.lay_out()

    def test_no_json(self) -> None:
        """What is no JSON, or a plain value, or too long, is not laid out."""
        texts = [
            "",
            "{",
            "[1,]",
            "{'a': 1}",
            "12",
            '"a"',
            "null",
            "[1] [2]",
            "[" + " " * 65_536 + "]",
        ]
        body = "return argument.map(layOut);"
        self.assertEqual(self.run_with("layOut", "text.js", body, texts), [None] * len(texts))

    def test_deep(self) -> None:
        """Deep JSON is not made a thousand times as long: it is indented so far and no further."""
        text = "[" * 30_000 + "]" * 30_000
        body = """
          return layOut(argument).reduce((sum, [, piece]) => sum + piece.length, 0);
        """
        self.assertLess(self.run_with("layOut", "text.js", body, text), 70 * len(text))

    @settings(deadline=None, max_examples=5)
    @given(texts=st.lists(st.text(max_size=400), min_size=20))
    def sizes(self, texts: list[str]) -> None:
        """Compare with Python's own."""
        body = "return argument.map(size);"
        expected = [len(text.encode()) for text in texts]
        self.assertEqual(self.run_with("size", "text.js", body, texts), expected)

    def test_size(self) -> None:
        """The size of a text is that of its UTF-8."""
        self.sizes()

    def test_units(self) -> None:
        """Sizes have three digits or so, and a unit."""
        numbers = [0, 999, 1000, 1024, 102_400, 1_048_576, 123_456_789_000]
        expected = ["0 B", "999 B", "1.0 KiB", "1.0 KiB", "100 KiB", "1.0 MiB", "115 GiB"]
        body = "return argument.map(bytesText);"
        self.assertEqual(self.run_with("bytesText", "text.js", body, numbers), expected)


class StoreTests(ModuleTests):
    """store.js."""

    def test_bounds(self) -> None:
        """Neither what is shown nor what waits outgrows the bounds; all that goes is counted."""
        body = """
          const store = new Store({ entries: 10, bytes: 100 });
          const { shown } = store;
          const ids = () => Array.from({ length: shown.length }, (_, at) => shown.at(at).id);
          const states = [];
          for (let number = 0; number < 25; number++) store.add(`${number}`, 1, 0);
          states.push([ids(), store.length, store.dropped]);
          store.pause();
          for (let number = 25; number < 40; number++) store.add(`${number}`, 20, 0);
          states.push([ids(), store.waiting, store.dropped]);
          store.resume();
          states.push([ids(), store.waiting, store.dropped]);
          store.add("large", 1000, 0);
          states.push([ids(), store.length, store.dropped]);
          return states;
        """
        expected = [
            [list(range(15, 25)), 10, 15],
            [list(range(15, 25)), 15, 15 + 10],
            [list(range(35, 40)), 0, 35],
            [[40], 1, 40],
        ]
        self.assertEqual(self.run_with("Store", "store.js", body), expected)

    def test_million(self) -> None:
        """A million messages, filtered, take a moment: what each costs does not grow."""
        body = """
          const store = new Store();
          store.filter("9");
          for (let number = 0; number < 1_000_000; number++) store.add(`${number}`, 6, 0);
          return [store.length, store.shown.length, store.shown.at(0).text, store.dropped];
        """
        # Those from 990000 to 999999.
        self.assertEqual(
            self.run_with("Store", "store.js", body), [10_000, 10_000, "990000", 990_000]
        )


class FigureTests(ModuleTests):
    """figures.js."""

    def test_rate(self) -> None:
        """The rate is that of the last second, also after a long silence."""
        body = """
          const rate = new Rate();
          const seen = [];
          for (let now = 5000; now < 7000; now += 10) rate.add(now);
          for (const now of [7000, 7450, 7899, 8000, 90_000]) seen.push(rate.perSecond(now));
          return seen;
        """
        self.assertEqual(self.run_with("Rate", "figures.js", body), [90, 50, 10, 0, 0])

    def test_echoes(self) -> None:
        """Echoes are taken in order; what others publish in between is none."""
        body = """
          class Socket extends EventTarget {
            send() {}
            hear(data) { this.dispatchEvent(Object.assign(new Event("message"), { data })); }
          }
          let now = 0;
          performance.now = () => now;
          const echoes = new Echoes();
          const socket = new (echoes.measured(Socket))();
          const seen = [echoes.percentile(0.5), echoes.path(100, 10)];
          socket.send("a");
          now = 5;
          socket.send("b");
          socket.hear("b");
          seen.push(echoes.length);
          socket.hear("a");
          now = 10;
          socket.hear("b");
          seen.push([echoes.length, echoes.percentile(0), echoes.percentile(0.99)]);
          for (let number = 0; number < 5000; number++) socket.send("x");
          for (let number = 0; number < 5000; number++) socket.hear("x");
          return [...seen, echoes.length];
        """
        expected = [None, "", 0, [2, 5, 5], 500]
        self.assertEqual(self.run_with("Echoes", "figures.js", body), expected)
