// What a channel makes of what the browser tells: no network, a page that is shown again.

import assert from "node:assert/strict";
import { test } from "node:test";

import { World } from "./world.js";

/** A channel that waits for its next attempt. */
function waiting(world) {
  const channel = world.channel();
  world.socket.end();
  assert.equal(channel.state, "waiting");
  return channel;
}

test("offline while it waits: no attempt until the browser is online, then one at once", () => {
  const world = new World();
  const channel = waiting(world);
  world.setOnline(false);
  assert.deepEqual(channel.events.at(-1), ["state", "waiting", "offline"]);
  assert.deepEqual([channel.nextAttempt, world.timers.size], [null, 0]);
  world.advance(86_400_000);
  assert.equal(world.sockets.length, 1);
  world.setOnline(true);
  assert.deepEqual([world.sockets.length, channel.state], [2, "connecting"]);
});

test("an attempt that fails while offline is not repeated until the browser is online", () => {
  const world = new World();
  const channel = world.channel();
  world.setOnline(false);
  assert.equal(channel.state, "connecting");
  world.socket.end();
  assert.deepEqual(channel.events, [["state", "connecting", "offline", 1006, ""]]);
  assert.equal(world.timers.size, 0);
  world.setOnline(true);
  world.socket.accept();
  assert.equal(channel.state, "open");
});

test("a channel made offline tries once: the server may be on this machine", () => {
  const world = new World();
  world.navigator.onLine = false;
  const channel = world.channel();
  assert.equal(world.sockets.length, 1);
  world.socket.accept();
  assert.equal(channel.state, "open");
});

test("offline while open: the connection is asked, and kept if it answers", () => {
  const world = new World();
  const channel = world.open();
  world.advance(5000);
  world.setOnline(false);
  assert.deepEqual(world.socket.sent, [""]);
  world.socket.say("");
  world.advance(10_000);
  assert.deepEqual([channel.state, world.sockets.length], ["open", 1]);
});

test("offline while open: a connection that does not answer is given up, until online", () => {
  const world = new World();
  const channel = world.open();
  world.setOnline(false);
  world.advance(10_000);
  assert.equal(channel.state, "offline");
  world.advance(86_400_000);
  assert.equal(world.sockets.length, 1);
  world.setOnline(true);
  assert.equal(world.sockets.length, 2);
});

test("online while it waits: an attempt at once", () => {
  const world = new World();
  waiting(world);
  world.setOnline(true);
  assert.equal(world.sockets.length, 2);
});

test("the page is shown while it waits: an attempt at once; hidden: none", () => {
  const world = new World();
  waiting(world);
  world.setVisible(false);
  assert.equal(world.sockets.length, 1);
  world.setVisible(true);
  assert.equal(world.sockets.length, 2);
  world.setVisible(true);
  assert.equal(world.sockets.length, 2, "an attempt is under way");
});

test("the page is shown while offline: an attempt only if the browser is online by now", () => {
  const world = new World();
  const channel = waiting(world);
  world.setOnline(false);
  world.setVisible(true);
  assert.deepEqual([channel.state, world.sockets.length], ["offline", 1]);
  world.navigator.onLine = true;
  world.setVisible(true);
  assert.deepEqual([channel.state, world.sockets.length], ["connecting", 2]);
});

test("reconnect() tries although the browser is offline", () => {
  const world = new World();
  const channel = waiting(world);
  world.setOnline(false);
  channel.reconnect();
  world.socket.accept();
  assert.equal(channel.state, "open");
});

for (const [name, wake] of [
  ["shown", (world) => world.setVisible(true)],
  ["online", (world) => world.setOnline(true)],
]) {
  test(`${name} while open: it is asked whether it still works, and given up if not`, () => {
    const world = new World();
    const channel = world.open();
    wake(world);
    assert.deepEqual([channel.state, world.socket.sent], ["open", [""]]);
    world.advance(10_000);
    assert.equal(channel.state, "waiting");
  });

  test(`${name} while open: it is asked each time, once it has answered the time before`, () => {
    const world = new World();
    world.open();
    for (let count = 1; count <= 3; count += 1) {
      wake(world);
      assert.equal(world.socket.sent.length, count);
      world.socket.say("");
    }
  });

  test(`${name} again and again does not put the deadline off`, () => {
    const world = new World();
    const channel = world.open();
    for (let second = 0; second < 10; second += 1) {
      wake(world);
      world.advance(1000);
    }
    assert.deepEqual([channel.state, world.sockets[0].sent], ["waiting", [""]]);
  });
}

test("where there is no page, as in Node, there is nothing to hear, and nothing breaks", () => {
  const world = new World();
  for (const name of ["document", "location", "navigator"]) {
    world[name] = undefined;
  }
  world.addEventListener = world.removeEventListener = undefined;
  const channel = world.open();
  world.socket.end();
  assert.equal(channel.state, "waiting");
  world.advance(250);
  world.socket.accept();
  assert.equal(channel.state, "open");
  channel.close();
  assert.equal(channel.state, "closed");
});
