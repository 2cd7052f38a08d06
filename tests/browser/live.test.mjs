// A real hive with real workers: what is shown, what dies, what is done to it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { close, launch, open, reads, rowOf, shoot } from "./support/browser.mjs";
import { Daemon, queenAndHive } from "./support/daemon.mjs";
import { FakeHive } from "./support/fleet.mjs";
import { until } from "./support/wait.mjs";

/** Sooner than the page asks for anything by itself, and long for a machine that is busy. */
const SHOWN_WITHIN_MS = 10_000;

let daemon;
let browser;
before(async () => {
  browser = await launch();
  daemon = await Daemon.start(queenAndHive);
});
after(async () => {
  await browser?.close();
  await daemon?.stop();
});

const worker = (name) => daemon.json(`/v1/workers/here/${name}`);
const at = (name) => `${daemon.url}/#worker=here/${name}`;
const detail = (page) => page.locator("#detail");

test("workers appear with their state, model and figures, and the figures go on", async () => {
  const page = await open(browser, daemon.url);
  const name = `echo/${daemon.ports.worker}`;
  const row = rowOf(page, name);
  await row.locator(".state", { hasText: "ready" }).waitFor();
  await reads(row, new RegExp(`echo-${daemon.ports.worker}`));
  await row.locator(".activity", { hasText: "idle" }).waitFor();
  await reads(row.locator(".c-cpu"), /^[\d.]+ %$/);
  await reads(row.locator(".c-ram"), /^\d+ MiB$/);
  await reads(row.locator(".requests"), /0 of 4/);
  const path = row.locator(".spark.cpu path");
  const drawn = await path.getAttribute("d");
  await until("a longer sparkline", async () => (await path.getAttribute("d")) !== drawn);
  const card = page.locator(".card", { hasText: "here" });
  await reads(card, /cores? · load [\d.]+/);
  await reads(card, /2 workers/);
  await close(page);
});

test("a browser that opens the stream's address gets the page", async () => {
  const page = await open(browser, `${daemon.url}/v1/heartbeats/stream`);
  await rowOf(page, "talker/one").waitFor();
  await close(page);
});

test("a worker that is killed shows its death and its last lines, as text", async (t) => {
  const page = await open(browser, at("talker/one"));
  await detail(page).locator("#detail-state", { hasText: "ready" }).waitFor();
  await until("its first lines", async () => (await (await fetch(`${daemon.url}/v1/hives/here/workers/talker/one/logs`)).text()).includes("tick"));
  const { pid } = await worker("talker/one");
  const killed = Date.now();
  process.kill(pid, "SIGKILL");
  await page.locator("#exit-words", { hasText: "SIGKILL after" }).waitFor();
  const shownAfter = Date.now() - killed;
  t.diagnostic(`the death was shown after ${shownAfter} ms`);
  assert.ok(shownAfter < SHOWN_WITHIN_MS, `the death was shown after ${shownAfter} ms`);
  const tail = page.locator("#exit-tail");
  await reads(tail, /<script>window\.hacked = 1<\/script><b>bold<\/b>/);
  assert.equal(await tail.locator("*").count(), 0);
  await rowOf(page, "talker/one").locator(".exit", { hasText: "SIGKILL" }).waitFor();
  await page.locator("#own-events-list", { hasText: "exited" }).waitFor();
  await rowOf(page, "talker/one").locator(".restarts", { hasText: "1 restart" }).waitFor();
  await shoot(page, "death");
  await page.reload();
  await tail.filter({ hasText: "<script>window.hacked = 1</script>" }).waitFor();
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  await close(page);
});

test("a hostile model, GPU and health are text", async () => {
  const hive = new FakeHive("hostile", { workers: 1, gpus: 1 });
  const markup = "<img src=x onerror=window.hacked=1>";
  Object.assign(hive.workers[0], { model: markup, model_aliases: [markup] });
  Object.assign(hive.node.gpus[0], { id: "<b>0", name: markup, health: markup });
  await hive.beat(daemon.url);
  const page = await open(browser, `${daemon.url}/#worker=hostile/llm/8080`);
  await page.locator("#facts", { hasText: markup }).waitFor();
  await reads(rowOf(page, "llm/8080").locator(".model"), /^<img src=x onerror=window\.hacked=1>$/);
  await reads(page.locator(".card", { hasText: "hostile" }), /<img src=x onerror/);
  assert.equal(await page.locator("main img, #detail img, option img").count(), 0);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  await close(page);
});

test("drain, resume, restart and stop are confirmed, done and told", async () => {
  const page = await open(browser, `${daemon.url}/#worker=here/echo/${daemon.ports.worker}`);
  const act = async (button, told) => {
    await page.locator(button).click();
    await page.locator("#confirm").waitFor();
    await page.locator("#confirm-yes").click();
    await page.locator(".toast.done", { hasText: told }).waitFor();
  };
  await page.locator("#detail-state", { hasText: "ready" }).waitFor();
  await page.locator("#do-stop").click();
  await page.locator("#confirm button", { hasText: "Cancel" }).click();
  assert.equal((await worker(`echo/${daemon.ports.worker}`)).state, "ready");
  await act("#do-drain", "is drained");
  await page.locator("#detail-state", { hasText: "draining" }).waitFor();
  await act("#do-drain", "takes requests again");
  await page.locator("#detail-state", { hasText: "ready" }).waitFor();
  const { pid } = await worker(`echo/${daemon.ports.worker}`);
  await act("#do-restart", "was restarted");
  await until("another process", async () => ![null, pid].includes((await worker(`echo/${daemon.ports.worker}`)).pid));
  await act("#do-stop", "is gone");
  await page.locator("#detail-note", { hasText: "no longer" }).waitFor();
  await until("the row to go", async () => (await rowOf(page, `echo/${daemon.ports.worker}`).count()) === 0);
  await close(page);
});

test("an action that is refused says why", async () => {
  const away = new FakeHive("away", { workers: 1, hostname: "10.9.8.7" });
  await away.beat(daemon.url);
  const page = await open(browser, `${daemon.url}/#worker=away/llm/8080`);
  await page.locator("#do-restart").click();
  await page.locator("#confirm-yes").click();
  const refusal = page.locator(".toast.error");
  await refusal.waitFor();
  await reads(refusal, /Restart of away\/llm\/8080 was refused: .*\[\[queen\.hives\]\]/);
  await shoot(page, "refused");
  await refusal.locator("button").click();
  assert.equal(await refusal.count(), 0);
  await close(page);
});

test("the log is followed, and its markup is text", async () => {
  const page = await open(browser, at("talker/one"));
  await page.locator("#do-logs").click();
  const log = page.locator("#logs-text");
  await page.locator("#logs-status", { hasText: "Live" }).waitFor();
  await log.filter({ hasText: "tick" }).waitFor();
  const lines = async () => (await log.innerText()).split("\n").length;
  const first = await lines();
  await until("more lines", async () => (await lines()) > first + 2);
  await reads(log, /<script>window\.hacked = 1<\/script>/);
  assert.equal(await log.locator("*").count(), 0);
  await shoot(page, "logs");
  await page.keyboard.press("Escape");
  await page.locator("#logs").waitFor({ state: "hidden" });
  await close(page);
});
