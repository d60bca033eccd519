"""Pictures of the page, for the README: the same ones from every run on a machine."""

from __future__ import annotations

import json
import os
import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.browser.harness import PHONE, BrowserTests, Console

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
CHANNEL = "/orders/berlin"
DESK = {"width": 1120, "height": 700}

# A bus with nobody else on it, whose echoes take a time that is known.
BUS = """
let seed = 7;
const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
window.WebSocket = class extends EventTarget {
  readyState = 0;
  bufferedAmount = 0;
  constructor() {
    super();
    window.bus = this;
    setTimeout(() => {
      this.readyState = 1;
      this.onopen();
    });
  }
  send(text) {
    setTimeout(() => this.hear(text), 1 + random() * 3 + (random() < 0.08 ? 6 : 0));
  }
  hear(data) {
    const event = new MessageEvent("message", { data });
    this.dispatchEvent(event);
    this.onmessage(event);
  }
  close() {}
};
"""


def events() -> list[str]:
    """What happens in a shop."""
    chance = random.Random(11)
    goods = ["Espresso cups, blue", "Filter paper", "Grinder", "Milk jug", "Kettle"]
    texts = []
    for number in range(140):
        order = 48_210 + number // 4
        step = ("placed", "paid", "packed", "shipped")[number % 4]
        event: dict[str, Any] = {"order": order, "state": step}
        if step == "placed":
            count = chance.randint(1, 4)
            event["items"] = [{"name": chance.choice(goods), "count": count}]
            event["total"] = f"{count * 12.5:.2f} EUR"
        if step == "shipped":
            event["parcel"] = f"DE{chance.randint(10**8, 10**9)}"
        texts.append(json.dumps(event))
        if number % 9 == 4:
            texts.append(f"stock: {chance.choice(goods)} below {chance.randint(3, 9)}")
    return texts


class PictureTests(BrowserTests):
    """A desktop, light and dark, and a phone."""

    def picture(self, name: str, choose: int | None, **how: Any) -> None:
        """Take a picture, with a message chosen that is so many rows above the last one."""
        with tempfile.TemporaryDirectory() as temporary:
            wanted = os.environ.get("PINGHUB_PICTURES") == "1"
            path = (PICTURES if wanted else Path(temporary)) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            console = self.shop(**how)
            if choose is not None:
                console.page.locator(".row").nth(-1 - choose).click()
                console.page.mouse.move(0, 0)
            console.page.clock.run_for(300)
            console.page.screenshot(path=path, animations="disabled")
            self.assertGreater(path.stat().st_size, 10_000)

    def shop(self, **how: Any) -> Console:
        """A page that has seen some business, at a time that stands still."""
        console = self.blank(device_scale_factor=1.5, timezone_id="UTC", **how)
        clock = console.page.clock
        noon = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
        clock.install(time=noon)
        console.page.add_init_script(BUS)
        console.page.goto(self.server.http(CHANNEL))
        clock.pause_at(noon.replace(minute=1))
        expect(console.id("state-text")).to_have_text("Connected")
        chance = random.Random(5)
        for text in events():
            own = chance.random() < 0.6
            console.run("([text, own]) => own ? bus.send(text) : bus.hear(text)", [text, own])
            clock.run_for(chance.randint(15, 160))
        console.id("message").fill('{"order": 48245, "state": "returned"}')
        return console

    def test_light(self) -> None:
        """A desktop, light, with one message in full."""
        self.picture("console.png", 8, size=DESK, color_scheme="light")

    def test_dark(self) -> None:
        """A desktop, dark."""
        self.picture("console-dark.png", 8, size=DESK, color_scheme="dark")

    def test_phone(self) -> None:
        """A phone."""
        self.picture("console-phone.png", None, size=PHONE, color_scheme="light")
