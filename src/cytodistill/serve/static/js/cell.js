/**
 * One cell, large: picture and maps, the run's answer, the reviewer's.
 *
 * @typedef {import("./types.js").Cell} Cell
 */

import { announce, attempt } from "./announce.js";
import { answered } from "./answer.js";
import { Problem, call } from "./api.js";
import { spoken } from "./card.js";
import { ask } from "./dialog.js";
import { byId, fill, h } from "./dom.js";
import { refreshGallery } from "./gallery.js";
import { bind } from "./keyboard.js";
import { goesOn, panel } from "./panel.js";
import { Picture } from "./picture.js";
import { accept, classKeys, classOfKey, correct, reviewed, undo } from "./reviewing.js";
import { addView, arrive, go } from "./router.js";
import { list, looked } from "./state.js";
import { counted } from "./words.js";

export function startCell() {
  addView("cell", new CellView(byId("cell")));
}

class CellView {
  id = "cell";
  /** @type {Cell|null} */
  #cell = null;
  /** @type {Picture|null} */
  #picture = null;
  #leaving = new AbortController();
  /** @type {(() => void)[]} */
  #ends = [];
  #panel = h("div", {});

  /** @param {HTMLElement} section */
  constructor(section) {
    this.section = section;
  }

  /** @param {string} id */
  async show(id) {
    this.#leaving.abort();
    this.#leaving = new AbortController();
    this.#ends = [bind(this.#keys()), reviewed.watch((event) => this.#hear(event))];
    if (list.value.total === null) await attempt(() => list.value.more());
    try {
      this.#cell = /** @type {Cell} */ (await call(`cells/${id}`, { signal: this.#leaving.signal }));
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 404) throw error;
      fill(this.section, h("p", { class: "notice" }, "This cell is not here any more. ", h("a", { href: "#/" }, "All cells")));
      return;
    }
    this.#draw(this.#cell);
  }

  hide() {
    this.#leaving.abort();
    for (const end of this.#ends) end();
  }

  /** @param {Cell} cell */
  #draw(cell) {
    looked.set(cell.id);
    const place = list.value.position(cell.id);
    const heading = h("h1", { tabindex: -1 }, cell.name || "Cell");
    this.#picture = new Picture(cell, this.#leaving.signal);
    this.#drawPanel(cell);
    const where = place < 0 ? "" : `${place + 1} of ${counted(list.value.total ?? 0, "cell")}`;
    const last = place + 1 >= list.value.cells.length && list.value.complete;
    fill(
      this.section,
      h(
        "div",
        { class: "head" },
        h("a", { href: backTo(), class: "back", "aria-keyshortcuts": "Escape" }, list.value.query.field ? "← The field" : "← All cells"),
        h("div", { class: "steps" },
          h("button", { type: "button", disabled: place < 1, onclick: () => this.#step(-1) }, "Previous"),
          h("span", { class: "count" }, where),
          h("button", { type: "button", disabled: place < 0 || last, onclick: () => this.#step(1) }, "Next")),
      ),
      heading,
      this.#about(cell),
      h("div", { class: "cell" },
        h("div", { class: "left" }, this.#picture.figure, this.#panel),
        h("div", { class: "right" }, answered(cell.prediction), this.#picture.exits)),
    );
    arrive(cell.name || "Cell", heading);
    announce(`${where ? `Cell ${where}: ` : ""}${spoken(cell)}`, { shown: false });
  }

  /** @param {Cell} cell */
  #drawPanel(cell) {
    // The focus stays on the button that was pressed, though its panel is drawn anew.
    const buttons = () => /** @type {HTMLElement[]} */ ([...this.#panel.querySelectorAll("button, input, summary")]);
    const focused = buttons().findIndex((button) => button === document.activeElement);
    const open = this.#panel.querySelector("details")?.open ?? false;
    fill(this.#panel, panel(cell, { accept: () => this.#accept(), correct: (label) => this.#correct(label), undo: () => this.#undo() }));
    const details = this.#panel.querySelector("details");
    if (details) details.open = open;
    if (focused >= 0) buttons()[focused]?.focus();
  }

  /** @param {Cell} cell */
  #about(cell) {
    return h(
      "p",
      { class: "about soft" },
      `${cell.width} × ${cell.height} px`,
      cell.field && [" · ", h("a", { href: `#/field/${cell.field}/${cell.id}` }, "in its field")],
      " · ",
      h("button", { type: "button", class: "link", onclick: () => attempt(() => this.#delete(cell)) }, "delete this cell"),
    );
  }

  /** @param {import("./types.js").Reviewed|null} event */
  #hear(event) {
    const id = this.#cell?.id;
    if (id && event?.review.cell === id) attempt(() => this.#refresh(id));
  }

  /**
   * Ask the service again for a cell that was reviewed: it has who and when.
   *
   * @param {string} id
   */
  async #refresh(id) {
    const cell = await call(`cells/${id}`, { signal: this.#leaving.signal });
    if (this.#cell?.id !== id) return;
    this.#cell = cell;
    this.#drawPanel(cell);
  }

  async #accept() {
    if (this.#cell && (await accept(this.#cell.id))) await this.#goOn();
  }

  /** @param {string} label */
  async #correct(label) {
    if (this.#cell && (await correct(this.#cell.id, this.#cell.predicted, label))) await this.#goOn();
  }

  async #undo() {
    const id = await undo(this.#cell?.id ?? null);
    if (id && id !== this.#cell?.id) go(`cell/${id}`);
  }

  async #goOn() {
    if (goesOn.value === "on") await this.#step(1);
  }

  /** @param {number} step */
  async #step(step) {
    const id = this.#cell?.id ?? "";
    const next = await attempt(() => list.value.neighbour(id, step));
    if (next) go(`cell/${next.id}`);
    else announce(step > 0 ? "This was the last cell." : "This is the first cell.");
  }

  /** @param {Cell} cell */
  async #delete(cell) {
    const words = cell.reviews.length ? `Its ${counted(cell.reviews.length, "review")} will be deleted too. ` : "";
    const sure = await ask("Delete this cell?", [h("p", {}, `${words}This cannot be undone.`)], { yes: "Delete", danger: true });
    if (!sure) return;
    await call(`cells/${cell.id}`, { method: "DELETE", query: { reviews: cell.reviews.length > 0 } });
    const next = (await list.value.neighbour(cell.id, 1)) ?? (await list.value.neighbour(cell.id, -1));
    list.value.remove(cell.id);
    refreshGallery();
    announce("Deleted.");
    go(next ? `cell/${next.id}` : "");
  }

  #keys() {
    return [
      { keys: ["a"], does: "accept what the run says", act: () => this.#accept() },
      {
        keys: classKeys(),
        does: "correct to the class of this number",
        act: (/** @type {KeyboardEvent} */ event) => { const label = classOfKey(event.key); if (label) this.#correct(label); },
      },
      { keys: ["u"], does: "undo the last review, wherever it was", act: () => this.#undo() },
      { keys: ["ArrowRight", "n"], does: "next cell", act: () => this.#step(1) },
      { keys: ["ArrowLeft", "p"], does: "previous cell", act: () => this.#step(-1) },
      { keys: ["m"], does: "where each exit looked, one after the other", act: () => this.#picture?.turn() },
      { keys: ["Escape"], does: "back to the others", act: () => { location.hash = backTo(); } },
    ];
  }
}

/** The view whose list is walked through. */
function backTo() {
  return list.value.query.field ? `#/field/${list.value.query.field}` : "#/";
}
