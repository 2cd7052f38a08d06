// How figures read: short, with their unit, always of the same form. What is not known is "–" or "?".

const MIB_PER_GIB = 1024;

/** What stands for a value that there is none of. */
export const NONE = "–";

/** 7 → "7 %", 0.4 → "0.4 %"; above 10 without decimals, so that digits don't flicker. */
export function percent(value) {
  if (value === null || value === undefined) return NONE;
  return `${value >= 9.95 || value === 0 ? Math.round(value) : value.toFixed(1)} %`;
}

/** MiB as "512 MiB", "3.4 GiB" or "1.2 TiB". */
export function memory(mib) {
  if (mib === null || mib === undefined) return NONE;
  if (mib < MIB_PER_GIB) return `${Math.round(mib)} MiB`;
  const gib = mib / MIB_PER_GIB;
  if (gib < MIB_PER_GIB) return `${gib < 99.95 ? gib.toFixed(1) : Math.round(gib)} GiB`;
  return `${(gib / MIB_PER_GIB).toFixed(1)} TiB`;
}

/** "12.0 of 80.0 GiB": both in the unit of the total. */
export function memoryOf(used, total) {
  if (!total) return memory(used);
  if (total < MIB_PER_GIB) return `${Math.round(used)} / ${total} MiB`;
  const digits = total / MIB_PER_GIB < 100 ? 1 : 0;
  const gib = (mib) => (mib / MIB_PER_GIB).toFixed(digits);
  return `${gib(used)} / ${gib(total)} GiB`;
}

/** "37 / 80 GiB", for where there is little room. */
export function wholeGib(used, total) {
  if (!total) return NONE;
  const gib = (mib) => (mib === null || mib === undefined ? NONE : Math.round(mib / MIB_PER_GIB));
  return `${gib(used)} / ${gib(total)} GiB`;
}

/** Seconds as the two largest units: "42 s", "3 m 10 s", "5 h 2 m", "12 d 4 h". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} m`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** The largest unit alone, for narrow columns: "42 s", "3 m", "5 h", "12 d". */
export function briefDuration(seconds) {
  return duration(seconds).split(" ").slice(0, 2).join(" ");
}

/** The age of a hive's last heartbeat, ms: tenths below ten seconds. */
export function age(ms) {
  return ms < 10_000 ? `${(Math.max(0, ms) / 1000).toFixed(1)} s` : duration(ms / 1000);
}

/** How long ago an RFC 3339 time is by this browser's clock. */
export function ago(time, now = Date.now()) {
  const at = Date.parse(time);
  return Number.isNaN(at) ? NONE : `${briefDuration((now - at) / 1000)} ago`;
}

/** MiB/s. */
export function rate(mib) {
  return `${mib < 10 ? mib.toFixed(1) : Math.round(mib)} MiB/s`;
}

const thousands = new Intl.NumberFormat("en");

/** Thousands apart. */
export function count(value) {
  if (value === null || value === undefined) return NONE;
  return value < 1000 ? String(value) : thousands.format(value);
}

/** "1 hive", "1,000 workers". */
export const counting = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** How a run ended, in a word: "SIGKILL", "out of memory", "exit 3". */
export function exitWord(exit) {
  if (exit.oom_killed) return "out of memory";
  if (exit.signal) return exit.signal;
  return exit.code === null || exit.code === undefined ? "ended" : `exit ${exit.code}`;
}

/** `worker_exited` → "exited"; what happened without to whom. */
export function eventWord(kind) {
  return kind.replace(/^(worker|hive)_/, "");
}
