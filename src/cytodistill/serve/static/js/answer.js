/**
 * What the run says of a cell: class, figures, set, and the probabilities of all classes.
 *
 * @typedef {import("./types.js").Prediction} Prediction
 */

import { h } from "./dom.js";
import { exitWords } from "./filters.js";
import { run } from "./state.js";
import { named, tintOf } from "./tint.js";
import { className, percent } from "./words.js";

/** @param {Prediction} answer */
export function answered(answer) {
  return h(
    "section",
    { class: "answer", "aria-labelledby": "answer-title" },
    h("h2", { id: "answer-title" }, "The run says"),
    h("p", { class: "lead" }, named(answer.predicted), h("b", {}, percent(believed(answer)))),
    h("dl", { class: "figures" }, ...abnormal(answer), ...doubts(answer), ...stopping(answer)),
    setOf(answer),
    table(answer),
  );
}

/**
 * Probability of the class that is named: calibrated, where the run has a calibration.
 *
 * @param {{doubt: number}} answer
 */
export function believed({ doubt }) {
  return 1 - doubt;
}

/** @param {Prediction} answer */
function abnormal({ abnormal }) {
  if (abnormal === null) return [];
  const points = Object.entries(run().operating_points).sort(([, one], [, other]) => one - other);
  const named = (/** @type {[string, number][]} */ some) => some.map(([name, threshold]) => `${className(name)} (${percent(threshold)})`).join(", ");
  const passed = points.filter(([, threshold]) => abnormal >= threshold);
  const missed = points.filter(([, threshold]) => abnormal < threshold);
  return figure(
    "Abnormal",
    percent(abnormal),
    ...(passed.length ? [h("span", { class: "note" }, `positive at ${named(passed)}`)] : []),
    ...(missed.length ? [h("span", { class: "note" }, `negative at ${named(missed)}`)] : []),
  );
}

/** @param {Prediction} answer */
function doubts({ doubt, disagreement, exits, predicted }) {
  const others = exits.filter((exit) => exit.predicted !== predicted).length;
  const said = others ? `${others} of ${exits.length} exits name another class` : `all ${exits.length} exits name this class`;
  return [
    ...figure("Doubt", percent(doubt), h("span", { class: "note" }, "1 − the largest probability")),
    ...(disagreement === null ? [] : figure("Exits disagree", `${disagreement.toFixed(2)} nats`, h("span", { class: "note" }, said))),
  ];
}

/** @param {Prediction} answer */
function stopping({ stops_at, exits }) {
  if (exits.length < 2) return [];
  const { kind, thresholds } = run().policy;
  const last = stops_at === exits.length;
  const limit = thresholds[stops_at - 1];
  const why = last ? `no earlier exit passed its threshold of ${kind}` : `its ${kind} passed ${kind === "confidence" ? percent(limit) : limit.toPrecision(2)}`;
  return figure("Early exit stops at", exitWords(stops_at, exits.length), h("span", { class: "note" }, why));
}

/**
 * @param {string} term
 * @param {string} value
 * @param {...Node} notes
 */
function figure(term, value, ...notes) {
  return [h("div", {}, h("dt", {}, term), h("dd", {}, h("b", {}, value), ...notes))];
}

/** @param {Prediction} answer */
function setOf({ set }) {
  if (!set) return null;
  const classes = set.classes.length ? set.classes.map((name) => named(name)) : ["none: the cell is unlike those of validation"];
  return h(
    "p",
    { class: "set" },
    h("b", {}, `${percent(set.coverage)} set`),
    ...classes,
    h("span", { class: "note" }, `such sets hold the true class for ${percent(set.coverage)} of cells like those of validation`),
  );
}

/** @param {Prediction} answer */
function table({ probabilities, calibrated, set }) {
  const shown = calibrated ?? probabilities;
  const rows = Object.entries(shown).map(([name, share]) => {
    const bar = h("span", { class: ["bar", tintOf(name)] });
    bar.style.setProperty("--share", String(Math.min(1, share)));
    return h(
      "tr",
      { class: set?.classes.includes(name) && "in-set" },
      h("th", { scope: "row" }, named(name)),
      h("td", { class: "drawn" }, bar),
      h("td", { class: "figure" }, percent(share)),
      calibrated && h("td", { class: "figure soft" }, percent(probabilities[name])),
    );
  });
  const heads = ["Class", "", calibrated ? "Calibrated" : "Probability", ...(calibrated ? ["As given"] : [])];
  return h(
    "table",
    { class: "probabilities" },
    h("caption", {}, calibrated ? "Probabilities, calibrated on the run's validation cells" : "Probabilities (the run has no calibration)"),
    h("thead", {}, h("tr", {}, ...heads.map((words) => (words ? h("th", { scope: "col" }, words) : h("td", {}))))),
    h("tbody", {}, ...rows),
  );
}
