// What the page has received: bounded, in order, and the part of it that passes the filter.

/** A queue whose ends and places are all reached at once. */
export class Deque {
  /** How many were ever taken away from the front. */
  shifted = 0;
  #items = [];
  #head = 0;

  /** How many are in it. */
  get length() {
    return this.#items.length - this.#head;
  }

  /** The one at a place, 0 being the oldest; undefined if there is none. */
  at(index) {
    return this.#items[this.#head + index];
  }

  /** Add one at the end. */
  push(item) {
    this.#items.push(item);
  }

  /** Take the oldest away; undefined if there is none. */
  shift() {
    if (this.length === 0) {
      return undefined;
    }
    const item = this.#items[this.#head];
    this.#items[this.#head++] = undefined;
    this.shifted++;
    // Seldom enough to cost nothing, often enough to waste no more than it holds.
    if (this.#head > 256 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Take all away. */
  clear() {
    this.#items = [];
    this.#head = 0;
  }
}

/**
 * The newest entries, at most so many and so many bytes; the oldest are dropped for new ones.
 *
 * An entry is `{id, at, text, bytes, note}`: a number that grows, ms since 1970, the message, its
 * size in UTF-8, and whether it is a remark of the page instead of a message.
 */
class Bounded extends Deque {
  #bytes = 0;
  #limits;
  #drop;

  constructor(limits, drop) {
    super();
    this.#limits = limits;
    this.#drop = drop;
  }

  push(entry) {
    super.push(entry);
    this.#bytes += entry.bytes;
    // The newest one is kept, whatever its size.
    while (this.length > this.#limits.entries || (this.#bytes > this.#limits.bytes && this.length > 1)) {
      this.#drop(this.shift());
    }
  }

  shift() {
    const entry = super.shift();
    this.#bytes -= entry?.bytes ?? 0;
    return entry;
  }

  clear() {
    super.clear();
    this.#bytes = 0;
  }
}

/**
 * What there is to show.
 *
 * While it is paused, new entries wait in a store of their own with the same bounds, so that what
 * is looked at stays. Messages that a bound drops are counted in `dropped`.
 */
export class Store {
  /** Those that pass the filter, oldest first: a Deque. */
  shown = new Deque();
  /** How many messages were dropped, to stay within the bounds. */
  dropped = 0;
  /** Messages that came since the pause; those beyond the bounds are counted too. */
  waiting = 0;
  /** Whether it is paused. */
  paused = false;
  #all;
  #held;
  #filter = null;
  #next = 0;

  /** Keep at most so many `entries` and so many `bytes` of text. */
  constructor(limits = { entries: 10_000, bytes: 16 * 2 ** 20 }) {
    this.#all = new Bounded(limits, (entry) => this.#forget(entry));
    this.#held = new Bounded(limits, (entry) => this.#count(entry));
  }

  /** How many entries there are to be filtered. */
  get length() {
    return this.#all.length;
  }

  /** Take in one; returns how many more are shown: 1 or 0. */
  add(text, bytes, at, note = false) {
    const entry = { id: this.#next++, at, text, bytes, note };
    if (this.paused) {
      this.waiting += note ? 0 : 1;
      this.#held.push(entry);
      return 0;
    }
    return this.#show(entry);
  }

  /** Keep what is shown as it is. */
  pause() {
    this.paused = true;
  }

  /** Show what waited as well. */
  resume() {
    this.paused = false;
    this.waiting = 0;
    for (let entry = this.#held.shift(); entry; entry = this.#held.shift()) {
      this.#show(entry);
    }
  }

  /** Show only messages with this text in them, in whatever case; remarks stay. "": all. */
  filter(text) {
    const literal = text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    this.#filter = text === "" ? null : new RegExp(literal, "i");
    this.shown.clear();
    for (let index = 0; index < this.#all.length; index++) {
      this.#pass(this.#all.at(index));
    }
  }

  /** Forget all. */
  clear() {
    this.#all.clear();
    this.#held.clear();
    this.shown.clear();
    this.dropped = 0;
    this.waiting = 0;
  }

  #show(entry) {
    const passed = this.#pass(entry);
    this.#all.push(entry);
    return passed;
  }

  #pass(entry) {
    if (this.#filter !== null && !entry.note && !this.#filter.test(entry.text)) {
      return 0;
    }
    this.shown.push(entry);
    return 1;
  }

  #forget(entry) {
    this.#count(entry);
    if (this.shown.at(0) === entry) {
      this.shown.shift();
    }
  }

  #count(entry) {
    this.dropped += entry.note ? 0 : 1;
  }
}
