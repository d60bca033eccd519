// Publishing by POST.

import assert from "node:assert/strict";
import { test } from "node:test";

import { World } from "./world.js";

/** A fetch that answers this, and remembers what it was asked. */
function answering(body, { count = "3", counted = "Pinghub-Subscribers", ...init } = {}) {
  const headers = count === null ? {} : { [counted]: count };
  const fetch = async (url, request) => {
    fetch.asked.push([url, request]);
    return new Response(body, { headers, ...init });
  };
  fetch.asked = [];
  return fetch;
}

test("post() publishes with fetch, and resolves to the number of subscribers", async () => {
  const fetch = answering("OK\n");
  const channel = new World().channel({ fetch }, "wss://bus.example/news?a=1");
  assert.equal(await channel.post("hello"), 3);
  const [[url, request]] = fetch.asked;
  assert.equal(url, "https://bus.example/news?a=1");
  const expected = { method: "POST", body: "hello", headers: {}, signal: undefined };
  assert.deepEqual(request, expected);
});

test("with a backplane it resolves to the number of servers", async () => {
  const fetch = answering("OK\n", { counted: "Pinghub-Servers", count: "2" });
  assert.equal(await new World().channel({ fetch }).post("hello"), 2);
});

test("nobody subscribed is no error", async () => {
  const channel = new World().channel({ fetch: answering("OK\n", { count: "0" }) });
  assert.equal(await channel.post("hello"), 0);
});

test("it works in every state, and changes none", async () => {
  const world = new World();
  const channel = world.channel({ fetch: answering("OK\n") });
  world.socket.end();
  assert.equal(await channel.post("waiting"), 3);
  channel.close();
  assert.equal(await channel.post("closed"), 3);
  assert.deepEqual([channel.state, world.timers.size], ["closed", 0]);
});

test("what it is given becomes text", async () => {
  const fetch = answering("OK\n");
  await new World().channel({ fetch }).post(7);
  assert.equal(fetch.asked[0][1].body, "7");
});

test("a refusal rejects with its status, and the server's line as message", async () => {
  const fetch = answering("The body has more than 65536 bytes.\n", { status: 413, count: null });
  await assert.rejects(new World().channel({ fetch }).post("x"), (error) => {
    assert.ok(error instanceof Error);
    assert.deepEqual([error.status, error.message], [413, "The body has more than 65536 bytes."]);
    return true;
  });
});

for (const [name, body, message] of [
  ["a page of a proxy", `<html>${"x".repeat(1000)}\n</html>`, `<html>${"x".repeat(194)}`],
  ["nothing", "", "Status 502"],
]) {
  test(`of ${name} the message is short`, async () => {
    const fetch = answering(body, { status: 502, count: null });
    await assert.rejects(new World().channel({ fetch }).post("x"), { status: 502, message });
  });
}

test("an answer without the number is not Pinghub's, whatever it says", async () => {
  const fetch = answering("Welcome!", { count: null });
  const error = { status: 200, message: "The answer is not Pinghub's." };
  await assert.rejects(new World().channel({ fetch }).post("x"), error);
});

test("no answer rejects with status 0, and the cause", async () => {
  const cause = new TypeError("Failed to fetch");
  const channel = new World().channel({ fetch: () => Promise.reject(cause) });
  await assert.rejects(channel.post("x"), { status: 0, message: "Failed to fetch", cause });
});

test("an answer that breaks off after its head has the number nevertheless", async () => {
  const body = new ReadableStream({ start: (stream) => stream.error(new Error("reset")) });
  assert.equal(await new World().channel({ fetch: answering(body) }).post("x"), 3);
});

test("a signal is passed on", async () => {
  const signal = AbortSignal.abort(new Error("too slow"));
  const fetch = async (url, request) => request.signal.throwIfAborted();
  const channel = new World().channel({ fetch });
  await assert.rejects(channel.post("x", { signal }), { status: 0, message: "too slow" });
});

test("the token is in the query, or in Authorization instead of a subprotocol", async () => {
  for (const token of ["t", () => "t", async () => "t"]) {
    const fetch = answering("OK\n");
    const world = new World();
    await world.channel({ fetch, token }, "wss://bus.example/a?b=c").post("x");
    const tokenIn = "subprotocol";
    await world.channel({ fetch, token, tokenIn }, "wss://bus.example/a?b=c").post("x");
    assert.deepEqual(fetch.asked.map(([url, { headers }]) => [url, headers]), [
      ["https://bus.example/a?b=c&token=t", {}],
      ["https://bus.example/a?b=c", { Authorization: "Bearer t" }],
    ]);
  }
});

test("without a token to be had nothing is published", async () => {
  const fetch = answering("OK\n");
  const token = async () => { throw new Error("logged out"); };
  const channel = new World().channel({ fetch, token });
  await assert.rejects(channel.post("x"), { status: 0, message: "logged out" });
  assert.deepEqual(fetch.asked, []);
});
