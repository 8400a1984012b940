/**
 * What all views share: the run, who reviews, the list that is walked through, and what was last reviewed.
 *
 * @typedef {import("./types.js").Model} Model
 */

import { CellList } from "./cells.js";
import { Signal } from "./signal.js";

/** @type {Signal<Model|null>} */
export const model = new Signal(/** @type {Model|null} */ (null));

/** The list of cells that "next" and "previous" walk through: the gallery's, or a field's. */
export const list = new Signal(new CellList({}));

/** The cell that was last looked at large: where a list is gone on with. */
export const looked = new Signal(/** @type {string|null} */ (null));

/** @type {Signal<import("./types.js").Agreement|null>} */
export const agreement = new Signal(/** @type {import("./types.js").Agreement|null} */ (null));

/** The run, once it is loaded; views are shown only then. */
export function run() {
  if (!model.value) throw new Error("the run is not loaded");
  return model.value;
}

/**
 * A choice of this reader that outlives the page.
 *
 * @param {string} key
 * @param {string} otherwise
 * @returns {Signal<string>}
 */
export function remembered(key, otherwise) {
  const name = `cytodistill.${key}`;
  const signal = new Signal(read(name) ?? otherwise);
  signal.watch((value) => write(name, value));
  return signal;
}

/** @param {string} name */
function read(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null; // a browser may forbid storage; the page works without
  }
}

/**
 * @param {string} name
 * @param {string} value
 */
function write(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // As above.
  }
}
