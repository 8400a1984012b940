/**
 * A cell in the gallery: its picture, what the run says, what each exit said, and what a reviewer said.
 *
 * @typedef {import("./types.js").CellSummary} CellSummary
 */

import { believed } from "./answer.js";
import { address } from "./api.js";
import { h } from "./dom.js";
import { named, sign } from "./tint.js";
import { className, counted, percent } from "./words.js";

/**
 * @param {CellSummary} cell
 * @returns {HTMLElement}
 */
export function card(cell) {
  return h(
    "li",
    {},
    h(
      "a",
      { class: ["card", cell.label && "done"], href: `#/cell/${cell.id}`, "data-id": cell.id, "aria-label": spoken(cell) },
      h("img", { src: address(`cells/${cell.id}/image`), alt: "", loading: "lazy", decoding: "async" }),
      h("span", { class: "says" }, named(cell.predicted), h("span", { class: "figure" }, percent(believed(cell)))),
      cell.abnormal !== null && abnormality(cell.abnormal),
      h("span", { class: "small" }, exits(cell), h("span", {}, dissent(cell))),
      verdict(cell),
    ),
  );
}

/** @param {number} share */
function abnormality(share) {
  const bar = h("span", { class: "bar" });
  bar.style.setProperty("--share", String(share));
  return h("span", { class: "abnormal" }, bar, h("span", { class: "small" }, `abnormal ${percent(share)}`));
}

/**
 * A sign for each exit, a frame round the one at which early exit stops.
 *
 * @param {CellSummary} cell
 */
export function exits(cell) {
  if (cell.exit_classes.length < 2) return null;
  return h(
    "span",
    { class: "exits" },
    ...cell.exit_classes.map((name, place) => sign(name, place + 1 === cell.stops_at ? "tiny stop" : "tiny")),
  );
}

/** @param {CellSummary} cell */
function dissent({ exit_classes, predicted }) {
  const others = exit_classes.filter((name) => name !== predicted).length;
  return others > 0 && `${counted(others, "exit differs", "exits differ")}`;
}

/** @param {CellSummary} cell */
function verdict(cell) {
  if (cell.label === null) return null;
  const agrees = cell.label === cell.predicted;
  return h(
    "span",
    { class: ["verdict", agrees ? "agrees" : "differs"] },
    h("span", {}, agrees ? "✓ accepted" : "✎"),
    !agrees && named(cell.label),
  );
}

/**
 * A cell in words, for who does not see the card.
 *
 * @param {CellSummary} cell
 */
export function spoken(cell) {
  return [
    `${className(cell.predicted)}, ${percent(believed(cell))}`,
    cell.abnormal !== null && `abnormal ${percent(cell.abnormal)}`,
    dissent(cell),
    cell.label !== null && (cell.label === cell.predicted ? "accepted" : `reviewed as ${className(cell.label)}`),
  ]
    .filter(Boolean)
    .join(", ");
}
