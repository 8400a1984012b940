/** The page of `cytodistill serve`: started once the run is loaded. */

import { announce } from "./announce.js";
import { call } from "./api.js";
import { startCell } from "./cell.js";
import { byId, fill, h } from "./dom.js";
import { startField } from "./field.js";
import { startGallery } from "./gallery.js";
import { startKeyboard } from "./keyboard.js";
import { countAgreement } from "./reviewing.js";
import { startReviews, startTally } from "./reviews.js";
import { startRouting } from "./router.js";
import { startSession } from "./session.js";
import { model } from "./state.js";
import { startUploads } from "./uploads.js";
import { className, counted, listed } from "./words.js";

async function start() {
  await startSession();
  // The service answers this when the network is loaded.
  model.set(await call("model"));
  byId("starting").hidden = true;
  footer();
  startKeyboard();
  startTally();
  startGallery();
  startCell();
  startField();
  startUploads();
  startReviews();
  await Promise.all([startRouting(), countAgreement()]);
}

function footer() {
  const { name, run, classes, exits, abnormal, class_map } = /** @type {import("./types.js").Model} */ (model.value);
  const meant = abnormal.length ? `; abnormal: ${listed(abnormal.map(className))} (${class_map})` : "";
  fill(
    byId("footer"),
    h("p", {}, `Run ${name}, `, h("code", {}, run.slice(0, 12)), `: ${counted(classes.length, "class", "classes")}, ${counted(exits, "exit")}${meant}.`),
    h("p", {}, "For research. What the run says of a cell is no diagnosis."),
  );
}

start().catch((error) => {
  byId("starting").textContent = error.message;
  announce(error.message, { kind: "bad" });
});
