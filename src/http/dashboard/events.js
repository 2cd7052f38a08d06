// What happened lately, newest first: starts, deaths, hives that come and go.

import { byId, el } from "./dom.js";
import { exitSentence } from "./facts.js";
import { eventWord } from "./format.js";

/** Whether it is something that an operator would look into. */
const isTrouble = (type) => ["worker_exited", "worker_failed", "hive_degraded", "hive_down", "hive_evicted"].includes(type);

/** When, by this browser's clock: the time of day. */
export function timeOfDay(time) {
  const at = new Date(time);
  return Number.isNaN(at.getTime()) ? time : at.toLocaleTimeString("en-GB");
}

/** One event as a list item; `onPick` gets a worker's id. */
export function eventItem(event, onPick) {
  const subject = event.worker_id ?? event.hive_id;
  const exit = event.type === "worker_exited" && event.last_exit ? exitSentence(event.last_exit) : "";
  const name = event.worker_id && onPick
    ? el("button", { type: "button", class: "pick", onclick: () => onPick(event.worker_id) }, subject)
    : el("span", {}, subject);
  return el(
    "li",
    { "data-trouble": String(isTrouble(event.type)) },
    el("time", { datetime: event.timestamp }, timeOfDay(event.timestamp)),
    name,
    el("span", { class: "word" }, eventWord(event.type)),
    el("span", { class: "why" }, exit),
  );
}

/** The dialog with all of them. */
export function openEvents(events, onPick) {
  const dialog = byId("events");
  const pick = (id) => {
    dialog.close();
    onPick(id);
  };
  const items = events.toReversed().map((event) => eventItem(event, pick));
  byId("events-list").replaceChildren(...items);
  byId("events-none").hidden = items.length > 0;
  dialog.showModal();
}
