// The log viewer: the end of a worker's output, and what comes. Text only; its size is bounded.

import { followLog } from "./api.js";
import { byId, say } from "./dom.js";

const TAIL_LINES = 500;
/** Characters that are kept; the oldest lines go first. */
const KEPT = 400_000;
// Terminal colours and cursor movements mean nothing here.
const ESCAPES = /\u001b\[[0-9;?]*[A-Za-z]/g;

const dialog = byId("logs");
const follow = byId("logs-follow");
const output = document.createTextNode("");
const status = document.createTextNode("");
byId("logs-text").append(output);
byId("logs-status").append(status);

/** Closing the viewer ends the request, too. */
let reading;
dialog.addEventListener("close", () => reading?.abort());
follow.addEventListener("change", scroll);

function scroll() {
  const box = byId("logs-text");
  if (follow.checked) box.scrollTop = box.scrollHeight;
}

/** A reader that scrolls up wants to stay there; one at the end wants to follow. */
byId("logs-text").addEventListener("scroll", ({ target }) => {
  follow.checked = target.scrollHeight - target.scrollTop - target.clientHeight < 24;
}, { passive: true });

/** Adds text once a frame, whatever the number of pieces it came in. */
function writer() {
  let waiting = "";
  let asked = false;
  const flush = () => {
    asked = false;
    let text = output.data + waiting.replace(ESCAPES, "");
    waiting = "";
    if (text.length > KEPT) text = text.slice(text.indexOf("\n", text.length - KEPT) + 1);
    const following = follow.checked;
    say(output, text);
    follow.checked = following;
    scroll();
  };
  return (piece) => {
    waiting = (waiting + piece).slice(-KEPT);
    if (!asked) requestAnimationFrame(flush);
    asked = true;
  };
}

/** Opens the viewer for a worker. */
export async function openLogs(worker) {
  byId("logs-title").textContent = `Log of ${worker.id}`;
  output.data = "";
  follow.checked = true;
  dialog.showModal();
  byId("logs-text").focus();
  reading?.abort();
  const mine = new AbortController();
  reading = mine;
  say(status, "Opening…");
  try {
    const body = await followLog(worker, TAIL_LINES, mine.signal);
    say(status, "Live");
    const write = writer();
    const pieces = body.pipeThrough(new TextDecoderStream()).getReader();
    for (let piece = await pieces.read(); !piece.done; piece = await pieces.read()) write(piece.value);
    say(status, "Ended: the worker, its hive or your session is gone.");
  } catch (error) {
    if (!mine.signal.aborted) say(status, `The log cannot be read: ${error.message}`);
  }
}
