// The table of workers. Only the rows that can be seen exist, whatever the number of workers.
//
// The rows' place is kept by worker, so that a changed order moves rows rather than rewriting them.

import { el, mark } from "./dom.js";
import { COLUMNS, Row } from "./row.js";

/** Rows beyond the window's edges, so that scrolling meets no blank. */
const SPARE = 4;

export class Table {
  /** `head`, `body` and `grid` are the page's; `onSort` gets a column, `onOpen` a worker's id. */
  constructor({ head, body, grid, onSort, onOpen }) {
    Object.assign(this, { head, body, grid, list: [], rows: new Map(), spare: [], made: 0, selected: "" });
    this.sorters = new Map(COLUMNS.map(([key, title]) => [key, this.#heading(key, title, onSort)]));
    body.addEventListener("click", ({ target }) => {
      const row = this.#rowOf(target.closest(".row"));
      if (row) onOpen(row.shown.id);
    });
    this.measure();
    new ResizeObserver(() => this.measure()).observe(grid);
    addEventListener("scroll", () => this.onScroll?.(), { passive: true });
  }

  #heading(key, title, onSort) {
    const button = el("button", { type: "button", onclick: () => onSort(key) }, title);
    const heading = el("div", { class: `cell c-${key}`, role: "columnheader" }, button);
    this.head.append(heading);
    return heading;
  }

  #rowOf(node) {
    return node && [...this.rows.values()].find((row) => row.node === node);
  }

  /** The height of a row depends on the room there is. */
  measure() {
    const height = Number.parseFloat(getComputedStyle(this.body).getPropertyValue("--row"));
    if (height !== this.height) {
      this.height = height;
      this.onScroll?.();
    }
  }

  /** Says by which column it is sorted. */
  showSort(sort) {
    for (const [key, heading] of this.sorters) {
      const direction = { [key]: "ascending", [`-${key}`]: "descending" }[sort] ?? null;
      mark(heading, "aria-sort", direction);
    }
  }

  /** Shows what of the list is within the window. */
  show(list, hives, now) {
    this.list = list;
    const top = this.body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / this.height) - SPARE);
    const last = Math.min(list.length, Math.ceil((innerHeight - top) / this.height) + SPARE);
    const height = `${list.length * this.height}px`;
    if (this.body.style.height !== height) this.body.style.height = height;
    mark(this.grid, "aria-rowcount", String(list.length + 1));
    const seen = new Map();
    for (let i = first; i < last; i += 1) seen.set(list[i].id, i);
    for (const [id, row] of this.rows) if (!seen.has(id)) this.#put(id, row);
    for (const [id, i] of seen) {
      const row = this.rows.get(id) ?? this.#take(id);
      row.place(i, this.height);
      row.show(list[i], hives.get(list[i].hive), now);
      mark(row.node, "aria-selected", String(id === this.selected));
    }
    this.#tellSelected();
  }

  #take(id) {
    const row = this.spare.pop() ?? new Row((this.made += 1));
    this.rows.set(id, row);
    if (!row.node.isConnected) this.body.append(row.node);
    row.node.hidden = false;
    return row;
  }

  #put(id, row) {
    this.rows.delete(id);
    row.node.hidden = true;
    row.key = "";
    this.spare.push(row);
  }

  #tellSelected() {
    mark(this.grid, "aria-activedescendant", this.rows.get(this.selected)?.node.id ?? null);
  }

  /** Selects the row `by` rows further, or the first or last with ±Infinity; tells its worker's id. */
  move(by) {
    if (!this.list.length) return "";
    const at = this.list.findIndex(({ id }) => id === this.selected);
    const wanted = at < 0 && Number.isFinite(by) ? 0 : at + by;
    this.select(this.list[Math.min(Math.max(wanted, 0), this.list.length - 1)].id);
    return this.selected;
  }

  /** Selects a worker's row and brings it into view. */
  select(id) {
    this.selected = id;
    const at = this.list.findIndex((worker) => worker.id === id);
    if (at < 0) return;
    const top = this.body.getBoundingClientRect().top + at * this.height;
    const ceiling = this.head.getBoundingClientRect().bottom;
    if (top < ceiling) scrollBy(0, top - ceiling);
    else if (top + this.height > innerHeight) scrollBy(0, top + this.height - innerHeight);
    this.onScroll?.();
  }
}
