/**
 * Accepting, correcting and taking back. What was done here is remembered in order, so that undo takes back the last
 * review wherever its cell is.
 *
 * @typedef {import("./types.js").Reviewed} Reviewed
 */

import { announce, attempt } from "./announce.js";
import { call } from "./api.js";
import { reviewer } from "./session.js";
import { Signal } from "./signal.js";
import { agreement, list, run } from "./state.js";
import { className } from "./words.js";

/** @type {string[]} cells that were reviewed since the page was opened, and not taken back */
const done = [];
/** The last event that the service has stored. */
export const reviewed = new Signal(/** @type {Reviewed|null} */ (null));
/** @type {Promise<any>} one event at a time, in the order of the keys */
let queue = Promise.resolve();

/**
 * The run's class is right.
 *
 * @param {string} cell
 */
export function accept(cell) {
  return inTurn(() => give(cell, { action: "accept" }));
}

/**
 * It is another class; the run's own is accepted by this too.
 *
 * @param {string} cell
 * @param {string} predicted
 * @param {string} label
 */
export function correct(cell, predicted, label) {
  return predicted === label ? accept(cell) : inTurn(() => give(cell, { action: "correct", label }));
}

/**
 * Take back the last review of this page, or the reader's own review of the cell that is looked at.
 *
 * @param {string|null} looked cell
 * @returns {Promise<string|null>} the cell that it was of
 */
export function undo(looked) {
  return inTurn(async () => {
    const cell = done.at(-1) ?? looked;
    if (!cell) {
      announce("Nothing to undo.");
      return null;
    }
    return (await give(cell, { action: "undo" })) ? cell : null;
  });
}

/** Class by its number key, null where there is none. @param {string} key */
export function classOfKey(key) {
  return run().classes[Number(key) - 1] ?? null;
}

/** Keys of the classes that have one. */
export function classKeys() {
  return run().classes.slice(0, 9).map((_, place) => String(place + 1));
}

export async function countAgreement() {
  agreement.set(await call("agreement"));
}

/**
 * @param {string} cell
 * @param {{action: "accept"|"correct"|"undo", label?: string}} event
 * @returns {Promise<Reviewed|null>}
 */
async function give(cell, event) {
  const name = await reviewer();
  if (!name) return null;
  const stored = await call(`cells/${cell}/reviews`, { method: "POST", body: { ...event, reviewer: name } });
  if (event.action !== "undo") done.push(cell);
  else if (done.at(-1) === cell) done.pop();
  list.value.update(cell, { label: stored.label, reviewer: stored.reviewer });
  announce(said(stored));
  reviewed.set(stored);
  attempt(countAgreement);
  return stored;
}

/** @param {Reviewed} stored */
function said({ review, label }) {
  if (review.action === "accept") return `Accepted: ${className(review.label ?? "")}`;
  if (review.action === "correct") return `Corrected to ${className(review.label ?? "")}`;
  return label ? `Taken back; it is ${className(label)} again` : "Taken back; the cell is not reviewed";
}

/**
 * @template T
 * @param {() => Promise<T>} action
 * @returns {Promise<T|null>}
 */
function inTurn(action) {
  const next = queue.then(() => attempt(action));
  queue = next;
  return next;
}
