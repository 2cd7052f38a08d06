// Calls to the queen. A refusal becomes an ApiError with the words the server used.

/** A call that was not answered with what was asked for. `status` is 0 where nothing answered. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** What is told when a call is answered with 401. */
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
  return new ApiError(response.status, message);
}

async function answered(method, path, options = {}) {
  let response;
  try {
    response = await fetch(path, { method, cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The queen does not answer.");
  }
  if (response.status === 401) onUnauthorised();
  if (!response.ok) throw await refusal(response);
  return response;
}

/** What is only read has to come within this, ms. An action may take as long as a worker's grace. */
const READ_WITHIN_MS = 10_000;

/** Asks for JSON. */
export async function getJson(path) {
  return (await answered("GET", path, { signal: AbortSignal.timeout(READ_WITHIN_MS) })).json();
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
