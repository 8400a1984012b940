/** Sending: the form, the drop on any place of the page, and how far it is. */

import { announce, attempt } from "./announce.js";
import { send } from "./api.js";
import { h } from "./dom.js";
import { filesOf, formOf, requestsOf } from "./files.js";
import { go } from "./router.js";
import { run } from "./state.js";
import { counted, percent, size } from "./words.js";

const KINDS = "image/png,image/jpeg,image/bmp,image/tiff,image/webp,.tif,.tiff,.zip,.csv,.tsv,.txt,.json,.geojson";

export class UploadForm {
  #input = h("input", { type: "file", id: "files", name: "files", multiple: true, accept: KINDS });
  #group = h("input", { name: "group", maxlength: 100, autocomplete: "off", "aria-describedby": "group-note" });
  #keep = h("input", { type: "checkbox", name: "keep" });
  #microns = h("input", { name: "microns", type: "number", min: 0, step: "any", inputmode: "decimal", autocomplete: "off", "aria-describedby": "microns-note" });
  #ignore = h("input", { type: "checkbox", name: "ignore" });
  #state = h("div", { class: "sending", hidden: true });
  #busy = false;

  /** @param {() => void} sent called when the service has accepted an upload */
  constructor(sent) {
    this.sent = sent;
    this.#input.addEventListener("change", () => attempt(() => this.#take([...(this.#input.files ?? [])])));
    this.zone = h("div", { class: "zone" },
      h("p", { class: "lead" }, "Drop images here, or anywhere on this page"),
      h("p", {}, h("label", { class: "button main", for: "files" }, "Choose files"), this.#input),
      h("ul", { class: "soft" },
        h("li", {}, "cells: PNG, JPEG, BMP, TIFF or WebP, one or many, or a zip or folder of them"),
        h("li", {}, "a field: its image and where its cells are, as GeoJSON from QuPath, as COCO, or as a CSV with columns x and y (pixels of the cells' centres), or x, y, width and height"),
        h("li", {}, "several fields: their images and one CSV with a column ", h("code", {}, "image"), ", or one COCO file")));
    this.element = h("form", { class: "upload", "aria-label": "Add images", onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
      this.zone,
      h("div", { class: "choices-of" },
        h("label", { class: "line" }, "Slide or patient, if all are of one", this.#group),
        h("p", { class: "soft note", id: "group-note" }, "Cells of one are never split between training and test. Give a number of your own, not a person's name."),
        ...this.#pixelSize(),
        h("label", { class: "tick" }, this.#keep, "Keep all of it after the service stops; otherwise reviewed cells alone are kept")),
      this.#state);
  }

  /** Asked for where the run knows the pixel size of its training. */
  #pixelSize() {
    const trained = run().microns_per_pixel;
    if (trained === null) return [];
    return [
      h("label", { class: "line" }, "Pixel size of a field, in µm", this.#microns),
      h("p", { class: "soft note", id: "microns-note" }, `Cells of fields are cut as large as in training, where a pixel was ${trained} µm.`),
      h("label", { class: "tick" }, this.#ignore, "Cut as if a field's pixels were of this size"),
    ];
  }

  /** Take what is dropped anywhere. */
  watchDrops() {
    const over = (/** @type {DragEvent} */ event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      document.body.classList.add("dropping");
    };
    addEventListener("dragenter", over);
    addEventListener("dragover", over);
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
    addEventListener("drop", (event) => {
      document.body.classList.remove("dropping");
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      const dropped = event.dataTransfer;
      go("uploads");
      attempt(async () => this.#take(await filesOf(dropped)));
    });
  }

  /** @param {File[]} files */
  async #take(files) {
    if (!files.length) return;
    if (this.#busy) throw new Error("An upload is on its way; wait for it, or cancel it.");
    const requests = await requestsOf(files);
    if (requests.some(({ cells }) => cells !== null)) this.#checkPixelSize();
    const stop = new AbortController();
    this.#busy = true;
    try {
      for (const request of requests) await this.#send(request, stop.signal, () => stop.abort());
      announce(`${counted(files.length, "file")} sent.`);
    } finally {
      this.#busy = false;
      this.#state.hidden = true;
      this.#input.value = "";
    }
  }

  #checkPixelSize() {
    if (run().microns_per_pixel === null || this.#ignore.checked || this.#microns.valueAsNumber > 0) return;
    this.#microns.focus();
    throw new Error("Say the pixel size of the field, or tick that its pixels are as in training; then send it again.");
  }

  /**
   * @param {import("./files.js").Request} request
   * @param {AbortSignal} signal
   * @param {() => void} cancel
   */
  async #send(request, signal, cancel) {
    const bar = h("progress", { max: 1, value: 0, "aria-label": "Sending" });
    const words = h("span", {}, "Sending…");
    this.#state.replaceChildren(h("p", {}, words), bar, h("button", { type: "button", onclick: cancel }, "Cancel"));
    this.#state.hidden = false;
    let told = 0;
    await send(
      formOf(request, { keep: this.#keep.checked, group: this.#group.value.trim(), microns: this.#microns.value, ignore: this.#ignore.checked }),
      (sent, total) => {
        bar.value = total ? sent / total : 0;
        words.textContent = `Sending ${size(sent)} of ${size(total)} (${percent(bar.value)})`;
        // A long upload is told of at its quarters, not at every packet.
        if (Math.floor(4 * bar.value) > told) announce(`Sending, ${percent((told = Math.floor(4 * bar.value)) / 4)}`, { shown: false });
      },
      signal,
    );
    this.sent();
  }
}
