// Queens with tokens: the form, who may what, sessions that end, and several tabs.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { close, launch, open, rowOf, shoot, watchStreams } from "./support/browser.mjs";
import { Daemon, queenAndHive, queenOnly, TOKENS, withTokens, writeToken } from "./support/daemon.mjs";
import { FakeHive } from "./support/fleet.mjs";
import { until } from "./support/wait.mjs";

/** What a page needs to find out that its cookie is gone, when nobody tells it. */
const UNNOTICED_MS = 60_000;

let closed;
let readable;
let browser;
before(async () => {
  browser = await launch();
  closed = await Daemon.start(withTokens(queenAndHive));
  readable = await Daemon.start(withTokens(queenAndHive, { publicRead: true }));
});
after(async () => {
  await browser?.close();
  await closed?.stop();
  await readable?.stop();
});

const form = (page) => page.getByRole("dialog", { name: "Log in" });
const field = (page) => page.getByLabel("Token", { exact: true });
const button = (page, name) => page.getByRole("button", { name, exact: true });
const told = (page, words) => page.getByRole("alert").filter({ hasText: words }).waitFor();
const gone = (page) => form(page).waitFor({ state: "hidden" });
const talker = (page) => rowOf(page, "talker/one").first();
const at = (daemon) => `${daemon.url}/#worker=here/talker/one`;

async function enter(page, token) {
  await field(page).fill(token);
  await field(page).press("Enter");
}

async function logIn(page, role = "admin") {
  await form(page).waitFor();
  await enter(page, TOKENS[role]);
  await gone(page);
  await page.locator("#role", { hasText: role }).waitFor();
}

/** A page of its own context, logged in. */
async function loggedIn(url, role, options) {
  const page = await open(browser, url, options);
  await logIn(page, role);
  await talker(page).waitFor();
  await page.evaluate(() => (window.sameDocument = true));
  return page;
}

/** That the page goes on: a figure changes, and nothing was loaded anew. */
async function goesOn(page) {
  const seen = page.locator(".card .seen").first();
  const uptime = page.locator("#facts dd").nth(5);
  const before = await uptime.innerText();
  await until("the uptime to go on", async () => (await uptime.innerText()) !== before);
  await until("fresh news", async () => Number.parseFloat(await seen.innerText()) < 3);
  await page.locator("#banner:not([data-severity])").waitFor({ state: "attached" });
  assert.equal(await page.evaluate(() => window.sameDocument), true);
}

test("the form is shown where a token is wanted, refuses a wrong one, and the page goes on with the right one", async () => {
  const page = await open(browser, at(closed));
  await page.evaluate(() => (window.sameDocument = true));
  await form(page).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "token");
  assert.equal(await page.locator(".row:not([hidden])").count(), 0);
  await page.locator("#banner", { hasText: "This queen wants a token" }).waitFor();
  await shoot(page, "login");
  await enter(page, "no-such-token");
  await told(page, "The token is not known here.");
  assert.equal(await field(page).getAttribute("aria-invalid"), "true");
  assert.equal(await page.evaluate(() => document.activeElement.id), "token");
  await shoot(page, "login-refused");
  await logIn(page);
  await talker(page).waitFor();
  await page.locator("#detail-title", { hasText: "talker/one" }).waitFor();
  await goesOn(page);
  const [cookie, ...others] = await page.context().cookies();
  assert.deepEqual(others, []);
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Strict"]);
  const seen = await page.evaluate(() => [document.cookie, JSON.stringify(localStorage), location.href, document.querySelector("#token").value].join());
  assert.ok(![cookie.value, TOKENS.admin].some((secret) => seen.includes(secret)), seen);
  await shoot(page, "logged-in");
  await page.reload();
  await talker(page).waitFor();
  assert.equal(await form(page).isVisible(), false);
  await close(page);
});

test("a password manager finds a name and a current password, in a form that posts", async () => {
  const page = await open(browser, closed.url);
  await form(page).waitFor();
  const found = await page.locator("#login form").evaluate((node) => ({
    method: node.method, action: new URL(node.action).pathname,
    kinds: [...node.querySelectorAll("input")].map((input) => `${input.type} ${input.autocomplete}`),
  }));
  assert.deepEqual(found, { method: "post", action: "/login", kinds: ["text username", "password current-password"] });
  await close(page);
});

test("the form can be put aside by keyboard and called back, and holds the focus while it is open", async () => {
  const page = await open(browser, closed.url);
  await form(page).waitFor();
  for (const expected of ["login-cancel", "login-submit"]) {
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.id), expected);
  }
  await page.keyboard.press("Escape");
  await gone(page);
  await page.locator("#link", { hasText: "logged out" }).waitFor();
  await button(page, "Log in").click();
  await logIn(page);
  await talker(page).waitFor();
  await button(page, "Log out").waitFor();
  assert.equal(await button(page, "Log in").isVisible(), false);
  await close(page);
});

test("a browser that opens the stream's address gets the page and its form, an EventSource without a session does not", async () => {
  const page = await open(browser, `${closed.url}/v1/heartbeats/stream`);
  await form(page).waitFor();
  const refused = await page.evaluate(() => new Promise((resolve) => {
    const source = new EventSource("/v1/heartbeats/stream");
    source.onopen = () => resolve("open");
    source.onerror = () => resolve(source.readyState === EventSource.CLOSED ? "refused" : "broken");
  }));
  assert.equal(refused, "refused");
  const program = await page.evaluate(async () => (await fetch("/v1/heartbeats/stream", { headers: { accept: "text/event-stream" } })).status);
  assert.equal(program, 401);
  await logIn(page);
  await talker(page).waitFor();
  await close(page);
});

for (const [how, prepare] of [["of the tabs' own worker", () => {}], ["of its own", (context) => context.addInitScript("delete globalThis.SharedWorker")]]) {
  test(`a queen that has forgotten the session: the form lies over the page as it was; a stream ${how} goes on after it`, async () => {
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
    await prepare(context);
    const page = await loggedIn(at(closed), "admin", { context });
    await page.locator("#q").fill("talker");
    await closed.halt();
    await closed.run();
    await form(page).filter({ hasText: "Your session has ended" }).waitFor();
    await page.locator("#banner", { hasText: "until you log in, all figures are old" }).waitFor();
    assert.equal(await talker(page).isVisible(), true);
    await shoot(page, "session-ended");
    await logIn(page);
    assert.deepEqual([await page.locator("#q").inputValue(), await page.locator("#detail-title").innerText()], ["talker", "talker/one"]);
    await goesOn(page);
    await close(page);
  });
}

test("a cookie that the browser has let expire is noticed without a touch", async () => {
  const page = await loggedIn(at(closed));
  await page.context().clearCookies();
  await form(page).filter({ hasText: "Your session has ended" }).waitFor({ timeout: UNNOTICED_MS });
  await logIn(page);
  await goesOn(page);
  await close(page);
});

test("a session that ends at the queen ends the stream and the log that it gave a right to", async () => {
  const page = await loggedIn(at(closed));
  await button(page, "Logs").click();
  await page.locator("#logs-text", { hasText: "tick" }).waitFor();
  const answer = await page.context().request.post(`${closed.url}/logout`);
  assert.equal(answer.status(), 204);
  await page.locator("#logs-status", { hasText: "Ended" }).waitFor();
  await form(page).filter({ hasText: "Your session has ended" }).waitFor();
  await logIn(page);
  assert.equal(await page.locator("#logs").isVisible(), true);
  await page.keyboard.press("Escape");
  await goesOn(page);
  await close(page);
});

test("another token ends the sessions of the one before", async () => {
  const page = await loggedIn(at(closed));
  await writeToken(closed.folder, "admin", "admin-another-one");
  closed.process.kill("SIGHUP");
  await form(page).filter({ hasText: "Your session has ended" }).waitFor();
  await enter(page, TOKENS.admin);
  await told(page, "The token is not known here.");
  await writeToken(closed.folder, "admin", TOKENS.admin);
  closed.process.kill("SIGHUP");
  await until("the token that counts again", async () => {
    await enter(page, TOKENS.admin);
    return form(page).waitFor({ state: "hidden", timeout: 2_000 }).then(() => true, () => false);
  });
  await goesOn(page);
  await close(page);
});

test("tabs log out and in together, with one stream", async () => {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  await context.addInitScript(watchStreams);
  const first = await loggedIn(at(closed), "admin", { context });
  const second = await open(browser, at(closed), { context });
  await talker(second).waitFor();
  await second.evaluate(() => (window.sameDocument = true));
  await button(second, "Log out").click();
  for (const page of [first, second]) {
    await form(page).filter({ hasText: "You are logged out." }).waitFor();
    await page.locator("main").waitFor({ state: "hidden" });
    assert.equal(await page.locator("#detail").isVisible(), false);
  }
  assert.deepEqual((await context.cookies()).map(({ value }) => value), []);
  await first.bringToFront();
  await logIn(first);
  await goesOn(first);
  await second.bringToFront();
  await gone(second);
  await goesOn(second);
  for (const page of [first, second]) assert.equal(await page.evaluate(() => window.streams.length), 0);
  assert.deepEqual(second.complaints, []);
  await close(first);
});

test("who may only read sees all, and is told why he can't act", async () => {
  const page = await loggedIn(at(closed), "inference");
  await goesOn(page);
  const why = "inference token, which may only infer, schedule and read";
  await page.locator("#detail-refusal", { hasText: why }).waitFor();
  for (const name of ["Restart", "Drain", "Stop", "Logs"]) assert.equal(await button(page, name).isDisabled(), true, name);
  await shoot(page, "reader");
  for (const key of ["r", "l"]) {
    await page.locator("#grid").focus();
    await page.keyboard.press(key);
    await told(page, why);
    assert.equal(await page.locator("#confirm, #logs").filter({ visible: true }).count(), 0);
    await button(page, "Dismiss").click();
  }
  await button(page, "Log out").click();
  await logIn(page, "admin");
  await page.locator("#do-restart:not([disabled])").waitFor();
  assert.equal(await page.locator("#detail-refusal").innerText(), "");
  await close(page);
});

test("with public_read the page needs no login, and actions ask for one", async () => {
  const page = await open(browser, at(readable));
  await talker(page).waitFor();
  await page.evaluate(() => (window.sameDocument = true));
  await goesOn(page);
  assert.equal(await form(page).isVisible(), false);
  await button(page, "Log in").waitFor();
  await shoot(page, "public-read");
  await button(page, "Restart").click();
  await form(page).filter({ hasText: "Restart of here/talker/one takes the admin token." }).waitFor();
  await button(page, "Not now").click();
  await gone(page);
  assert.equal(await page.locator(".toast, #confirm[open]").count(), 0);
  await button(page, "Drain").click();
  await logIn(page, "inference");
  await told(page, "may only infer, schedule and read");
  await button(page, "Log out").click();
  await button(page, "Log in").waitFor();
  assert.equal(await talker(page).isVisible(), true);
  await button(page, "Restart").click();
  await logIn(page);
  await page.locator("#confirm", { hasText: "Restart here/talker/one?" }).waitFor();
  await page.locator("#confirm-yes").click();
  await page.locator(".toast.done", { hasText: "was restarted" }).waitFor();
  await goesOn(page);
  await close(page);
});

test("an action whose session has ended meanwhile asks for a login and is then done", async () => {
  const page = await open(browser, at(readable));
  await talker(page).waitFor();
  await button(page, "Logs").click();
  await logIn(page);
  await page.locator("#logs-text", { hasText: "tick" }).waitFor();
  await page.keyboard.press("Escape");
  await page.context().clearCookies();
  await page.locator("#do-drain").click();
  await page.locator("#confirm-yes").click();
  await logIn(page);
  await page.locator(".toast.done", { hasText: "is drained" }).waitFor();
  await page.locator("#detail-state", { hasText: "draining" }).waitFor();
  await close(page);
});

test("too many tries, a queen that is away and a cookie that is not kept are told", async (t) => {
  const daemon = await Daemon.start(withTokens(queenOnly));
  t.after(() => daemon.stop());
  const hive = new FakeHive("there", { workers: 1, token: TOKENS.hive });
  const page = await open(browser, daemon.url);
  await form(page).waitFor();
  await daemon.halt();
  await enter(page, TOKENS.admin);
  await told(page, "The queen does not answer.");
  await daemon.run();
  await page.route("**/login", async (route) => {
    const response = await route.fetch();
    await page.context().clearCookies();
    await route.fulfill({ status: response.status(), json: await response.json() });
  });
  await enter(page, TOKENS.admin);
  await told(page, "keeps no cookie");
  await page.unroute("**/login");
  const wrong = () => fetch(`${daemon.url}/login`, { method: "POST", headers: { "content-type": "application/json" }, body: '{"token":"guess"}' });
  const refused = /^Too many wrong tokens from this address\. Try again in \d s\.$/;
  await until("too many tries", async () => {
    while ((await wrong()).status !== 429);
    await enter(page, "guess");
    await page.locator("#login-error:not(:empty)").waitFor();
    return refused.test(await page.locator("#login-error").innerText());
  });
  // It counts down meanwhile: what was on the button is read with what it meant.
  const [words, disabled] = await page.locator("#login-submit").evaluate((node) => [node.textContent, node.ariaDisabled]);
  assert.ok(disabled === "true" ? /^Log in \(in \d s\)$/.test(words) : words === "Log in", words);
  await shoot(page, "login-too-often");
  await told(page, "You can try again now.");
  await logIn(page);
  await hive.beat(daemon.url);
  await rowOf(page, "llm/8080").waitFor();
  await close(page);
});

test("without tokens there is nothing to log in to or out of", async (t) => {
  const daemon = await Daemon.start(queenOnly);
  t.after(() => daemon.stop());
  const page = await open(browser, daemon.url);
  await page.locator("#link", { hasText: "live" }).waitFor();
  for (const part of ["#login", "#who", "#logout", "#show-login"]) assert.equal(await page.locator(part).isVisible(), false, part);
  await close(page);
});

for (const colorScheme of ["dark", "light"]) {
  test(`on a phone of 360 px, ${colorScheme}, the form and the top line fit and everything has a name`, async () => {
    const phone = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2, colorScheme };
    const page = await open(browser, closed.url, phone);
    await form(page).waitFor();
    const fits = async () => assert.deepEqual(await page.evaluate(() => [document.documentElement.scrollWidth, visualViewport.scale]), [360, 1]);
    await fits();
    const nameless = await page.locator("#login, #login :is(button, input), nav button").evaluateAll((nodes) => nodes
      .filter((node) => !(node.ariaLabel || node.labels?.length || node.textContent.trim() || node.getAttribute("aria-labelledby")))
      .map((node) => node.outerHTML));
    assert.deepEqual(nameless, []);
    await enter(page, "wrong");
    await told(page, "not known");
    await shoot(page, `phone-login-${colorScheme}`);
    await logIn(page);
    await talker(page).waitFor();
    await fits();
    await shoot(page, `phone-logged-in-${colorScheme}`);
    await close(page);
  });
}
