// Messages in the corner of the page.

import { byId, el } from "./dom.js";

/** How long a success is shown, ms. A refusal stays until it is dismissed. */
const SHOWN_MS = 4_000;
const TOASTS_MOST = 4;

/** Shows a message; `kind` is "done" or "error". */
export function toast(kind, words) {
  const list = byId("toasts");
  const node = el("div", { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status" }, el("p", {}, words));
  const close = () => node.remove();
  node.append(el("button", { type: "button", "aria-label": "Dismiss", onclick: close }, "×"));
  while (list.childElementCount >= TOASTS_MOST) list.firstElementChild.remove();
  list.append(node);
  if (kind !== "error") setTimeout(close, SHOWN_MS);
}
