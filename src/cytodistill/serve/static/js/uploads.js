/**
 * Uploads: adding images, watching them being worked on, and deleting what was sent.
 *
 * @typedef {import("./types.js").Upload} Upload
 */

import { announce, attempt } from "./announce.js";
import { Problem, call } from "./api.js";
import { ask } from "./dialog.js";
import { byId, fill, h } from "./dom.js";
import { refreshGallery } from "./gallery.js";
import { countAgreement } from "./reviewing.js";
import { addView, arrive } from "./router.js";
import { UploadForm } from "./upload.js";
import { counted, listed, when } from "./words.js";

const PAUSE = 700;
const STATES = { waiting: "waits for its turn", working: "is being worked on", done: "done", stopped: "stopped", failed: "failed" };

export function startUploads() {
  addView("uploads", new UploadsView(byId("uploads")));
}

class UploadsView {
  id = "uploads";
  #items = h("ul", { class: "jobs", "aria-label": "Uploads" });
  #heading = h("h1", { tabindex: -1 }, "Uploads");
  /** @type {Map<string, string>} states that were seen last */
  #states = new Map();
  #timer = 0;

  /** @param {HTMLElement} section */
  constructor(section) {
    const form = new UploadForm(() => attempt(() => this.#watch()));
    form.watchDrops();
    fill(section, h("div", { class: "head" }, this.#heading), form.element, this.#items);
  }

  async show() {
    arrive("Uploads", this.#heading);
    await this.#watch();
  }

  /** Look at the uploads, again and again while one is worked on, whichever view is shown. */
  async #watch() {
    clearTimeout(this.#timer);
    const uploads = /** @type {Upload[]} */ (await call("uploads"));
    for (const upload of uploads) this.#tell(upload);
    this.#draw(uploads);
    if (uploads.some(underWay)) this.#timer = setTimeout(() => attempt(() => this.#watch()), PAUSE);
  }

  /** @param {Upload} upload */
  #tell(upload) {
    const before = this.#states.get(upload.id);
    this.#states.set(upload.id, upload.state);
    if (before === undefined || before === upload.state || underWay(upload)) return;
    refreshGallery();
    const failed = upload.failed ? `, ${counted(upload.failed, "image")} could not be used` : "";
    announce(upload.state === "failed" ? `The upload failed: ${upload.detail}` : `${counted(upload.done, "cell")} ready${failed}.`, {
      kind: upload.state === "failed" ? "bad" : "good",
    });
  }

  /** @param {Upload[]} uploads */
  #draw(uploads) {
    // What is drawn anew keeps the focus on the button that had it.
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.key : undefined;
    fill(this.#items, ...uploads.map((upload) => this.#item(upload)));
    if (focused) /** @type {HTMLElement|null} */ (this.#items.querySelector(`[data-key="${CSS.escape(focused)}"]`))?.focus();
    if (!uploads.length) fill(this.#items, h("li", { class: "soft plain" }, "Nothing has been sent yet."));
  }

  /** @param {Upload} upload */
  #item(upload) {
    const { id, state, total, done, failed, fields } = upload;
    const known = total !== null && total > 0;
    const count = underWay(upload) && known ? `${done + failed} of ${counted(total, "cell")}` : counted(done, "cell");
    return h("li", { class: ["job", state] },
      h("p", { class: "title" }, h("b", {}, upload.group ?? (fields.length ? listed(fields.map((field) => field.name)) : count)), " ", h("span", { class: "badge" }, STATES[state])),
      h("p", { class: "soft" }, [when(upload.added), count, upload.keep ? "kept" : "not kept"].join(" · ")),
      underWay(upload) && h("progress", { max: known ? total : 1, value: known ? done + failed : null, "aria-label": `Cells of the upload of ${when(upload.added)}` }),
      upload.detail && h("p", { class: "wrong" }, upload.detail),
      fields.length > 0 && h("p", {}, "Fields: ", ...fields.flatMap((field, place) => [place ? ", " : "", h("a", { href: `#/field/${field.id}`, "data-key": field.id }, field.name || "field")])),
      failed > 0 && this.#problems(upload),
      h("p", { class: "choices" },
        underWay(upload) && h("button", { type: "button", "data-key": `stop-${id}`, onclick: () => attempt(() => this.#stop(id)) }, "Stop"),
        h("button", { type: "button", "data-key": `delete-${id}`, "aria-label": `Delete the upload of ${when(upload.added)}`, onclick: () => attempt(() => this.#delete(upload)) }, "Delete")));
  }

  /** @param {Upload} upload */
  #problems({ problems, failed }) {
    return h("details", {}, h("summary", {}, `${counted(failed, "image")} could not be used`),
      h("ul", {}, ...problems.map(({ name, detail }) => h("li", {}, `${name}: ${detail}`))),
      failed > problems.length && h("p", { class: "soft" }, `and ${failed - problems.length} more`));
  }

  /** @param {string} id */
  async #stop(id) {
    await call(`uploads/${id}/stop`, { method: "POST" });
    await this.#watch();
  }

  /** @param {Upload} upload */
  async #delete({ id, added, done }) {
    const what = `The upload of ${when(added)} with its ${counted(done, "cell")} and pictures will be deleted from this machine. This cannot be undone.`;
    const box = h("input", { type: "checkbox", name: "reviews" });
    const sure = await ask("Delete this upload?", [h("p", {}, what), h("label", { class: "tick" }, box, "Its reviews too, if it has some")], { yes: "Delete", danger: true });
    if (!sure) return;
    try {
      await call(`uploads/${id}`, { method: "DELETE", query: { reviews: sure.has("reviews") } });
    } catch (error) {
      if (error instanceof Problem && error.status === 409) throw new Error("It has reviews. Export them, then delete it with its reviews.");
      throw error;
    }
    refreshGallery();
    announce("Deleted.");
    await Promise.all([this.#watch(), countAgreement()]);
  }
}

/** @param {Upload} upload */
function underWay({ state }) {
  return state === "waiting" || state === "working";
}
