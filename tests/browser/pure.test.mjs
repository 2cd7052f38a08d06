// The parts of the page that only compute, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { verdict } from "../../src/http/dashboard/banner.js";
import { choiceHash, choose, nextSort, NOTHING, parseChoice } from "../../src/http/dashboard/choice.js";
import { gpuText, requestsText, vramText } from "../../src/http/dashboard/facts.js";
import { age, counting, duration, memory, memoryOf, percent } from "../../src/http/dashboard/format.js";
import { History, SERIES } from "../../src/http/dashboard/history.js";
import { actingTakes, needsLogin, refusalOf } from "../../src/http/dashboard/permit.js";
import { sparkPath } from "../../src/http/dashboard/spark.js";

const ROUNDS = 300;
const upTo = (n) => Math.floor(Math.random() * n);
const oneOf = (values) => values[upTo(values.length)];

test("any choice is read back from the address it was written to", () => {
  const texts = ["", "a b", "ü/&=#%", "<script>", "+", "1.5"];
  for (let i = 0; i < ROUNDS; i += 1) {
    const choice = { ...NOTHING, sort: oneOf(["", "cpu", "-cpu", "-name"]) };
    for (const key of ["q", "state", "hive", "group", "model", "activity", "worker"]) choice[key] = oneOf(texts);
    assert.deepEqual(parseChoice(choiceHash(choice)), choice);
  }
  assert.deepEqual(parseChoice("#sort=colour&unknown=1&%ff"), NOTHING);
});

const worker = (id, report) => {
  const [hive, group, instance] = id.split("/");
  return { id, hive, group, instance, report: { state: "ready", model: null, cpu_pct: 0, ...report } };
};

test("a sorted list holds exactly the chosen, in order", () => {
  for (let i = 0; i < ROUNDS; i += 1) {
    const workers = Array.from({ length: upTo(30) }, (_, n) => worker(`h${upTo(3)}/g/${n}`, { cpu_pct: upTo(5) }));
    const found = choose({ ...NOTHING, sort: "-cpu", hive: "h1" }, workers);
    assert.equal(found.length, workers.filter(({ hive }) => hive === "h1").length);
    for (let n = 1; n < found.length; n += 1) assert.ok(found[n - 1].report.cpu_pct >= found[n].report.cpu_pct);
  }
  assert.deepEqual(["", "-cpu", "cpu"].map((sort) => nextSort(sort, "cpu")), ["-cpu", "cpu", ""]);
  const named = [worker("a/g/10"), worker("a/g/9", { model: "Qwen3" })];
  assert.deepEqual(choose(NOTHING, named).map(({ instance }) => instance), ["9", "10"]);
  assert.deepEqual(choose({ ...NOTHING, q: "qwen READY" }, named).map(({ instance }) => instance), ["9"]);
});

test("a history keeps the newest points, as many as fit, in order", () => {
  for (let i = 0; i < ROUNDS; i += 1) {
    const history = new History(1 + upTo(20));
    const pushed = upTo(60);
    for (let n = 0; n < pushed; n += 1) history.push(n * 1000, n, 0, 0, 0);
    const kept = Array.from({ length: history.length }, (_, n) => history.value(n, SERIES.cpu));
    const expected = Array.from({ length: pushed }, (_, n) => n).slice(-history.size);
    assert.deepEqual(kept, expected);
  }
});

test("what the queen kept goes before what came live, once", () => {
  const history = new History(10);
  for (const time of [9_000, 10_000, 11_000]) history.push(time, time, 0, 0, 0);
  history.load([[3_000, 1, 0, 0, 0], [2_000, 2, 0, 0, 0], [1_000, 3, 0, 0, 0]], 11_000);
  const cpu = Array.from({ length: history.length }, (_, n) => history.value(n, SERIES.cpu));
  assert.deepEqual(cpu, [1, 2, 3, 11_000]);
});

test("a sparkline is interrupted where figures are missing, and stays within its box", () => {
  const history = new History(100);
  for (const second of [0, 1, 2, 20, 21]) history.push(second * 1000, 250, 0, 0, 0);
  const path = sparkPath(history, SERIES.cpu, 21_000, { width: 60, height: 20, span: 60_000, least: 100 });
  assert.equal(path.match(/M/g).length, 2);
  for (const y of path.matchAll(/ ([\d.]+)/g)) assert.ok(Number(y[1]) >= 0 && Number(y[1]) <= 20, path);
});

test("figures read the same way whatever their size", () => {
  assert.deepEqual([0, 0.44, 9.96, 140.4, null].map(percent), ["0 %", "0.4 %", "10 %", "140 %", "–"]);
  assert.deepEqual([0, 512, 4_096, 2 ** 21].map(memory), ["0 MiB", "512 MiB", "4.0 GiB", "2.0 TiB"]);
  assert.deepEqual([memoryOf(100, 512), memoryOf(20_480, 81_920), memoryOf(7, null)], ["100 / 512 MiB", "20.0 / 80.0 GiB", "7 MiB"]);
  assert.deepEqual([5, 65, 3_700, 90_000].map(duration), ["5 s", "1 m 5 s", "1 h 1 m", "1 d 1 h"]);
  assert.deepEqual([400, 12_000].map(age), ["0.4 s", "12 s"]);
});

test("a GPU that is not known is never a zero", () => {
  const idle = { state: "ready", pid: 1, gpu_util_pct: 0, vram_mb: 0, total_vram_mb: null };
  assert.equal(gpuText(idle, { gpu_source: "nvml" }), "0 %");
  assert.equal(gpuText(idle, { gpu_source: "unknown" }), "unknown");
  assert.equal(gpuText(idle, { gpu_source: "none" }), "no GPU");
  assert.equal(vramText(idle, { gpu_source: "unknown" }), "unknown");
  assert.equal(gpuText({ ...idle, state: "failed", pid: null }, { gpu_source: "nvml" }), "–");
});

test("the banner speaks of what is worst, and is silent when all is well", () => {
  const well = { status: "open", brokenFor: 0, hives: [{ id: "a", freshness: "healthy" }] };
  assert.equal(verdict(well), null);
  const out = (hives) => verdict({ ...well, reason: "unauthorised", hives })[1];
  assert.deepEqual([out([]), /all figures are old/.test(out(well.hives))], ["This queen wants a token.", true]);
  assert.equal(verdict({ ...well, status: "broken", brokenFor: 100 }), null);
  assert.match(verdict({ ...well, status: "broken", brokenFor: 5_000 })[1], /broken/);
  const late = ["degraded", "down"].map((freshness) => ({ id: freshness[1], freshness }));
  assert.deepEqual(verdict({ ...well, hives: late })[0], "error");
  assert.deepEqual(verdict({ ...well, hives: late.slice(0, 1) })[0], "warning");
  const words = (count) => verdict({ ...well, hives: Array(count).fill(late[0]) })[1];
  assert.match(words(4), /and 1 more is late/);
  assert.match(words(5), /and 2 more are late/);
});

test("one of a thing is not many", () => {
  assert.deepEqual([1, 2, 1_000].map((slots) => requestsText({ slots })), ["1 slot", "2 slots", "1,000 slots"]);
  assert.deepEqual([1, 2].map((slots) => requestsText({ slots, requests_running: 1, requests_waiting: 2 })), ["1 of 1 · 2 waiting", "1 of 2 · 2 waiting"]);
  assert.deepEqual([0, 1, 2].map((number) => counting(number, "worker")), ["0 workers", "1 worker", "2 workers"]);
});

test("who may act, who has to log in first and who may not are told apart", () => {
  const takes = (role) => actingTakes({ role });
  assert.deepEqual([takes("admin"), takes(undefined), takes(null), takes("inference"), takes("hive")], ["nothing", "nothing", "login", "another", "another"]);
  const out = (required, role) => needsLogin({ required, role });
  assert.deepEqual([out(true, null), out(false, null), out(true, "hive"), out(false, undefined)], [true, false, false, false]);
  assert.match(refusalOf("hive"), /hive token, which may only heartbeat and read/);
});
