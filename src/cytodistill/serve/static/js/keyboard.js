/**
 * Single keys. A view binds what it takes and lets go when it is left; none acts while something is typed, in a dialog, or
 * where the reader has switched them off (WCAG 2.1.4).
 *
 * @typedef {{keys: string[], does: string, act?: (event: KeyboardEvent) => void}} Binding `does`: for the list of keys;
 *   without `act` it is listed alone, for what the browser or an element itself does
 */

import { ask } from "./dialog.js";
import { byId, h } from "./dom.js";
import { remembered } from "./state.js";

const on = remembered("keys", "on");
/** @type {Set<Binding[]>} */
const bound = new Set();
const NAMES = /** @type {Record<string, string>} */ ({
  ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc", " ": "Space",
});

/**
 * @param {Binding[]} bindings
 * @returns {() => void} lets go of them
 */
export function bind(bindings) {
  bound.add(bindings);
  return () => bound.delete(bindings);
}

export function startKeyboard() {
  document.addEventListener("keydown", pressed);
  byId("help").addEventListener("click", showKeys);
  bind([{ keys: ["?"], does: "these keys", act: showKeys }]);
}

/** @param {KeyboardEvent} event */
function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing(event.target)) return;
  if (document.querySelector("dialog[open]") || on.value !== "on") return;
  for (const bindings of [...bound].reverse()) {
    const found = bindings.find((one) => one.act && one.keys.some((key) => same(key, event.key)));
    if (!found?.act) continue;
    event.preventDefault();
    found.act(event);
    return;
  }
}

/**
 * @param {string} key
 * @param {string} pressed letters count without their case
 */
function same(key, pressed) {
  return key === pressed || (key.length === 1 && key.toLowerCase() === pressed.toLowerCase());
}

/** @param {EventTarget|null} target */
function typing(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "button", "file"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}

async function showKeys() {
  const rows = [...bound].flat().map(({ keys, does }) => {
    const shown = keys.flatMap((key, place) => [place ? " or " : "", h("kbd", {}, NAMES[key] ?? key.toUpperCase())]);
    return h("tr", {}, h("th", { scope: "row" }, ...shown), h("td", {}, does));
  });
  const box = h("input", { type: "checkbox", name: "on", checked: on.value === "on" });
  const form = await ask(
    "Keys",
    [h("table", { class: "keys" }, h("tbody", {}, ...rows)), h("label", { class: "tick" }, box, "Single keys act")],
    { yes: "Close", no: null },
  );
  if (form) on.set(form.has("on") ? "on" : "off");
}
