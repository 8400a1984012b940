/**
 * Views by the address's fragment: `#/`, `#/cell/ID`, `#/field/ID`, `#/uploads`, `#/reviews`, so that the browser's back,
 * forward and reload do what they say.
 *
 * @typedef {object} View
 * @property {string} id of its section in index.html
 * @property {(argument: string) => Promise<void>|void} show
 * @property {() => void} [hide]
 */

import { attempt } from "./announce.js";
import { byId } from "./dom.js";

/** @type {Record<string, View>} */
const views = {};
/** @type {View|null} */
let current = null;

/**
 * @param {string} name
 * @param {View} view
 */
export function addView(name, view) {
  views[name] = view;
}

export function startRouting() {
  addEventListener("hashchange", () => attempt(show));
  return attempt(show);
}

/** @param {string} place for example "cell/ID" */
export function go(place) {
  location.hash = `#/${place}`;
}

async function show() {
  const [name, argument] = location.hash.replace(/^#\/?/, "").split("/");
  const view = views[name] ?? views[""];
  const before = current;
  current?.hide?.();
  current = view;
  for (const other of Object.values(views)) byId(other.id).hidden = other !== view;
  for (const link of document.querySelectorAll("nav [data-view]")) {
    const here = link.getAttribute("data-view") === view.id;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (before && before !== view) scrollTo(0, 0);
  await view.show(argument ?? "");
}

/**
 * Name the page, and bring the reader to a heading that was just shown.
 *
 * @param {string} title
 * @param {HTMLElement} [heading]
 */
export function arrive(title, heading) {
  document.title = `${title} – cytodistill`;
  heading?.focus({ preventScroll: true });
}
