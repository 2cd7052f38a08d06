// Who the viewer is to the queen. It is asked for, never guessed: the cookie is out of reach for scripts.
//
// What changes it in one tab is told to the others, which then ask for themselves. That a session has
// ended is known from a refused call, from the stream, from its time, and when the page is looked at again.

import { ApiError, getJson, postLogin, postLogout, whenUnauthorised } from "./api.js";

/** Until the queen has said: anything may be tried, and its refusal is shown. */
let view = { required: false, role: undefined, expires_in_s: null };
/** Whether it was a logout that ended the last session. */
let left = false;
const handlers = [];
const tabs = new BroadcastChannel("rbee-session");
let asked = 0;
let applied = 0;
let expiry;

/** Who the viewer is: `role` is null for nobody who is known, undefined until the queen has said. */
export const viewer = () => view;

/** Whether the viewer went by himself: then what was shown is nobody's to see. */
export const hasLeft = () => left;

/** `handler` is called whenever who the viewer is has changed. */
export function whenChanged(handler) {
  handlers.push(handler);
}

/**
 * Asks the queen, and tells whether it answered. Of answers that overtake each other the one that was
 * asked for last counts.
 */
export async function refresh() {
  asked += 1;
  const mine = asked;
  let found;
  try {
    found = await getJson("/v1/session");
  } catch {
    // Not to be known now. Whatever needs it will be refused, which leads here again.
    return false;
  }
  if (mine > applied) apply(found, mine);
  return true;
}

function apply(found, number) {
  applied = number;
  const before = view;
  view = found;
  clearTimeout(expiry);
  if (found.expires_in_s !== null) expiry = setTimeout(refresh, (found.expires_in_s + 1) * 1000);
  if (found.role !== null) left = false;
  if (before.role === found.role && before.required === found.required) return;
  for (const handler of handlers) handler(before);
}

/** Trades a token for a session; throws the queen's refusal. */
export async function login(token) {
  await postLogin(token);
  if (!(await refresh())) throw new ApiError(0, "The queen does not answer.");
  if (view.role === null) throw new ApiError(0, "The queen took the token, but this browser keeps no cookie of it: are cookies blocked?");
  tabs.postMessage("login");
}

/** Ends the session, in all tabs. */
export async function logout() {
  await postLogout();
  left = true;
  tabs.postMessage("logout");
  await refresh();
}

tabs.onmessage = ({ data }) => {
  left = data === "logout";
  refresh();
};
whenUnauthorised(refresh);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") refresh();
});
