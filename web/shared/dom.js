// The few helpers that stand in for a framework: elements, keyed lists.

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

/** Makes an SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const el = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) el.setAttribute(name, value);
  el.append(...children);
  return el;
}

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
 * `make` would make the same: `version` says so. `update` brings a child up to date. Focus and scrolling survive.
 */
export function keyed(el, items, { key, make, version = () => '', update = null }) {
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
    update?.(child, item);
  }
  for (const child of before.values()) child.remove();
}
