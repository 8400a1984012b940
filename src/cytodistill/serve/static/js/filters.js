/**
 * What the gallery shows and in which order, as a form.
 *
 * @typedef {Record<string, any>} Query
 */

import { h } from "./dom.js";
import { run } from "./state.js";
import { named } from "./tint.js";

/** Orders of the gallery, what most deserves a look first: value → [words, column, descending]. */
const ORDERS = /** @type {Record<string, [string, string, boolean]>} */ ({
  abnormal: ["Abnormal first", "abnormal", true],
  doubt: ["Doubtful first", "doubt", true],
  disagreement: ["Exits disagree first", "disagreement", true],
  certain: ["Certain first", "doubt", false],
  added: ["Latest first", "added", true],
  name: ["By name", "name", false],
});
const REVIEWED = /** @type {Record<string, Query>} */ ({
  all: {},
  open: { reviewed: false },
  done: { reviewed: true },
  differs: { agrees: false },
});

/**
 * @param {(query: Query) => void} changed
 * @returns {{form: HTMLFormElement, query: () => Query, reset: () => void}}
 */
export function filters(changed) {
  const { classes, exits, abnormal } = run();
  const orders = Object.entries(ORDERS).filter(
    ([key]) => (key !== "abnormal" || abnormal.length) && (key !== "disagreement" || exits > 1),
  );
  const form = h(
    "form",
    { class: "filters", "aria-label": "Order and filter", onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
    select("Order", "order", orders.map(([key, [words]]) => [key, words])),
    select("Reviews", "reviews", [
      ["all", "All cells"],
      ["open", "Not reviewed"],
      ["done", "Reviewed"],
      ["differs", "Reviewed otherwise"],
    ]),
    h(
      "fieldset",
      {},
      h("legend", {}, "The run says"),
      ...classes.map((name) =>
        h("label", { class: "tick" }, h("input", { type: "checkbox", name: "predicted", value: name }), named(name)),
      ),
    ),
    h(
      "fieldset",
      { class: "range" },
      h("legend", {}, "Confidence, %"),
      bound("from", "least", 0),
      bound("to", "most", 100),
    ),
    exits > 1 &&
      select("Stops at", "exit", [
        ["", "Any exit"],
        ...Array.from({ length: exits }, (_, place) => [String(place + 1), exitWords(place + 1, exits)]),
      ]),
    h("p", {}, h("button", { type: "button", onclick: () => reset() }, "Show all")),
  );
  const reset = () => {
    form.reset();
    changed(queryOf(form));
  };
  form.addEventListener("change", () => changed(queryOf(form)));
  return { form, query: () => queryOf(form), reset };
}

/**
 * @param {number} exit
 * @param {number} exits
 */
export function exitWords(exit, exits) {
  return exit === exits ? `Exit ${exit}, all asked` : `Exit ${exit}`;
}

/** @param {HTMLFormElement} form @returns {Query} */
function queryOf(form) {
  const said = new FormData(form);
  const [, sort, descending] = ORDERS[String(said.get("order"))];
  return {
    sort,
    descending,
    predicted: said.getAll("predicted"),
    // The probability in sight is 1 − doubt.
    max_doubt: doubtOf(said.get("least"), 0),
    min_doubt: doubtOf(said.get("most"), 100),
    exit: said.get("exit"),
    ...REVIEWED[String(said.get("reviews"))],
  };
}

/**
 * @param {FormDataEntryValue|null} text percent
 * @param {number} free that which leaves all in
 */
function doubtOf(text, free) {
  const value = Number(text);
  return text === "" || text === null || !(value >= 0 && value <= 100) || value === free ? null : 1 - value / 100;
}

/**
 * @param {string} words
 * @param {string} name
 * @param {string[][]} options
 */
function select(words, name, options) {
  return h(
    "label",
    { class: "line" },
    words,
    h("select", { name }, ...options.map(([value, said]) => h("option", { value }, said))),
  );
}

/**
 * @param {string} words
 * @param {string} name
 * @param {number} value
 */
function bound(words, name, value) {
  return h("label", {}, words, h("input", { type: "number", name, value, min: 0, max: 100, step: 1, inputmode: "numeric" }));
}
