// The page of a user who is signed in: banner, list, conversation, details; and which of them is on the screen.

import { joinByLink } from './actions.js';
import { chat } from './chat.js';
import { toast } from './dialogs.js';
import { announce, h, icon } from './dom.js';
import { t } from './i18n.js';
import { panel } from './panel.js';
import { side } from './side.js';

const QUIET_MS = 1200; // a connection that is back within this time is not worth a banner
const STUCK_MS = 5000; // a text that waits for longer is

export function shell(root, model, { settingsChanged, logout }) {
  const banner = h('div', { class: 'banner', role: 'status', hidden: true });
  const left = side(model, { open, settingsChanged, logout });
  const none = h('main', { class: 'chat', 'aria-label': t('conversation') }, h('div', { class: 'empty' }, h('span', { class: 'round' }, icon('chats')), h('h2', {}, t('choose')), h('p', {}, t('chooseHint'))));
  const el = h('div', { class: 'shell', dataset: { pane: 'list' } }, banner, left.el, none);
  let middle = null; // the open conversation
  let right = null; // its details
  let current = null;
  root.replaceChildren(el);

  function open(c, { focus = true, push = true } = {}) {
    if (!c) return;
    if (current === c) {
      show('chat', push);
      if (focus) middle.focus();
      return;
    }
    shut();
    current = c;
    model.openId = c.id;
    middle = chat(model, c, { back: () => history.back(), details });
    (el.querySelector('main') ?? none).replaceWith(middle.el);
    show('chat', push);
    model.changed('list');
    if (focus) middle.focus();
  }

  function shut() {
    closePanel();
    middle?.close();
    middle = current = null;
    model.openId = 0;
  }

  /** On a phone one pane is on the screen; the browser's back button leads from a conversation to the list. */
  function show(pane, push) {
    if (push && pane === 'chat') {
      const state = { conversation: current.id };
      if (history.state?.conversation) history.replaceState(state, '');
      else history.pushState(state, '');
    }
    el.dataset.pane = pane;
  }

  function back() {
    if (right) closePanel();
    show('list', false);
    if (matchMedia('(max-width: 720px)').matches) {
      const was = current;
      shut();
      el.querySelector('main').replaceWith(none);
      model.changed('list');
      if (was) el.querySelector('.row')?.focus();
    }
  }

  function details() {
    if (right) {
      closePanel();
      middle.focus();
      return;
    }
    right = panel(model, current, { close: () => { closePanel(); middle.detailsButton.focus(); }, open });
    el.append(right.el);
    el.classList.add('has-panel');
    middle.detailsButton.setAttribute('aria-expanded', 'true');
    right.focus();
  }

  function closePanel() {
    if (!right) return;
    right.close();
    right.el.remove();
    right = null;
    el.classList.remove('has-panel');
    middle?.detailsButton.setAttribute('aria-expanded', 'false');
  }

  // ---- the banner

  let since = Date.now();
  function drawBanner() {
    const { state, retryAt } = model.connection;
    const off = navigator.onLine === false;
    if (state === 'online') since = Infinity;
    else if (since === Infinity) since = Date.now();
    const quiet = Date.now() - since < QUIET_MS;
    const waiting = model.waiting();
    const parts = [];
    const wait = Math.ceil((retryAt - Date.now()) / 1000);
    const text = off ? t('noNetwork')
      : state === 'online' ? model.waitingSince() < Date.now() - STUCK_MS && t('noAnswer')
        : !quiet && (state === 'offline' && wait > 1 ? t('retryIn', { n: wait }) : t('connecting'));
    if (text) {
      parts.push(off ? icon('offline') : h('span', { class: 'spin' }), h('span', {}, text, waiting ? ` ${t('nWaiting', { n: waiting })}` : ''));
      if (!off && state === 'offline' && wait > 1) parts.push(h('button', { type: 'button', on: { click: () => model.session.reconnect() } }, t('tryNow')));
    }
    const version = parts.map((p) => p.textContent).join('|') + off;
    if (banner.version === version) return;
    banner.version = version;
    banner.hidden = !parts.length;
    banner.replaceChildren(...parts);
  }
  // The seconds go by for the eye alone: a screen reader is told once.
  banner.setAttribute('aria-live', 'off');
  let told = false;
  const tick = setInterval(() => {
    drawBanner();
    const bad = !banner.hidden;
    if (bad !== told) {
      told = bad;
      announce(t(bad ? 'connectionLost' : 'connectionBack'));
    }
  }, 500);

  const network = () => {
    drawBanner();
    model.changed('people');
  };

  function drawTitle() {
    const n = model.unread();
    document.title = `${n ? `(${n > 99 ? '99+' : n}) ` : ''}${current ? `${model.title(current)} · ` : ''}Parley`;
  }

  const off = model.on((what, id, detail) => {
    if (what === 'closed') return;
    left.draw();
    drawTitle();
    if (what === 'connection') drawBanner();
    if (what === 'news' && id !== model.openId && detail.kind === 'text' && detail.sender !== model.me) {
      const c = model.conversations.get(id);
      announce(t('newsFrom', { name: model.name(detail.sender), title: c?.type === 'group' ? c.name : '' }));
    }
    if (what === 'applied') toast(t('someoneAsks', { name: detail.nick || detail.name }));
    if (what === 'approved' && detail.uid !== model.me) toast(t('nowFriends', { name: detail.nick || detail.name }));
  });

  // ---- the keyboard

  const keys = (e) => {
    if (document.querySelector('dialog[open]')) return;
    if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === 'k') {
      e.preventDefault();
      left.focusSearch();
    } else if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === 'f' && middle && middle.el.contains(document.activeElement)) {
      e.preventDefault();
      middle.seek();
    } else if (e.altKey && (e.key === 'ArrowDown' || e.key === 'ArrowUp')) {
      e.preventDefault();
      const list = model.list();
      const at = list.indexOf(current);
      open(list[Math.min(list.length - 1, Math.max(0, at + (e.key === 'ArrowDown' ? 1 : -1)))]);
    } else if (e.key === 'Escape' && right) {
      closePanel();
      middle.focus();
    }
  };
  const popped = () => {
    const c = model.conversations.get(history.state?.conversation);
    if (c) open(c, { push: false });
    else back();
  };
  addEventListener('keydown', keys);
  addEventListener('popstate', popped);
  addEventListener('online', network);
  addEventListener('offline', network);

  /** A link to a group in the address leads to its dialog; a wide screen opens the newest conversation, as does who came to talk at once. */
  function begin() {
    const code = new URLSearchParams(location.hash.slice(1)).get('join');
    if (location.hash) history.replaceState(history.state, '', location.pathname);
    if (code) joinByLink(model, open, code);
    const narrow = matchMedia('(max-width: 720px)').matches;
    const atOnce = narrow && history.state?.talk;
    const c = model.conversations.get(history.state?.conversation) ?? (narrow && !atOnce ? null : model.list()[0]);
    if (c) open(c, { focus: !code, push: Boolean(atOnce) });
  }

  drawBanner();
  return {
    begin,
    close() {
      off();
      shut();
      clearInterval(tick);
      removeEventListener('keydown', keys);
      removeEventListener('popstate', popped);
      removeEventListener('online', network);
      removeEventListener('offline', network);
    },
  };
}
