// How a channel says who it is.

import assert from "node:assert/strict";
import { test } from "node:test";

import { World, turn } from "./world.js";

const URL_ = "wss://bus.example/news?a=1";

/** Where the tokens of all attempts went. */
function carried(world) {
  return world.sockets.map(({ url, protocols }) => [new URL(url).search, protocols]);
}

test("a string is in the query, with what else is there, and in no property", () => {
  const world = new World();
  const channel = world.channel({ token: "a.b-c_d" }, URL_);
  assert.deepEqual(carried(world), [["?a=1&token=a.b-c_d", []]]);
  assert.equal(channel.url, URL_);
});

test("it is encoded, and takes the place of one that is in the URL", () => {
  const world = new World();
  world.channel({ token: "a&b=c #d" }, "wss://bus.example/news?token=old");
  const { searchParams } = new URL(world.socket.url);
  assert.deepEqual(searchParams.getAll("token"), ["a&b=c #d"]);
});

test("it can be the subprotocol instead, and is not in the URL then", () => {
  const world = new World();
  world.channel({ token: "a.b.c", tokenIn: "subprotocol" }, URL_);
  assert.deepEqual(carried(world), [["?a=1", ["a.b.c"]]]);
});

for (const none of ["", null, undefined, () => "", async () => null]) {
  test(`no token: ${none}`, async () => {
    for (const tokenIn of ["query", "subprotocol"]) {
      const world = new World();
      world.channel({ token: none, tokenIn }, URL_);
      await turn();
      assert.deepEqual(carried(world), [["?a=1", []]]);
    }
  });
}

for (const [kind, wrap] of [
  ["a function", (value) => value],
  ["an async function", async (value) => value],
]) {
  test(`${kind} is asked before each attempt`, async () => {
    const world = new World();
    let asked = 0;
    world.channel({ token: () => wrap(`t${(asked += 1)}`) }, URL_);
    await turn();
    world.socket.end();
    assert.equal(asked, 1);
    world.advance(250);
    await turn();
    assert.deepEqual(carried(world), [["?a=1&token=t1", []], ["?a=1&token=t2", []]]);
  });
}

for (const [kind, fail] of [
  ["throws", () => { throw new Error("logged out"); }],
  ["rejects", async () => { throw new Error("logged out"); }],
  ["rejects with no Error", () => Promise.reject("logged out")],
]) {
  test(`a function that ${kind} is a failed attempt, and asked again`, async () => {
    const world = new World();
    const answers = [fail, fail, () => "t"];
    const channel = world.channel({ token: () => answers.shift()() }, URL_);
    await turn();
    assert.deepEqual(channel.events, [["state", "connecting", "waiting", 1006, "logged out"]]);
    assert.deepEqual([channel.attempts, world.delays], [1, [250]]);
    world.advance(250);
    await turn();
    assert.deepEqual([channel.attempts, world.delays, world.sockets.length], [2, [500], 0]);
    world.advance(500);
    await turn();
    assert.deepEqual(carried(world), [["?a=1&token=t", []]]);
  });
}

test("a function that rejects with nothing is a failed attempt too", async () => {
  const channel = new World().channel({ token: () => Promise.reject() });
  await turn();
  assert.deepEqual([channel.state, channel.attempts], ["waiting", 1]);
});

test("a token that cannot be a subprotocol is a failed attempt", async () => {
  const world = new World();
  const channel = world.channel({ token: "a b", tokenIn: "subprotocol" });
  await turn();
  assert.deepEqual([channel.state, channel.attempts], ["waiting", 1]);
});

test("openTimeout bounds the asking too, and what is answered later is ignored", async () => {
  const world = new World();
  const answers = [];
  const channel = world.channel({ token: () => new Promise((...both) => answers.push(both)) });
  world.advance(10_000);
  assert.deepEqual([channel.state, channel.attempts], ["waiting", 1]);
  world.advance(250);
  assert.equal(answers.length, 2);
  answers[0][0]("late");
  await turn();
  assert.deepEqual([channel.state, world.sockets.length], ["connecting", 0]);
  answers[1][0]("good");
  await turn();
  assert.equal(new URL(world.socket.url).search, "?token=good");
});

test("a late failure of an earlier asking is ignored", async () => {
  const world = new World();
  const answers = [];
  const channel = world.channel({ token: () => new Promise((...both) => answers.push(both)) });
  channel.reconnect();
  answers[0][1](new Error("late"));
  await turn();
  assert.deepEqual([channel.state, channel.attempts, channel.events], ["connecting", 0, []]);
});

test("a token that comes after close() opens nothing", async () => {
  const world = new World();
  let answer;
  const channel = world.channel({ token: () => new Promise((done) => { answer = done; }) });
  channel.close();
  answer("t");
  await turn();
  assert.deepEqual([channel.state, world.sockets.length, world.timers.size], ["closed", 0, 0]);
});
