// Small help with the DOM.

/** Returns the element with an id. */
export const $ = (id) => document.getElementById(id);

/** Makes an element. Properties that begin with "on" are listeners, others attributes; children are nodes or text. */
export function h(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) {
      e.addEventListener(name.slice(2), value);
    } else if (value === true) {
      e.setAttribute(name, '');
    } else if (value !== false && value != null) {
      e.setAttribute(name, value);
    }
  }
  e.append(...children.filter((c) => c != null));
  return e;
}

/** Makes an SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) {
    e.setAttribute(name, value);
  }
  e.append(...children);
  return e;
}

/** Sets the text of an element, unless it has it: a screen reader would read it again. */
export function say(e, text) {
  if (e.textContent !== text) {
    e.textContent = text;
  }
}

/**
 * Makes the children of a parent follow a list: one element per key, made once and updated from then on, so that focus and hover
 * survive. make(item) returns an element, update(element, item) brings it up to date.
 */
export function follow(parent, list, keyOf, make, update) {
  const known = parent.known ??= new Map();
  const keep = new Set();
  let at = parent.firstElementChild;
  for (const item of list) {
    const key = keyOf(item);
    keep.add(key);
    let e = known.get(key);
    if (!e) {
      known.set(key, e = make(item));
    }
    if (e === at) {
      at = at.nextElementSibling;
    } else {
      parent.insertBefore(e, at);
    }
    update(e, item);
  }
  for (const [key, e] of known) {
    if (!keep.has(key)) {
      e.remove();
      known.delete(key);
    }
  }
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

/** Writes a number with as many digits as a person reads. */
export const number = (n) => (Math.abs(n) < 100 ? tenths : whole).format(n);

/** Writes milliseconds; 0 is "no figure". */
export function millis(ms) {
  if (!ms) {
    return '–';
  }
  return ms < 1000 ? `${number(ms)} ms` : `${number(ms / 1000)} s`;
}

/** Writes how long something took, in one unit or two. */
export function span(ms) {
  const s = Math.max(Math.round(ms / 1000), 0);
  if (s < 60) {
    return `${s} s`;
  }
  const m = Math.floor(s / 60);
  if (m < 60) {
    return `${m} min`;
  }
  const hours = Math.floor(m / 60);
  return hours < 48 ? `${hours} h ${m % 60} min` : `${Math.floor(hours / 24)} days`;
}

/** Writes the time of day. */
export const clock = (ms) => new Date(ms).toLocaleTimeString('en-GB');
