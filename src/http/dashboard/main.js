// The page: events go into the store, and once a frame what has changed goes from there onto the screen.

import { Banner, verdict } from "./banner.js";
import { choiceHash, choose, nextSort, parseChoice } from "./choice.js";
import { Detail } from "./detail.js";
import { byId, say } from "./dom.js";
import { openEvents } from "./events.js";
import { Filters, tally } from "./filters.js";
import { count, counting } from "./format.js";
import { Hives } from "./hives.js";
import { startKeys } from "./keys.js";
import { startLogin } from "./login.js";
import { needsLogin } from "./permit.js";
import { hasLeft, refresh, viewer, whenChanged } from "./session.js";
import { Store } from "./store.js";
import { Sync } from "./sync.js";
import { Table } from "./table.js";
import { startTheme } from "./theme.js";

/** Rows that are ordered by a figure change places at most this often. */
const REORDER_MS = 2_000;

const store = new Store();
let choice = parseChoice(location.hash);
let list = [];
let listed = { membership: -1, choice: null, at: 0 };

const sync = new Sync(store, { news: settle, draw });
const banner = new Banner(byId("banner"));
const detail = new Detail(() => choosing({ worker: "" }));
const filters = new Filters(choosing);
const hives = new Hives(byId("hive-list"), (id) => choosing({ hive: choice.hive === id ? "" : id }));
const table = new Table({
  head: byId("head"), body: byId("rows"), grid: byId("grid"),
  onSort: (column) => choosing({ sort: nextSort(choice.sort, column) }),
  onOpen: (id) => choosing({ worker: id }),
});
const summary = document.createTextNode("");
const shown = document.createTextNode("");
const linkWord = document.createTextNode("");
byId("summary").append(summary);
byId("shown").append(shown);
byId("link").lastElementChild.append(linkWord);

// Drawing: at most once a frame, however many events came in between.

let asked = false;
let scrolledOnly = true;
function ask(scrolled) {
  scrolledOnly &&= scrolled;
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (scrolledOnly) table.show(list, store.hives, performance.now());
    else paint(performance.now());
    scrolledOnly = true;
  });
}
function draw() {
  ask(false);
}
table.onScroll = () => ask(true);
detail.onChange = draw;

function relist(now) {
  const figures = choice.sort !== "" || choice.q || choice.state || choice.activity;
  const due = figures && now - listed.at > REORDER_MS;
  if (listed.membership === store.membership && listed.choice === choice && !due) return;
  list = choose(choice, store.workers.values());
  listed = { membership: store.membership, choice, at: now };
}

function paint(now) {
  relist(now);
  const counted = tally(store.workers.values());
  filters.show(choice, counted, store.hives.keys());
  hives.show(store.hives, counted.hives, choice.hive, now);
  table.showSort(choice.sort);
  table.show(list, store.hives, now);
  showDetail(now);
  showStanding(now);
}

function showDetail(now) {
  if (!detail.worker) return;
  const worker = store.workers.get(choice.worker);
  const hive = store.hives.get(detail.worker.hive);
  detail.show(worker, hive, { list: store.events, total: sync.happened }, now);
}

function showStanding(now) {
  const { status, since, reason } = sync.standing();
  const found = verdict({ status, reason, brokenFor: now - since, hives: [...store.hives.values()] });
  banner.show(found, now - sync.lastNews);
  const out = reason === "unauthorised";
  document.body.dataset.link = out ? "broken" : status;
  say(linkWord, out ? "logged out" : { open: "live", broken: "broken", connecting: "connecting" }[status]);
  // A session that has ended by itself leaves the figures as they were; a viewer that has left does not.
  const empty = !sync.knows || (out && (hasLeft() || store.hives.size === 0));
  document.body.toggleAttribute("data-empty", out && empty);
  const workers = store.workers.size;
  say(summary, empty ? "" : `${counting(store.hives.size, "hive")} · ${counting(workers, "worker")}`);
  say(shown, list.length === workers ? "" : `${count(list.length)} of ${counting(workers, "worker")}`);
  byId("nothing").hidden = !sync.knows || list.length > 0;
  byId("nothing").firstElementChild.hidden = workers > 0;
  byId("nothing").lastElementChild.hidden = workers === 0;
}

// The choice: what is filtered, sorted and open, in the address.

function choosing(change) {
  choice = { ...choice, ...change };
  history.replaceState(null, "", `${location.pathname}${choiceHash(choice)}`);
  settle();
}

function settle() {
  const open = store.workers.get(choice.worker);
  if (!choice.worker) {
    if (detail.worker) leaveDetail();
  } else if (open && detail.worker?.id !== choice.worker) {
    document.body.dataset.detail = "";
    detail.open(open);
    table.select(open.id);
  }
  draw();
}

function leaveDetail() {
  detail.close();
  delete document.body.dataset.detail;
  byId("grid").focus({ preventScroll: true });
}

addEventListener("hashchange", () => {
  choice = parseChoice(location.hash);
  settle();
});

// Keys, colours, dialogs.

const nextTheme = startTheme(byId("theme"));
const showEvents = () => openEvents(store.events, (worker) => choosing({ worker }));
const help = () => byId("help").showModal();
byId("show-help").addEventListener("click", help);
byId("show-events").addEventListener("click", showEvents);

function move(by) {
  const id = table.move(by);
  byId("grid").focus({ preventScroll: true });
  if (detail.worker && id) choosing({ worker: id });
  draw();
}

/** Does something to the worker that is open, or else to the one that is selected. */
const withWorker = (what) => () => {
  const worker = store.workers.get(choice.worker || table.selected);
  if (!worker) return;
  if (detail.worker?.id !== worker.id) choosing({ worker: worker.id });
  what();
};

startKeys({
  move, help, theme: nextTheme, events: showEvents,
  search: () => byId("q").focus(),
  open: () => {
    if (!table.selected) return;
    choosing({ worker: table.selected });
    byId("detail-title").focus({ preventScroll: true });
  },
  close: () => choosing({ worker: "" }),
  leaveField: (field) => {
    field.blur();
    byId("grid").focus({ preventScroll: true });
  },
  logs: withWorker(() => detail.logs()),
  restart: withWorker(() => detail.do("restart")),
  drain: withWorker(() => detail.do("drain")),
  stop: withWorker(() => detail.do("stop")),
});

// Ages grow without events, too.
setInterval(draw, 1_000);

// The stream begins once it is known whether that needs a login, and goes on after it.

function listen() {
  if (!needsLogin(viewer())) sync.listen();
  draw();
}
startLogin();
whenChanged(() => {
  listen();
  detail.again();
});
refresh().finally(listen);
draw();
