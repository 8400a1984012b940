/**
 * A list of cells by a query of the API, loaded page by page and walked through.
 *
 * @typedef {import("./types.js").CellSummary} CellSummary
 * @typedef {Record<string, any>} Query parameters of GET /cells
 */

import { call } from "./api.js";
import { Signal } from "./signal.js";

export class CellList {
  /** @type {CellSummary[]} */
  cells = [];
  /** @type {number|null} as many as match; null until the first page is there */
  total = null;
  /** Changes when cells do. */
  changed = new Signal(0);
  /** @type {Promise<void>|null} */
  #loading = null;

  /**
   * @param {Query} query
   * @param {number} page cells that are asked for at once
   */
  constructor(query, page = 60) {
    this.query = query;
    this.page = page;
  }

  get complete() {
    return this.total !== null && this.cells.length >= this.total;
  }

  /** Load the next page, or wait for the one that is on its way. */
  more() {
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    return this.#loading;
  }

  async #load() {
    // A cell that was reviewed may match no longer; it stays in sight, but the service does not count it.
    const offset = this.cells.filter((cell) => matches(cell, this.query)).length;
    const found = await call("cells", { query: { ...this.query, limit: this.page, offset } });
    const known = new Set(this.cells.map((cell) => cell.id));
    const fresh = found.cells.filter((/** @type {CellSummary} */ cell) => !known.has(cell.id));
    this.cells = [...this.cells, ...fresh];
    this.total = fresh.length ? found.total + this.cells.length - fresh.length - offset : this.cells.length;
    this.#tell();
  }

  /**
   * Load up to so many.
   *
   * @param {number} most
   */
  async all(most) {
    while (!this.complete && this.cells.length < most) await this.more();
  }

  /** @param {string} id */
  position(id) {
    return this.cells.findIndex((cell) => cell.id === id);
  }

  /**
   * The cell some steps on; null at an end.
   *
   * @param {string} id
   * @param {number} step
   * @returns {Promise<CellSummary|null>}
   */
  async neighbour(id, step) {
    const place = this.position(id) + step;
    if (this.position(id) < 0 || place < 0) return null;
    if (place >= this.cells.length && !this.complete) await this.more();
    return this.cells[place] ?? null;
  }

  /**
   * @param {string} id
   * @param {Partial<CellSummary>} news
   */
  update(id, news) {
    const place = this.position(id);
    if (place < 0) return;
    this.cells = this.cells.with(place, { ...this.cells[place], ...news });
    this.#tell();
  }

  /** @param {string} id */
  remove(id) {
    if (this.position(id) < 0) return;
    this.cells = this.cells.filter((cell) => cell.id !== id);
    if (this.total !== null) this.total -= 1;
    this.#tell();
  }

  #tell() {
    this.changed.set(this.changed.value + 1);
  }
}

/**
 * Whether a cell still is what a query asks for, by what reviews can change.
 *
 * @param {CellSummary} cell
 * @param {Query} query
 */
function matches(cell, query) {
  if (query.reviewed !== undefined && query.reviewed !== (cell.label !== null)) return false;
  if (query.agrees === undefined) return true;
  return cell.label !== null && query.agrees === (cell.label === cell.predicted);
}
