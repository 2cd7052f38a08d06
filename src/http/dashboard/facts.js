// How a worker's and a machine's figures are to be read: what is known, what is not, what is none. Pure.

import { briefDuration, counting, duration, exitWord, memory, memoryOf, NONE, percent, rate } from "./format.js";
import { usedMb } from "./store.js";

/**
 * What is known of a GPU figure: "known", "none" (the machine has no GPU) or "unknown" (it has one,
 * but nothing answers for it, so that a zero does not mean idle).
 */
export function gpuStanding(node) {
  const source = node?.gpu_source;
  return source === "none" || source === "unknown" ? source : "known";
}

/** Whether there is a process that figures could be of. Not every program that sends a heartbeat tells a PID. */
export function isRunning({ pid, state }) {
  return Boolean(pid) || !["backoff", "failed", "stopped"].includes(state);
}

/** A worker's GPU utilisation as text. */
export function gpuText(report, node) {
  const standing = gpuStanding(node);
  if (standing === "known") return isRunning(report) ? percent(report.gpu_util_pct) : NONE;
  return standing === "none" ? "no GPU" : "unknown";
}

/** A worker's GPU memory as text. */
export function vramText(report, node) {
  const standing = gpuStanding(node);
  if (standing === "known") return isRunning(report) ? memoryOf(report.vram_mb, report.total_vram_mb) : NONE;
  return standing === "none" ? NONE : "unknown";
}

/** Its requests: "3 of 4 · 1 waiting"; empty where the engine does not tell. */
export function requestsText({ requests_running: running, requests_waiting: waiting, slots }) {
  if (running === null || running === undefined) return slots ? counting(slots, "slot") : "";
  const taken = slots ? `${running} of ${slots}` : `${running} running`;
  return waiting ? `${taken} · ${waiting} waiting` : taken;
}

/** "3 restarts"; empty without any. */
export function restartsText(restarts) {
  return restarts ? counting(restarts, "restart") : "";
}

/** How its last run ended, in a word; empty where none has. */
export const exitText = (report) => (report.last_exit ? exitWord(report.last_exit) : "");

const yesNo = (value) => (value === null || value === undefined ? NONE : value ? "yes" : "no");

function pressureText({ cpu, memory: ram, io }) {
  if ([cpu, ram, io].every((value) => value === null || value === undefined)) return NONE;
  return `CPU ${percent(cpu)}, memory ${percent(ram)}, IO ${percent(io)}`;
}

function limitsText({ cpu_limit_pct: cpu, memory_limit_mb: ram, limits_applied: applied }) {
  const limits = [cpu ? `CPU ${percent(cpu)}` : "", ram ? `memory ${memory(ram)}` : ""].filter(Boolean);
  if (!limits.length) return "none";
  return `${limits.join(", ")}${applied === false ? " (not in force)" : ""}`;
}

/** Everything else there is to say of a worker: `[name, text]`, in reading order. */
export function factsOf(report, node, hive) {
  const pids = report.pids?.length ?? 0;
  return [
    ["Hive", `${hive?.id ?? ""}${hive?.hostname ? ` (${hive.hostname})` : ""}`],
    ["Model", report.model ?? NONE],
    ["Also called", report.model_aliases?.join(", ") || NONE],
    ["Address", report.url ?? NONE],
    ["Process", report.pid ? `${report.pid}${pids > 1 ? ` and ${pids - 1} more` : ""}` : "none"],
    ["Uptime", isRunning(report) ? duration(report.uptime_s) : NONE],
    ["Requests", requestsText(report) || NONE],
    ["KV cache", percent(report.kv_cache_pct)],
    ["GPU source", node?.gpu_source ?? "not told"],
    ["Memory with cache", `${memory(report.rss_mb)}, ${memory(report.anon_mb)} anonymous`],
    ["IO", `${rate(report.io_r_mb_s)} read, ${rate(report.io_w_mb_s)} written`],
    ["Limits", limitsText(report)],
    ["Throttled", percent(report.throttled_pct)],
    ["Pressure", pressureText(report.pressure ?? {})],
    ["Isolation", report.isolation ?? NONE],
    ["Restarts", String(report.restarts ?? 0)],
    ["Adopted", yesNo(report.adopted)],
    ["Newer spec waits", yesNo(report.spec_changed)],
  ];
}

/** The figures of a worker's charts: `[series, name, text, least]`. */
export function chartsOf(report, node) {
  const running = isRunning(report);
  const cpuLimit = report.cpu_limit_pct ? ` of ${percent(report.cpu_limit_pct)}` : "";
  return [
    ["cpu", "CPU", running ? percent(report.cpu_pct) + cpuLimit : NONE, 100],
    ["ram", "RAM", running ? memoryOf(usedMb(report), report.memory_limit_mb) : NONE, report.memory_limit_mb ?? 64],
    ["gpu", "GPU", gpuText(report, node), 100],
    ["vram", "VRAM", vramText(report, node), report.total_vram_mb ?? 64],
  ];
}

/** An exit record in one sentence. */
export function exitSentence(exit) {
  const next = { backoff: "then another start", failed: "then left down", stopped: "as it was meant to", starting: "then another start" };
  const signal = exit.oom_killed && exit.signal ? ` (${exit.signal})` : "";
  const peak = exit.peak_rss_mb ? `, ${memory(exit.peak_rss_mb)} at most` : "";
  return `${exitWord(exit)}${signal} after ${duration(exit.uptime_s)}${peak}, ${next[exit.next] ?? exit.next}`;
}

/** When a worker in backoff is tried again: "again in 12 s". */
export function retryText(report, now = Date.now()) {
  if (report.state !== "backoff" || !report.retry_at) return "";
  const wait = (Date.parse(report.retry_at) - now) / 1000;
  return wait > 0 ? `again in ${briefDuration(Math.ceil(wait))}` : "again now";
}
