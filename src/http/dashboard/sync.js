// From the feed into the store: events in order, and the whole state anew where some were missed.
//
// While the whole state is being fetched the events wait, and follow it: none is lost, none is older.

import { getJson } from "./api.js";
import { startFeed } from "./feed.js";
import { needsLogin } from "./permit.js";
import { refresh, viewer } from "./session.js";

const HISTORY_EVERY_MS = 10_000;
/** What a hive says of itself, beside its machine and workers, is not in the stream. */
const HIVES_EVERY_MS = 15_000;

export class Sync {
  #link = { status: "connecting", since: performance.now() };
  #renew = null;
  #waiting = null;
  #historyAt = -Infinity;
  #hivesAt = -Infinity;
  #completing = false;

  /**
   * `knows`: whether the queen has told anything yet; until then there being no workers says nothing.
   * `news` is called when the store has changed, `draw` when anything else is to be shown anew.
   */
  constructor(store, { news, draw }) {
    Object.assign(this, { store, news, draw, lastNews: performance.now(), happened: 0, knows: false });
  }

  /** Begins, or goes on at once where the stream waits for its next try. */
  listen() {
    if (this.#renew) this.#renew();
    else this.#renew = startFeed((message) => this.#take(message));
  }

  /** How the stream is: its status, since when, and why where that is known. */
  standing() {
    return needsLogin(viewer()) ? { ...this.#link, reason: "unauthorised" } : this.#link;
  }

  #take({ kind, name, data, status, reason }) {
    if (kind === "status") this.#linked(status, reason);
    else if (kind === "resync" || name === "lagged") this.#fetchAll();
    else if (this.#waiting) this.#waiting.push([name, data]);
    else this.#heard(name, data);
  }

  #linked(status, reason) {
    const since = status === this.#link.status ? this.#link.since : performance.now();
    // A stream that opens anew may do so after a session that the queen has forgotten.
    if (reason === "unauthorised" || (status === "open" && this.#link.status === "broken")) refresh();
    this.#link = { status, reason: reason === "silent" ? reason : undefined, since };
    this.draw();
  }

  #heard(name, text) {
    const data = JSON.parse(text);
    const now = performance.now();
    this.lastNews = now;
    this.knows = true;
    if (this.#link.status !== "open") this.#link = { status: "open", since: now };
    if (name === "lifecycle") this.happened += 1;
    this.store.apply(name, data, now);
    if (name === "snapshot") this.#loadHistory();
    if (this.store.incomplete || now - this.#hivesAt > HIVES_EVERY_MS) this.#completeHives();
    this.news();
  }

  async #fetchAll() {
    if (this.#waiting) return;
    this.#waiting = [];
    try {
      const [{ hives }, { workers }] = await Promise.all([getJson("/v1/hives"), getJson("/v1/workers")]);
      this.lastNews = performance.now();
      this.store.replace(hives, workers, this.lastNews);
      this.knows = true;
    } catch {
      // The stream goes on telling each hive whole; the banner says if it does not.
    }
    const missed = this.#waiting;
    this.#waiting = null;
    for (const [name, data] of missed) this.#heard(name, data);
    this.#loadHistory();
    this.news();
  }

  async #loadHistory() {
    const now = performance.now();
    if (now - this.#historyAt < HISTORY_EVERY_MS) return;
    this.#historyAt = now;
    try {
      const { workers } = await getJson("/v1/history");
      this.store.loadHistory(workers, performance.now());
      this.draw();
    } catch {
      // Sparklines begin with what comes now.
    }
  }

  /** The stream tells of a hive only its machine and its workers. */
  async #completeHives() {
    if (this.#completing) return;
    this.#completing = true;
    this.#hivesAt = performance.now();
    try {
      const { hives } = await getJson("/v1/hives");
      const now = performance.now();
      for (const view of hives) this.store.learn(view, now);
    } catch {
      this.store.incomplete = false;
    }
    this.#completing = false;
    this.draw();
  }
}
