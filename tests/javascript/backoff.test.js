// When a channel tries again.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BEGIN, World } from "./world.js";

/** The delays before the attempts of a channel whose server refuses so many of them in a row. */
function delays(chance, failures, options) {
  const world = new World();
  world.chance = chance;
  const channel = world.channel(options);
  const found = [];
  for (let failed = 1; failed <= failures; failed += 1) {
    world.socket.end();
    assert.deepEqual([channel.state, channel.attempts], ["waiting", failed]);
    assert.equal(world.timers.size, 1);
    found.push(world.delays[0]);
    world.advance(world.delays[0]);
    assert.equal(world.sockets.length, failed + 1);
  }
  return found;
}

const ALMOST = 1 - 2 ** -53; // The largest that Math.random() gives.

test("the delay is at most doubled with each failure, up to maxDelay", () => {
  const most = [499, 999, 1999, 3999, 7999, 15999, 29999, 29999, 29999];
  assert.deepEqual(delays(ALMOST, 9), most);
});

test("the delay is chosen at random from nothing to the most, all of it jitter", () => {
  assert.deepEqual(delays(0, 9), Array(9).fill(0));
  assert.deepEqual(delays(0.5, 8), [250, 500, 1000, 2000, 4000, 8000, 15000, 15000]);
});

test("minDelay and maxDelay set the first delay and the longest", () => {
  const options = { minDelay: 100, maxDelay: 350 };
  assert.deepEqual(delays(0.5, 4, options), [50, 100, 175, 175]);
});

test("after two thousand failures the delay is still the longest one", () => {
  assert.equal(delays(0.5, 2000).at(-1), 15000);
});

test("nothing is tried before the delay is over, and nextAttempt says when that is", () => {
  const world = new World();
  const channel = world.channel();
  assert.equal(channel.nextAttempt, null);
  world.advance(10);
  world.socket.end();
  assert.equal(channel.nextAttempt, BEGIN + 260);
  world.advance(249);
  assert.equal(world.sockets.length, 1);
  world.advance(1);
  assert.equal(world.sockets.length, 2);
  assert.deepEqual([channel.state, channel.nextAttempt], ["connecting", null]);
});

test("a connection that lasted for five seconds makes the next delay the smallest", () => {
  const world = new World();
  const channel = world.channel();
  for (let failed = 1; failed <= 5; failed += 1) {
    world.socket.end();
    world.advance(world.delays[0]);
  }
  world.socket.accept();
  world.advance(4999);
  assert.equal(channel.attempts, 5);
  world.advance(1);
  assert.equal(channel.attempts, 0);
  world.socket.end();
  assert.deepEqual([channel.attempts, world.delays], [1, [250]]);
});

for (const [name, code, greet] of [
  ["accepts and closes at once", 1006, () => {}],
  ["stops again and again", 1001, () => {}],
  ["accepts, says something and evicts", 1008, (socket) => socket.say("welcome")],
  ["answers a heartbeat and closes", 1000, (socket) => socket.say("")],
]) {
  test(`a server that ${name} is not hammered`, () => {
    const world = new World();
    const channel = world.channel();
    for (let lost = 1; lost <= 9; lost += 1) {
      world.socket.accept();
      greet(world.socket);
      world.advance(4000);
      world.socket.end(code, "go away");
      assert.deepEqual([channel.state, channel.attempts], ["waiting", lost]);
      assert.deepEqual(world.delays, [Math.min(15000, 250 * 2 ** (lost - 1))]);
      world.advance(world.delays[0]);
    }
  });
}

for (const code of [1000, 1001, 1006, 1008, 1009, 1011, 1012, 4000]) {
  test(`it reconnects after ${code}, which is in the event`, () => {
    const world = new World();
    const channel = world.open();
    world.advance(6000);
    world.socket.end(code, "because");
    assert.deepEqual(channel.events.at(-1), ["state", "open", "waiting", code, "because"]);
    world.advance(250);
    world.socket.accept();
    assert.equal(channel.state, "open");
  });
}

test("reconnect() tries at once while it waits, and failures go on being counted", () => {
  const world = new World();
  const channel = world.channel();
  world.socket.end();
  channel.reconnect();
  assert.deepEqual([world.sockets.length, channel.state], [2, "connecting"]);
  world.socket.end();
  assert.deepEqual([channel.attempts, world.delays], [2, [500]]);
});

test("reconnect() replaces an open connection, and an attempt", () => {
  const world = new World();
  const channel = world.open();
  world.advance(6000);
  const [first] = world.sockets;
  channel.reconnect();
  const [, second] = world.sockets;
  channel.reconnect();
  assert.deepEqual([first.closed, second.closed], [[1000, ""], [1000, ""]]);
  assert.deepEqual([channel.state, channel.attempts, world.sockets.length], ["connecting", 0, 3]);
  assert.equal(world.timers.size, 1);
});

test("a websocket that cannot even be made is a failed attempt, and tried again", async () => {
  const world = new World();
  class Refused {
    constructor() {
      world.sockets.push(this);
      throw new Error("SecurityError");
    }
  }
  const channel = world.channel({ WebSocket: Refused });
  await Promise.resolve();
  await Promise.resolve();
  assert.deepEqual(channel.events, [["state", "connecting", "waiting", 1006, "SecurityError"]]);
  world.advance(250);
  assert.equal(world.sockets.length, 2);
});

test("an attempt that does not open within openTimeout has failed", () => {
  const world = new World();
  const channel = world.channel();
  world.advance(9999);
  assert.equal(channel.state, "connecting");
  world.advance(1);
  assert.equal(channel.state, "waiting");
  assert.deepEqual(world.sockets[0].closed, [1000, ""]);
  assert.deepEqual(channel.events, [
    ["state", "connecting", "waiting", 1006, "It did not open within 10000 ms."],
  ]);
  world.advance(250);
  world.socket.accept();
  world.advance(15000);
  assert.equal(channel.state, "open");
});
