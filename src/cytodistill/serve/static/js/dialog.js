/** Questions in the browser's own modal dialog: it keeps the focus inside and gives it back. */

import { h } from "./dom.js";

/**
 * @param {string} title
 * @param {(Node|string)[]} content of a form
 * @param {{yes?: string, no?: string|null, danger?: boolean, check?: (form: FormData) => Promise<string|null>|string|null}} [options]
 *   `check` says what is wrong with what was given, or null
 * @returns {Promise<FormData|null>} null where it was left
 */
export function ask(title, content, { yes = "OK", no = "Cancel", danger = false, check = () => null } = {}) {
  return new Promise((resolve) => {
    const wrong = h("p", { class: "wrong", role: "alert" });
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { id: "dialog-title" }, title),
      ...content,
      wrong,
      h(
        "p",
        { class: "choices" },
        no && h("button", { type: "button", onclick: () => leave(null) }, no),
        h("button", { type: "submit", class: danger ? "danger" : "main" }, yes),
      ),
    );
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
    // At once, and not when the event "close" comes: a key that is pressed before it finds the answer in force.
    const leave = (/** @type {FormData|null} */ given) => {
      if (dialog.open) dialog.close();
      dialog.remove();
      resolve(given);
    };
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const data = new FormData(form);
      const said = await check(data);
      wrong.textContent = said ?? "";
      if (!said) leave(data);
    });
    dialog.addEventListener("close", () => leave(null));
    document.body.append(dialog);
    dialog.showModal();
  });
}
