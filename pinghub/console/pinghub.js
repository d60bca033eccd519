/**
 * A client for Pinghub, a publish/subscribe bus for websockets: one channel, kept open.
 *
 *     const channel = new Channel("/news");
 *     channel.addEventListener("message", (event) => console.log(event.data));
 *
 * It needs a WebSocket and fetch: those of browsers, of workers or of Node 22, or what the options
 * bring. The server inlines this file into a page, so it holds no end tag of a script and no
 * beginning of an HTML comment.
 */

/** A connection that lasted so long (ms) was a good one: the next delay is the smallest again. */
const SETTLED = 5000;

/** A timer that is later than this (ms) tells of a page that slept, not of a silent server. */
const LATE = 1000;

/** The longest that timers can wait (ms): 25 days. A larger number would be taken for 1. */
const LONGEST = 2 ** 31 - 1;

/** The characters of an error's text that are kept: a proxy may answer with a whole page. */
const LINE = 200;

/** The bytes of the longest reason that a close frame takes (RFC 6455 section 5.5). */
const REASON = 123;

/** The code of a connection that ended without a close frame (RFC 6455 section 7.1.5). */
const ABNORMAL = 1006;

/** The readyState of a websocket that is open. */
const OPEN = 1;

/**
 * A channel: subscribed as long as it is open, reopened whenever it is not, until `close()`.
 *
 * Nothing is stored, here or on the server: what is published while it is not open is missed, and
 * what is given to `publish` then is refused. It dispatches events:
 *
 * - `message`: with `data`, the text, and `receivedAt`, in ms as of `performance.now()`.
 * - `state`: with `state` and `previous`; `code` and `reason` if a connection ended, or an attempt.
 * - `gap`: it is open again, and messages published after `since` (ms timestamp of this machine,
 *   when the connection before was last heard of) may have been missed.
 */
export class Channel extends EventTarget {
  #url;
  #options;
  #state = "connecting";
  #attempts = 0;
  #nextAttempt = null;
  #current = 0; // The number of the attempt: what belongs to an earlier one is too late.
  #socket = null;
  #timer; // The only one: of an attempt, of a heartbeat, or of the delay before an attempt.
  #openedAt = 0;
  #heardAt = 0; // As of performance.now(), which no change of the system's time disturbs.
  #lastHeard = null; // The same moment as a timestamp, for events.
  #asked = false; // Whether a heartbeat waits for its answer.

  /**
   * Connects at once.
   *
   * @param {string | URL} url The channel, absolute or relative to the page. http becomes ws.
   * @param {import("./pinghub.d.ts").ChannelOptions} [options] Described there, all of them.
   * @throws {SyntaxError | TypeError} If the URL is none, or of another scheme.
   * @throws {RangeError | TypeError} If an option is not as described.
   */
  constructor(
    url,
    {
      minDelay = 500,
      maxDelay = 30_000,
      heartbeat = 20_000,
      deadline = 10_000,
      openTimeout = 10_000,
      maxBuffered = 1_048_576,
      token = null,
      tokenIn = "query",
      window = globalThis,
      WebSocket = window.WebSocket,
      fetch = window.fetch,
    } = {},
  ) {
    super();
    checkNumbers({ minDelay, maxDelay, deadline, openTimeout, maxBuffered });
    if (heartbeat !== 0) {
      checkNumbers({ heartbeat });
    }
    if (tokenIn !== "query" && tokenIn !== "subprotocol") {
      throw new TypeError(`tokenIn is "query" or "subprotocol", not ${tokenIn}`);
    }
    if (!WebSocket) {
      throw new TypeError("There is no WebSocket here: pass one as an option.");
    }
    const times = { minDelay, maxDelay, heartbeat, deadline, openTimeout };
    this.#options = { ...times, maxBuffered, token, tokenIn, window, WebSocket, fetch };
    this.#url = websocketUrl(url, window.document?.baseURI ?? window.location?.href);
    window.addEventListener?.("online", this.#onOnline);
    window.addEventListener?.("offline", this.#onOffline);
    window.document?.addEventListener("visibilitychange", this.#onVisibility);
    this.#connect();
  }

  /**
   * What it does: "connecting"; "open"; "waiting" for the next attempt; "offline", waiting for the
   * browser to be online; or "closed", for good.
   */
  get state() {
    return this.#state;
  }

  /** The URL of the websocket, without the token. */
  get url() {
    return this.#url;
  }

  /** Attempts that failed and connections lost, in a row; 0 once one has lasted for 5 s. */
  get attempts() {
    const settled = this.#state === "open" && this.#now() - this.#openedAt >= SETTLED;
    return settled ? 0 : this.#attempts;
  }

  /** When the next attempt begins, as a timestamp in ms; null unless it is waiting. */
  get nextAttempt() {
    return this.#nextAttempt;
  }

  /** How many bytes were published and not yet handed to the network. */
  get buffered() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /**
   * Publishes a text to all subscribers, this one included. That it comes back is all that tells
   * whether it arrived.
   *
   * @param {string} text At most 64 KiB, unless the server was told otherwise; more ends the
   *   connection (1009). An empty one is a heartbeat, and reaches nobody.
   * @returns {boolean} Whether it was sent: not if the channel is not open, nor if more than
   *   `maxBuffered` bytes wait already. Nothing is queued.
   */
  publish(text) {
    const full = this.buffered > this.#options.maxBuffered;
    if (this.#state !== "open" || this.#socket.readyState !== OPEN || full) {
      return false;
    }
    this.#socket.send(`${text}`);
    return true;
  }

  /**
   * Publishes a text by POST, in any state of the channel.
   *
   * @param {string} text At most 64 KiB, unless the server was told otherwise.
   * @param {object} [options]
   * @param {AbortSignal} [options.signal] Ends the waiting, if the browser does not.
   * @returns {Promise<number>} To how many subscribers it was handed; with a backplane, to how many
   *   servers.
   * @throws {Error} With the server's one line as its message and its `status`; 0: no answer that
   *   this page may read. The message may have been published then.
   */
  async post(text, { signal } = {}) {
    const answer = await this.#request(`${text}`, signal).catch((error) => {
      throw failure(0, textOf(error), error);
    });
    const body = await answer.text().catch(() => ""); // Read to its end, for the next request.
    const { headers } = answer;
    const handed = headers.get("Pinghub-Subscribers") ?? headers.get("Pinghub-Servers");
    if (answer.ok && handed !== null) {
      return Number(handed);
    }
    const line = body.trim().split("\n", 1)[0].slice(0, LINE);
    throw failure(answer.status, answer.ok ? "The answer is not Pinghub's." : line);
  }

  /** Opens another connection now, whatever there is, offline or not. Does nothing once closed. */
  reconnect() {
    if (this.#state !== "closed") {
      this.#connect();
    }
  }

  /**
   * Closes the channel for good. No timer and no listener of its own is left.
   *
   * @param {number} [code] 1000, or from 3000 to 4999.
   * @param {string} [reason] At most 123 bytes.
   * @throws {RangeError} For other codes and reasons. Nothing has changed then.
   */
  close(code = 1000, reason = "") {
    const { window } = this.#options;
    checkClosing(code, reason);
    this.#release(code, reason);
    window.removeEventListener?.("online", this.#onOnline);
    window.removeEventListener?.("offline", this.#onOffline);
    window.document?.removeEventListener("visibilitychange", this.#onVisibility);
    this.#change("closed", { code, reason });
  }

  // Attempts.

  /** Begins an attempt, and ends whatever there was. */
  #connect() {
    this.#release();
    const attempt = this.#current;
    const { openTimeout } = this.#options;
    const problem = `It did not open within ${openTimeout} ms.`;
    this.#wait(openTimeout, () => this.#lost(ABNORMAL, problem));
    this.#change("connecting");
    this.#begin(attempt).catch((error) => {
      if (attempt === this.#current) {
        this.#lost(ABNORMAL, textOf(error));
      }
    });
  }

  async #begin(attempt) {
    let { token } = this.#options;
    // One that is there is not awaited: the socket exists when the constructor returns.
    if (typeof token === "function" && attempt === this.#current) {
      token = await token();
    }
    if (attempt === this.#current) {
      this.#open(token);
    }
  }

  #open(token) {
    const { WebSocket, tokenIn } = this.#options;
    const protocols = token && tokenIn === "subprotocol" ? [token] : [];
    const socket = new WebSocket(this.#authorized(token), protocols);
    let problem = ""; // Browsers do not tell; others do.
    socket.onopen = () => this.#opened();
    socket.onmessage = (event) => this.#received(event.data);
    socket.onerror = (event) => {
      problem = event.message ?? "";
      if (this.#state !== "open") {
        this.#lost(ABNORMAL, problem); // Node's own WebSocket has no close event then.
      }
    };
    socket.onclose = (event) => this.#lost(event.code, event.reason || problem);
    this.#socket = socket;
  }

  #opened() {
    const since = this.#lastHeard;
    this.#openedAt = this.#hear();
    this.#watch();
    this.#change("open");
    if (since !== null && this.#state !== "closed") {
      this.#emit("gap", { since });
    }
  }

  /** The connection, or the attempt, is over: another one after a delay, or when online again. */
  #lost(code, reason) {
    const { minDelay, maxDelay, window } = this.#options;
    this.#release();
    this.#attempts += 1;
    if (this.#isOffline()) {
      this.#change("offline", { code, reason });
      return;
    }
    const most = Math.min(maxDelay, minDelay * 2 ** (this.#attempts - 1));
    const delay = Math.floor(window.Math.random() * most);
    this.#nextAttempt = window.Date.now() + delay;
    this.#wait(delay, () => this.#connect());
    this.#change("waiting", { code, reason });
  }

  /** Lets go of the connection, the attempt or the delay. Nothing that it does later is noticed. */
  #release(code = 1000, reason = "") {
    const socket = this.#socket;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.onerror = ignore; // The package ws throws what nobody listens for.
      socket.close(code, reason); // Last: it may bring an error at once, with Node's own.
    }
    this.#attempts = this.attempts;
    this.#current += 1;
    this.#socket = null;
    this.#nextAttempt = null;
    this.#options.window.clearTimeout(this.#timer);
  }

  // Signs of life.

  #received(data) {
    const receivedAt = this.#hear();
    if (typeof data === "string" && data !== "") {
      this.#emit("message", { data, receivedAt });
    }
  }

  /** Notes a sign of life; returns when it came. */
  #hear() {
    this.#lastHeard = this.#options.window.Date.now();
    this.#heardAt = this.#now();
    if (this.#asked) {
      this.#watch();
    }
    return this.#heardAt;
  }

  /** Waits for a silence to become too long. Messages set no timer: many come in a second. */
  #watch() {
    const { heartbeat, window } = this.#options;
    this.#asked = false;
    window.clearTimeout(this.#timer);
    const left = this.#heardAt + heartbeat - this.#now();
    if (heartbeat && left > 0) {
      this.#wait(left, () => this.#watch());
    } else if (heartbeat) {
      this.#ask();
    }
  }

  /** Asks for a sign of life, and gives up if none comes. */
  #ask(again = false) {
    const { deadline } = this.#options;
    const due = this.#now() + deadline;
    this.#asked = true;
    this.#socket.send("");
    this.#wait(deadline, () => {
      if (!again && this.#now() > due + LATE) {
        this.#ask(true); // The answer may be here, behind this timer.
      } else {
        this.#lost(ABNORMAL, `Nothing came within ${deadline} ms of a heartbeat.`);
      }
    });
  }

  // What the browser tells.

  #onOnline = () => this.#wake();

  #onVisibility = () => {
    if (this.#options.window.document.visibilityState === "visible") {
      this.#wake();
    }
  };

  /** An open connection may outlast it, and is asked; an attempt fails by itself. */
  #onOffline = () => {
    if (this.#state === "waiting") {
      this.#release();
      this.#change("offline");
    } else {
      this.#probe();
    }
  };

  /** The network may have changed, or the machine slept: tries now, or asks whether it works. */
  #wake() {
    if (this.#state === "waiting" || (this.#state === "offline" && !this.#isOffline())) {
      this.#connect();
    } else {
      this.#probe();
    }
  }

  #probe() {
    if (this.#state === "open" && this.#options.heartbeat && !this.#asked) {
      this.#ask();
    }
  }

  // Small things.

  #isOffline() {
    return this.#options.window.navigator?.onLine === false; // Node does not know.
  }

  #now() {
    return this.#options.window.performance.now();
  }

  /** Sets the timer, in place of what it waited for. */
  #wait(delay, action) {
    const { window } = this.#options;
    window.clearTimeout(this.#timer);
    this.#timer = window.setTimeout(action, delay);
  }

  async #request(body, signal) {
    const { fetch, token, tokenIn } = this.#options;
    const asked = typeof token === "function" ? await token() : token;
    const headers = asked && tokenIn === "subprotocol" ? { Authorization: `Bearer ${asked}` } : {};
    const url = this.#authorized(asked).replace(/^ws/, "http");
    return fetch(url, { method: "POST", body, headers, signal });
  }

  /** The URL of the websocket, with the token if that is its place. */
  #authorized(token) {
    const url = new URL(this.#url);
    if (token && this.#options.tokenIn === "query") {
      url.searchParams.set("token", token);
    }
    return url.href;
  }

  #change(state, details) {
    const previous = this.#state;
    if (state !== previous) {
      this.#state = state;
      this.#emit("state", { state, previous, ...details });
    }
  }

  #emit(type, details) {
    this.dispatchEvent(Object.assign(new Event(type), details));
  }
}

function ignore() {}

function failure(status, line, cause) {
  return Object.assign(new Error(line || `Status ${status}`, { cause }), { status });
}

function textOf(error) {
  return `${error?.message ?? error}`;
}

function checkNumbers(numbers) {
  for (const [name, value] of Object.entries(numbers)) {
    if (typeof value !== "number" || !(value > 0 && value <= LONGEST)) {
      throw new RangeError(`${name} is ${value}: it has to be above 0, and at most ${LONGEST}`);
    }
  }
}

function checkClosing(code, reason) {
  if (code !== 1000 && !(code >= 3000 && code <= 4999)) {
    throw new RangeError(`The code is ${code}: it has to be 1000, or from 3000 to 4999`);
  }
  if (new TextEncoder().encode(reason).length > REASON) {
    throw new RangeError(`The reason has more than ${REASON} bytes`);
  }
}

function websocketUrl(url, base) {
  const absolute = new URL(url, base);
  absolute.hash = "";
  const href = absolute.href.replace(/^http/, "ws");
  if (!/^wss?:/.test(href)) {
    throw new SyntaxError(`${href} is no URL of a channel: it begins with http, https, ws or wss`);
  }
  return href;
}
