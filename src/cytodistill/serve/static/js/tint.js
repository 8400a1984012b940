/**
 * One sign for a class wherever it is met: a colour, cool for normal classes and warm for abnormal ones, and the number
 * that is its key, so that no meaning hangs on colour alone.
 */

import { h } from "./dom.js";
import { run } from "./state.js";
import { className } from "./words.js";

const TINTS = 6;

/** @param {string} name @returns {string} CSS class that sets --tint */
export function tintOf(name) {
  const { classes, abnormal } = run();
  const warm = abnormal.includes(name);
  const alike = abnormal.length ? classes.filter((other) => abnormal.includes(other) === warm) : classes;
  const place = alike.indexOf(name);
  if (abnormal.length) return `tint-${warm ? "warm" : "cool"}-${place % TINTS}`;
  // Without a map neither is meant: the two rows of colours are taken in turn.
  return `tint-${place % 2 ? "warm" : "cool"}-${(place >> 1) % TINTS}`;
}

/** @param {string} name @returns {number} key that gives this class, from 1 */
export function numberOf(name) {
  return run().classes.indexOf(name) + 1;
}

/**
 * @param {string} name
 * @param {string} [more] CSS classes
 */
export function sign(name, more = "") {
  return h("span", { class: ["sign", tintOf(name), more], "aria-hidden": "true" }, numberOf(name));
}

/** @param {string} name */
export function named(name) {
  return h("span", { class: "named" }, sign(name), h("span", {}, className(name)));
}
