// What the viewer chose to see, kept in the address so that it can be reloaded and shared. Pure.

/** Nothing chosen. */
export const NOTHING = Object.freeze({
  q: "", state: "", hive: "", group: "", model: "", activity: "", sort: "", worker: "",
});

/** The choice that an address's part behind `#` says; what is unknown in it is left out. */
export function parseChoice(hash) {
  const said = new URLSearchParams(hash.replace(/^#/, ""));
  const choice = { ...NOTHING };
  for (const key of Object.keys(NOTHING)) choice[key] = said.get(key) ?? "";
  if (!(choice.sort.replace(/^-/, "") in ORDERS)) choice.sort = "";
  return choice;
}

/** The reverse. */
export function choiceHash(choice) {
  const said = new URLSearchParams();
  for (const key of Object.keys(NOTHING)) if (choice[key]) said.set(key, choice[key]);
  const text = said.toString().replaceAll("%2F", "/");
  return text ? `#${text}` : "";
}

/** "busy", "idle", "unknown", or "" where nothing runs that could be either. */
export function activityOf({ report }) {
  if (report.idle === true) return "idle";
  if (report.idle === false) return "busy";
  return ["ready", "draining", "starting"].includes(report.state) ? "unknown" : "";
}

function words({ id, report }) {
  return [id, report.state, report.model ?? "", ...(report.model_aliases ?? [])].join(" ").toLowerCase();
}

/** Whether a worker is to be seen: all that is chosen holds, and each word of the text occurs. */
export function isChosen(choice, worker) {
  const { report } = worker;
  if (choice.state && report.state !== choice.state) return false;
  if (choice.hive && worker.hive !== choice.hive) return false;
  if (choice.group && worker.group !== choice.group) return false;
  if (choice.model && report.model !== choice.model) return false;
  if (choice.activity && activityOf(worker) !== choice.activity) return false;
  if (!choice.q) return true;
  const text = words(worker);
  return choice.q.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

const STATES = ["failed", "backoff", "starting", "stopping", "draining", "ready", "stopped"];
const ACTIVITIES = ["busy", "unknown", "idle", ""];

/** By what rows can be ordered: a figure that grows, or a text. */
const ORDERS = {
  name: ({ group, instance }) => `${group}/${instance}`,
  hive: (worker) => worker.hive,
  state: ({ report }) => STATES.indexOf(report.state),
  model: ({ report }) => report.model ?? "\u{ffff}",
  activity: (worker) => ACTIVITIES.indexOf(activityOf(worker)),
  requests: ({ report }) => (report.requests_running ?? -1) + (report.requests_waiting ?? 0),
  cpu: ({ report }) => report.cpu_pct,
  ram: ({ report }) => report.working_set_mb || report.rss_mb,
  gpu: ({ report }) => report.gpu_util_pct,
  vram: ({ report }) => report.vram_mb,
  kv: ({ report }) => report.kv_cache_pct ?? -1,
  uptime: ({ report }) => report.uptime_s,
  restarts: ({ report }) => report.restarts,
};

/** What is best seen from its largest down. */
const FIGURES = new Set(["requests", "cpu", "ram", "gpu", "vram", "kv", "uptime", "restarts"]);

/** The order after one more click on a column: its natural direction, the other one, none. */
export function nextSort(sort, column) {
  const [first, second] = FIGURES.has(column) ? [`-${column}`, column] : [column, `-${column}`];
  if (sort === first) return second;
  return sort === second ? "" : first;
}

const collator = new Intl.Collator("en", { numeric: true });

/** The chosen workers in the chosen order; by hive and name without one, and among equals. */
export function choose(choice, workers) {
  const chosen = [];
  for (const worker of workers) if (isChosen(choice, worker)) chosen.push(worker);
  const byId = (a, b) => collator.compare(a.id, b.id);
  const key = ORDERS[choice.sort.replace(/^-/, "")];
  if (!key) return chosen.sort(byId);
  const sign = choice.sort.startsWith("-") ? -1 : 1;
  const keys = new Map(chosen.map((worker) => [worker, key(worker)]));
  const compare = (a, b) => (typeof a === "string" ? collator.compare(a, b) : a - b);
  return chosen.sort((a, b) => sign * compare(keys.get(a), keys.get(b)) || byId(a, b));
}
