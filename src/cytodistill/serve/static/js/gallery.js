/** The gallery: cells by what most deserves a look, walked with the arrow keys, reviewed without being opened. */

import { attempt } from "./announce.js";
import { card } from "./card.js";
import { CellList } from "./cells.js";
import { byId, fill, h } from "./dom.js";
import { filters } from "./filters.js";
import { bind } from "./keyboard.js";
import { accept, classKeys, classOfKey, correct, undo } from "./reviewing.js";
import { addView, arrive } from "./router.js";
import { Signal } from "./signal.js";
import { list, looked } from "./state.js";
import { counted } from "./words.js";

/** Whether cells came or went since the gallery asked. */
const stale = new Signal(false);
const NARROW = matchMedia("(max-width: 48rem)");

export function startGallery() {
  const gallery = new Gallery(byId("gallery"));
  addView("", gallery);
}

class Gallery {
  id = "gallery";
  /** @type {CellList|null} */
  #list = null;
  /** @type {CellList|null} what was asked for last; answers to older questions come too late */
  #asked = null;
  /** @type {(() => void)[]} */
  #ends = [];
  /** @type {Map<string, {cell: object, item: HTMLElement}>} */
  #items = new Map();
  #grid = h("ul", { class: "grid", "aria-label": "Cells" });
  #count = h("p", { class: "count", role: "status" });
  #heading = h("h1", { tabindex: -1 }, "Cells");
  #more = h("button", { type: "button", class: "more" }, "Show more");
  #news = h("button", { type: "button", hidden: true, onclick: () => attempt(() => this.load()) }, "Cells have changed: show them");
  #empty = h("div", { class: "empty", hidden: true });
  /** @type {string|null} cell that has, or gets, the focus */
  #at = null;

  /** @param {HTMLElement} section */
  constructor(section) {
    this.filters = filters(() => attempt(() => this.load()));
    const fold = h("details", { class: "fold", open: !NARROW.matches }, h("summary", {}, "Order and filter"), this.filters.form);
    fill(
      section,
      h("div", { class: "head" }, this.#heading, this.#news, this.#count),
      h("div", { class: "split" }, fold, h("div", {}, this.#grid, this.#empty, h("p", { class: "ends" }, this.#more))),
    );
    stale.watch((changed) => {
      this.#news.hidden = !changed;
      // Nobody is disturbed where there is nothing to look at yet.
      if (changed && this.#list?.cells.length === 0 && !section.hidden) attempt(() => this.load());
    });
    this.#more.addEventListener("click", () => attempt(() => this.#extend()));
    this.#grid.addEventListener("keydown", (event) => this.#walk(event));
    this.#grid.addEventListener("focusin", (event) => this.#mark(idOf(event.target)));
    // Near the end the next page is on its way before anyone has to ask.
    new IntersectionObserver((seen) => {
      if (seen.some((one) => one.isIntersecting) && !this.#more.hidden) attempt(() => this.#list?.more());
    }, { rootMargin: "400px" }).observe(this.#more);
  }

  async show() {
    const back = this.#list && list.value !== this.#list;
    if (this.#list && back) list.set(this.#list);
    this.#ends = [bind(this.#keys())];
    arrive("Cells");
    if (!this.#list || stale.value) await this.load();
    if (looked.value && this.#link(looked.value)) this.#mark(looked.value);
    looked.set(null);
    if (this.#at) this.#link(this.#at)?.focus();
  }

  hide() {
    for (const end of this.#ends) end();
  }

  /** Ask again, from the top. */
  async load() {
    stale.set(false);
    const found = new CellList(this.filters.query());
    this.#asked = found;
    await found.more();
    if (this.#asked !== found) return;
    this.#list = found;
    this.#at = null;
    this.#items.clear();
    list.set(found);
    found.changed.watch(() => this.#list === found && this.#draw());
  }

  #draw() {
    const { cells, total } = /** @type {CellList} */ (this.#list);
    // What has not changed keeps its element, and with it focus and picture.
    const items = cells.map((cell) => {
      const known = this.#items.get(cell.id);
      if (known?.cell === cell) return known.item;
      const item = card(cell);
      const focused = known?.item.contains(document.activeElement);
      known?.item.replaceWith(item);
      if (focused) item.querySelector("a")?.focus();
      this.#items.set(cell.id, { cell, item });
      return item;
    });
    const shown = new Set(items);
    for (const item of [...this.#grid.children]) if (!shown.has(/** @type {HTMLElement} */ (item))) item.remove();
    for (const [place, item] of items.entries()) {
      if (this.#grid.children[place] !== item) this.#grid.insertBefore(item, this.#grid.children[place] ?? null);
    }
    this.#mark(this.#at ?? cells[0]?.id ?? null);
    this.#count.textContent = cells.length < (total ?? 0) ? `${cells.length} of ${counted(total ?? 0, "cell")}` : counted(total ?? 0, "cell");
    this.#more.hidden = /** @type {CellList} */ (this.#list).complete;
    this.#sayEmpty(cells.length === 0);
  }

  /** @param {boolean} empty */
  #sayEmpty(empty) {
    this.#empty.hidden = !empty;
    this.#grid.hidden = empty;
    if (!empty) return;
    const query = this.filters.query();
    const filtered = query.predicted.length || query.exit || query.min_doubt !== null || query.max_doubt !== null || "reviewed" in query || "agrees" in query;
    fill(
      this.#empty,
      h("p", { class: "lead" }, filtered ? "No cell is like this." : "No cells yet."),
      filtered
        ? h("p", {}, "Show all, or filter for less.")
        : h("p", {}, h("a", { href: "#/uploads", class: "button main" }, "Add images"), " or drop them anywhere on this page."),
    );
  }

  async #extend() {
    const before = this.#list?.cells.length ?? 0;
    await this.#list?.more();
    const first = this.#list?.cells[before];
    if (first) this.#link(first.id)?.focus();
  }

  /** One cell takes part in the order of Tab, the others are reached by arrows. @param {string|null} id */
  #mark(id) {
    this.#at = id;
    for (const link of this.#grid.querySelectorAll("a")) link.tabIndex = link.dataset.id === id ? 0 : -1;
  }

  /** @param {string} id @returns {HTMLAnchorElement|null} */
  #link(id) {
    return this.#items.get(id)?.item.querySelector("a") ?? null;
  }

  /** @param {KeyboardEvent} event */
  #walk(event) {
    const links = [...this.#grid.querySelectorAll("a")];
    const place = links.findIndex((link) => link === document.activeElement);
    const columns = getComputedStyle(this.#grid).gridTemplateColumns.split(" ").length;
    const steps = /** @type {Record<string, number>} */ ({
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -place, End: links.length - 1 - place,
    });
    if (place < 0 || !(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    links[place + steps[event.key]]?.focus();
  }

  #keys() {
    const focused = () => this.#list?.cells.find((cell) => cell.id === idOf(document.activeElement));
    return [
      { keys: ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], does: "walk through the cells" },
      { keys: ["Enter"], does: "open the cell" },
      { keys: ["a"], does: "accept what the run says", act: () => { const cell = focused(); if (cell) accept(cell.id); } },
      {
        keys: classKeys(),
        does: "correct to the class of this number",
        act: (/** @type {KeyboardEvent} */ event) => {
          const [cell, label] = [focused(), classOfKey(event.key)];
          if (cell && label) correct(cell.id, cell.predicted, label);
        },
      },
      { keys: ["u"], does: "undo the last review", act: async () => { const id = await undo(focused()?.id ?? null); if (id) this.#link(id)?.focus(); } },
    ];
  }
}

/** Cells came or went: the gallery asks again when it is next looked at, or when its reader wants it. */
export function refreshGallery() {
  stale.set(true);
}

/** @param {EventTarget|null} target */
function idOf(target) {
  return target instanceof HTMLElement ? (target.closest("a")?.dataset.id ?? null) : null;
}
