// The few helpers that stand in for a framework: elements, icons, keyed lists.

const SVG = 'http://www.w3.org/2000/svg';

/**
 * Makes an element. Properties: `class`, `on` (handlers by event), `dataset`; anything else is an attribute, left out if it is null,
 * undefined or false. Children are nodes or text; null and false are skipped. Text is never read as HTML.
 */
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'class') el.className = value;
    else if (name === 'on') for (const [type, handler] of Object.entries(value)) el.addEventListener(type, handler);
    else if (name === 'dataset') Object.assign(el.dataset, value);
    else if (name === 'value') el.value = value;
    else el.setAttribute(name, value === true ? '' : value);
  }
  el.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}

/** An icon of the sprite in index.html; the name is that of its symbol without `i-`. */
export function icon(name, cls = 'icon') {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', cls);
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A square button with an icon; the label is for screen readers and for the mouse. */
export function tool(name, label, click, props = {}) {
  return h('button', { type: 'button', class: 'tool', 'aria-label': label, title: label, on: { click }, ...props }, icon(name));
}

/** Text that only screen readers see. */
export const unseen = (text) => h('span', { class: 'unseen' }, text);

/** Sets an attribute, or removes it if the value is null or false. */
export function attr(el, name, value) {
  if (value === null || value === undefined || value === false) el.removeAttribute(name);
  else if (el.getAttribute(name) !== String(value)) el.setAttribute(name, value);
}

/** Replaces the children of an element, unless they are the same already. */
export function fill(el, ...children) {
  const list = children.flat().filter((c) => c !== null && c !== undefined && c !== false);
  const same = list.length === el.childNodes.length && list.every((c, i) => {
    const at = el.childNodes[i];
    return at === c || (typeof c === 'string' && at.nodeType === Node.TEXT_NODE && at.data === c);
  });
  if (!same) el.replaceChildren(...list);
}

/**
 * Makes the children of an element those of a list, one per item, in its order. A child stays as long as its key is in the list and
 * `make` would make the same: `version` says so. Focus and scrolling survive.
 */
export function keyed(el, items, { key, version, make }) {
  const before = new Map();
  for (const child of el.children) before.set(child.keyed, child);
  let at = el.firstElementChild;
  for (const item of items) {
    const k = key(item);
    const v = version(item);
    let child = before.get(k);
    before.delete(k);
    if (!child || child.version !== v) {
      const fresh = make(item);
      fresh.keyed = k;
      fresh.version = v;
      if (child) {
        if (at === child) at = fresh;
        const focused = child.contains(document.activeElement);
        child.replaceWith(fresh);
        if (focused) (fresh.matches('button,[tabindex]') ? fresh : fresh.querySelector('button,[tabindex]'))?.focus();
      }
      child = fresh;
    }
    if (at === child) at = child.nextElementSibling;
    else el.insertBefore(child, at);
  }
  for (const child of before.values()) child.remove();
}

/** Runs a function once per frame however often it is asked for, and also in a tab that is not seen. */
export function perFrame(f) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    const run = () => {
      if (!asked) return;
      asked = false;
      f();
    };
    if (document.visibilityState === 'visible') requestAnimationFrame(run);
    setTimeout(run, 60);
  };
}

/** Says something to screen readers. */
export function announce(text) {
  const live = document.getElementById('live');
  live.replaceChildren(h('p', {}, text));
}

/** Moves the focus among the elements of a list with the arrow keys, Home and End. */
export function arrows(el, selector) {
  el.addEventListener('keydown', (e) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[e.key];
    if (!step || e.altKey || e.ctrlKey || e.metaKey || e.target.matches('input,textarea,select')) return;
    const list = [...el.querySelectorAll(selector)].filter((x) => x.offsetParent !== null);
    const now = list.findIndex((x) => x.contains(document.activeElement));
    const next = list[Math.min(list.length - 1, Math.max(0, now + step))];
    if (!next) return;
    e.preventDefault();
    next.focus();
  });
}
