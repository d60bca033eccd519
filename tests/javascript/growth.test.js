// What a channel costs after a long time. Run with --expose-gc.

import assert from "node:assert/strict";
import { test } from "node:test";

import { World, turn } from "./world.js";

/** Loses the connection so many times, in each way that there is, and is open again. */
async function lose(world, channel, times) {
  for (let count = 0; count < times; count += 1) {
    const ways = [
      () => world.socket.end(1001, "restart"),
      () => channel.reconnect(),
      () => world.advance(20_000 + 10_000),
      () => {
        world.socket.end();
        world.setOnline(false);
        world.setOnline(true);
      },
    ];
    world.socket.say("news");
    ways[count % ways.length]();
    world.advance(world.timers.size && channel.state === "waiting" ? world.delays[0] : 0);
    await Promise.resolve();
    await Promise.resolve();
    world.socket.accept();
    assert.equal(channel.state, "open");
  }
}

test("a thousand reconnects leave one timer, three listeners and one websocket", async () => {
  const world = new World();
  const channel = world.channel({ token: async () => "t" });
  await turn();
  world.socket.accept();
  await lose(world, channel, 1000);
  assert.equal(world.sockets.length, 1001);
  assert.deepEqual([world.timers.size, world.listeners, world.document.listeners], [1, 2, 1]);
  assert.equal(world.sockets.filter(({ listeners }) => listeners > 0).length, 1);
  assert.equal(world.sockets.filter(({ readyState }) => readyState < 2).length, 1);
  channel.close();
  assert.deepEqual([world.timers.size, world.listeners, world.document.listeners], [0, 0, 0]);
});

test("a thousand reconnects leave nothing on the heap", async () => {
  const world = new World();
  const channel = world.open();
  const used = async () => {
    await lose(world, channel, 1000);
    world.sockets.splice(0, world.sockets.length - 1);
    channel.events.length = 0;
    await turn();
    gc();
    return process.memoryUsage().heapUsed;
  };
  const rounds = [];
  for (let round = 0; round < 12; round += 1) {
    rounds.push(await used());
  }
  // What the engine itself keeps comes and goes, up to 1 MB; what leaks stays.
  const [early, late] = [rounds.slice(2, 7), rounds.slice(7)].map((some) => Math.min(...some));
  const each = (late - early) / 5000;
  assert.ok(each < 100, `${each} bytes for each`);
});

test("a channel that was closed can be collected, and its websocket with it", async () => {
  const world = new World();
  const references = [];
  (() => {
    const channel = world.open();
    references.push(new WeakRef(channel), new WeakRef(world.socket));
    channel.close();
    world.sockets.length = 0;
  })();
  await turn();
  gc();
  assert.deepEqual(references.map((each) => each.deref()), [undefined, undefined]);
});
