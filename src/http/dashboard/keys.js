// The keyboard. Keys act only while nobody is typing and no dialog is open.

const typing = (target) => target.closest("input, select, textarea, [contenteditable]");

/** `actions` are called by name; `rows` says whether the focus is where Enter belongs to the rows. */
export function startKeys(actions) {
  const keys = {
    j: () => actions.move(1), ArrowDown: () => actions.move(1),
    k: () => actions.move(-1), ArrowUp: () => actions.move(-1),
    PageDown: () => actions.move(10), PageUp: () => actions.move(-10),
    g: () => actions.move(-Infinity), Home: () => actions.move(-Infinity),
    G: () => actions.move(Infinity), End: () => actions.move(Infinity),
    "/": actions.search, "?": actions.help, t: actions.theme, e: actions.events,
    l: actions.logs, r: actions.restart, d: actions.drain, x: actions.stop,
    Escape: actions.close,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (typing(event.target)) {
      if (event.key === "Escape" || event.key === "Enter") actions.leaveField(event.target);
      return;
    }
    const onButton = event.target.closest("button, a, summary");
    const key = event.key === "Enter" && !onButton ? actions.open : keys[event.key];
    if (!key) return;
    event.preventDefault();
    key();
  });
}
