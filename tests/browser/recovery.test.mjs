// What the page says and does when the stream, the queen or a hive goes away, and when they come back.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { close, launch, open, reads, rowOf, shoot, watchStreams } from "./support/browser.mjs";
import { Daemon, queenOnly } from "./support/daemon.mjs";
import { FakeHive } from "./support/fleet.mjs";
import { until } from "./support/wait.mjs";

let daemon;
let browser;
before(async () => {
  browser = await launch();
  daemon = await Daemon.start(queenOnly);
});
after(async () => {
  await browser?.close();
  await daemon?.stop();
});

const banner = (page, text) => page.locator("#banner", { hasText: text }).waitFor();
const calm = (page) => page.locator("#banner:not([data-severity])").waitFor({ state: "attached" });

for (const [how, prepare] of [["of the tabs' own worker", () => {}], ["of its own", (context) => context.addInitScript("delete globalThis.SharedWorker")]]) {
  test(`the queen goes and comes back; a page with a stream ${how} recovers without being loaded anew`, async () => {
    const hive = new FakeHive("steady", { workers: 2 });
    const stop = await hive.start(daemon.url);
    const context = await browser.newContext();
    await prepare(context);
    const page = await open(browser, daemon.url, { context });
    await rowOf(page, "llm/8080").waitFor();
    await calm(page);
    await page.evaluate(() => (window.sameDocument = true));
    await daemon.halt();
    await banner(page, "The stream is broken");
    await shoot(page, "broken");
    await daemon.run();
    await calm(page);
    const uptime = rowOf(page, "llm/8080").locator(".c-cpu");
    const before = await uptime.innerText();
    await until("new figures", async () => (await uptime.innerText()) !== before);
    assert.equal(await page.evaluate(() => window.sameDocument), true);
    stop();
    await close(page);
  });
}

test("a hive that falls silent is named, its rows are dimmed, and it returns", async () => {
  const hive = new FakeHive("silent", { workers: 1 });
  await hive.beat(daemon.url);
  const page = await open(browser, `${daemon.url}/#hive=silent`);
  await rowOf(page, "llm/8080").waitFor();
  await banner(page, /hive silent is (degraded|down)/i);
  const row = rowOf(page, "llm/8080");
  await until("its row to be late", async () => (await row.getAttribute("data-freshness")) !== "healthy");
  const opacity = await row.locator(".c-cpu").evaluate((cell) => Number(getComputedStyle(cell).opacity));
  assert.ok(opacity < 1, `opacity ${opacity}`);
  const stop = await hive.start(daemon.url);
  await until("it to be healthy", async () => (await row.getAttribute("data-freshness")) === "healthy");
  stop();
  await close(page);
});

/** Tells the page's stream what the queen tells a client that was too slow. */
const lag = (page) => page.evaluate(() => {
  const data = JSON.stringify({ type: "lagged", missed: 3 });
  window.streams[0].dispatchEvent(new MessageEvent("lagged", { data }));
});

test("a page that has heard nothing yet does not say that there is nothing", async () => {
  const context = await browser.newContext();
  await context.addInitScript("delete globalThis.SharedWorker");
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await context.route("**/v1/heartbeats/stream*", async (route) => {
    await held;
    await route.continue();
  });
  const page = await open(browser, daemon.url, { context });
  await page.locator("#link", { hasText: "connecting" }).waitFor();
  assert.equal(await page.locator("#summary").innerText(), "");
  assert.equal(await page.locator("#nothing").isVisible(), false);
  release();
  await reads(page.locator("#summary"), /hive/);
  await page.locator("#link", { hasText: "live" }).waitFor();
  await close(page);
});

test("a page that was told it lagged fetches everything anew, and names with markup are text", async () => {
  const hive = new FakeHive("lagging", { workers: 1 });
  await hive.beat(daemon.url);
  const context = await browser.newContext();
  await context.addInitScript("delete globalThis.SharedWorker");
  await context.addInitScript(watchStreams);
  const page = await open(browser, daemon.url, { context });
  await rowOf(page, "llm/8080").first().waitFor();
  const asked = page.waitForRequest(/\/v1\/workers$/);
  await lag(page);
  await asked;
  const answer = await (await asked).response();
  assert.equal(answer.status(), 200);
  // The queen refuses such a name; a page that was given one all the same shows it as text.
  const name = "<img src=x onerror=window.hacked=1>";
  await context.route(/\/v1\/workers$/, async (route) => {
    const { workers } = await (await route.fetch()).json();
    const hostile = workers.filter(({ hive_id }) => hive_id === "lagging").map((worker) => ({ ...worker, group: name }));
    await route.fulfill({ json: { workers: hostile } });
  });
  await lag(page);
  await rowOf(page, `${name}/8080`).first().waitFor();
  assert.equal(await page.locator("main img").count(), 0);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  await close(page);
});

test("tabs share one stream, and one that opens later knows all at once", async () => {
  const hive = new FakeHive("shared", { workers: 3 });
  const stop = await hive.start(daemon.url);
  const context = await browser.newContext();
  await context.addInitScript(watchStreams);
  const url = `${daemon.url}/#hive=shared`;
  const first = await open(browser, url, { context });
  await rowOf(first, "llm/8081").waitFor();
  const second = await open(browser, url, { context });
  await rowOf(second, "llm/8081").waitFor();
  const figure = (page) => rowOf(page, "llm/8081").locator(".c-cpu").innerText();
  const before = [await figure(first), await figure(second)];
  await second.bringToFront();
  await until("figures in the second tab", async () => (await figure(second)) !== before[1]);
  await first.bringToFront();
  await until("figures in the first tab", async () => (await figure(first)) !== before[0]);
  for (const page of [first, second]) assert.equal(await page.evaluate(() => window.streams.length), 0);
  assert.deepEqual(second.complaints, []);
  stop();
  await close(first);
});
