/**
 * A field with its cells marked by class: every mark is a button with the class's sign, so that it can be reached, read
 * and reviewed without a mouse.
 *
 * @typedef {import("./types.js").CellSummary} CellSummary
 * @typedef {import("./types.js").Field} Field
 */

import { announce, attempt } from "./announce.js";
import { believed } from "./answer.js";
import { address, call } from "./api.js";
import { spoken } from "./card.js";
import { CellList } from "./cells.js";
import { byId, fill, h } from "./dom.js";
import { bind } from "./keyboard.js";
import { accept, classKeys, classOfKey, correct, undo } from "./reviewing.js";
import { addView, arrive, go } from "./router.js";
import { list, looked, run } from "./state.js";
import { named, numberOf, tintOf } from "./tint.js";
import { className, counted, percent } from "./words.js";

const MOST = 5000;
const ZOOMS = [1, 1.5, 2, 3, 4, 6];

export function startField() {
  addView("field", new FieldView(byId("field")));
}

class FieldView {
  id = "field";
  /** @type {Field|null} */
  #field = null;
  #list = new CellList({});
  /** @type {Map<string, HTMLButtonElement>} */
  #marks = new Map();
  /** @type {Set<string>} classes that are not shown */
  #hidden = new Set();
  #zoom = matchMedia("(max-width: 48rem)").matches ? 2 : 0;
  #stage = h("div", { class: "field-stage" });
  #frame = h("div", { class: "field-frame" }, this.#stage);
  #side = h("aside", { class: "field-side", "aria-label": "The chosen cell" });
  #legend = h("div", { class: "legend", role: "group", "aria-label": "Classes shown" });
  /** @type {string|null} */
  #at = null;
  /** @type {(() => void)[]} */
  #ends = [];

  /** @param {HTMLElement} section */
  constructor(section) {
    this.section = section;
    this.#stage.addEventListener("keydown", (event) => this.#walk(event));
  }

  /** @param {string} id */
  async show(id) {
    // What a reader has left meanwhile is not drawn any more.
    const ends = (this.#ends = [bind(this.#keys())]);
    const wanted = location.hash.split("/")[3] ?? looked.value;
    looked.set(null);
    const field = /** @type {Field} */ (await call(`fields/${id}`));
    const column = run().abnormal.length ? "abnormal" : "doubt";
    const shown = new CellList({ field: id, sort: column, descending: true }, 500);
    await shown.all(MOST);
    if (this.#ends !== ends) return;
    this.#field = field;
    this.#list = shown;
    list.set(shown);
    this.#draw(field);
    this.#ends.push(shown.changed.watch(() => shown === this.#list && this.#refresh()));
    const known = wanted !== null && this.#marks.has(wanted);
    this.#choose(known ? wanted : (shown.cells[0]?.id ?? null), known);
  }

  hide() {
    for (const end of this.#ends) end();
    this.#ends = [];
  }

  /** @param {Field} field */
  #draw(field) {
    const heading = h("h1", { tabindex: -1 }, field.name || "Field");
    const { cells, total } = this.#list;
    const said = cells.length < (total ?? 0) ? `${cells.length} of ${counted(total ?? 0, "cell")}, what most deserves a look` : counted(cells.length, "cell");
    fill(
      this.section,
      h("div", { class: "head" }, h("a", { href: "#/uploads", class: "back" }, "← Uploads")),
      heading,
      h("p", { class: "about soft" }, `${field.width} × ${field.height} px · ${said}`),
      h("div", { class: "tools" }, this.#legend,
        h("div", { class: "steps" },
          h("a", { class: "button", href: address(`fields/${field.id}/export.geojson`), download: `${field.id}.geojson` }, "Cells as GeoJSON"),
          h("button", { type: "button", onclick: () => this.#zoomBy(-1), "aria-label": "Smaller" }, "−"),
          h("button", { type: "button", onclick: () => this.#zoomBy(1), "aria-label": "Larger" }, "+"))),
      h("div", { class: "field" }, this.#frame, this.#side),
    );
    this.#drawStage(field);
    this.#drawLegend();
    arrive(field.name || "Field", heading);
  }

  /** @param {Field} field */
  #drawStage(field) {
    this.#stage.style.setProperty("--ratio", `${field.width} / ${field.height}`);
    this.#stage.style.setProperty("--zoom", String(ZOOMS[this.#zoom]));
    this.#marks = new Map(this.#list.cells.map((cell) => [cell.id, this.#mark(cell, field)]));
    const picture = field.image
      ? h("img", { src: address(`fields/${field.id}/image`), alt: `The field ${field.name}` })
      : h("p", { class: "notice" }, "The field's picture was not kept; its reviewed cells are.");
    fill(this.#stage, picture, ...this.#marks.values());
  }

  /**
   * @param {CellSummary} cell
   * @param {Field} field
   */
  #mark(cell, field) {
    const mark = h("button", { type: "button", "data-id": cell.id, tabindex: -1 });
    const box = cell.box ?? { x: 0, y: 0, width: field.width, height: field.height };
    const placed = { left: box.x / field.width, top: box.y / field.height, width: box.width / field.width, height: box.height / field.height };
    for (const [side, share] of Object.entries(placed)) mark.style.setProperty(side, `${100 * share}%`);
    mark.addEventListener("focus", () => this.#choose(cell.id));
    mark.addEventListener("click", () => this.#choose(cell.id, true));
    mark.addEventListener("dblclick", () => go(`cell/${cell.id}`));
    this.#dress(mark, cell);
    return mark;
  }

  /**
   * @param {HTMLButtonElement} mark
   * @param {CellSummary} cell
   */
  #dress(mark, cell) {
    const label = cell.label ?? cell.predicted;
    mark.className = ["mark", tintOf(label), run().abnormal.includes(label) ? "abnormal" : "", cell.label ? "done" : ""].filter(Boolean).join(" ");
    mark.hidden = this.#hidden.has(label);
    mark.setAttribute("aria-label", spoken(cell));
    fill(mark, h("span", { class: "sign", "aria-hidden": "true" }, `${numberOf(label)}${cell.label ? "✓" : ""}`));
  }

  #drawLegend() {
    const counts = new Map();
    for (const cell of this.#list.cells) counts.set(cell.label ?? cell.predicted, (counts.get(cell.label ?? cell.predicted) ?? 0) + 1);
    const boxes = run().classes.filter((name) => counts.has(name) || this.#hidden.has(name)).map((name) => {
      const box = h("input", { type: "checkbox", checked: !this.#hidden.has(name) });
      box.addEventListener("change", () => {
        if (box.checked) this.#hidden.delete(name);
        else this.#hidden.add(name);
        this.#refresh();
      });
      return h("label", { class: "tick" }, box, named(name), h("span", { class: "soft" }, counts.get(name) ?? 0));
    });
    const focused = [...this.#legend.querySelectorAll("input")].findIndex((box) => box === document.activeElement);
    fill(this.#legend, ...boxes);
    if (focused >= 0) this.#legend.querySelectorAll("input")[focused]?.focus();
  }

  /** After a review, or another choice of classes. */
  #refresh() {
    for (const cell of this.#list.cells) {
      const mark = this.#marks.get(cell.id);
      if (mark) this.#dress(mark, cell);
    }
    this.#drawLegend();
    if (this.#at) this.#choose(this.#at);
  }

  /**
   * @param {string|null} id
   * @param {boolean} [focus]
   */
  #choose(id, focus = false) {
    const cell = this.#list.cells.find((one) => one.id === id);
    this.#at = cell?.id ?? null;
    for (const [other, mark] of this.#marks) {
      mark.tabIndex = other === this.#at ? 0 : -1;
      if (other === this.#at) mark.setAttribute("aria-current", "true");
      else mark.removeAttribute("aria-current");
    }
    if (!cell) return fill(this.#side, h("p", { class: "soft" }, "No cell is marked here."));
    fill(
      this.#side,
      h("img", { src: address(`cells/${cell.id}/image`), alt: "" }),
      h("p", {}, named(cell.predicted), " ", h("b", {}, percent(believed(cell)))),
      cell.abnormal !== null && h("p", { class: "soft" }, `abnormal ${percent(cell.abnormal)}`),
      h("p", {}, cell.label === null ? "Not reviewed." : `${cell.reviewer} said ${className(cell.label)}.`),
      h("p", {}, h("a", { href: `#/cell/${cell.id}`, class: "button" }, "Open large")),
    );
    const mark = this.#marks.get(cell.id);
    if (!focus || !mark || document.activeElement === mark) return undefined;
    mark.focus({ preventScroll: true });
    return mark.scrollIntoView({ block: "center", inline: "center" });
  }

  /** @param {KeyboardEvent} event */
  #walk(event) {
    const ways = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] });
    const way = ways[event.key];
    const from = this.#marks.get(this.#at ?? "");
    if (!way || !from || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const next = nearest(from, [...this.#marks.values()], way);
    if (next) this.#choose(next.dataset.id ?? null, true);
    else announce("No further cell that way.", { shown: false });
  }

  /** @param {number} step */
  #zoomBy(step) {
    this.#zoom = Math.max(0, Math.min(ZOOMS.length - 1, this.#zoom + step));
    this.#stage.style.setProperty("--zoom", String(ZOOMS[this.#zoom]));
    this.#marks.get(this.#at ?? "")?.scrollIntoView({ block: "nearest", inline: "center" });
  }

  #keys() {
    const chosen = () => this.#list.cells.find((cell) => cell.id === this.#at);
    return [
      { keys: ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], does: "go from mark to mark" },
      { keys: ["n"], does: "next cell by what most deserves a look", act: () => attempt(async () => { const next = await this.#list.neighbour(this.#at ?? "", 1); if (next) this.#choose(next.id, true); }) },
      { keys: ["o"], does: "open the cell large", act: () => this.#at && go(`cell/${this.#at}`) },
      { keys: ["a"], does: "accept what the run says", act: () => this.#at && accept(this.#at) },
      {
        keys: classKeys(),
        does: "correct to the class of this number",
        act: (/** @type {KeyboardEvent} */ event) => { const [cell, label] = [chosen(), classOfKey(event.key)]; if (cell && label) correct(cell.id, cell.predicted, label); },
      },
      { keys: ["u"], does: "undo the last review", act: () => undo(this.#at) },
      { keys: ["+"], does: "larger", act: () => this.#zoomBy(1) },
      { keys: ["-"], does: "smaller", act: () => this.#zoomBy(-1) },
    ];
  }
}

/**
 * The mark that is nearest in a direction: distance along it counts once, distance aside twice.
 *
 * @param {HTMLElement} from
 * @param {HTMLElement[]} marks
 * @param {[number, number]} way
 */
function nearest(from, marks, [dx, dy]) {
  const start = centre(from);
  let best = null;
  let least = Infinity;
  for (const mark of marks) {
    if (mark === from || mark.hidden) continue;
    const { x, y } = centre(mark);
    const along = (x - start.x) * dx + (y - start.y) * dy;
    const aside = Math.abs((x - start.x) * dy) + Math.abs((y - start.y) * dx);
    if (along > 0.5 && along + 2 * aside < least) [best, least] = [mark, along + 2 * aside];
  }
  return best;
}

/** @param {HTMLElement} element */
function centre(element) {
  return { x: element.offsetLeft + element.offsetWidth / 2, y: element.offsetTop + element.offsetHeight / 2 };
}
