// A list of any length, of which only the rows in sight exist.

const OVERSCAN = 8;

/**
 * Rows of one height in a box that scrolls: a listbox with one choice.
 *
 * It follows the end until its user scrolls up, and again once they are back there. While it does
 * not, what is in sight stays there, whatever is added at the end or dropped at the beginning.
 */
export class List {
  /** Whether new rows scroll into sight. */
  following = true;
  /** The entry that is chosen, or null. */
  chosen = null;
  #box;
  #sizer;
  #rows;
  #entries;
  #hooks;
  #height = 28;
  #shifted = 0;
  #top = 0;

  /**
   * `box` is the element that scrolls; in it is one that has the height of all rows, in that one
   * the rows. `entries` is a Deque of entries with growing ids. Of the hooks, `row()` makes an
   * element, `fill(row, entry)` writes an entry into it, `choose(entry)` is told of a choice, and
   * `change()` that `render()` is to be called.
   */
  constructor(box, entries, hooks) {
    this.#box = box;
    this.#sizer = box.firstElementChild;
    this.#rows = this.#sizer.firstElementChild;
    this.#entries = entries;
    this.#hooks = hooks;
    box.addEventListener("scroll", () => this.#scrolled());
    box.addEventListener("keydown", (event) => this.#key(event));
    box.addEventListener("click", (event) => this.#click(event));
    new ResizeObserver(() => hooks.change()).observe(box);
  }

  /** Bring the rows in sight up to date. */
  render() {
    this.#measure();
    this.#scroll();
    const total = this.#entries.length;
    const first = Math.max(0, Math.floor(this.#box.scrollTop / this.#height) - OVERSCAN);
    const sight = Math.ceil(this.#box.clientHeight / this.#height) + 2 * OVERSCAN;
    const count = Math.max(0, Math.min(total - first, sight));
    this.#rows.style.transform = `translateY(${first * this.#height}px)`;
    this.#make(count);
    for (let index = 0; index < count; index++) {
      this.#fill(this.#rows.children[index], first + index);
    }
    this.#point();
  }

  /** Show the end, and follow it. */
  follow() {
    this.following = true;
    this.#hooks.change();
  }

  /** Choose an entry; none with null. */
  choose(entry) {
    this.chosen = entry;
    this.#hooks.choose(entry);
    this.#hooks.change();
  }

  #measure() {
    const row = this.#rows.firstElementChild;
    this.#height = row?.getBoundingClientRect().height || this.#height;
  }

  #scroll() {
    this.#sizer.style.height = `${this.#entries.length * this.#height}px`;
    const gone = this.#entries.shifted - this.#shifted;
    this.#shifted = this.#entries.shifted;
    if (this.following) {
      this.#box.scrollTop = this.#box.scrollHeight;
    } else if (gone > 0) {
      this.#box.scrollTop -= gone * this.#height;
    }
    this.#top = this.#box.scrollTop;
  }

  #make(count) {
    while (this.#rows.childElementCount < count) {
      this.#rows.append(this.#hooks.row());
    }
    while (this.#rows.childElementCount > count) {
      this.#rows.lastElementChild.remove();
    }
  }

  #fill(row, index) {
    const entry = this.#entries.at(index);
    row.ariaPosInSet = index + 1;
    row.ariaSetSize = this.#entries.length;
    row.ariaSelected = entry === this.chosen;
    if (row.entry !== entry) {
      row.entry = entry;
      row.id = `row-${entry.id}`;
      this.#hooks.fill(row, entry);
    }
  }

  /** Tell assistive technology which row is chosen, if it exists. */
  #point() {
    const row = [...this.#rows.children].find((each) => each.entry === this.chosen);
    if (row) {
      this.#box.setAttribute("aria-activedescendant", row.id);
    } else {
      this.#box.removeAttribute("aria-activedescendant");
    }
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#box;
    // Fractions of a pixel are lost where a page is zoomed.
    const atEnd = scrollHeight - clientHeight - scrollTop < 2;
    // This may be about a place from before the box became smaller: nobody has scrolled up then.
    this.following = atEnd || (this.following && scrollTop > this.#top - 1);
    this.#top = scrollTop;
    this.#hooks.change();
  }

  #click(event) {
    const row = event.target.closest("[role=option]");
    if (row) {
      this.choose(row.entry);
    }
  }

  #key(event) {
    const total = this.#entries.length;
    const place = this.chosen === null ? total : this.#place(this.chosen.id);
    const places = { ArrowUp: place - 1, ArrowDown: place + 1, Home: 0, End: total - 1 };
    if (event.key in places && total > 0 && !event.ctrlKey && !event.altKey && !event.metaKey) {
      event.preventDefault();
      this.#go(Math.max(0, Math.min(total - 1, places[event.key])));
    }
  }

  /** Choose the row at a place, and have it in sight. */
  #go(place) {
    const top = place * this.#height;
    const room = this.#box.clientHeight - this.#height;
    this.#box.scrollTop = Math.min(top, Math.max(this.#box.scrollTop, top - room));
    this.choose(this.#entries.at(place));
  }

  /** Where the entry with an id is, or the first one behind it. */
  #place(id) {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#entries.at(middle).id < id) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
}
