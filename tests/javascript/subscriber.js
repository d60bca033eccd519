// Channels in a process that is told and tells in lines, as in ../clients/lines.py.
// The argument is the WebSocket: "built-in", or the path of the package ws.

import { createInterface } from "node:readline";

import { Channel } from "../../pinghub/console/pinghub.js";

const where = process.argv[2];
const Socket = where === "built-in" ? WebSocket : (await import(where)).default;
const channels = new Map();

function tell(id, event, details = {}) {
  process.stdout.write(JSON.stringify({ id, event, ...details }) + "\n");
}

/** The WebSocket, which also tells what channels keep to themselves: subprotocols, heartbeats. */
function told(id) {
  return class extends Socket {
    constructor(...args) {
      super(...args);
      this.addEventListener("open", ({ target: { protocol } }) => {
        if (protocol) {
          tell(id, "agreed", { protocol });
        }
      });
      this.addEventListener("message", ({ data }) => data === "" && tell(id, "answered"));
    }
  };
}

const commands = {
  connect(id, { url, options }) {
    const channel = new Channel(url, { WebSocket: told(id), ...options });
    channels.set(id, channel);
    channel.addEventListener("state", ({ state, code, reason }) =>
      tell(id, state, { code, reason }),
    );
    channel.addEventListener("message", ({ data }) => tell(id, "message", { payload: data }));
    channel.addEventListener("gap", ({ since }) => tell(id, "gap", { since }));
  },
  publish(id, { payload }) {
    if (!channels.get(id).publish(payload)) {
      tell(id, "refused");
    }
  },
  post(id, { payload }) {
    channels.get(id).post(payload).then(
      (subscribers) => tell(id, "posted", { subscribers }),
      ({ status, message }) => tell(id, "failed", { status, message }),
    );
  },
  reconnect: (id) => channels.get(id).reconnect(),
  close: (id, { code, reason }) => channels.get(id).close(code, reason),
  // With nothing left to wait for, a process of Node ends by itself.
  end() {
    lines.close();
    process.stdin.destroy();
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const { id, do: what, ...details } = JSON.parse(line);
  commands[what](id, details);
});
