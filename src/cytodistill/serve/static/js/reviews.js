/**
 * Reviewer and run: how often they say the same as reviews come in, where they differ, and what can be taken along.
 *
 * @typedef {import("./types.js").Agreement} Agreement
 */

import { address } from "./api.js";
import { growthChart } from "./chart.js";
import { byId, fill, h } from "./dom.js";
import { countAgreement } from "./reviewing.js";
import { addView, arrive } from "./router.js";
import { agreement } from "./state.js";
import { named, sign } from "./tint.js";
import { className, counted, percent } from "./words.js";

export function startReviews() {
  const section = byId("reviews");
  const heading = h("h1", { tabindex: -1 }, "Reviews");
  const body = h("div", {});
  fill(section, h("div", { class: "head" }, heading), body);
  agreement.watch((found) => found && fill(body, ...content(found)));
  addView("reviews", {
    id: "reviews",
    show: async () => {
      arrive("Reviews", heading);
      await countAgreement();
    },
  });
}

/** Keep the count in the page's head. */
export function startTally() {
  const tally = byId("tally");
  agreement.watch((found) => {
    const words = found?.reviewed ? `${found.reviewed} reviewed, ${percent(found.agreement)} agree` : "";
    tally.textContent = words;
    tally.hidden = !words;
  });
}

/** @param {Agreement} found */
function content(found) {
  if (!found.reviewed) {
    return [h("p", { class: "lead" }, "No cell has been reviewed yet."), h("p", {}, "Open a cell, and accept what the run says or give another class; what was agreed on is counted here.")];
  }
  const label = `Agreement after ${counted(found.reviewed, "review")}: ${percent(found.agreement)}`;
  return [
    h("dl", { class: "tiles" },
      tile("Reviewed", String(found.reviewed)),
      tile("Agreement", percent(found.agreement)),
      tile("Cohen's κ", found.kappa === null ? "not defined" : found.kappa.toFixed(2))),
    h("p", { class: "soft" }, "The reviewer saw what the run said, so this is no accuracy."),
    h("h2", {}, "As it grew"),
    growthChart(found.growth, label),
    h("h2", {}, "Where they differ"),
    confusion(found),
    h("h2", {}, "Export"),
    ...exports(),
  ];
}

/**
 * @param {string} term
 * @param {string} value
 */
function tile(term, value) {
  return h("div", {}, h("dt", {}, term), h("dd", {}, value));
}

/** @param {Agreement} found */
function confusion({ classes, confusion }) {
  const head = h("tr", {}, h("th", { scope: "col" }, "Run ↓ reviewer →"),
    ...classes.map((name) => h("th", { scope: "col" }, sign(name), h("span", { class: "unseen" }, className(name)))));
  const rows = classes.map((name, row) =>
    h("tr", {}, h("th", { scope: "row" }, named(name)),
      ...confusion[row].map((count, column) => h("td", { class: [count && (row === column ? "same" : "other"), "figure"] }, count || "·"))));
  return h("div", { class: "frame", tabindex: 0, role: "region", "aria-label": "Table of classes" },
    h("table", { class: "confusion" }, h("thead", {}, head), h("tbody", {}, ...rows)));
}

function exports() {
  return [
    h("ul", { class: "exports" },
      h("li", {}, h("a", { class: "button", href: address("export/reviews.csv"), download: "reviews.csv" }, "Reviews as CSV"),
        h("span", { class: "soft" }, "every event, with who and when")),
      h("li", {}, h("a", { class: "button", href: address("export/training.zip"), download: "training.zip" }, "Cells and labels for training"),
        h("span", { class: "soft" }, "the reviewed cells and their manifest"))),
    h("p", {}, "To train again on them:"),
    h("pre", { tabindex: 0, "aria-label": "Commands to train again" }, "unzip training.zip -d reviewed\ncytodistill fit reviewed/manifest.csv -o runs/reviewed"),
  ];
}
