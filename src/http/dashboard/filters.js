// The controls by which rows are chosen: text, state and activity as counted chips, the rest as lists.

import { activityOf } from "./choice.js";
import { byId, el, label, mark, say } from "./dom.js";
import { count } from "./format.js";
import { COLUMNS } from "./row.js";

const STATES = ["ready", "starting", "draining", "stopping", "backoff", "failed", "stopped"];
const ACTIVITIES = ["busy", "idle", "unknown"];
/** Models that the list offers; the text finds the others. */
const OPTIONS_MOST = 500;

/** Counts what the chips say, and each hive's share. */
export function tally(workers) {
  const found = { state: {}, activity: {}, hives: new Map(), groups: new Set(), models: new Set() };
  for (const worker of workers) {
    const { state, model } = worker.report;
    const activity = activityOf(worker);
    found.state[state] = (found.state[state] ?? 0) + 1;
    found.activity[activity] = (found.activity[activity] ?? 0) + 1;
    const hive = found.hives.get(worker.hive) ?? { workers: 0, busy: 0, trouble: 0 };
    hive.workers += 1;
    hive.busy += activity === "busy";
    hive.trouble += state === "failed" || state === "backoff";
    found.hives.set(worker.hive, hive);
    found.groups.add(worker.group);
    if (model) found.models.add(model);
  }
  return found;
}

export class Filters {
  /** `onChange` gets what has changed of the choice. */
  constructor(onChange) {
    this.onChange = onChange;
    this.chips = [
      ...ACTIVITIES.map((value) => this.#chip("activity", value)),
      ...STATES.map((value) => this.#chip("state", value)),
    ];
    this.search = byId("q");
    this.search.form.addEventListener("submit", (event) => event.preventDefault());
    this.search.addEventListener("input", () => onChange({ q: this.search.value.trim() }));
    this.lists = ["hive", "group", "model"].map((key) => [key, byId(`f-${key}`)]);
    this.sort = byId("f-sort");
    for (const [key, title] of COLUMNS) {
      this.sort.append(el("option", { value: key }, `${title} ↑`), el("option", { value: `-${key}` }, `${title} ↓`));
    }
    for (const [key, list] of [...this.lists, ["sort", this.sort]]) {
      list.addEventListener("change", () => onChange({ [key]: list.value }));
    }
    byId("f-reset").addEventListener("click", () => {
      onChange({ q: "", state: "", hive: "", group: "", model: "", activity: "" });
    });
  }

  #chip(key, value) {
    const [figure, text] = label("span", "count");
    const toggle = () => this.onChange({ [key]: button.getAttribute("aria-pressed") === "true" ? "" : value });
    const dot = el("span", { class: "dot", "aria-hidden": "true" });
    const button = el("button", { type: "button", class: "chip", [`data-${key}`]: value, onclick: toggle }, dot, value, figure);
    byId("chips").append(button);
    return { key, value, button, text };
  }

  /** Shows the choice and what there is to choose from. */
  show(choice, found, hives) {
    for (const { key, value, button, text } of this.chips) {
      const number = found[key][value] ?? 0;
      say(text, count(number));
      mark(button, "aria-pressed", String(choice[key] === value));
      button.hidden = number === 0 && choice[key] !== value;
    }
    const options = { hive: hives, group: found.groups, model: found.models };
    for (const [key, list] of this.lists) fill(list, [...options[key]].sort().slice(0, OPTIONS_MOST), choice[key]);
    this.sort.value = choice.sort;
    if (document.activeElement !== this.search) this.search.value = choice.q;
    byId("f-reset").hidden = !["q", "state", "hive", "group", "model", "activity"].some((key) => choice[key]);
  }
}

/** The options of a list; the first one, "all", stays. Rewritten only where they differ. */
function fill(list, values, chosen) {
  const wanted = chosen && !values.includes(chosen) ? [...values, chosen] : values;
  const old = list.options;
  const same = old.length === wanted.length + 1 && wanted.every((value, i) => old[i + 1].value === value);
  if (!same) list.replaceChildren(old[0], ...wanted.map((value) => el("option", { value }, value)));
  list.value = chosen;
  mark(list, "data-chosen", chosen ? "" : null);
}
