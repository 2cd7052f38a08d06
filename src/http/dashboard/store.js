// What the page knows: hives, their workers, what happened lately. It is what the events so far add up to.
//
// Times are of this browser's monotonic clock. Everything here is bounded by what the queen knows.

import { History } from "./history.js";

/** Points kept for each worker's sparklines: a minute, also of a hive that tells twice a second. */
const POINTS = 128;
const EVENTS_KEPT = 200;

/** The memory that people mean by used; a program that does not tell it tells RSS. */
export const usedMb = (report) => report.working_set_mb || report.rss_mb || 0;

/** `{hive}/{group}/{instance}` */
const idOf = (hive, { group, instance }) => `${hive}/${group}/${instance}`;

export class Store {
  constructor() {
    this.hives = new Map();
    this.workers = new Map();
    /** The ids of each hive's workers. */
    this.members = new Map();
    this.events = [];
    /** Goes up with each change of which hives and workers there are. */
    this.membership = 0;
    /** Whether a hive came of which only its workers are known. */
    this.incomplete = false;
  }

  /** One event of the stream. */
  apply(name, data, now) {
    if (name === "snapshot") this.replace(data.hives, data.workers, now);
    else if (data.type === "hive_telemetry") this.#telemetry(data, now);
    else if (name === "lifecycle") this.#lifecycle(data);
  }

  /** The whole state, as the API or a snapshot tells it. */
  replace(hives, workers, now) {
    const byHive = Map.groupBy(workers, (worker) => worker.hive_id);
    const known = new Set(hives.map((hive) => hive.id));
    for (const id of this.hives.keys()) if (!known.has(id)) this.#forget(id);
    for (const hive of hives) {
      this.learn(hive, now);
      this.#report(hive.id, byHive.get(hive.id) ?? [], now - hive.age_ms);
    }
    this.incomplete = false;
    this.membership += 1;
  }

  /** What `GET /v1/hives` tells of one. */
  learn(view, now) {
    const { age_ms, ...hive } = view;
    this.hives.set(hive.id, { ...hive, seen: now - age_ms });
    this.incomplete = false;
  }

  /** What `GET /v1/history` tells. */
  loadHistory(histories, now) {
    for (const { hive_id, history, ...name } of histories) {
      this.workers.get(idOf(hive_id, name))?.history.load(history, now);
    }
  }

  #telemetry({ hive_id, timestamp, node, workers }, now) {
    const known = this.hives.get(hive_id);
    if (known) Object.assign(known, { timestamp, node, freshness: "healthy", seen: now });
    else {
      this.hives.set(hive_id, { id: hive_id, timestamp, node, freshness: "healthy", seen: now });
      this.incomplete = true;
      this.membership += 1;
    }
    this.#report(hive_id, workers, now);
  }

  #report(hive, reports, time) {
    const told = new Set();
    for (const report of reports) {
      const id = idOf(hive, report);
      told.add(id);
      const worker = this.workers.get(id) ?? this.#meet(id, hive, report);
      worker.report = report;
      worker.history.push(time, report.cpu_pct, usedMb(report), report.gpu_util_pct, report.vram_mb);
    }
    for (const id of this.members.get(hive) ?? []) if (!told.has(id)) this.#remove(id);
    this.members.set(hive, told);
  }

  #meet(id, hive, { group, instance }) {
    // `exit` is the last exit with its log tail, which heartbeats leave out.
    const worker = { id, hive, group, instance, report: null, exit: null, history: new History(POINTS) };
    this.workers.set(id, worker);
    this.membership += 1;
    return worker;
  }

  #remove(id) {
    this.workers.delete(id);
    this.membership += 1;
  }

  #forget(hive) {
    this.hives.delete(hive);
    for (const id of this.members.get(hive) ?? []) this.#remove(id);
    this.members.delete(hive);
    this.membership += 1;
  }

  #lifecycle(event) {
    this.events.push(event);
    if (this.events.length > EVENTS_KEPT) this.events.shift();
    const worker = this.workers.get(event.worker_id);
    if (worker && event.last_exit) worker.exit = event.last_exit;
    if (event.type === "hive_evicted") this.#forget(event.hive_id);
    const hive = this.hives.get(event.hive_id);
    const freshness = { hive_online: "healthy", hive_degraded: "degraded", hive_down: "down" }[event.type];
    if (hive && freshness) hive.freshness = freshness;
  }
}
