// A real Chromium, and pages that fail the test when a script of theirs fails or a policy is broken.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { until } from "./wait.mjs";

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--enable-precise-memory-info", "--js-flags=--expose-gc",
];
const SHOTS = process.env.RBEE_SCREENSHOTS;

export const launch = () => chromium.launch({ executablePath: "/usr/bin/chromium", headless: true, args: FLAGS });

/** A page of its own context; `page.complaints` is what its console said in anger. */
export async function open(browser, url, options = {}) {
  const { context: given, ...settings } = options;
  const context = given ?? (await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: "dark", ...settings }));
  const page = await context.newPage();
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(`${error}`));
  page.on("console", (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) page.complaints.push(message.text());
  });
  await page.goto(url, options.goto);
  return page;
}

/** Ends a page and says what it complained of. */
export async function close(page) {
  const { complaints } = page;
  await page.context().close();
  assert.deepEqual(complaints, []);
}

/** Keeps a picture of the page. */
export async function shoot(page, name) {
  if (!SHOTS) return;
  await mkdir(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

/** Waits until a text reads like this: what is shown comes a tick after what it is shown for. */
export async function reads(locator, pattern) {
  let text;
  const told = async () => pattern.test((text = await locator.innerText()));
  await until(`${pattern}`, told).catch((error) => {
    throw new Error(`${error.message}; it reads ${JSON.stringify(text)}`);
  });
}

/** Counts the streams that a page opens itself, and can say what one of them would. */
export function watchStreams() {
  const Real = EventSource;
  window.streams = [];
  window.EventSource = class extends Real {
    constructor(...of) {
      super(...of);
      window.streams.push(this);
    }
  };
}

/** The row of a worker, by its group and instance. */
export const rowOf = (page, name) => page.locator(".row:not([hidden])", { has: page.locator(`.name:text-is("${name}")`) });
