/**
 * The reviewer's side of a cell: accept, correct, undo, and all that was ever said of it.
 *
 * @typedef {import("./types.js").Cell} Cell
 */

import { h } from "./dom.js";
import { numberOf, sign } from "./tint.js";
import { remembered, run } from "./state.js";
import { className, told, when } from "./words.js";

/** Whether a review leads on to the next cell. */
export const goesOn = remembered("goes-on", "on");

/**
 * @param {Cell} cell
 * @param {{accept: () => void, correct: (label: string) => void, undo: () => void}} actions
 */
export function panel(cell, { accept, correct, undo }) {
  const box = h("input", { type: "checkbox", checked: goesOn.value === "on" });
  box.addEventListener("change", () => goesOn.set(box.checked ? "on" : "off"));
  return h(
    "section",
    { class: "panel", "aria-labelledby": "panel-title" },
    h("h2", { id: "panel-title" }, "Your review"),
    h("p", { class: "standing" }, standing(cell)),
    h("button", { type: "button", class: "main wide", onclick: accept, "aria-keyshortcuts": "A" }, `Accept ${className(cell.predicted)} `, h("kbd", {}, "A")),
    h("p", { class: "soft", id: "or" }, "or give the class:"),
    h("div", { class: "classes", role: "group", "aria-labelledby": "or" }, ...run().classes.map((name) => choice(name, cell, correct))),
    h("p", { class: "choices" }, h("label", { class: "tick" }, box, "Then go on to the next cell"),
      h("button", { type: "button", onclick: undo, "aria-keyshortcuts": "U" }, "Undo ", h("kbd", {}, "U"))),
    history(cell),
  );
}

/** @param {Cell} cell */
function standing({ label, reviewer, predicted }) {
  if (label === null) return "Not reviewed yet.";
  return label === predicted ? `${reviewer} accepted ${className(label)}.` : `${reviewer} said ${className(label)}.`;
}

/**
 * @param {string} name
 * @param {Cell} cell
 * @param {(label: string) => void} correct
 */
function choice(name, cell, correct) {
  const key = numberOf(name);
  return h(
    "button",
    { type: "button", class: "class", "aria-pressed": String(cell.label === name), onclick: () => correct(name), "aria-keyshortcuts": key < 10 && String(key) },
    sign(name),
    h("span", {}, className(name)),
  );
}

/** @param {Cell} cell */
function history({ reviews }) {
  if (!reviews.length) return null;
  const items = [...reviews].reverse().map((review) => h("li", {}, told(review), " ", h("time", { datetime: review.at, class: "soft" }, when(review.at))));
  return h("details", { class: "history" }, h("summary", {}, `All that was said (${reviews.length})`), h("ol", { reversed: true }, ...items));
}
