/**
 * Elements made from data. Text goes in as text nodes alone, so nothing that a client named can become markup.
 *
 * @typedef {Node|string|number|null|undefined|false} Child
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [given] attributes; `on…` are listeners, `class` may be a list, true is an empty value and
 *   null, undefined and false leave one out
 * @param {...(Child|Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, given = {}, ...children) {
  return furnished(document.createElement(tag), given, children);
}

/**
 * The same for the elements of a drawing.
 *
 * @param {string} tag
 * @param {Record<string, any>} [given]
 * @param {...(Child|Child[])} children
 * @returns {SVGElement}
 */
export function svg(tag, given = {}, ...children) {
  return furnished(/** @type {SVGElement} */ (document.createElementNS(SVG, tag)), given, children);
}

/**
 * @template {Element} E
 * @param {E} element
 * @param {Record<string, any>} given
 * @param {(Child|Child[])[]} children
 * @returns {E}
 */
function furnished(element, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", [value].flat().filter(Boolean).join(" "));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...nodes(children));
  return element;
}

/**
 * Put children in the place of all that an element has.
 *
 * @param {Element} element
 * @param {...(Child|Child[])} children
 */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/**
 * An element of index.html.
 *
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found;
}

/**
 * @param {(Child|Child[])[]} children
 * @returns {(Node|string)[]}
 */
function nodes(children) {
  return children
    .flat()
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}
