// What can be done to a worker: asked for again, done through the queen, and its refusal shown.

import { act } from "./api.js";
import { byId, el } from "./dom.js";

/** How long a success is shown, ms. A refusal stays until it is dismissed. */
const SHOWN_MS = 4_000;
const TOASTS_MOST = 4;

/** Each action: its button, what is asked, what is said while it goes on and when it is done. */
export const ACTIONS = {
  restart: {
    name: "Restart",
    asks: (id) => `Restart ${id}? Requests in flight are cut off.`,
    doing: "Restarting…",
    done: (id) => `${id} was restarted.`,
  },
  drain: {
    name: "Drain",
    asks: (id) => `Drain ${id}? It takes no new requests until it is resumed.`,
    doing: "Draining…",
    done: (id) => `${id} is drained: nothing is in flight.`,
  },
  resume: {
    name: "Resume",
    asks: (id) => `Let ${id} take requests again?`,
    doing: "Resuming…",
    done: (id) => `${id} takes requests again.`,
  },
  stop: {
    name: "Stop",
    asks: (id) => `Stop ${id}? Its whole process tree is ended, and it is removed from its hive.`,
    doing: "Stopping…",
    done: (id) => `${id} is gone.`,
  },
};

/** Shows a message in the corner. */
export function toast(kind, words) {
  const list = byId("toasts");
  const node = el("div", { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status" }, el("p", {}, words));
  const close = () => node.remove();
  node.append(el("button", { type: "button", "aria-label": "Dismiss", onclick: close }, "×"));
  while (list.childElementCount >= TOASTS_MOST) list.firstElementChild.remove();
  list.append(node);
  if (kind !== "error") setTimeout(close, SHOWN_MS);
}

/** Asks whether it is meant; resolves with true or false. */
function confirmed(action, id) {
  const dialog = byId("confirm");
  const { name, asks } = ACTIONS[action];
  byId("confirm-words").textContent = asks(id);
  const yes = byId("confirm-yes");
  yes.textContent = name;
  yes.dataset.action = action;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** Actions that go on now, by worker: a second one waits for nobody, it is refused by the page. */
const going = new Map();

/** What goes on with this worker: the words for it, or undefined. */
export const goingOn = (id) => going.get(id);

/** Asks, does it, and says how it went. `changed` is called when it begins and ends. */
export async function perform(action, worker, changed) {
  const { id } = worker;
  if (going.has(id) || !(await confirmed(action, id))) return;
  going.set(id, ACTIONS[action].doing);
  changed();
  try {
    await act(action, worker);
    toast("done", ACTIONS[action].done(id));
  } catch (error) {
    toast("error", `${ACTIONS[action].name} of ${id} was refused: ${error.message}`);
  } finally {
    going.delete(id);
    changed();
  }
}
