// Small helpers over the DOM. Everything that is shown goes in as text, never as markup.

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/** Makes an element. `props` are attributes; `class` and `on…` handlers as named; children are nodes or text. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** Makes an SVG element. */
export function svg(tag, props = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A text node that is written to only where the text has changed. */
export function say(text, value) {
  if (text.data !== value) text.data = value;
}

/** Sets an attribute only where it has changed; null removes it. */
export function mark(node, name, value) {
  if (value === null) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** An element that holds one text node, and that text node. */
export function label(tag, className) {
  const text = document.createTextNode("");
  return [el(tag, { class: className }, text), text];
}
