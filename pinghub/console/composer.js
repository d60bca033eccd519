// Where messages are written: a box that grows, what was sent before, three ways to send.

import { curl, plural } from "./text.js";

const REMEMBERED = 100;

/** The last texts that were sent, at most 100, to go back to with the arrow keys. */
export class Sent {
  #texts = [];
  #place = 0;

  /** Remember one, and begin at the end again. */
  add(text) {
    if (this.#texts.at(-1) !== text) {
      this.#texts.push(text);
    }
    this.#texts = this.#texts.slice(-REMEMBERED);
    this.#place = this.#texts.length;
  }

  /**
   * The text before or after the one that the box has; null if there is none, or if something else
   * was typed, which is not to be lost. Behind the last one is an empty box.
   */
  step(by, current) {
    const known = current === (this.#texts[this.#place] ?? "");
    const place = this.#place + by;
    if (!known || place < 0 || place > this.#texts.length) {
      return null;
    }
    this.#place = place;
    return this.#texts[place] ?? "";
  }
}

/** The form at the foot of the page. */
export class Composer {
  #form;
  #box;
  #answer;
  #channel;
  #url;
  #copy;
  #change;
  #grown = false;
  #sent = new Sent();

  /**
   * `form` is that of page.html, `url` the one to POST to; `copy(text, what)` is for the command, and
   * `change()` is told that `fit()` is to be called.
   */
  constructor(form, channel, url, { copy, change }) {
    this.#form = form;
    this.#box = form.querySelector("textarea");
    this.#answer = form.querySelector("output");
    this.#channel = channel;
    this.#url = url;
    this.#copy = copy;
    this.#change = change;
    this.#box.addEventListener("input", () => this.#grow());
    this.#box.addEventListener("keydown", (event) => this.#key(event));
    form.addEventListener("submit", (event) => this.#submit(event));
    form.querySelector("#post").addEventListener("click", () => this.#post());
    form.querySelector("#curl").addEventListener("click", () => this.#curl());
  }

  /** Say what became of something, in words. */
  say(text, failed = false) {
    this.#answer.textContent = text;
    this.#answer.classList.toggle("failed", failed);
  }

  #submit(event) {
    event.preventDefault();
    this.#publish();
  }

  #key(event) {
    if (event.isComposing) {
      return; // Enter ends the writing of a word, as in Japanese.
    }
    if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      if (event.ctrlKey || event.metaKey) {
        this.#post();
      } else {
        this.#publish();
      }
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      this.#step(event);
    }
  }

  #step(event) {
    const text = this.#sent.step(event.key === "ArrowUp" ? -1 : 1, this.#box.value);
    // In a text of several lines the arrows move the caret, but for its very ends.
    const edge = event.key === "ArrowUp" ? 0 : this.#box.value.length;
    const inside = this.#box.value.includes("\n") && this.#box.selectionStart !== edge;
    if (text !== null && !inside) {
      event.preventDefault();
      this.#write(text);
      this.#box.setSelectionRange(edge && text.length, edge && text.length);
    }
  }

  #publish() {
    const text = this.#box.value;
    if (text === "") {
      this.say("Write a message first.");
    } else if (this.#channel.publish(text)) {
      this.#done(text);
      this.say("");
    } else {
      this.say("Not published: there is no connection.", true);
    }
  }

  async #post() {
    const text = this.#box.value;
    if (text === "") {
      this.say("Write a message first.");
      return;
    }
    this.#done(text);
    try {
      const reached = await this.#channel.post(text);
      this.say(`POST: reached ${plural(reached, this.#form.dataset.counts)}.`);
    } catch (error) {
      this.#restore(text);
      this.say(`POST: ${error.status ? `${error.status}: ` : ""}${error.message}`, true);
    }
  }

  #curl() {
    const command = curl(this.#url, this.#box.value);
    if (command === null) {
      this.say("A command line cannot hold a NUL character.", true);
    } else {
      this.#copy(command, "the command");
    }
  }

  #done(text) {
    this.#sent.add(text);
    this.#write("");
    this.#box.focus();
  }

  /** Give a text back that was not published, if nothing else was typed in the meantime. */
  #restore(text) {
    if (this.#box.value === "") {
      this.#write(text);
    }
  }

  #write(text) {
    this.#box.value = text;
    this.#grow();
  }

  #grow() {
    this.#grown = true;
    this.#change();
  }

  /** Make the box as high as its text. What is beside it has to be rendered in the same frame. */
  fit() {
    if (!this.#grown) {
      return;
    }
    this.#grown = false;
    this.#box.style.height = "auto";
    this.#box.style.height = `${this.#box.scrollHeight + 2}px`;
  }
}
