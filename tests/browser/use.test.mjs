// How the page is used: by keyboard, by filter and order, on a phone, in both colours.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { close, launch, open, reads, rowOf, shoot } from "./support/browser.mjs";
import { Daemon, queenOnly } from "./support/daemon.mjs";
import { fail, FakeHive } from "./support/fleet.mjs";
import { until } from "./support/wait.mjs";

const TAIL = [
  "INFO:     Application startup complete.",
  "INFO:     10.0.0.12:51734 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK",
  "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB.",
  "GPU 0 has a total capacity of 79.65 GiB of which 1.12 GiB is free.",
];

let daemon;
let browser;
let stops;
before(async () => {
  browser = await launch();
  daemon = await Daemon.start(queenOnly);
  const hives = [
    new FakeHive("gpu-1", { workers: 14, gpus: 4, number: 5 }),
    new FakeHive("gpu-2", { workers: 9, gpus: 2, number: 6 }),
    new FakeHive("mute-7", { workers: 3, gpus: 1, number: 7, source: "unknown" }),
    new FakeHive("cpu-3", { workers: 6, number: 8 }),
  ];
  hives[1].node.gpus[1].health = "Xid 79: GPU has fallen off the bus";
  hives[1].workers[6].state = "draining";
  for (const worker of hives[2].workers) worker.idle = null;
  fail(hives[0], hives[0].workers[3], TAIL);
  stops = await Promise.all(hives.map((hive) => hive.start(daemon.url)));
});
after(async () => {
  for (const stop of stops ?? []) stop();
  await browser?.close();
  await daemon?.stop();
});

const names = (page) => page.locator(".row:not([hidden])").evaluateAll((rows) => rows
  .sort((a, b) => a.ariaRowIndex - b.ariaRowIndex)
  .map((row) => `${row.querySelector(".hive").textContent}/${row.querySelector(".name").textContent}`));

test("GPUs that are unknown, absent and idle are told apart", async () => {
  const page = await open(browser, daemon.url);
  const gpu = async (hash, pattern) => {
    await page.goto(`${daemon.url}/${hash}`);
    const row = page.locator(".row:not([hidden])").first();
    await row.waitFor();
    await until(`rows of ${hash}`, async () => (await names(page)).every((name) => name.startsWith(hash.slice(6, 10))));
    await reads(row.locator(".c-gpu"), pattern);
  };
  await gpu("#hive=mute-7", /^unknown$/);
  await gpu("#hive=cpu-3", /^no GPU$/);
  await gpu("#hive=gpu-2&activity=idle", /^0 %$/);
  await reads(page.locator(".card", { hasText: "gpu-2" }), /Xid 79/);
  await reads(page.locator(".card", { hasText: "gpu-1" }), /GPU 3.*\n.*\d+ %/s);
  await close(page);
});

test("the keyboard moves, opens, filters, explains and closes", async () => {
  const page = await open(browser, daemon.url);
  await rowOf(page, "audio/8083").first().waitFor();
  const selects = (name) => page.locator('.row[aria-selected="true"] .name', { hasText: name }).waitFor();
  await page.keyboard.press("j");
  const [first, second] = (await names(page)).map((name) => name.split("/").slice(1).join("/"));
  await selects(first);
  await page.keyboard.press("ArrowDown");
  await selects(second);
  await page.keyboard.press("k");
  await selects(first);
  await until("the grid to name its row", async () => {
    const active = await page.locator("#grid").getAttribute("aria-activedescendant");
    return (await page.locator(`#${active} .name`).innerText()) === first;
  });
  await page.keyboard.press("Enter");
  await page.locator("#detail-title", { hasText: first }).waitFor();
  await page.keyboard.press("j");
  await page.locator("#detail-title", { hasText: second }).waitFor();
  await page.keyboard.press("Escape");
  await page.locator("#detail").waitFor({ state: "hidden" });
  await page.keyboard.press("/");
  await page.keyboard.type("gpu-2 whisper");
  await until("one that fits", async () => (await names(page)).join() === "gpu-2/llm/8085");
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  await page.locator("#help").waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("G");
  await selects("llm/8085");
  await page.keyboard.press("r");
  await page.locator("#confirm", { hasText: "Restart gpu-2/llm/8085?" }).waitFor();
  await until("the focus on the harmless answer", () => page.evaluate(() => document.activeElement.textContent === "Cancel"));
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".toast").count(), 0);
  await close(page);
});

test("what is chosen is in the address, and an address chooses", async () => {
  const page = await open(browser, daemon.url);
  await page.locator('.chip[data-state="failed"]').click();
  await until("the failed one", async () => (await names(page)).join() === "gpu-1/audio/8083");
  await page.waitForURL(/#state=failed$/);
  await page.locator("#f-reset").click();
  await page.locator('.columns .c-cpu button').click();
  await page.waitForURL(/#sort=-cpu$/);
  await page.locator('.columns .c-cpu[aria-sort="descending"]').waitFor();
  await page.reload();
  const cpu = () => page.locator(".row:not([hidden])").evaluateAll((rows) => rows
    .sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).slice(0, 2)
    .map((row) => Number.parseFloat(row.querySelector(".c-cpu .figure").textContent)));
  await until("the busiest first", async () => {
    const [first, last] = await cpu();
    return first > 60 && first >= last - 45;
  });
  await page.goto(`${daemon.url}/#model=qwen3-32b&hive=gpu-1&activity=busy`);
  await until("what the address says", async () => (await names(page)).join() === "gpu-1/llm/8081");
  await until("the list to say so", async () => (await page.locator("#f-model").inputValue()) === "qwen3-32b");
  await close(page);
});

test("everything that can be pressed has a name, and the banner is announced", async () => {
  const page = await open(browser, `${daemon.url}/#worker=gpu-1/audio/8083`);
  await page.locator("#exit-words").waitFor();
  const nameless = await page.locator("button, input, select, [role=grid], [role=dialog], dialog, aside").evaluateAll((nodes) => nodes
    .filter((node) => !(node.ariaLabel || node.labels?.length || node.textContent.trim() || node.getAttribute("aria-labelledby")))
    .map((node) => node.outerHTML));
  assert.deepEqual(nameless, []);
  assert.equal(await page.locator("#banner").getAttribute("aria-live"), "polite");
  await page.locator('#grid[aria-rowcount="33"] [role=row] .name').first().waitFor();
  await shoot(page, "dashboard-failed");
  await close(page);
});

for (const hash of ["", "#worker=gpu-1/audio/8083"]) {
  test(`a phone of 360 px has nothing beside the page ${hash}`, async () => {
    const phone = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
    const page = await open(browser, `${daemon.url}/${hash}`, phone);
    await rowOf(page, "llm/8080").first().waitFor();
    if (hash) await page.locator("#exit-words", { hasText: "out of memory" }).waitFor();
    const [wide, scale] = await page.evaluate(() => [document.documentElement.scrollWidth, visualViewport.scale]);
    assert.deepEqual([wide, scale], [360, 1]);
    await shoot(page, hash ? "phone-detail" : "phone");
    await close(page);
  });
}

test("colours follow the system until the viewer decides, and stay decided", async () => {
  const page = await open(browser, daemon.url, { colorScheme: "light" });
  const light = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor === "rgb(245, 246, 248)");
  assert.equal(await light(), true);
  await rowOf(page, "llm/8080").first().waitFor();
  await shoot(page, "light");
  await page.locator("#theme").click();
  assert.equal(await light(), false);
  await page.reload();
  assert.equal(await light(), false);
  await close(page);
});
