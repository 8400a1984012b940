/** Says what happened: to screen readers through a live region, to eyes by a note that goes by itself. */

import { byId, h } from "./dom.js";

const SECONDS = 6;

/**
 * @param {string} text
 * @param {{kind?: "good"|"bad", shown?: boolean}} [options] `shown`: to eyes too
 */
export function announce(text, { kind = "good", shown = true } = {}) {
  const region = byId(kind === "bad" ? "urgent" : "polite");
  // The same words twice are said twice only where the region changes.
  region.textContent = region.textContent === text ? `${text}\u00a0` : text;
  if (!shown) return;
  const note = h("p", { class: ["toast", kind] }, text);
  byId("toasts").replaceChildren(note);
  setTimeout(() => note.remove(), 1000 * SECONDS);
}

/**
 * Do something, and say what went wrong if it did.
 *
 * @param {() => Promise<any>|any} action
 */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    if (/** @type {any} */ (error)?.name === "AbortError") return undefined;
    announce(error instanceof Error ? error.message : String(error), { kind: "bad" });
    return undefined;
  }
}
