/**
 * Calls of the REST API. A refusal is a `Problem` whose message is what the service says, for people.
 *
 * @typedef {import("./types.js").Upload} Upload
 */

const ROOT = "api/v1";

export class Problem extends Error {
  /**
   * @param {number} status 0 where the service was not reached
   * @param {string} detail
   */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Signs in, and settles when that is done; `session.js` sets it. */
let signIn = async () => {};

/** @param {() => Promise<void>} way */
export function onSignedOut(way) {
  signIn = way;
}

/**
 * @param {string} path below the API's root
 * @param {{method?: string, query?: Record<string, any>, body?: any, signal?: AbortSignal}} [options]
 * @returns {Promise<any>} what the JSON says
 */
export async function call(path, { method = "GET", query, body, signal } = {}) {
  /** @type {RequestInit} */
  const request = { method, signal, credentials: "same-origin" };
  if (body !== undefined) {
    request.body = JSON.stringify(body);
    request.headers = { "Content-Type": "application/json" };
  }
  let answer;
  try {
    answer = await fetch(address(path, query), request);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, "The service does not answer. Is it still running?");
  }
  if (answer.status === 401 && path !== "session") {
    await signIn();
    return call(path, { method, query, body, signal });
  }
  if (!answer.ok) throw new Problem(answer.status, detailOf(await answer.text()));
  return answer.status === 204 ? null : answer.json();
}

/**
 * Address of something that the service has; lists are repeated, null and "" left out.
 *
 * @param {string} path
 * @param {Record<string, any>} [query]
 */
export function address(path, query = {}) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") said.append(name, String(one));
  }
  const text = said.toString();
  return `${ROOT}/${path}${text && `?${text}`}`;
}

/**
 * Send images. fetch does not tell how far an upload is; XMLHttpRequest does.
 *
 * @param {FormData} form
 * @param {(sent: number, total: number) => void} progress in bytes
 * @param {AbortSignal} signal
 * @returns {Promise<Upload>}
 */
export async function send(form, progress, signal) {
  // The session may have ended; better to know before a gigabyte is sent.
  if (!(await call("session", { signal })).signed_in) await signIn();
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address("uploads"));
    request.upload.addEventListener("progress", (event) => progress(event.loaded, event.total));
    request.addEventListener("load", () => {
      if (request.status === 202) resolve(JSON.parse(request.responseText));
      else reject(new Problem(request.status, detailOf(request.responseText)));
    });
    request.addEventListener("error", () => reject(new Problem(0, "The upload was cut off; send it again.")));
    request.addEventListener("abort", () => reject(new Problem(0, "The upload was cancelled.")));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** @param {string} text of a problem document */
function detailOf(text) {
  try {
    return String(JSON.parse(text).detail);
  } catch {
    return "The service gave an answer that this page does not understand; its log may say more.";
  }
}
