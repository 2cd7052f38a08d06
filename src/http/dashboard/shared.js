// The shared worker: one stream for all tabs of this queen. It passes events on as text and keeps none.

import { keepOpen } from "./source.js";

const ports = new Set();
let status;
let renew;

function tell(message) {
  if (message.kind === "status") status = message;
  for (const port of ports) port.postMessage(message);
}

onconnect = ({ ports: [port] }) => {
  port.onmessage = ({ data }) => {
    if (data === "bye") ports.delete(port);
    if (data === "renew") renew();
  };
  ports.add(port);
  if (status === undefined) renew = keepOpen(tell);
  else {
    // Whoever comes later has missed the snapshot.
    port.postMessage(status);
    port.postMessage({ kind: "resync" });
  }
};
