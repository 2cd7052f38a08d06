// The form in which a token is traded for a session, who is logged in, and the way out.
//
// The form opens by itself where nothing can be read without it, and where an action needs it. It lies
// over the page, which stays as it is: after the login the page goes on.

import { byId } from "./dom.js";
import { duration } from "./format.js";
import { actingTakes, needsLogin, refusalOf } from "./permit.js";
import { hasLeft, login, logout, viewer, whenChanged } from "./session.js";
import { toast } from "./toast.js";

const dialog = byId("login");
const field = byId("token");
const submit = byId("login-submit");
const error = byId("login-error");

/** While a try is on its way, or the queen wants no other one yet. */
let busy = false;
let ticking;

/** Opens the form, and resolves when it is closed. */
export function askForLogin(why) {
  byId("login-why").textContent = why;
  if (!dialog.open) {
    say("");
    dialog.showModal();
  }
  return new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
}

/** Whether the viewer may act, once a login was asked for where that helps. A refusal is shown. */
export async function permitted(what) {
  if (actingTakes(viewer()) === "login") await askForLogin(`${what} takes the admin token.`);
  if (actingTakes(viewer()) === "another") toast("error", refusalOf(viewer().role));
  return actingTakes(viewer()) === "nothing";
}

function say(words) {
  error.textContent = words;
  if (words) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
}

const sentence = (words) => `${words.charAt(0).toUpperCase()}${words.slice(1)}${/[.?!]$/.test(words) ? "" : "."}`;

function hold(word) {
  busy = word !== null;
  submit.setAttribute("aria-disabled", String(busy));
  submit.textContent = word ?? "Log in";
}

/** Counts down on the button; the words above it are said once. */
function wait(seconds) {
  const end = performance.now() + seconds * 1000;
  const tick = () => {
    const rest = Math.ceil((end - performance.now()) / 1000);
    if (rest > 0) return hold(`Log in (in ${duration(rest)})`);
    clearInterval(ticking);
    hold(null);
    say("You can try again now.");
  };
  clearInterval(ticking);
  ticking = setInterval(tick, 250);
  tick();
}

async function attempt() {
  if (busy) return;
  say("");
  hold("Logging in…");
  try {
    await login(field.value);
    hold(null);
  } catch (refused) {
    hold(null);
    const { message, retryAfterS } = refused;
    say(sentence(message) + (retryAfterS ? ` Try again in ${duration(retryAfterS)}.` : ""));
    if (retryAfterS) wait(retryAfterS);
    field.focus();
    field.select();
  }
}

/** Why the form opens by itself. */
function reason(before) {
  if (hasLeft()) return "You are logged out.";
  return before.role ? "Your session has ended. Log in to go on where you were." : "This queen needs a token to show what it knows.";
}

function showViewer() {
  const { role, expires_in_s } = viewer();
  byId("who").hidden = !role || expires_in_s === null;
  byId("role").textContent = role ?? "";
  byId("logout").hidden = byId("who").hidden;
  byId("show-login").hidden = role !== null;
}

async function leave() {
  try {
    await logout();
  } catch (refused) {
    toast("error", `You are still logged in: ${refused.message}`);
  }
}

/** Makes the form and the page's top line work. */
export function startLogin() {
  byId("login-form").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt();
  });
  byId("login-cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    field.value = "";
    if (document.activeElement === document.body) byId("grid").focus({ preventScroll: true });
  });
  byId("show-login").addEventListener("click", () => askForLogin("With the admin token you can act on workers, with any other one read."));
  byId("logout").addEventListener("click", leave);
  whenChanged((before) => {
    showViewer();
    if (viewer().role) dialog.close();
    else if (needsLogin(viewer())) {
      if (hasLeft()) closeAll();
      askForLogin(reason(before));
    }
  });
}

/** What is open then is of somebody who has left. */
function closeAll() {
  for (const open of document.querySelectorAll("dialog[open]")) open.close();
}
