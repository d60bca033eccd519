// The page: what comes from the channel goes to the store, and what is in the store to the screen.

import { Channel } from "./pinghub.js";
import { Composer } from "./composer.js";
import { Details } from "./details.js";
import { Echoes, Rate } from "./figures.js";
import { List } from "./list.js";
import { Store } from "./store.js";
import { bytesText, countText, curl, plural, preview, size, timeText } from "./text.js";

/** Messages are read out up to so many in a second; more would be a flood. */
const SPOKEN_RATE = 2;
const SPOKEN = 5;
/** Figures change at most so often, in ms: nobody reads faster, and it costs a layout. */
const FIGURES = 250;

const WORDS = {
  connecting: "Connecting",
  open: "Connected",
  waiting: "Reconnecting",
  offline: "Offline",
  closed: "Closed",
};

// Here and not in the tag: clients of the original look for a bare one.
document.documentElement.lang = "en";

const find = (id) => document.getElementById(id);
const url = location.href.replace(/#.*$/, "");
const store = new Store();
const rate = new Rate();
const echoes = new Echoes();
const totals = { messages: 0, bytes: 0 };
const channel = new Channel(url, { WebSocket: echoes.measured(WebSocket) });
const composer = new Composer(find("publish"), channel, url, { copy, change });
const details = new Details(find("details"), { copy, close: closeDetails });
const list = new List(find("messages"), store.shown, { row, fill, choose, change });
/** How many came since the end was last in sight. */
let unseen = 0;

// Rendering: once in a frame, and not at all while the page is hidden, because no frame comes then.

let asked = false;

function change() {
  if (!asked) {
    asked = true;
    requestAnimationFrame(render);
  }
}

function render() {
  asked = false;
  // First: a list that becomes lower is scrolled by the browser, and has to be where it was.
  composer.fit();
  list.render();
  unseen = list.following ? 0 : Math.min(unseen, store.shown.length);
  find("new").hidden = unseen === 0;
  write("new", `\u2193 ${countText(unseen)} new`);
  find("empty").hidden = store.length > 0 || store.waiting > 0;
  write("pause", store.paused ? `Resume${store.waiting ? ` (${countText(store.waiting)})` : ""}` : "Pause");
  write("count", counted());
  figures();
}

/** What the view has of all there was. */
function counted() {
  const shown = store.shown.length;
  const parts = [find("filter").value === "" ? "" : `${countText(shown)} of ${countText(store.length)}`];
  parts.push(store.dropped === 0 ? "" : `${plural(store.dropped, "older one")} dropped`);
  return parts.filter(Boolean).join(", ");
}

/** Write a text where it is not written yet: equal ones would cost a layout as well. */
function write(id, text) {
  const element = find(id);
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

let figuresAt = -Infinity;
let figuresTimer = 0;

function figures() {
  const now = performance.now();
  clearTimeout(figuresTimer);
  if (now - figuresAt < FIGURES) {
    figuresTimer = setTimeout(figures, FIGURES);
    return;
  }
  figuresAt = now;
  const perSecond = rate.perSecond(now);
  write("rate", `${countText(perSecond)} /s`);
  write("total", countText(totals.messages));
  write("bytes", bytesText(totals.bytes));
  plot();
  if (perSecond > 0) {
    figuresTimer = setTimeout(figures, FIGURES);
  }
}

function plot() {
  if (echoes.length === 0) {
    return;
  }
  const [median, most] = [0.5, 0.99].map((part) => echoes.percentile(part).toFixed(1));
  write("latency", `${median} / ${most} ms`);
  const words = `Time to the own echo: half within ${median} ms, 99 % within ${most} ms`;
  find("plot").setAttribute("aria-label", words);
  find("plot").firstElementChild.setAttribute("d", echoes.path(120, 24));
}

// The list.

function row() {
  const made = document.createElement("div");
  made.className = "row";
  made.role = "option";
  for (const [tag, name] of [["time", "at"], ["span", "size"], ["span", "text"]]) {
    const part = document.createElement(tag);
    part.className = name;
    made.append(part);
  }
  return made;
}

function fill(made, entry) {
  const [time, bytes, text] = made.children;
  made.classList.toggle("note", entry.note);
  time.textContent = timeText(entry.at);
  bytes.textContent = entry.note ? "" : bytesText(entry.bytes);
  text.textContent = preview(entry.text);
}

function choose(entry) {
  details.show(entry);
}

function closeDetails() {
  list.choose(null);
  find("messages").focus();
}

// What comes.

channel.addEventListener("message", ({ data, receivedAt }) => {
  const bytes = size(data);
  totals.messages++;
  totals.bytes += bytes;
  rate.add(receivedAt);
  // Not by performance.timeOrigin: that clock may stand still while the machine sleeps.
  unseen += store.add(data, bytes, Date.now() - (performance.now() - receivedAt));
  speak(data);
  change();
});

/** Say something in the list, between the messages. */
function remark(text) {
  unseen += store.add(text, 0, Date.now(), true);
  change();
}

channel.addEventListener("gap", () => remark("Reconnected; messages may be missing"));

channel.addEventListener("state", (event) => {
  if (event.previous === "open") {
    remark(`Disconnected (${event.code}${event.reason ? `: ${event.reason}` : ""})`);
  }
  showState();
});

/** Have a message read out, unless so many come that nobody could follow. */
function speak(text) {
  if (document.hidden || store.paused || rate.perSecond(performance.now()) > SPOKEN_RATE) {
    return;
  }
  const spoken = document.createElement("p");
  spoken.textContent = preview(text).slice(0, 200);
  find("spoken").append(spoken);
  while (find("spoken").childElementCount > SPOKEN) {
    find("spoken").firstElementChild.remove();
  }
}

// The connection.

let countdown = 0;

function showState() {
  const { state } = channel;
  find("state").dataset.state = state;
  write("state-text", WORDS[state]);
  find("reconnect").hidden = state !== "waiting" && state !== "offline";
  count();
}

/** Say how long it will be; not in the status itself, which would be read out each second. */
function count() {
  clearTimeout(countdown);
  const left = channel.nextAttempt === null ? null : Math.max(0, channel.nextAttempt - Date.now());
  write("countdown", left === null ? "" : `in ${Math.ceil(left / 1000)} s`);
  if (left !== null) {
    countdown = setTimeout(count, left % 1000 || 1000);
  }
}

find("reconnect").addEventListener("click", () => channel.reconnect());

// Controls.

function pause() {
  if (store.paused) {
    unseen += store.waiting;
    store.resume();
  } else {
    store.pause();
  }
  find("pause").ariaPressed = store.paused;
  change();
}

function clear() {
  store.clear();
  unseen = 0;
  list.choose(null);
  list.follow();
}

function filter() {
  store.filter(find("filter").value);
  list.follow();
}

/** Put a text on the clipboard, and say so. */
async function copy(text, what = "the message") {
  try {
    await writeClipboard(text);
    composer.say(`Copied ${what}.`);
  } catch {
    composer.say("The browser does not let this page copy.", true);
  }
}

/** The modern way is there on https and localhost only. */
async function writeClipboard(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const put = (event) => {
    event.preventDefault();
    event.clipboardData.setData("text/plain", text);
  };
  document.addEventListener("copy", put);
  const copied = document.execCommand("copy");
  document.removeEventListener("copy", put);
  if (!copied) {
    throw new Error("refused");
  }
}

find("pause").addEventListener("click", pause);
find("clear").addEventListener("click", clear);
find("filter").addEventListener("input", filter);
find("new").addEventListener("click", () => list.follow());
find("help").addEventListener("click", () => find("shortcuts").showModal());

// Keys: letters only where none can be typed.

const KEYS = {
  "/": () => find("filter").focus(),
  "?": () => find("shortcuts").showModal(),
  m: () => find("message").focus(),
  p: pause,
  x: clear,
  e: () => list.follow(),
  c: () => list.chosen && copy(list.chosen.text),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || find("shortcuts").open) {
    return;
  }
  const typing = event.target.matches("input, textarea");
  if (event.key === "Escape" && !event.isComposing) {
    if (!typing && list.chosen) {
      closeDetails();
    }
    find("messages").focus();
  } else if (!typing && Object.hasOwn(KEYS, event.key)) {
    event.preventDefault();
    KEYS[event.key]();
  }
});

find("example").textContent = curl(url, "Hello");
showState();
change();
