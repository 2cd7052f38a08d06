// The line that says when what is shown is not what is: the stream broken, data old, a token wanted.
//
// Its words change only when what they say does, so that a screen reader is not told each second.

import { mark, say } from "./dom.js";
import { duration } from "./format.js";

/** How long a connection may take to come back before it is worth a word, ms. */
const PATIENCE_MS = 1_500;

/** What to say: `[severity, words]`, or null when all is well. Pure. */
export function verdict({ status, reason, brokenFor, hives }) {
  if (reason === "unauthorised") {
    return ["error", `This queen wants a token${hives.length ? ": until you log in, all figures are old" : ""}.`];
  }
  if (status === "connecting" && brokenFor > PATIENCE_MS) return ["warning", "Connecting to the queen…"];
  if (status === "broken" && reason === "silent") {
    return ["error", "The stream has gone silent. Opening it anew…"];
  }
  if (status === "broken" && brokenFor > PATIENCE_MS) {
    return ["error", "The stream is broken: all figures are old. Reconnecting…"];
  }
  const late = hives.filter(({ freshness }) => freshness !== "healthy");
  if (late.length) return [late.some(({ freshness }) => freshness === "down") ? "error" : "warning", lateWords(late)];
  return null;
}

function lateWords(late) {
  const named = late.slice(0, 3).map(({ id, freshness }) => `${id} is ${freshness}`);
  const others = late.length - 3;
  const more = others > 0 ? `, and ${others} more ${others > 1 ? "are" : "is"} late` : "";
  return `Hive ${named.join(", hive ")}${more}: figures of ${late.length > 1 ? "their" : "its"} workers are old.`;
}

export class Banner {
  constructor(node) {
    this.node = node;
    this.words = document.createTextNode("");
    this.since = document.createTextNode("");
    node.querySelector(".words").append(this.words);
    node.querySelector(".since").append(this.since);
  }

  /** Shows the verdict; `oldFor` is how old the newest data is, ms. */
  show(found, oldFor) {
    mark(this.node, "data-severity", found?.[0] ?? null);
    say(this.words, found?.[1] ?? "");
    say(this.since, found && oldFor > 2_000 ? `Last news ${duration(oldFor / 1000)} ago.` : "");
  }
}
