// Figures: how many messages come, and how long an echo takes.

import { Deque } from "./store.js";

const BUCKET = 100;
const BUCKETS = 10;
const UNANSWERED = 1000;
const SAMPLES = 500;
const PLOTTED = 100;

/** How many there were in the last second, as a sum over tenths of it. */
export class Rate {
  #counts = new Array(BUCKETS).fill(0);
  #slot = 0;

  /** Count one, at a time in ms. */
  add(now) {
    this.#turn(now);
    this.#counts[this.#slot % BUCKETS]++;
  }

  /** How many there were in the second before a time in ms. */
  perSecond(now) {
    this.#turn(now);
    return this.#counts.reduce((sum, count) => sum + count, 0);
  }

  #turn(now) {
    const slot = Math.floor(now / BUCKET);
    for (let each = Math.max(this.#slot + 1, slot - BUCKETS + 1); each <= slot; each++) {
      this.#counts[each % BUCKETS] = 0;
    }
    this.#slot = Math.max(this.#slot, slot);
  }
}

/**
 * The time from a message to its own echo.
 *
 * Echoes of one connection come in the order in which they were sent, heartbeats among them. If
 * somebody else publishes the very text that is waited for, theirs is taken for ours, once. No
 * more than 1000 are waited for; what is sent beyond that is not measured.
 */
export class Echoes {
  #samples = new Deque();

  /** How many echoes there were, of the last 500. */
  get length() {
    return this.#samples.length;
  }

  /** A class of websockets like the given one, which measure what they send. */
  measured(Socket) {
    const add = (sample) => this.#add(sample);
    return class extends Socket {
      #sent = new Deque();

      constructor(...options) {
        super(...options);
        this.addEventListener("message", (event) => this.#received(event.data));
      }

      send(text) {
        super.send(text);
        if (this.#sent.length < UNANSWERED) {
          this.#sent.push({ text, at: performance.now() });
        }
      }

      #received(text) {
        if (this.#sent.at(0)?.text === text) {
          add(performance.now() - this.#sent.shift().at);
        }
      }
    };
  }

  /** The time in ms that a part of the echoes did not exceed; null if there was none. */
  percentile(part) {
    if (this.length === 0) {
      return null;
    }
    const sorted = this.#list(this.length).sort((one, other) => one - other);
    return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
  }

  /** The newest echoes as the path of a line in a box of this size, higher being slower. */
  path(width, height) {
    const samples = this.#list(Math.min(PLOTTED, this.length));
    const most = Math.max(...samples, Number.MIN_VALUE);
    const step = width / Math.max(1, PLOTTED - 1);
    const begin = width - (samples.length - 1) * step;
    const points = samples.map((sample, index) => {
      const y = height - 1 - (sample / most) * (height - 2);
      return `${(begin + index * step).toFixed(1)} ${y.toFixed(1)}`;
    });
    // A single one is a dot.
    return points.length === 0 ? "" : `M${points.join("L")}${points.length === 1 ? "h.1" : ""}`;
  }

  #add(sample) {
    this.#samples.push(sample);
    if (this.#samples.length > SAMPLES) {
      this.#samples.shift();
    }
  }

  #list(count) {
    const begin = this.length - count;
    return Array.from({ length: count }, (_, index) => this.#samples.at(begin + index));
  }
}
