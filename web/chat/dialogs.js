// Dialogs, menus and short notices.

import { arrows, h, icon, tool } from './dom.js';
import { reason, t } from './i18n.js';

/** Shows a short notice for a few seconds; screen readers say it. */
export function toast(text) {
  const el = h('div', { class: 'toast' }, text);
  const all = document.getElementById('toasts');
  all.append(el);
  while (all.children.length > 3) all.firstChild.remove();
  setTimeout(() => el.remove(), 4500);
}

/** Does something, with the button busy meanwhile, and says what went wrong. Resolves to whether it was done. */
export async function busy(button, f, wrong = (error) => toast(reason(error))) {
  if (button?.getAttribute('aria-busy') === 'true') return false;
  button?.setAttribute('aria-busy', 'true');
  try {
    await f();
    return true;
  } catch (error) {
    if (!error?.name || !('advice' in error)) console.error(error);
    wrong(error);
    return false;
  } finally {
    button?.removeAttribute('aria-busy');
  }
}

/** A place in a form for what went wrong. */
export function wrongBox() {
  const el = h('div', { class: 'wrong', role: 'alert', hidden: true });
  return {
    el,
    show(text) {
      el.replaceChildren(icon('alert'), h('span', {}, text));
      el.hidden = false;
    },
    clear() { el.hidden = true; },
  };
}

/** A labelled input. */
export function field(label, props, hint = null) {
  const id = `f${field.count = (field.count ?? 0) + 1}`;
  const input = h('input', { ...props, ...(hint ? { 'aria-describedby': id } : {}) });
  return { input, el: h('label', { class: 'field' }, h('span', {}, label), input, hint && h('small', { id }, hint)) };
}

/**
 * Opens a dialog. `body` is a list of nodes, or a function that gets `close`; `footer` gives buttons. Escape and a click beside it close it.
 */
export function dialog(title, body, footer = null) {
  const before = document.activeElement;
  const el = h('dialog', { 'aria-label': title });
  const close = () => {
    if (el.open) el.close();
  };
  const nodes = typeof body === 'function' ? body(close) : body;
  const foot = footer?.(close);
  el.append(h('header', {}, h('h2', {}, title), tool('close', t('close'), close)), h('div', { class: 'dialog-body' }, nodes));
  if (foot) el.append(h('footer', {}, foot));
  el.addEventListener('close', () => {
    el.remove();
    if (before?.isConnected) before.focus();
  });
  el.addEventListener('mousedown', (e) => {
    if (e.target !== el) return;
    const r = el.getBoundingClientRect();
    if (e.clientX < r.left || e.clientX > r.right || e.clientY < r.top || e.clientY > r.bottom) close();
  });
  document.body.append(el);
  el.showModal();
  el.querySelector('[autofocus]')?.focus();
  return { el, close };
}

/** Asks before something that cannot be taken back. Resolves to whether the answer was yes. */
export function confirm(title, text, action) {
  return new Promise((done) => {
    let answer = false;
    const d = dialog(title, [h('p', { class: 'faint' }, text)], (close) => [
      h('button', { type: 'button', class: 'button', on: { click: close } }, t('cancel')),
      h('button', { type: 'button', class: 'button danger', autofocus: true, on: { click: () => { answer = true; close(); } } }, action),
    ]);
    d.el.addEventListener('close', () => done(answer));
  });
}

/** A form in a dialog: `submit` does it, and the dialog closes if that succeeds. */
export function formDialog(title, nodes, action, submit, danger = false) {
  const wrong = wrongBox();
  const form = h('form', { class: 'form', id: 'dialog-form', novalidate: true }, nodes, wrong.el);
  const d = dialog(title, [form], (close) => [
    h('button', { type: 'button', class: 'button', on: { click: close } }, t('cancel')),
    h('button', { class: `button ${danger ? 'danger' : 'primary'}`, form: 'dialog-form' }, action),
  ]);
  form.addEventListener('submit', async (e) => {
    e.preventDefault();
    wrong.clear();
    if (await busy(d.el.querySelector('footer .button:last-child'), submit, (error) => wrong.show(error.said ?? reason(error)))) d.close();
  });
  return d;
}

/** Opens a menu at an element. Items are {icon, label, run, danger}, null is skipped, '-' is a line. */
export function menu(anchor, items, point = null) {
  document.querySelector('.menu')?.close();
  const el = h('div', { class: 'menu', role: 'menu' });
  const away = (e) => { if (!el.contains(e.target)) close(false); };
  const close = (focus = true) => {
    if (!el.isConnected) return;
    el.remove();
    removeEventListener('pointerdown', away, true);
    removeEventListener('resize', close);
    if (anchor.hasAttribute('aria-haspopup')) anchor.setAttribute('aria-expanded', 'false');
    if (focus) anchor.focus();
  };
  el.close = close;
  for (const item of items) {
    if (!item) continue;
    if (item === '-') el.append(h('hr', { role: 'separator' }));
    else el.append(h('button', { type: 'button', role: 'menuitem', class: item.danger ? 'danger' : '', on: { click: () => { close(); item.run(); } } }, icon(item.icon), item.label));
  }
  arrows(el, 'button');
  el.addEventListener('keydown', (e) => {
    if (e.key !== 'Escape' && e.key !== 'Tab') return;
    e.preventDefault();
    e.stopPropagation();
    close();
  });
  document.body.append(el);
  const at = point ? { left: point.x, right: point.x, top: point.y, bottom: point.y } : anchor.getBoundingClientRect();
  const box = el.getBoundingClientRect();
  const left = at.left + box.width > innerWidth - 8 ? at.right - box.width : at.left;
  const top = at.bottom + 4 + box.height > innerHeight - 8 ? at.top - box.height - 4 : at.bottom + 4;
  el.style.left = `${Math.max(8, Math.min(left, innerWidth - box.width - 8))}px`;
  el.style.top = `${Math.max(8, top)}px`;
  if (anchor.hasAttribute('aria-haspopup')) anchor.setAttribute('aria-expanded', 'true');
  setTimeout(() => addEventListener('pointerdown', away, true));
  addEventListener('resize', close);
  el.querySelector('button')?.focus();
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(t('copied'));
  } catch {
    dialog(t('copy'), [h('p', { class: 'said' }, text)]);
  }
}
