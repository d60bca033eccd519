// How a program in TypeScript uses the client. What must not compile says so above its line.

import {
  Channel,
  type ChannelGapEvent,
  type ChannelOptions,
  type ChannelState,
  type PostError,
} from "pinghub";

const options: ChannelOptions = {
  minDelay: 500,
  maxDelay: 30_000,
  heartbeat: 0,
  deadline: 10_000,
  openTimeout: 10_000,
  maxBuffered: 65_536,
  token: async () => "token",
  tokenIn: "subprotocol",
  WebSocket,
  fetch,
  window: globalThis,
};
const channel: EventTarget = new Channel("/news");
const other = new Channel(new URL("https://bus.example/news"), options);
new Channel("/news", { token: "token" });
new Channel("/news", { token: () => null });

const state: ChannelState = other.state;
const numbers: number[] = [other.attempts, other.buffered];
const next: number | null = other.nextAttempt;
const url: string = other.url;

other.addEventListener("message", (event) => {
  const text: string = event.data;
  const at: number = event.receivedAt;
  // @ts-expect-error: a text is no number
  const wrong: number = event.data;
});
other.addEventListener("state", ({ state, previous, code, reason }) => {
  const states: ChannelState[] = [state, previous];
  const why: [number | undefined, string | undefined] = [code, reason];
});
const onGap = (event: ChannelGapEvent): void => console.log(new Date(event.since));
other.addEventListener("gap", onGap, { once: true });
other.removeEventListener("gap", onGap);
other.addEventListener("other", (event: Event) => console.log(event.type));
// @ts-expect-error: there is no such state
const closing: boolean = other.state === "closing";

const sent: boolean = other.publish("text");
// @ts-expect-error: not text
other.publish(new ArrayBuffer(1));
other
  .post("text", { signal: AbortSignal.timeout(5000) })
  .then((subscribers: number) => subscribers + 1)
  .catch((error: PostError) => console.log(error.status, error.message));
other.reconnect();
other.close();
other.close(3000, "reason");

// All members there are; tests/javascript/channel.test.js has the same list.
const members: Record<Exclude<keyof Channel, keyof EventTarget>, true> = {
  attempts: true,
  buffered: true,
  close: true,
  nextAttempt: true,
  post: true,
  publish: true,
  reconnect: true,
  state: true,
  url: true,
};

// @ts-expect-error: there is always a URL
new Channel();
// @ts-expect-error: there is no such place
new Channel("/news", { tokenIn: "cookie" });
// @ts-expect-error: there is no such option
new Channel("/news", { retries: 3 });
// @ts-expect-error: it changes by itself only
other.state = "open";
