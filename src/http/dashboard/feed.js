// The page's end of the event stream: through the worker that all tabs share, or of its own without one.

import { keepOpen } from "./source.js";

/**
 * `tell` gets what source.js tells, and `{kind: "resync"}` where the page must fetch the whole state. What
 * is returned has the stream opened at once where it is not.
 */
export function startFeed(tell) {
  if (typeof SharedWorker === "undefined") return keepOpen(tell);
  let renew = () => worker.port.postMessage("renew");
  let worker;
  const connect = () => {
    worker = new SharedWorker("/dashboard/shared.js", { type: "module", name: "rbee" });
    worker.port.onmessage = ({ data }) => tell(data);
    worker.onerror = () => {
      worker.port.close();
      renew = keepOpen(tell);
    };
  };
  // A page that the browser puts aside leaves the stream, and one that it takes out again comes back.
  addEventListener("pagehide", () => worker.port.postMessage("bye"));
  addEventListener("pageshow", ({ persisted }) => {
    if (persisted) connect();
  });
  connect();
  return () => renew();
}
