// How a program in TypeScript uses the client in Node, where there are no types of browsers.

import { Channel } from "pinghub";

const channel = new Channel("ws://localhost:8081/news", { WebSocket, fetch });
channel.addEventListener("message", (event) => console.log(event.data.length));
channel.addEventListener("other", { handleEvent: (event: Event) => console.log(event.type) });
const subscribers: number = await channel.post("text", { signal: AbortSignal.timeout(5000) });
// @ts-expect-error: there is no document here
console.log(document);
