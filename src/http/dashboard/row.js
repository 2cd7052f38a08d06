// One row of the table: made once, then written to only where something has changed.

import { activityOf } from "./choice.js";
import { el, label, mark, say } from "./dom.js";
import { exitText, gpuStanding, gpuText, isRunning, requestsText, restartsText, retryText, vramText } from "./facts.js";
import { briefDuration, memory, NONE, percent } from "./format.js";
import { SERIES } from "./history.js";
import { peak, spark, sparkPath } from "./spark.js";
import { usedMb } from "./store.js";

const SPAN_MS = 60_000;
/** Sparklines move left by themselves; a step of this long is less than two pixels. */
const REDRAW_MS = 900;
const BOX = { width: 60, height: 22, span: SPAN_MS };

/** The columns: key (by which it is sorted), title, and what a narrow heading says. */
export const COLUMNS = [
  ["state", "State"],
  ["name", "Worker"],
  ["model", "Model"],
  ["activity", "Load"],
  ["cpu", "CPU"],
  ["ram", "RAM"],
  ["gpu", "GPU"],
  ["vram", "VRAM"],
  ["kv", "KV"],
  ["uptime", "Up"],
  ["restarts", "Restarts"],
];

/** Two lines in one cell. */
function twoLines(upper, lower) {
  const [first, firstText] = label("span", upper);
  const [second, secondText] = label("span", lower);
  return [[first, second], firstText, secondText];
}

/** A figure with its sparkline. */
function charted(name) {
  const [box, path] = spark(BOX.width, BOX.height, name);
  const [figure, text] = label("span", "figure");
  return { nodes: [box, figure], path, text, drawn: "" };
}

export class Row {
  constructor(index) {
    const cell = (key, ...children) => el("div", { class: `cell c-${key}`, role: "gridcell" }, ...children);
    const [state, stateText] = label("span", "state");
    const [names, nameText, hiveText] = twoLines("name", "hive");
    const [model, modelText] = label("span", "model");
    const [loads, activityText, requestsNode] = twoLines("activity", "requests");
    const [exits, restarts, exit] = twoLines("restarts", "exit");
    const [vram, vramNode] = label("span", "figure");
    const [kv, kvText] = label("span", "figure");
    const [uptime, uptimeText] = label("span", "figure");
    this.charts = { cpu: charted("cpu"), ram: charted("ram"), gpu: charted("gpu") };
    this.meter = el("span", { class: "meter", "aria-hidden": "true" }, el("span"));
    this.activity = loads[0];
    this.gpuCell = cell("gpu", ...this.charts.gpu.nodes);
    this.node = el(
      "div",
      { class: "row", role: "row", id: `row-${index}` },
      cell("state", state),
      cell("name", ...names),
      cell("model", model),
      cell("activity", ...loads),
      cell("cpu", ...this.charts.cpu.nodes),
      cell("ram", ...this.charts.ram.nodes),
      this.gpuCell,
      cell("vram", this.meter, vram),
      cell("kv", kv),
      cell("uptime", uptime),
      cell("restarts", ...exits),
    );
    this.model = model;
    this.texts = { stateText, nameText, hiveText, modelText, activityText, requestsNode, restarts, exit };
    Object.assign(this.texts, { vramNode, kvText, uptimeText });
    this.shown = null;
    this.report = null;
    this.drawnAt = -Infinity;
    this.index = -1;
    this.key = "";
  }

  /** Puts it at its place in the list. */
  place(index, height) {
    const key = `${index} ${height}`;
    if (this.key === key) return;
    this.key = key;
    this.index = index;
    this.node.style.transform = `translateY(${index * height}px)`;
    mark(this.node, "aria-rowindex", String(index + 2));
  }

  /** Shows a worker as it is now. What was drawn a moment ago from the same report still holds. */
  show(worker, hive, now) {
    const { report } = worker;
    const same = this.shown === worker && this.report === report && this.freshness === hive?.freshness;
    if (same && now - this.drawnAt < REDRAW_MS) return;
    Object.assign(this, { report, freshness: hive?.freshness, drawnAt: now });
    if (this.shown !== worker) {
      this.shown = worker;
      say(this.texts.nameText, `${worker.group}/${worker.instance}`);
      say(this.texts.hiveText, worker.hive);
    }
    mark(this.node, "data-freshness", hive?.freshness ?? "down");
    mark(this.node, "data-state", report.state);
    this.#words(worker, report);
    this.#figures(worker, report, hive?.node, now);
  }

  #words(worker, report) {
    const { texts } = this;
    const activity = activityOf(worker);
    say(texts.stateText, report.state);
    say(texts.modelText, report.model ?? NONE);
    mark(this.model, "title", report.model ?? null);
    say(texts.activityText, activity);
    mark(this.activity, "data-activity", activity);
    say(texts.requestsNode, retryText(report) || requestsText(report));
    say(texts.restarts, restartsText(report.restarts));
    say(texts.exit, exitText(report));
  }

  #figures(worker, report, node, now) {
    const { texts, charts } = this;
    const { history } = worker;
    const used = usedMb(report);
    const running = isRunning(report);
    mark(this.node, "data-running", String(running));
    say(charts.cpu.text, running ? percent(report.cpu_pct) : NONE);
    say(charts.ram.text, running ? memory(used) : NONE);
    say(charts.gpu.text, gpuText(report, node));
    say(texts.vramNode, vramText(report, node));
    say(texts.kvText, percent(report.kv_cache_pct));
    say(texts.uptimeText, running ? briefDuration(report.uptime_s) : NONE);
    mark(this.node, "data-gpu", gpuStanding(node));
    const share = report.total_vram_mb ? Math.min(1, report.vram_mb / report.total_vram_mb) : 0;
    this.meter.firstChild.style.transform = `scaleX(${share.toFixed(3)})`;
    mark(this.meter, "hidden", report.total_vram_mb ? null : "");
    const ram = report.memory_limit_mb || peak(history, SERIES.ram, now, SPAN_MS) * 1.25 || 1;
    this.#draw(charts.cpu, history, SERIES.cpu, now, 100);
    this.#draw(charts.ram, history, SERIES.ram, now, ram);
    this.#draw(charts.gpu, history, SERIES.gpu, now, 100);
  }

  #draw(chart, history, series, now, least) {
    const path = sparkPath(history, series, now, { ...BOX, least });
    if (path === chart.drawn) return;
    chart.drawn = path;
    chart.path.setAttribute("d", path);
  }
}
