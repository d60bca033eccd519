// What a channel finds around it, under control: time, chance, network, page and websockets.

import { Channel } from "../../pinghub/console/pinghub.js";

/** An EventTarget that knows how many listen. */
class Listened extends EventTarget {
  listeners = 0;

  addEventListener(...args) {
    super.addEventListener(...args);
    this.listeners += 1;
  }

  removeEventListener(...args) {
    super.removeEventListener(...args);
    this.listeners -= 1;
  }
}

/** A websocket whose server is the test: `accept`, `say`, and `end` are what the server does. */
class FakeWebSocket {
  readyState = 0;
  bufferedAmount = 0;
  sent = [];
  closed = null; // What it was closed with by its owner.
  onopen = null;
  onmessage = null;
  onerror = null;
  onclose = null;

  constructor(url, protocols) {
    if (protocols.some((each) => /[^!#$%&'*+\-.^_`|~\w]/.test(each))) {
      throw new SyntaxError("a subprotocol is no token");
    }
    Object.assign(this, { url, protocols });
  }

  send(data) {
    if (this.readyState === 0) {
      throw new Error("InvalidStateError");
    }
    this.sent.push(data);
  }

  close(code, reason) {
    this.closed = [code, reason];
    if (this.readyState === 0) {
      this.onerror?.({}); // At once, and before anything else changes, as in Node 22.
    }
    this.readyState = Math.max(this.readyState, 2);
  }

  accept() {
    this.readyState = 1;
    this.onopen?.({});
  }

  say(data) {
    this.onmessage?.({ data });
  }

  end(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** How many of its events somebody waits for. */
  get listeners() {
    return [this.onopen, this.onmessage, this.onclose].filter(Boolean).length;
  }
}

/** Some time in 2026, as a timestamp. */
export const BEGIN = 1_780_000_000_000;

/** A page, its network and its clock. It is the option `window` of its channels. */
export class World extends Listened {
  chance = 0.5;
  sockets = [];
  timers = new Map();
  navigator = { onLine: true };
  location = { href: "https://pages.example/room/1?q=2#top" };
  document = Object.assign(new Listened(), { visibilityState: "visible" });
  #time = 0;
  #shift = 0;
  #timer = 0;

  performance = { now: () => this.#time };
  Date = { now: () => BEGIN + this.#shift + this.#time };
  Math = { random: () => this.chance };

  setTimeout(action, delay) {
    this.#timer += 1;
    this.timers.set(this.#timer, { action, due: this.#time + delay });
    return this.#timer;
  }

  clearTimeout(timer) {
    this.timers.delete(timer);
  }

  /** Lets time go by, and timers run when they are due. */
  advance(ms) {
    const end = this.#time + ms;
    for (let next = this.#next(end); next; next = this.#next(end)) {
      const [timer, { action, due }] = next;
      this.timers.delete(timer);
      this.#time = Math.max(this.#time, due);
      action();
    }
    this.#time = end;
  }

  #next(end) {
    const due = [...this.timers].filter(([, each]) => each.due <= end);
    return due.sort(([, one], [, other]) => one.due - other.due)[0];
  }

  /** Lets time go by while nothing runs, as when the machine sleeps. */
  sleep(ms) {
    this.#time += ms;
  }

  /** Sets the system's time, by so much. */
  setClock(ms) {
    this.#shift += ms;
  }

  /** The browser notices that there is a network, or none. */
  setOnline(online) {
    this.navigator.onLine = online;
    this.dispatchEvent(new Event(online ? "online" : "offline"));
  }

  /** The page is shown or hidden. */
  setVisible(visible) {
    this.document.visibilityState = visible ? "visible" : "hidden";
    this.document.dispatchEvent(new Event("visibilitychange"));
  }

  /** A channel of this page, with what it has dispatched in `events`. */
  channel(options = {}, url = "wss://bus.example/news") {
    const world = this;
    class WebSocket extends FakeWebSocket {
      constructor(...args) {
        super(...args);
        world.sockets.push(this);
      }
    }
    const channel = new Channel(url, { window: this, WebSocket, ...options });
    return Object.assign(channel, { events: eventsOf(channel) });
  }

  /** A channel that is open. */
  open(options) {
    const channel = this.channel(options);
    this.socket.accept();
    return channel;
  }

  /** The latest websocket. */
  get socket() {
    return this.sockets.at(-1);
  }

  /** The delays that the timers had left, in ms. */
  get delays() {
    return [...this.timers.values()].map(({ due }) => due - this.#time);
  }
}

/** What a channel dispatches from now on: `[type, …]`, as far as tests compare it. */
export function eventsOf(channel) {
  const events = [];
  channel.addEventListener("state", ({ previous, state, code, reason }) =>
    events.push(["state", previous, state, ...(code === undefined ? [] : [code, reason])]),
  );
  channel.addEventListener("message", ({ data }) => events.push(["message", data]));
  channel.addEventListener("gap", ({ since }) => events.push(["gap", since]));
  return events;
}

/** Waits until everything that waits for promises alone has gone on. */
export function turn() {
  return new Promise((done) => setImmediate(done));
}
