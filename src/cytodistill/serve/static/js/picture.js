/**
 * A cell large, with a map over it on request, and beside it what each exit said and where it looked.
 *
 * @typedef {import("./types.js").Cell} Cell
 * @typedef {import("./types.js").ExitMap} ExitMap
 */

import { announce, attempt } from "./announce.js";
import { address, call } from "./api.js";
import { h } from "./dom.js";
import { remembered, run } from "./state.js";
import { named } from "./tint.js";
import { className, percent } from "./words.js";

const METHODS = [["hirescam", "HiResCAM"], ["gradcam", "Grad-CAM"], ["gradcam++", "Grad-CAM++"]];
const method = remembered("method", "hirescam");

export class Picture {
  /** 0 shows the cell alone, n the map of exit n. */
  #shown = 0;
  #of = "";
  #image;
  #caption = h("figcaption", {});
  /** @type {HTMLButtonElement[]} */
  #buttons = [];
  /** @type {HTMLElement[]} */
  #words = [];

  /**
   * @param {Cell} cell
   * @param {AbortSignal} signal aborted when the cell is left
   */
  constructor(cell, signal) {
    this.cell = cell;
    this.signal = signal;
    this.#image = h("img", { src: this.#plain(), alt: `Picture of the cell ${cell.name}` });
    this.figure = h("figure", { class: "large" }, h("div", { class: "stage" }, this.#image), this.#caption);
    this.exits = this.#section();
    this.show(0);
    if (run().explains) attempt(() => this.#describe());
  }

  /** Show the next exit's map, and after the last the cell alone. */
  turn() {
    if (run().explains) this.show((this.#shown + 1) % (this.cell.prediction.exits.length + 1), true);
  }

  /**
   * @param {number} exit
   * @param {boolean} [told]
   */
  show(exit, told = false) {
    this.#shown = exit;
    const words = exit ? `Where exit ${exit} looked` : "The cell as it was sent";
    this.#image.src = exit ? this.#map(exit) : this.#plain();
    this.#image.alt = exit ? `${words}, over the cell ${this.cell.name}` : `Picture of the cell ${this.cell.name}`;
    this.#caption.textContent = words;
    for (const [place, button] of this.#buttons.entries()) button.setAttribute("aria-pressed", String(place + 1 === exit));
    if (told) announce(words, { shown: false });
  }

  #plain() {
    return address(`cells/${this.cell.id}/image`);
  }

  /** @param {number} exit */
  #map(exit) {
    return address(`cells/${this.cell.id}/maps/${exit}`, { method: method.value, of: this.#of });
  }

  #section() {
    const { exits, stops_at } = this.cell.prediction;
    const items = exits.map((exit) => {
      const stops = exits.length > 1 && exit.exit === stops_at;
      return h(
        "li",
        { class: stops && "stops" },
        run().explains && this.#button(exit.exit),
        h("div", { class: "exit" }, h("h3", {}, `Exit ${exit.exit}`), stops && h("span", { class: "badge" }, "stops here"),
          h("p", {}, named(exit.predicted), " ", h("b", {}, percent(exit.confidence))), this.#word()),
      );
    });
    const heading = exits.length > 1 ? "What each exit said" : "What it looked at";
    return h("section", { class: "by-exit", "aria-labelledby": "exits-title" },
      h("div", { class: "title" }, h("h2", { id: "exits-title" }, heading, exits.length > 1 && h("span", { class: "note" }, " not calibrated")), run().explains && this.#choices()),
      h("ol", { class: "exit-list" }, ...items),
      run().explains && h("p", { class: "soft note" }, "Yellow is where the map speaks for the class, dark blue where a little. Whether such maps mean anything for this run, ", h("code", {}, "cytodistill explain"), " tests."));
  }

  #word() {
    const word = h("p", { class: "soft note" });
    this.#words.push(word);
    return word;
  }

  /** @param {number} exit */
  #button(exit) {
    const image = h("img", { alt: "", class: "map" });
    const button = h("button", { type: "button", class: "map-button", "aria-pressed": "false", "aria-label": `Map of exit ${exit}, large`,
      onclick: () => this.show(this.#shown === exit ? 0 : exit, true) }, image);
    this.#buttons.push(button);
    return button;
  }

  #choices() {
    const ways = h("select", {}, ...METHODS.map(([value, words]) => h("option", { value, selected: value === method.value }, words)));
    const classes = h("select", {}, h("option", { value: "" }, "what each exit named"), ...run().classes.map((name) => h("option", { value: name }, className(name))));
    const changed = () => {
      method.set(ways.value);
      this.#of = classes.value;
      this.show(this.#shown);
      attempt(() => this.#describe());
    };
    ways.addEventListener("change", changed);
    classes.addEventListener("change", changed);
    return h("p", { class: "ways" }, h("label", {}, "Maps by ", ways), h("label", {}, "for ", classes));
  }

  /** The maps are made once for all exits; their pictures are asked for when that is done. */
  async #describe() {
    /** @type {{exits: ExitMap[]}} */
    const found = await call(`cells/${this.cell.id}/maps`, { query: { method: method.value, of: this.#of }, signal: this.signal });
    for (const [place, map] of found.exits.entries()) {
      const image = this.#buttons[place].querySelector("img");
      if (image) image.src = this.#map(map.exit);
      const grid = `${map.grid[0]} × ${map.grid[1]} places`;
      const spoken = this.#of ? `${className(map.explained)} ${percent(map.probability)}; ` : "";
      this.#words[place].textContent = spoken + (map.empty ? "no place speaks for the class" : `map of ${grid}`);
    }
  }
}
