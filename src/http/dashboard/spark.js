// Sparklines: the text of an SVG path from a history. Pure; x is time, so that a gap shows as a gap.

import { svg } from "./dom.js";

/** Without a point for this long the line is interrupted. */
const GAP_MS = 5_000;

const tenth = (value) => Math.round(value * 10) / 10;

/**
 * The path of `series` over the `span` ms before `now`, in a box of `width` × `height`.
 * `least` is what full height means at least; more shrinks the rest.
 */
export function sparkPath(history, series, now, { width, height, span, least }) {
  let first = history.length;
  let top = least;
  while (first > 0 && now - history.time(first - 1) <= span) {
    first -= 1;
    top = Math.max(top, history.value(first, series));
  }
  let path = "";
  let before = -Infinity;
  for (let i = first; i < history.length; i += 1) {
    const time = history.time(i);
    const x = tenth(width - ((now - time) / span) * width);
    const y = tenth(height - 1 - (history.value(i, series) / top) * (height - 2));
    path += `${time - before > GAP_MS ? "M" : "L"}${x} ${y}`;
    before = time;
  }
  return path;
}

/** The figure's highest value in the span, and the least that counts. */
export function peak(history, series, now, span) {
  let top = 0;
  for (let i = history.length - 1; i >= 0 && now - history.time(i) <= span; i -= 1) {
    top = Math.max(top, history.value(i, series));
  }
  return top;
}

/** An empty sparkline: the element, and its path. Its neighbours say the figure, so it has no name. */
export function spark(width, height, className) {
  const path = svg("path", { "vector-effect": "non-scaling-stroke" });
  const box = { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" };
  return [svg("svg", { ...box, class: `spark ${className}`, "aria-hidden": "true" }, path), path];
}
