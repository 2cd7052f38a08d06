// A thousand workers that all tell every second: smooth, and no memory lost.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { close, launch, open, rowOf, shoot } from "./support/browser.mjs";
import { Daemon, queenOnly } from "./support/daemon.mjs";
import { FakeHive } from "./support/fleet.mjs";
import { until } from "./support/wait.mjs";

const HIVES = 10;
const WORKERS = 100;
/** How long is watched at once, s. */
const WATCHED_S = 10;
/** A window in which the machine was busy with something else is watched again. */
const WINDOWS_MOST = 8;
/** A task that is longer than this is felt, ms. */
const TASK_MOST_MS = 50;
/** Of all frames, how many may come more than one frame late. */
const LATE_MOST = 0.02;
/** What the page may grow by, MiB. */
const GROWTH_MOST = 4;

let daemon;
let browser;
let stops;
before(async () => {
  browser = await launch();
  daemon = await Daemon.start(queenOnly);
  const hives = Array.from({ length: HIVES }, (_, i) => new FakeHive(`node-${i + 10}`, { workers: WORKERS, gpus: i % 2 ? 4 : 0, number: i + 10 }));
  stops = [];
  for (const hive of hives) stops.push(await hive.start(daemon.url));
});
after(async () => {
  for (const stop of stops ?? []) stop();
  await browser?.close();
  await daemon?.stop();
});

/** Watches frames and long tasks in the page; scrolls it meanwhile by `step` px a frame. */
function watch([seconds, step]) {
  const gaps = [];
  const long = [];
  const observer = new PerformanceObserver((list) => long.push(...list.getEntries().map(({ duration }) => duration)));
  observer.observe({ type: "longtask" });
  const begin = performance.now();
  let before = begin;
  return new Promise((resolve) => {
    const frame = (now) => {
      gaps.push(now - before);
      before = now;
      if (step) scrollTo(0, (scrollY + step) % (document.documentElement.scrollHeight - innerHeight));
      if (now - begin < seconds * 1000) return requestAnimationFrame(frame);
      observer.disconnect();
      gaps.sort((a, b) => a - b);
      const late = gaps.filter((gap) => gap > 34).length;
      resolve({ frames: gaps.length, late, p99: gaps[Math.floor(gaps.length * 0.99)], long, longest: Math.max(0, ...long) });
    };
    requestAnimationFrame(frame);
  });
}

const said = ({ frames, late, p99, long, longest, busy }) =>
  `${frames} frames, ${late} late, p99 ${p99.toFixed(1)} ms; ${long.length} tasks over 50 ms, longest ${longest.toFixed(0)} ms; main thread ${(busy * 100).toFixed(0)} % busy`;

/** What a page costs, by the browser's own account. */
class Meter {
  static async of(page) {
    const meter = new Meter();
    meter.session = await page.context().newCDPSession(page);
    await meter.session.send("Performance.enable");
    return meter;
  }

  async read(name) {
    const { metrics } = await this.session.send("Performance.getMetrics");
    return metrics.find((metric) => metric.name === name).value;
  }

  async heapMiB() {
    await this.session.send("HeapProfiler.collectGarbage");
    return (await this.session.send("Runtime.getHeapUsage")).usedSize / 2 ** 20;
  }
}

async function watched(page, meter, step) {
  const before = await meter.read("TaskDuration");
  const seen = await page.evaluate(watch, [WATCHED_S, step]);
  return { ...seen, busy: ((await meter.read("TaskDuration")) - before) / WATCHED_S };
}

test("a thousand workers at one heartbeat a second cost no frames and no memory", async (t) => {
  const page = await open(browser, `${daemon.url}/#sort=-cpu`);
  const meter = await Meter.of(page);
  await page.locator("#summary", { hasText: "10 hives · 1,000 workers" }).waitFor();
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
  t.diagnostic(`first paint after ${paint.toFixed(0)} ms`);
  const figure = page.locator(".row:not([hidden]) .c-cpu .figure").first();
  const first = await figure.innerText();
  await until("figures that move", async () => (await figure.innerText()) !== first);
  const [heap, nodes] = [await meter.heapMiB(), await meter.read("Nodes")];
  const smooth = ({ frames, late, longest }) => longest < TASK_MOST_MS && late / frames < LATE_MOST;
  let seen = { long: [] };
  for (let i = 0; i < WINDOWS_MOST && !(seen.frames && smooth(seen)); i += 1) {
    seen = await watched(page, meter, 0);
    t.diagnostic(`standing: ${said(seen)}`);
  }
  assert.ok(smooth(seen), said(seen));
  t.diagnostic(`scrolling: ${said(await watched(page, meter, 12))}`);
  const growth = (await meter.heapMiB()) - heap;
  t.diagnostic(`heap ${heap.toFixed(1)} MiB, then ${growth >= 0 ? "+" : ""}${growth.toFixed(2)} MiB; ${await page.locator(".row").count()} rows exist`);
  assert.ok(growth < GROWTH_MOST, `the heap grew by ${growth} MiB`);
  assert.ok((await meter.read("Nodes")) < nodes * 1.5 + 2_000, "nodes pile up");
  await page.evaluate(() => scrollTo(0, 0));
  await shoot(page, "thousand");
  await close(page);
});

test("among a thousand workers the last one and a single one are found", async () => {
  const page = await open(browser, daemon.url);
  await page.locator("#summary", { hasText: "1,000 workers" }).waitFor();
  await page.keyboard.press("G");
  await page.locator('.row[aria-selected="true"] .hive', { hasText: "node-19" }).waitFor();
  await page.locator("#q").fill("node-13 llm/8081");
  await rowOf(page, "llm/8081").waitFor();
  await page.locator("#shown", { hasText: "1 of 1,000 workers" }).waitFor();
  await close(page);
});
