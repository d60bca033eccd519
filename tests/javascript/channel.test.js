// What a channel is to the page: its URL, its state, its events, publishing and closing.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Channel } from "../../pinghub/console/pinghub.js";
import { BEGIN, World, eventsOf } from "./world.js";

for (const [url, expected] of [
  ["wss://bus.example/news", "wss://bus.example/news"],
  ["ws://bus.example:8081/news?a=b%20c", "ws://bus.example:8081/news?a=b%20c"],
  ["http://bus.example/news", "ws://bus.example/news"],
  ["https://bus.example/news#part", "wss://bus.example/news"],
  [new URL("https://bus.example/news#part"), "wss://bus.example/news"],
  ["/news", "wss://pages.example/news"],
  ["", "wss://pages.example/room/1?q=2"],
  ["2?x=http", "wss://pages.example/room/2?x=http"],
  ["//bus.example/caf\u00e9", "wss://bus.example/caf%C3%A9"],
]) {
  test(`${JSON.stringify(url)} is the websocket ${expected}`, () => {
    const world = new World();
    const channel = world.channel({}, url);
    assert.equal(channel.url, expected);
    assert.deepEqual([world.socket.url, world.socket.protocols], [expected, []]);
  });
}

test("a relative URL is taken as of the page's base, if it has one", () => {
  const world = new World();
  world.document.baseURI = "http://base.example/a/";
  assert.equal(world.channel({}, "b").url, "ws://base.example/a/b");
});

test("a URL that is none, or of another scheme, is refused, and nothing is left behind", () => {
  const world = new World();
  assert.throws(() => world.channel({}, "http://"), TypeError);
  assert.throws(() => world.channel({}, "mailto:someone"), /mailto:someone is no URL of a channel/);
  world.location = { href: "file:///home/page.html" };
  assert.throws(() => world.channel({}, "/news"), SyntaxError);
  world.location = undefined;
  assert.throws(() => world.channel({}, "/news"), TypeError);
  assert.deepEqual([world.sockets.length, world.timers.size, world.listeners], [0, 0, 0]);
});

test("options that cannot be meant are refused", () => {
  const numbers = ["minDelay", "maxDelay", "heartbeat", "deadline", "openTimeout", "maxBuffered"];
  for (const name of numbers) {
    for (const value of [-1, NaN, Infinity, 2 ** 31, "1000", null]) {
      assert.throws(() => new World().channel({ [name]: value }), RangeError, `${name}: ${value}`);
    }
    for (const value of [undefined, 1, 2 ** 31 - 1]) {
      assert.equal(new World().channel({ [name]: value }).state, "connecting");
    }
    if (name !== "heartbeat") {
      assert.throws(() => new World().channel({ [name]: 0 }), RangeError, name);
    }
  }
  assert.throws(() => new World().channel({ tokenIn: "cookie" }), TypeError);
});

test("without a WebSocket it says what to do", () => {
  const world = new World();
  assert.throws(() => new Channel("ws://bus.example/", { window: world }), /pass one as an option/);
  assert.equal(world.listeners, 0);
});

test("its public members are those that types.ts lists, and no more", () => {
  const members = Object.getOwnPropertyNames(Channel.prototype).sort();
  const listed = "attempts buffered close nextAttempt post publish reconnect state url";
  assert.deepEqual(members, ["constructor", ...listed.split(" ")].sort());
  assert.deepEqual(Object.keys(new World().channel()), ["events"]); // Which is the test's own.
});

test("it connects at once, and is open when the websocket is", () => {
  const world = new World();
  const channel = world.channel();
  assert.deepEqual([channel.state, world.sockets.length], ["connecting", 1]);
  world.socket.accept();
  assert.equal(channel.state, "open");
  assert.deepEqual(channel.events, [["state", "connecting", "open"]]);
});

test("messages are dispatched in order, with the time at which they came", () => {
  const world = new World();
  const channel = world.open();
  const found = [];
  channel.addEventListener("message", ({ data, receivedAt }) => found.push([data, receivedAt]));
  world.advance(10);
  world.socket.say("one");
  world.socket.say("two");
  world.advance(5);
  world.socket.say("three");
  assert.deepEqual(found, [["one", 10], ["two", 10], ["three", 15]]);
});

test("anything but text is no message, but life", () => {
  const world = new World();
  const channel = world.open();
  world.advance(19_999);
  world.socket.say(new ArrayBuffer(1));
  world.advance(1);
  assert.deepEqual([channel.events.length, world.socket.sent], [1, []]);
});

test("each message and each state is an Event, and handlers may be objects", () => {
  const world = new World();
  const channel = world.channel();
  const found = [];
  const listener = { handleEvent: (event) => found.push(event) };
  channel.addEventListener("state", listener, { once: true });
  channel.addEventListener("message", listener);
  world.socket.accept();
  world.socket.say("x");
  world.socket.end();
  assert.deepEqual(found.map(({ type }) => type), ["state", "message"]);
  assert.ok(found.every((event) => event instanceof Event && event.target === channel));
});

test("the first opening is no gap; each further one is, since the last sign of life before", () => {
  const world = new World();
  const channel = world.open();
  world.advance(6000);
  world.socket.say("last");
  world.advance(1000);
  world.socket.end(1001, "bye");
  world.advance(250);
  world.socket.end();
  world.advance(500);
  world.socket.accept();
  assert.deepEqual(channel.events, [
    ["state", "connecting", "open"],
    ["message", "last"],
    ["state", "open", "waiting", 1001, "bye"],
    ["state", "waiting", "connecting"],
    ["state", "connecting", "waiting", 1006, ""],
    ["state", "waiting", "connecting"],
    ["state", "connecting", "open"],
    ["gap", BEGIN + 6000],
  ]);
  world.advance(100);
  channel.reconnect();
  world.socket.accept();
  assert.deepEqual(channel.events.at(-1), ["gap", BEGIN + 7750]);
});

test("the gap of a connection that was dead begins when it was last heard of", () => {
  const world = new World();
  const channel = world.open();
  world.advance(20_000);
  world.socket.say("");
  world.advance(30_000 + 250);
  world.socket.accept();
  assert.deepEqual(channel.events.at(-1), ["gap", BEGIN + 20_000]);
});

test("attempts that fail before it was ever open leave no gap", () => {
  const world = new World();
  const channel = world.channel();
  world.socket.end();
  world.advance(250);
  world.socket.accept();
  assert.deepEqual(channel.events.at(-1), ["state", "connecting", "open"]);
});

test("a gap is told even if a listener has just asked for another connection", () => {
  const world = new World();
  const channel = world.open();
  world.advance(1000);
  channel.reconnect();
  channel.addEventListener("state", () => channel.reconnect(), { once: true });
  world.socket.accept();
  assert.deepEqual(channel.events.filter(([type]) => type === "gap"), [["gap", BEGIN]]);
  assert.deepEqual([channel.state, world.sockets.length], ["connecting", 3]);
});

test("publish() sends while it is open, and says so", () => {
  const world = new World();
  const channel = world.open();
  assert.equal(channel.publish("hello"), true);
  assert.deepEqual(world.socket.sent, ["hello"]);
});

test("publish() sends text, whatever it is given", () => {
  const world = new World();
  const channel = world.open();
  channel.publish(7);
  channel.publish(new Uint8Array([1, 2]));
  assert.deepEqual(world.socket.sent, ["7", "1,2"]);
});

test("publish() does nothing and says so while it is not open, and nothing is sent later", () => {
  const world = new World();
  const channel = world.channel();
  assert.equal(channel.publish("connecting"), false);
  world.socket.accept();
  world.socket.readyState = 2;
  assert.equal(channel.publish("closing"), false);
  world.socket.end();
  assert.equal(channel.publish("waiting"), false);
  world.setOnline(false);
  assert.equal(channel.publish("offline"), false);
  world.setOnline(true);
  world.socket.accept();
  channel.close();
  assert.equal(channel.publish("closed"), false);
  assert.deepEqual(world.sockets.flatMap(({ sent }) => sent), []);
});

test("publish() refuses while more than maxBuffered bytes wait, which `buffered` tells", () => {
  for (const [options, most] of [[{}, 1_048_576], [{ maxBuffered: 10 }, 10]]) {
    const world = new World();
    const channel = world.channel(options);
    assert.equal(channel.buffered, 0);
    world.socket.accept();
    world.socket.bufferedAmount = most;
    assert.deepEqual([channel.buffered, channel.publish("x")], [most, true]);
    world.socket.bufferedAmount = most + 1;
    assert.deepEqual([channel.buffered, channel.publish("y")], [most + 1, false]);
    assert.deepEqual(world.socket.sent, ["x"]);
    world.socket.end();
    assert.equal(channel.buffered, 0);
  }
});

test("close() takes each code and reason that a close frame can have", () => {
  for (const [args, expected] of [
    [[], [1000, ""]],
    [[1000], [1000, ""]],
    [[3000, "x".repeat(123)], [3000, "x".repeat(123)]],
    [[4999, "\u00e9".repeat(61)], [4999, "\u00e9".repeat(61)]],
  ]) {
    const world = new World();
    const channel = world.open();
    channel.close(...args);
    assert.deepEqual(world.socket.closed, expected);
    assert.deepEqual(channel.events.at(-1), ["state", "open", "closed", ...expected]);
  }
});

test("close() closes the websocket for good, and tells", () => {
  const world = new World();
  const channel = world.open();
  channel.close(3001, "enough");
  assert.deepEqual(world.socket.closed, [3001, "enough"]);
  assert.deepEqual(channel.events.at(-1), ["state", "open", "closed", 3001, "enough"]);
  world.setOnline(true);
  world.setVisible(true);
  channel.reconnect();
  channel.close();
  world.advance(86_400_000);
  assert.deepEqual([channel.state, world.sockets.length, channel.events.length], ["closed", 1, 2]);
});

test("close() with a code or a reason that is not allowed throws, and changes nothing", () => {
  const world = new World();
  const channel = world.open();
  for (const code of [0, 999, 1001, 1006, 2999, 5000, NaN, "bye"]) {
    assert.throws(() => channel.close(code), RangeError, `${code}`);
  }
  assert.throws(() => channel.close(1000, "\u00e9".repeat(62)), RangeError);
  assert.equal(channel.state, "open");
  world.socket.say("news");
  assert.deepEqual(channel.events.at(-1), ["message", "news"]);
  world.advance(20_000);
  assert.deepEqual(world.socket.sent, [""]);
});

const STATES = {
  connecting: () => {},
  open: (world) => world.socket.accept(),
  asked: (world) => {
    world.socket.accept();
    world.advance(20_000);
  },
  waiting: (world) => world.socket.end(),
  offline: (world) => {
    world.socket.end();
    world.setOnline(false);
  },
  reconnecting: (world) => {
    world.socket.end();
    world.advance(250);
  },
};

for (const [state, reach] of Object.entries(STATES)) {
  test(`close() leaves no timer, no listener and no open websocket: ${state}`, () => {
    const world = new World();
    const channel = world.channel();
    assert.deepEqual([world.listeners, world.document.listeners], [2, 1]);
    reach(world);
    channel.close();
    assert.equal(channel.state, "closed");
    assert.deepEqual([world.listeners, world.document.listeners, world.timers.size], [0, 0, 0]);
    assert.ok(world.sockets.every(({ readyState }) => readyState >= 2));
    assert.ok(world.sockets.every(({ listeners }) => listeners === 0));
    assert.deepEqual([channel.nextAttempt, channel.buffered], [null, 0]);
  });
}

for (const [state, reach] of Object.entries(STATES)) {
  test(`listeners may close it at any change: ${state}`, () => {
    const world = new World();
    const channel = world.channel();
    channel.addEventListener("state", (event) => {
      if (event.state === channel.state) {
        channel.close();
      }
    });
    reach(world);
    channel.close();
    world.advance(60_000);
    assert.deepEqual([channel.state, world.sockets.length, world.timers.size], ["closed", 1, 0]);
    assert.equal(channel.events.filter(([, , now]) => now === "closed").length, 1);
  });
}

test("late events of an earlier websocket change nothing", () => {
  const world = new World();
  const channel = world.open();
  const [old] = world.sockets;
  channel.reconnect();
  const before = [channel.state, channel.events.length, world.sockets.length, world.timers.size];
  old.accept();
  old.say("late");
  old.onerror({ message: "late" });
  old.end(1000);
  const after = [channel.state, channel.events.length, world.sockets.length, world.timers.size];
  assert.deepEqual(after, before);
  world.socket.accept();
  assert.equal(channel.state, "open");
});

test("channels of a page do not disturb one another", () => {
  const world = new World();
  const [one, two] = [world.open(), world.open()];
  one.close();
  world.sockets[1].say("still here");
  assert.deepEqual([one.state, two.state], ["closed", "open"]);
  assert.deepEqual(two.events.at(-1), ["message", "still here"]);
  assert.deepEqual([world.listeners, world.document.listeners], [2, 1]);
});

test("an attempt ends with its error, where no close follows, as with Node's own WebSocket", () => {
  const world = new World();
  const channel = world.channel();
  world.socket.onerror({});
  assert.deepEqual(channel.events, [["state", "connecting", "waiting", 1006, ""]]);
  assert.deepEqual([channel.attempts, world.timers.size], [1, 1]);
});

test("an error of an open connection is told with the close that follows it", () => {
  const world = new World();
  const channel = world.open();
  world.socket.onerror({ message: "read ECONNRESET" });
  assert.equal(channel.state, "open");
  world.socket.end();
  assert.deepEqual(channel.events.at(-1), ["state", "open", "waiting", 1006, "read ECONNRESET"]);
});

test("why an attempt failed is told where the WebSocket says it, as ws does", () => {
  const world = new World();
  const channel = world.channel();
  const events = eventsOf(channel);
  world.socket.onerror({ message: "Unexpected server response: 503" });
  world.sockets[0].end();
  const expected = ["state", "connecting", "waiting", 1006, "Unexpected server response: 503"];
  assert.deepEqual(events, [expected]);
});
