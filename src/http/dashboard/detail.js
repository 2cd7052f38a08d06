// The panel of one worker: charts, figures, how its last run ended, what can be done to it.

import { ACTIONS, goingOn, perform } from "./actions.js";
import { getWhole, getWorker } from "./api.js";
import { byId, el, label, mark, say } from "./dom.js";
import { eventItem } from "./events.js";
import { chartsOf, exitSentence, factsOf, retryText } from "./facts.js";
import { ago } from "./format.js";
import { History, SERIES } from "./history.js";
import { permitted } from "./login.js";
import { openLogs } from "./logs.js";
import { actingTakes, needsLogin, refusalOf } from "./permit.js";
import { viewer } from "./session.js";
import { peak, spark, sparkPath } from "./spark.js";
import { usedMb } from "./store.js";

const SPAN_MS = 300_000;
/** Five minutes of a hive that tells twice a second. */
const POINTS = 640;
const BOX = { width: 200, height: 56, span: SPAN_MS };

export class Detail {
  /** `onClose` is called when the viewer closes it. */
  constructor(onClose) {
    this.node = byId("detail");
    this.worker = null;
    this.charts = new Map();
    this.facts = [];
    byId("detail-close").addEventListener("click", onClose);
    this.buttons = ["restart", "drain", "stop"].map((action) => [action, byId(`do-${action}`)]);
    for (const [action, button] of this.buttons) button.addEventListener("click", () => this.do(action));
    byId("do-logs").addEventListener("click", () => this.logs());
    this.title = this.#text("detail-title");
    this.place = this.#text("detail-hive");
    this.state = this.#text("detail-state");
    this.note = this.#text("detail-note");
    this.refusal = this.#text("detail-refusal");
    this.exit = this.#text("exit-words");
    this.exitAt = this.#text("exit-at");
    this.tail = this.#text("exit-tail");
  }

  #text(id) {
    const text = document.createTextNode("");
    byId(id).replaceChildren(text);
    return text;
  }

  /** Opens it for a worker. Its long history is fetched; until it comes there is what the page has. */
  async open(worker) {
    this.worker = worker;
    this.history = new History(POINTS);
    this.lastReport = null;
    this.eventCount = -1;
    this.askedFor = "";
    this.node.hidden = false;
    await this.#loadHistory(worker);
  }

  /** Asks again for what may have been refused: the viewer is somebody else now. */
  again() {
    if (!this.worker) return;
    this.askedFor = "";
    this.#loadHistory(this.worker);
  }

  async #loadHistory(worker) {
    if (needsLogin(viewer())) return;
    try {
      const { history } = await getWorker(worker);
      if (this.worker?.id === worker.id) this.history.load(history, performance.now());
    } catch {
      // Without it the charts begin now. That the queen does not answer is the banner's to say.
    }
  }

  close() {
    this.worker = null;
    this.node.hidden = true;
  }

  /** Shows its worker as it is now. `worker` is undefined once it is gone. */
  show(worker, hive, events, now) {
    if (!this.worker) return;
    const gone = worker === undefined;
    const { report } = worker ?? this.worker;
    this.worker = worker ?? this.worker;
    if (report !== this.lastReport && !gone) {
      this.lastReport = report;
      this.history.push(now, report.cpu_pct, usedMb(report), report.gpu_util_pct, report.vram_mb);
    }
    say(this.title, `${this.worker.group}/${this.worker.instance}`);
    say(this.place, `on ${this.worker.hive}`);
    say(this.state, gone ? "gone" : report.state);
    mark(this.node, "data-state", gone ? "stopped" : report.state);
    mark(this.node, "data-freshness", gone ? "down" : (hive?.freshness ?? "down"));
    say(this.note, gone ? "This worker is no longer on its hive." : (goingOn(worker.id) ?? retryText(report)));
    this.#showButtons(report, gone);
    this.#showCharts(report, hive?.node, now);
    this.#showFacts(factsOf(report, hive?.node, hive ?? { id: this.worker.hive }));
    this.#showExit(report.last_exit);
    this.#showEvents(events);
  }

  #showButtons(report, gone) {
    const refused = actingTakes(viewer()) === "another";
    const busy = gone || refused || goingOn(this.worker.id) !== undefined;
    say(this.refusal, refused ? refusalOf(viewer().role) : "");
    byId("do-logs").disabled = refused;
    const draining = report.state === "draining";
    for (const [action, button] of this.buttons) {
      button.disabled = busy;
      if (action === "drain") say(button.firstChild, ACTIONS[draining ? "resume" : "drain"].name);
    }
  }

  /** Does what a button says; a draining worker is resumed instead. */
  do(action) {
    if (!this.worker) return;
    const draining = this.worker.report.state === "draining";
    const meant = action === "drain" && draining ? "resume" : action;
    perform(meant, this.worker, () => this.onChange?.());
  }

  async logs() {
    const { worker } = this;
    if (worker && (await permitted(`The log of ${worker.id}`))) openLogs(worker);
  }

  #showCharts(report, node, now) {
    for (const [series, name, figure, least] of chartsOf(report, node)) {
      const chart = this.charts.get(series) ?? this.#addChart(series, name);
      say(chart.text, figure);
      const top = series === "ram" && !report.memory_limit_mb
        ? peak(this.history, SERIES.ram, now, SPAN_MS) * 1.25 || 1
        : least;
      chart.path.setAttribute("d", sparkPath(this.history, SERIES[series], now, { ...BOX, least: top }));
    }
  }

  #addChart(series, name) {
    const [box, path] = spark(BOX.width, BOX.height, series);
    const [figure, text] = label("span", "figure");
    const caption = el("figcaption", {}, el("span", { class: "label" }, name), figure);
    byId("charts").append(el("figure", {}, caption, box));
    const chart = { path, text };
    this.charts.set(series, chart);
    return chart;
  }

  #showFacts(facts) {
    facts.forEach(([name, value], i) => {
      if (!this.facts[i]) {
        const [node, text] = label("dd", "");
        byId("facts").append(el("dt", {}, name), node);
        this.facts[i] = text;
      }
      say(this.facts[i], value);
    });
  }

  #showExit(exit) {
    byId("exit").hidden = !exit;
    if (!exit) return;
    say(this.exit, exitSentence(exit));
    say(this.exitAt, ago(exit.at));
    say(this.tail, this.#tailOf(exit));
  }

  /** The last lines. An event tells them, a heartbeat does not: then its hive is asked, once. */
  #tailOf(exit) {
    const { worker } = this;
    const whole = exit.log_tail?.length ? exit : worker.exit;
    if (whole?.at === exit.at) return whole.log_tail?.join("\n") || "It wrote nothing.";
    if (actingTakes(viewer()) !== "nothing") return "Only the admin token shows its last lines.";
    if (this.askedFor !== exit.at) {
      this.askedFor = exit.at;
      this.tailNote = "Asking its hive for the last lines…";
      this.#askForTail(worker);
    }
    return this.tailNote;
  }

  async #askForTail(worker) {
    try {
      worker.exit = (await getWhole(worker)).last_exit;
    } catch (error) {
      if (this.worker === worker) this.tailNote = `Its hive does not tell the last lines: ${error.message}`;
    }
    this.onChange?.();
  }

  #showEvents(events) {
    if (this.eventCount === events.total) return;
    this.eventCount = events.total;
    const own = events.list.filter(({ worker_id }) => worker_id === this.worker.id);
    byId("own-events").hidden = own.length === 0;
    byId("own-events-list").replaceChildren(...own.toReversed().slice(0, 20).map((event) => eventItem(event)));
  }
}
