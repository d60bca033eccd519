// Node's websockets, in a process that is told and tells in lines: see ../lines.py.
// The argument chooses between the package ws and what is built into Node 22.

import { createInterface } from "node:readline";

const builtIn = process.argv[2] === "built-in";
const Socket = builtIn ? WebSocket : (await import("ws")).WebSocket;
const sockets = new Map();

function tell(id, event, details = {}) {
  process.stdout.write(JSON.stringify({ id, event, ...details }) + "\n");
}

function connect(id, { url, subprotocols }) {
  const socket = new Socket(url, subprotocols);
  sockets.set(id, socket);
  socket.onopen = () =>
    tell(id, "open", { subprotocol: socket.protocol, extensions: socket.extensions });
  socket.onmessage = ({ data }) =>
    tell(id, typeof data === "string" ? "message" : "binary", { payload: `${data}` });
  socket.onerror = ({ message }) => tell(id, "error", { reason: message });
  socket.onclose = ({ code, wasClean }) => tell(id, "closed", { code: wasClean ? code : 1006 });
  if (!builtIn) {
    socket.on("pong", (data) => tell(id, "pong", { payload: `${data}` }));
  }
}

const commands = {
  text: (socket, { payload }) => socket.send(payload),
  binary: (socket, { payload }) => socket.send(Buffer.from(payload)),
  close: (socket) => socket.close(1000),
  drop: (socket) => (builtIn ? socket.close() : socket.terminate()),
};

if (!builtIn) {
  commands.ping = (socket, { payload }) => socket.ping(payload);
  commands.fragments = (socket, { payloads }) =>
    payloads.forEach((each, index) => socket.send(each, { fin: index === payloads.length - 1 }));
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, do: what, ...details } = JSON.parse(line);
  if (what === "connect") {
    connect(id, details);
  } else {
    commands[what](sockets.get(id), details);
  }
});
