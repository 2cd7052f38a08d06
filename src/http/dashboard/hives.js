// One card for each hive: how fresh it is, its machine, its GPUs, its workers in numbers.

import { el, label, mark, say } from "./dom.js";
import { gpuStanding } from "./facts.js";
import { age, count, counting, memoryOf, NONE, percent, wholeGib } from "./format.js";

/** Above this many hives their cards are shortened. */
const FEW = 6;

function meter(className) {
  const fill = el("span");
  return [el("span", { class: `meter ${className}`, "aria-hidden": "true" }, fill), fill];
}

const fillTo = (fill, share) => {
  fill.style.transform = `scaleX(${Math.min(1, share || 0).toFixed(3)})`;
};

/** A name, a bar and a figure. */
function gauge(name, className) {
  const [bar, fill] = meter(className);
  const [figure, text] = label("span", "figure");
  const [extra, extraText] = label("span", "extra");
  const node = el("div", { class: "gauge" }, el("span", { class: "label" }, name), bar, figure, extra);
  return { node, fill, text, extraText };
}

class Gpu {
  constructor() {
    const [name, nameText] = label("span", "label");
    const [busyBar, busy] = meter("gpu");
    const [util, utilText] = label("span", "figure");
    const [ramBar, ram] = meter("vram");
    const [vram, vramText] = label("span", "figure");
    const [heat, heatText] = label("span", "extra");
    const [health, healthText] = label("span", "health");
    const bars = el("span", { class: "meters" }, busyBar, ramBar);
    this.node = el("div", { class: "gpu-line" }, name, bars, util, vram, heat, health);
    Object.assign(this, { nameText, busy, utilText, ram, vramText, heatText, health, healthText });
  }

  show(gpu) {
    say(this.nameText, `GPU ${gpu.id || "?"}`);
    mark(this.node, "title", [gpu.name, gpu.uuid].filter(Boolean).join(" · ") || null);
    fillTo(this.busy, gpu.util_pct / 100);
    say(this.utilText, percent(gpu.util_pct));
    fillTo(this.ram, gpu.vram_used_mb / gpu.vram_total_mb);
    say(this.vramText, wholeGib(gpu.vram_used_mb, gpu.vram_total_mb));
    const told = (value, unit) => (value === null || value === undefined ? "" : `${Math.round(value)}${unit}`);
    say(this.heatText, [told(gpu.temp_c, "°C"), told(gpu.power_w, " W")].filter(Boolean).join(" "));
    const sound = gpu.health === "ok" || gpu.health === null || gpu.health === undefined;
    say(this.healthText, sound ? "" : gpu.health);
    mark(this.health, "hidden", sound ? "" : null);
    mark(this.node, "data-trouble", sound ? null : "");
  }
}

class Card {
  constructor(id, onPick) {
    const [seen, seenText] = label("span", "seen");
    const [about, aboutText] = label("p", "about");
    const [staff, staffText] = label("p", "staff");
    const [noGpu, noGpuText] = label("p", "no-gpu");
    this.pick = el("button", { type: "button", class: "pick", onclick: () => onPick(id) }, id);
    this.dot = el("span", { class: "dot", "aria-hidden": "true" });
    this.cpu = gauge("CPU", "cpu");
    this.ram = gauge("RAM", "ram");
    this.together = gauge("GPU", "gpu");
    this.together.node.classList.add("together");
    this.gpuList = el("div", { class: "gpus" });
    this.gpus = [];
    this.node = el(
      "article",
      { class: "card", "aria-label": `Hive ${id}` },
      el("header", {}, this.dot, el("h3", {}, this.pick), seen),
      about, this.cpu.node, this.ram.node, this.together.node, this.gpuList, noGpu, staff,
    );
    Object.assign(this, { seenText, aboutText, staffText, noGpu, noGpuText });
  }

  show(hive, tally, picked, now) {
    const node = hive.node ?? {};
    mark(this.node, "data-freshness", hive.freshness);
    mark(this.pick, "aria-pressed", String(picked));
    const old = age(now - hive.seen);
    say(this.seenText, hive.freshness === "healthy" ? old : `${hive.freshness}, ${old} ago`);
    say(this.aboutText, aboutText(hive));
    const cores = node.cpu_count || 1;
    fillTo(this.cpu.fill, node.cpu_pct / (cores * 100));
    say(this.cpu.text, node.cpu_count ? percent(node.cpu_pct / cores) : NONE);
    say(this.cpu.extraText, node.cpu_count ? `${counting(cores, "core")} · load ${node.load1.toFixed(1)}` : "");
    fillTo(this.ram.fill, node.ram_used_mb / node.ram_total_mb);
    say(this.ram.text, node.ram_total_mb ? percent((100 * node.ram_used_mb) / node.ram_total_mb) : NONE);
    say(this.ram.extraText, node.ram_total_mb ? memoryOf(node.ram_used_mb, node.ram_total_mb) : "");
    this.#showGpus(node);
    say(this.staffText, staffText(tally));
  }

  /** All its GPUs in one line, for where there are many hives. */
  #showTogether(gpus) {
    const { node, fill, text, extraText } = this.together;
    node.hidden = gpus.length === 0;
    const util = mean(gpus.map(({ util_pct }) => util_pct));
    const [used, total] = [sum(gpus.map((gpu) => gpu.vram_used_mb)), sum(gpus.map((gpu) => gpu.vram_total_mb))];
    fillTo(fill, util / 100);
    say(text, percent(util));
    say(extraText, `${gpus.length} × · ${wholeGib(used, total)}`);
  }

  #showGpus(node) {
    const gpus = node.gpus ?? [];
    while (this.gpus.length < gpus.length) {
      this.gpus.push(new Gpu());
      this.gpuList.append(this.gpus.at(-1).node);
    }
    while (this.gpus.length > gpus.length) this.gpus.pop().node.remove();
    gpus.forEach((gpu, i) => this.gpus[i].show(gpu));
    this.#showTogether(gpus);
    const standing = gpuStanding(node);
    mark(this.noGpu, "data-gpu", standing);
    const words = { none: "No GPU", unknown: "GPU unknown: nothing answers for it, zeros don't mean idle" };
    say(this.noGpuText, words[standing] ?? (gpus.length ? "" : "GPU not told"));
  }
}

/** The mean of what is known; null where nothing is. */
function mean(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
}

const sum = (values) => values.reduce((a, b) => a + (b ?? 0), 0);

function aboutText(hive) {
  const place = hive.hostname ? `${hive.hostname}:${hive.port}` : "";
  const version = hive.version ? `rbee ${hive.version}` : "";
  const health = hive.health_status?.status;
  const unwell = health && health !== "healthy" ? health : "";
  const doing = hive.operational_status === "ready" ? "" : hive.operational_status;
  return [place, version, doing, unwell].filter(Boolean).join(" · ");
}

function staffText({ workers, busy, trouble }) {
  const parts = [counting(workers, "worker")];
  if (busy) parts.push(`${count(busy)} busy`);
  if (trouble) parts.push(`${count(trouble)} in trouble`);
  return parts.join(" · ");
}

export class Hives {
  constructor(list, onPick) {
    Object.assign(this, { list, onPick, cards: new Map() });
  }

  /** Shows the hives, by id; `tallies` says what each one's workers do. */
  show(hives, tallies, picked, now) {
    mark(this.list, "data-many", hives.size > FEW ? "" : null);
    for (const [id, card] of this.cards) {
      if (hives.has(id)) continue;
      card.node.remove();
      this.cards.delete(id);
    }
    for (const [id, hive] of hives) {
      const card = this.cards.get(id) ?? this.#add(id);
      card.show(hive, tallies.get(id) ?? { workers: 0, busy: 0, trouble: 0 }, id === picked, now);
    }
  }

  #add(id) {
    const card = new Card(id, this.onPick);
    const next = [...this.cards.keys()].filter((other) => other > id).sort()[0];
    this.list.insertBefore(card.node, this.cards.get(next)?.node ?? null);
    this.cards.set(id, card);
    return card;
  }
}
