// What the views are made of: elements, icons, lists.

import { h, svg } from './shared/dom.js';

export * from './shared/dom.js';

/** An icon of the sprite in index.html; the name is that of its symbol without `i-`. */
export const icon = (name, cls = 'icon') => svg('svg', { class: cls, 'aria-hidden': 'true' }, svg('use', { href: `#i-${name}` }));

/** A square button with an icon; the label is for screen readers and for the mouse. */
export function tool(name, label, click, props = {}) {
  return h('button', { type: 'button', class: 'tool', 'aria-label': label, title: label, on: { click }, ...props }, icon(name));
}

/** Text that only screen readers see. */
export const unseen = (text) => h('span', { class: 'unseen' }, text);

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
