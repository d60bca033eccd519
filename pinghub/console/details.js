// One message in full.

import { bytesText, layOut, maybeJson, plural, timeText } from "./text.js";

/** Characters that are shown of a message before "Show all". */
const CUT = 10_000;

/**
 * The pane beside or below the list. JSON is laid out in it, until somebody asks for it as it was
 * sent; texts of more than 10 000 characters are cut, until somebody asks for all.
 */
export class Details {
  #pane;
  #entry = null;
  #all = false;
  #raw = false;

  /**
   * `pane` holds elements with the ids that page.html has; `copy(text)` puts a text on the
   * clipboard, and `close()` is called when its user is done.
   */
  constructor(pane, { copy, close }) {
    this.#pane = pane;
    this.#on("details-copy", () => copy(this.#entry.text));
    this.#on("details-close", close);
    this.#on("details-all", () => this.#redraw({ all: true }));
    this.#on("details-raw", () => this.#redraw({ raw: !this.#raw }));
  }

  /** Show an entry; nothing with null. */
  show(entry) {
    this.#entry = entry;
    this.#pane.hidden = entry === null;
    if (entry !== null) {
      this.#find("details-body").scrollTop = 0;
      this.#redraw({ all: false });
    }
  }

  #find(id) {
    return this.#pane.querySelector(`#${id}`);
  }

  #on(id, action) {
    this.#find(id).addEventListener("click", action);
  }

  #redraw({ all = this.#all, raw = this.#raw }) {
    this.#all = all;
    this.#raw = raw;
    const { at, bytes, text, note } = this.#entry;
    const json = maybeJson(text) && !note ? layOut(text) : null;
    const pieces = raw || json === null ? [["", text]] : json;
    const length = pieces.reduce((sum, [, piece]) => sum + piece.length, 0);
    this.#find("details-about").textContent = `${timeText(at)}${note ? "" : `, ${bytesText(bytes)}`}`;
    this.#find("details-raw").hidden = json === null;
    this.#find("details-raw").textContent = raw ? "Lay out" : "As sent";
    this.#find("details-all").hidden = all || length <= CUT;
    this.#find("details-all").textContent = `Show all ${plural(length, "character")}`;
    this.#find("details-body").replaceChildren(...nodes(pieces, all ? Infinity : CUT));
  }
}

/** What to show for pieces of text, up to so many characters; all of it is text, never markup. */
function nodes(pieces, limit) {
  const made = [];
  for (const [kind, piece] of pieces) {
    if (limit <= 0) {
      return [...made, "\u2026"];
    }
    made.push(node(kind, piece.slice(0, limit)));
    limit -= piece.length;
  }
  return limit < 0 ? [...made, "\u2026"] : made;
}

function node(kind, text) {
  if (kind === "") {
    return text;
  }
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = text;
  return span;
}
