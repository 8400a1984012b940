/** Who is here: the token where the service demands one, and the name that reviews are kept under. */

import { announce } from "./announce.js";
import { Problem, call, onSignedOut } from "./api.js";
import { ask } from "./dialog.js";
import { byId, h } from "./dom.js";
import { remembered } from "./state.js";

const LONGEST = 64;
const given = remembered("reviewer", "");
/** Name that the token has; it cannot be changed here. */
let fixed = "";
/** @type {Promise<void>|null} one question at a time, however many calls were refused */
let asking = null;

/** Sign in where that is demanded, and keep the reviewer's name in sight. */
export async function startSession() {
  onSignedOut(signIn);
  const session = await call("session");
  if (!session.signed_in) await signIn();
  else fixed = session.name ?? "";
  const button = byId("reviewer");
  button.addEventListener("click", () => askReviewer());
  given.watch(showReviewer);
}

/** @returns {Promise<string|null>} the reviewer; asked for where nobody has said; null where the question was left */
export async function reviewer() {
  return fixed || given.value || (await askReviewer());
}

async function askReviewer() {
  if (fixed) {
    announce(`Your token is ${fixed}'s; reviews are kept under this name.`);
    return fixed;
  }
  const input = h("input", {
    name: "name",
    required: true,
    maxlength: LONGEST,
    autocomplete: "name",
    value: given.value,
    "aria-describedby": "why-name",
  });
  const form = await ask(
    "Who reviews?",
    [
      h("label", { class: "line" }, "Your name", input),
      h("p", { class: "soft", id: "why-name" }, "Every review is kept with your name and the time."),
    ],
    { yes: "Keep", check: (form) => (String(form.get("name")).trim() ? null : "Say a name.") },
  );
  if (!form) return null;
  given.set(String(form.get("name")).trim());
  return given.value;
}

function signIn() {
  asking ??= askToken().finally(() => (asking = null));
  return asking;
}

async function askToken() {
  const input = h("input", { name: "token", type: "password", required: true, autocomplete: "current-password" });
  await ask("Sign in", [h("label", { class: "line" }, "Token", input), h("p", { class: "soft" }, "Whoever runs this service has given you one.")], {
    yes: "Sign in",
    no: null,
    check: async (form) => {
      try {
        fixed = (await call("session", { method: "POST", body: { token: String(form.get("token")).trim() } })).name ?? "";
        showReviewer();
        return null;
      } catch (error) {
        return error instanceof Problem ? error.message : String(error);
      }
    },
  });
}

function showReviewer() {
  const name = fixed || given.value;
  const button = byId("reviewer");
  button.textContent = name || "Who reviews?";
  button.setAttribute("aria-label", name ? `Reviewer: ${name}` : "Who reviews?");
}
