// What can be done to a worker: asked for again, done through the queen, and its refusal shown.

import { act } from "./api.js";
import { byId } from "./dom.js";
import { permitted } from "./login.js";
import { refresh } from "./session.js";
import { toast } from "./toast.js";

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
  const { name, doing, done } = ACTIONS[action];
  const what = `${name} of ${id}`;
  if (going.has(id) || !(await permitted(what)) || !(await confirmed(action, id))) return;
  going.set(id, doing);
  changed();
  try {
    await actOnceLoggedIn(action, worker, what);
    toast("done", done(id));
  } catch (error) {
    toast("error", `${what} was refused: ${error.message}`);
  } finally {
    going.delete(id);
    changed();
  }
}

/** A session that has ended unnoticed is known by the refusal: once logged in it is asked for again. */
async function actOnceLoggedIn(action, worker, what) {
  try {
    await act(action, worker);
  } catch (error) {
    if (error.status !== 401) throw error;
    await refresh();
    if (!(await permitted(what))) throw error;
    await act(action, worker);
  }
}
