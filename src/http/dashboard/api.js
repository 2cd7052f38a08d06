// Calls to the queen. A refusal becomes an ApiError with the words the server used.

/**
 * A call that was not answered with what was asked for. `status` is 0 where nothing answered,
 * `retryAfterS` is how long the queen wants to be left alone, or 0.
 */
export class ApiError extends Error {
  constructor(status, message, retryAfterS = 0) {
    super(message);
    Object.assign(this, { status, retryAfterS });
  }
}

/** What is told when a call is answered with 401: whoever the viewer was, he is no more. */
let onUnauthorised = () => {};
export function whenUnauthorised(handler) {
  onUnauthorised = handler;
}

async function refusal(response) {
  let message = `${response.status} ${response.statusText}`.trim();
  try {
    message = (await response.json()).error.message ?? message;
  } catch {
    // Not in the queen's form: the status says what there is to say.
  }
  return new ApiError(response.status, message, Number(response.headers.get("retry-after")) || 0);
}

async function answered(method, path, options = {}) {
  let response;
  try {
    response = await fetch(path, { method, cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The queen does not answer.");
  }
  // Of a login it only says that the token is wrong.
  if (response.status === 401 && path !== LOGIN) onUnauthorised();
  if (!response.ok) throw await refusal(response);
  return response;
}

/** What is only read has to come within this, ms. An action may take as long as a worker's grace. */
const READ_WITHIN_MS = 10_000;

/** Asks for JSON. */
export async function getJson(path) {
  return (await answered("GET", path, { signal: AbortSignal.timeout(READ_WITHIN_MS) })).json();
}

const LOGIN = "/login";

/** Trades a token for a cookie that no script can see. */
export async function postLogin(token) {
  const signal = AbortSignal.timeout(READ_WITHIN_MS);
  const headers = { "content-type": "application/json" };
  await (await answered("POST", LOGIN, { signal, headers, body: JSON.stringify({ token }) })).text();
}

/** Gives the cookie back. */
export async function postLogout() {
  await answered("POST", "/logout", { signal: AbortSignal.timeout(READ_WITHIN_MS) });
}

const ofWorker = ({ hive, group, instance }) =>
  `/v1/hives/${encodeURIComponent(hive)}/workers/${encodeURIComponent(group)}/${encodeURIComponent(instance)}`;

const CALLS = {
  restart: (worker) => answered("POST", `${ofWorker(worker)}/restart`),
  drain: (worker) => answered("POST", `${ofWorker(worker)}/drain`),
  resume: (worker) => answered("POST", `${ofWorker(worker)}/resume`),
  stop: (worker) => answered("DELETE", ofWorker(worker)),
};

/** Asks a worker's hive for an action, through the queen; resolves when it has happened. */
export async function act(action, worker) {
  await (await CALLS[action](worker)).text();
}

/** A worker's log as it is written, until `signal` aborts. */
export async function followLog(worker, tail, signal) {
  const path = `${ofWorker(worker)}/logs?tail=${tail}&follow=true`;
  return (await answered("GET", path, { signal })).body;
}

/** One worker as its hive tells it, through the queen: with its last exit whole. */
export function getWhole(worker) {
  return getJson(ofWorker(worker));
}

/** One worker with all the history that is kept. */
export function getWorker({ hive, group, instance }) {
  return getJson(`/v1/workers/${[hive, group, instance].map(encodeURIComponent).join("/")}`);
}
