// How a channel notices that its connection is dead.

import assert from "node:assert/strict";
import { test } from "node:test";

import { World } from "./world.js";

const REASON = "Nothing came within 10000 ms of a heartbeat.";
const UNANSWERED = ["state", "open", "waiting", 1006, REASON];

test("a heartbeat is sent when nothing was received for 20 s, and not before", () => {
  const world = new World();
  world.open();
  world.advance(19_999);
  assert.deepEqual(world.socket.sent, []);
  world.advance(1);
  assert.deepEqual(world.socket.sent, [""]);
});

test("messages put the heartbeat off", () => {
  const world = new World();
  world.open();
  world.advance(15_000);
  world.socket.say("news");
  world.advance(19_999);
  assert.deepEqual(world.socket.sent, []);
  world.advance(1);
  assert.deepEqual(world.socket.sent, [""]);
});

test("what is published does not: only what arrives is a sign of life", () => {
  const world = new World();
  const channel = world.open();
  world.advance(19_000);
  channel.publish("hello");
  world.advance(1000);
  assert.deepEqual(world.socket.sent, ["hello", ""]);
});

test("a connection that does not answer within the deadline is given up and opened again", () => {
  const world = new World();
  const channel = world.open();
  world.advance(29_999);
  assert.equal(channel.state, "open");
  world.advance(1);
  assert.deepEqual(channel.events.at(-1), UNANSWERED);
  assert.deepEqual(world.sockets[0].closed, [1000, ""]);
  world.advance(250);
  assert.equal(world.sockets.length, 2);
});

for (const [name, text] of [
  ["its answer", ""],
  ["any message", "news"],
]) {
  test(`${name} within the deadline is life, and the next heartbeat is 20 s later`, () => {
    const world = new World();
    const channel = world.open();
    world.advance(20_000 + 9_999);
    world.socket.say(text);
    world.advance(19_999);
    assert.deepEqual([channel.state, world.socket.sent], ["open", [""]]);
    world.advance(1);
    assert.deepEqual([channel.state, world.socket.sent], ["open", ["", ""]]);
    world.advance(10_000);
    assert.equal(channel.state, "waiting");
  });
}

test("the empty answer is no message", () => {
  const world = new World();
  const channel = world.open();
  world.socket.say("one");
  world.socket.say("");
  world.socket.say("two");
  const messages = channel.events.filter(([type]) => type === "message");
  assert.deepEqual(messages, [["message", "one"], ["message", "two"]]);
});

test("heartbeat and deadline are options, and count from the next connection anew", () => {
  const world = new World();
  const channel = world.open({ heartbeat: 100, deadline: 50 });
  world.advance(149);
  assert.deepEqual([world.socket.sent, channel.state], [[""], "open"]);
  world.advance(1);
  assert.equal(channel.state, "waiting");
  world.advance(250);
  world.socket.accept();
  world.advance(99);
  assert.deepEqual(world.socket.sent, []);
  world.advance(51);
  assert.equal(channel.state, "waiting");
});

test("a heartbeat that is shorter than the deadline is kept once there was an answer", () => {
  const world = new World();
  const channel = world.open({ heartbeat: 20, deadline: 10_000 });
  for (let count = 1; count <= 5; count += 1) {
    world.advance(20);
    assert.equal(world.socket.sent.length, count);
    world.socket.say("");
  }
  world.advance(20 + 9_999);
  assert.deepEqual([channel.state, world.socket.sent.length], ["open", 6]);
  world.advance(1);
  assert.equal(channel.state, "waiting");
});

test("heartbeat 0 sends none, and never gives up", () => {
  const world = new World();
  const channel = world.open({ heartbeat: 0 });
  world.setVisible(true);
  world.setOnline(false);
  world.advance(86_400_000);
  assert.deepEqual([channel.state, world.socket.sent, world.timers.size], ["open", [], 0]);
});

test("a page that slept asks again, once, before it gives up", () => {
  const world = new World();
  const channel = world.open();
  world.advance(20_000);
  world.sleep(3_600_000);
  world.advance(0); // The timers that are due, before what the network has brought.
  assert.deepEqual([channel.state, world.socket.sent], ["open", ["", ""]]);
  world.socket.say("");
  world.advance(20_000);
  assert.deepEqual([channel.state, world.socket.sent], ["open", ["", "", ""]]);
});

test("a timer that is late by a second is only late", () => {
  for (const [late, state] of [[1000, "waiting"], [1001, "open"]]) {
    const world = new World();
    const channel = world.open();
    world.advance(20_000);
    world.sleep(10_000 + late);
    world.advance(0);
    assert.equal(channel.state, state);
  }
});

test("a dead connection is given up though every timer is late, as in hidden pages", () => {
  const world = new World();
  const channel = world.open();
  world.sleep(60_000);
  world.advance(0);
  world.sleep(60_000);
  world.advance(0);
  assert.deepEqual([channel.state, world.socket.sent], ["open", ["", ""]]);
  world.sleep(60_000);
  world.advance(0);
  assert.deepEqual(channel.events.at(-1), UNANSWERED);
});

test("a change of the system's time neither delays nor hastens heartbeats", () => {
  for (const hours of [-5, 5]) {
    const world = new World();
    const channel = world.open();
    world.setClock(hours * 3_600_000);
    world.advance(19_999);
    assert.deepEqual(world.socket.sent, []);
    world.advance(1);
    assert.deepEqual(world.socket.sent, [""]);
    world.advance(10_000);
    assert.equal(channel.state, "waiting");
  }
});

test("ten thousand messages set no timer each", () => {
  const world = new World();
  world.open();
  world.advance(20_000);
  world.socket.say(""); // Once there was a heartbeat, too.
  let set = 0;
  const { setTimeout } = world;
  world.setTimeout = (...args) => {
    set += 1;
    return setTimeout.apply(world, args);
  };
  for (let count = 0; count < 10_000; count += 1) {
    world.socket.say("news");
    world.advance(1);
  }
  assert.equal(set, 0);
  assert.equal(world.timers.size, 1);
});
