// What is made of texts: pieces of JSON, words for the shell, numbers with units.

/** Texts of more characters are not tried as JSON. */
export const JSON_LIMIT = 65_536;
const DEPTH = 32;
const TOKEN = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g;

/** Whether a text may be JSON that is worth laying out: an object or an array, and not too long. */
export function maybeJson(text) {
  return text.length <= JSON_LIMIT && /^\s*[[{]/.test(text);
}

/**
 * A JSON text laid out, as pairs of a kind and a piece of text; null if it is none.
 *
 * All pieces are as they were sent: numbers keep their digits, and names that come twice do so
 * here. Kinds are "name", "string", "number", "word" and "". Levels below the 32nd are not
 * indented further: a hostile text would be a million times as long.
 */
export function layOut(text) {
  if (!maybeJson(text) || !valid(text)) {
    return null;
  }
  const pieces = [];
  const tokens = text.match(TOKEN);
  let depth = 0;
  const line = () => `\n${"  ".repeat(Math.min(depth, DEPTH))}`;
  tokens.forEach((token, index) => {
    const empty = /^[[{]$/.test(tokens[index - 1] ?? "");
    if (token === "]" || token === "}") {
      depth--;
      pieces.push(["", empty ? token : line() + token]);
      return;
    }
    if (empty) {
      pieces.push(["", line()]);
    }
    if (token === "[" || token === "{") {
      depth++;
    }
    pieces.push([kind(token, tokens[index + 1]), spaced(token, line)]);
  });
  return pieces;
}

function valid(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function kind(token, next) {
  if (token[0] === '"') {
    return next === ":" ? "name" : "string";
  }
  if (/^[-\d]/.test(token)) {
    return "number";
  }
  return /^\w/.test(token) ? "word" : "";
}

function spaced(token, line) {
  if (token === ",") {
    return token + line();
  }
  return token === ":" ? ": " : token;
}

/** The beginning of a text as one line, with its line ends in sight. */
export function preview(text) {
  return text.slice(0, 500).replace(/\r\n|[\n\r\u2028\u2029]/g, "\u21b5 ").replace(/\t/g, "  ");
}

/** How many bytes a text has in UTF-8. */
export function size(text) {
  // Most are short, and counting them makes no garbage.
  return text.length > 256 ? ENCODER.encode(text).length : count(text);
}

const ENCODER = new TextEncoder();

function count(text) {
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0);
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return bytes;
}

/** A number of bytes for people. */
export function bytesText(bytes) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let index = 0;
  while (bytes >= 1000 && index < units.length - 1) {
    bytes /= 1024;
    index++;
  }
  return `${index === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${units[index]}`;
}

/** A count with commas. */
export function countText(count) {
  return COUNT.format(count);
}

const COUNT = new Intl.NumberFormat("en");

/** A count and its noun. */
export function plural(count, noun) {
  return `${countText(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** The time of day, of ms since 1970, with its milliseconds. */
export function timeText(at) {
  const date = new Date(at);
  const two = (number) => String(number).padStart(2, "0");
  const day = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  return `${day}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** A text as one word of a POSIX shell. */
export function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Linux takes no more in one argument of a command, in bytes; less, to be safe. */
const ARGUMENT = 100_000;

/** A command for a POSIX shell that POSTs a text to a URL, byte for byte; null if none can. */
export function curl(url, text) {
  if (text.includes("\0")) {
    return null; // No word of a shell can hold one.
  }
  // curl would take [1-9] and {a,b} in a URL for several URLs.
  const options = /[[\]{}]/.test(url) ? "--globoff " : "";
  if (size(text) > ARGUMENT) {
    return `printf %s ${quote(text)} | curl ${options}--data-binary @- ${quote(url)}`;
  }
  return `curl ${options}--data-raw ${quote(text)} ${quote(url)}`;
}
