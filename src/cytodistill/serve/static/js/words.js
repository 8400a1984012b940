/** Figures, names and moments in words. */

/** A figure and its unit stay on one line. */
const UNIT = "\u00a0%";

/** @param {number|null|undefined} share of 1 */
export function percent(share) {
  if (share === null || share === undefined) return "–";
  const shown = 100 * Math.min(1, Math.max(0, share));
  // What is not certain is not shown as if it were.
  if (shown > 99 && share < 0.9995) return `${Math.min(99.9, shown).toFixed(1)}${UNIT}`;
  if (shown < 1 && share > 0) return shown < 0.1 ? `< 0.1${UNIT}` : `${shown.toFixed(1)}${UNIT}`;
  return `${Math.round(shown)}${UNIT}`;
}

/** @param {string} name of a class, as the run has it */
export function className(name) {
  return name.replaceAll("_", " ");
}

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** @param {string[]} names */
export function listed(names) {
  return names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : (names[0] ?? "");
}

/** @param {string} moment of the API */
export function when(moment) {
  return new Date(moment).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

/** @param {number} bytes */
export function size(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/**
 * A review in a sentence.
 *
 * @param {import("./types.js").Review} review
 */
export function told(review) {
  if (review.action === "undo") return `${review.reviewer} took back a review`;
  const label = className(review.label ?? "");
  return review.action === "accept" ? `${review.reviewer} accepted ${label}` : `${review.reviewer} said ${label}`;
}
