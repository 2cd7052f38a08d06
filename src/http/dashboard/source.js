// One connection to the queen's event stream that is never given up. Runs in a page or a shared worker.
//
// EventSource itself comes back after a broken connection, and sends what it saw last. It gives up
// when it is refused, and cannot tell a connection that is silently dead: both are dealt with here.

const STREAM = "/v1/heartbeats/stream";
const EVENTS = ["snapshot", "heartbeat", "lifecycle", "lagged"];
const RETRY_FIRST_MS = 1_000;
const RETRY_LONGEST_MS = 15_000;
/** Silence of this many times the longest pause so far is taken for a dead connection. */
const PAUSES = 3;
const SILENCE_LEAST_MS = 10_000;
const SILENCE_UNKNOWN_MS = 30_000;

/**
 * Keeps the stream open. `tell` gets `{kind: "event", name, data}` with the text of each event, and
 * `{kind: "status", status}`: "connecting", "open" or "broken", with `reason` where one is known. What is
 * returned opens it at once where it is not open, rather than when the next try is due.
 */
export function keepOpen(tell) {
  let source;
  let retryMs = RETRY_FIRST_MS;
  let lastEvent = performance.now();
  let longestPause = 0;
  let nextTry;

  function heard(name, data) {
    const now = performance.now();
    longestPause = Math.max(longestPause, now - lastEvent);
    lastEvent = now;
    tell({ kind: "event", name, data });
  }

  function open() {
    source = new EventSource(STREAM);
    lastEvent = performance.now();
    for (const name of EVENTS) source.addEventListener(name, (event) => heard(name, event.data));
    source.onopen = () => {
      retryMs = RETRY_FIRST_MS;
      lastEvent = performance.now();
      tell({ kind: "status", status: "open" });
    };
    source.onerror = broke;
  }

  async function broke() {
    tell({ kind: "status", status: "broken" });
    longestPause = 0;
    if (source.readyState !== EventSource.CLOSED) return;
    nextTry = setTimeout(open, retryMs);
    retryMs = Math.min(retryMs * 2, RETRY_LONGEST_MS);
    const reason = await whyRefused();
    if (reason && source.readyState === EventSource.CLOSED) tell({ kind: "status", status: "broken", reason });
  }

  setInterval(() => {
    const known = Math.max(longestPause * PAUSES, SILENCE_LEAST_MS);
    const limit = longestPause > 0 ? known : SILENCE_UNKNOWN_MS;
    if (source.readyState === EventSource.OPEN && performance.now() - lastEvent > limit) {
      source.close();
      tell({ kind: "status", status: "broken", reason: "silent" });
      longestPause = 0;
      open();
    }
  }, 1_000);

  function begin() {
    tell({ kind: "status", status: "connecting" });
    open();
  }

  begin();
  return () => {
    if (source.readyState === EventSource.OPEN) return;
    source.close();
    clearTimeout(nextTry);
    retryMs = RETRY_FIRST_MS;
    begin();
  };
}

/** EventSource does not tell the status of a refusal; another call does. */
async function whyRefused() {
  try {
    const { required, role } = await (await fetch("/v1/session", { cache: "no-store" })).json();
    return required && role === null ? "unauthorised" : undefined;
  } catch {
    return undefined;
  }
}
