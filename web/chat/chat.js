// The conversation that is open: its head, its messages, search in it.

import { composer } from './composer.js';
import { arrows, attr, announce, fill, h, icon, keyed, perFrame, tool } from './dom.js';
import { avatar, day, presence, sameDay } from './format.js';
import { reason, t } from './i18n.js';
import { make, versionOf } from './message.js';
import { seeker } from './seek.js';

const TOGETHER_MS = 5 * 60000; // texts of one sender within this time stand together
const NEAR = 80; // pixels from the end that count as the end
const AHEAD = 600; // pixels before the beginning where older texts are read

export function chat(model, c, { back, details }) {
  const title = h('h2', { tabindex: '-1' });
  const sub = h('span', { class: 'chat-sub' });
  const face = h('span', {});
  const head = h('header', { class: 'chat-head' },
    h('button', { type: 'button', class: 'tool back', 'aria-label': t('back'), on: { click: back } }, icon('back')),
    h('span', { class: 'chat-title' }, face, h('span', {}, title, sub)),
    tool('search', t('searchHere'), () => toggleSeek(), { 'aria-pressed': 'false' }),
    tool('info', t('details'), details, { 'aria-expanded': 'false' }));
  const [seekButton, detailsButton] = [...head.querySelectorAll('.tool')].slice(1);

  const log = h('ol', { class: 'log', 'aria-label': t('messages') });
  const scroll = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('messages') }, log);
  const jump = h('button', { type: 'button', class: 'jump', 'aria-label': t('toEnd'), title: t('toEnd'), hidden: true, on: { click: () => toEnd(true) } }, icon('down'));
  const stage = h('div', { class: 'stage' }, scroll, jump);
  const write = composer(model, c, { typed: () => toEnd(), editLast });
  const el = h('main', { class: 'chat', 'aria-label': t('conversation') }, head, stage, write.el);
  arrows(scroll, '.msg');

  let atEnd = true;
  let freshFrom = 0;
  let placed = false; // the first screen has been scrolled to where reading begins
  let failed = null;

  // ---- items

  function items() {
    const out = [];
    if (c.loaded) out.push(c.more ? { key: 'older', kind: 'older' } : { key: 'start', kind: 'start', text: model.title(c) });
    let before = null;
    const close = (item) => { if (item) item.last = true; };
    for (const m of c.messages) {
      const newDay = !before || !sameDay(before.m.time, m.time);
      if (newDay) {
        close(before);
        out.push({ key: `day${m.time.toDateString()}`, kind: 'day', text: day(m.time) });
      }
      const isFresh = m.id === freshFrom;
      if (isFresh) {
        close(before);
        out.push({ key: 'fresh', kind: 'fresh', text: t('newMessages') });
      }
      const joins = before && !newDay && !isFresh && m.kind === 'text' && before.m.kind === 'text' && before.m.sender === m.sender && m.time - before.m.time < TOGETHER_MS;
      if (!joins) close(before);
      const item = { key: m.id, kind: 'message', m, first: !joins, last: false, query: seek?.query };
      out.push(item);
      before = item;
    }
    const own = before?.m.kind === 'text' && before.m.sender === model.me;
    if (!own || !c.pending.length) close(before);
    c.pending.forEach((p, i) => out.push({ key: `p${p.id}`, kind: 'pending', p, first: i === 0 && !own, last: i === c.pending.length - 1, text: p.text }));
    return out;
  }

  // ---- drawing

  const draw = perFrame(() => {
    if (!el.isConnected) return;
    drawHead();
    const list = items();
    const anchor = atEnd ? null : firstSeen();
    keyed(log, list, { key: (i) => i.key, version: (i) => versionOf(model, c, i), make: (i) => make(model, c, i, { edit: write.edit }) });
    attr(log, 'aria-busy', c.loading ? 'true' : null);
    stand(list.length);
    if (!placed && c.loaded) place();
    else if (atEnd) toEnd();
    else if (anchor) scroll.scrollTop += anchor.el.getBoundingClientRect().top - anchor.top;
    rove();
    look();
  });

  function drawHead() {
    const name = model.title(c);
    if (title.textContent !== name) title.textContent = name;
    const p = c.type === 'private' && model.friend(c.peer) ? model.presenceOf(c.peer) : null;
    const version = `${name}${p?.online}`;
    if (face.version !== version) {
      face.version = version;
      face.replaceChildren(avatar(c.type === 'group' ? c.id : c.peer, name, { group: c.type === 'group', online: p?.online }));
    }
    const typing = [...c.typing.keys()];
    const text = typing.length ? (c.type === 'private' ? t('typing') : typing.length === 1 ? t('isTyping', { name: model.name(typing[0]) }) : t('areTyping', { n: typing.length }))
      : c.type === 'group' ? t('members', { n: c.members }) : presence(p);
    if (sub.textContent !== text) sub.textContent = text;
    sub.classList.toggle('typing', typing.length > 0);
  }

  /** What stands in the place of messages while there are none. */
  function stand(n) {
    let el2 = stage.querySelector('.empty');
    const error = c.error ?? null;
    const kind = c.loaded || n ? null : error ? 'error' : c.loading ? 'loading' : null;
    if (el2?.kind === kind) return;
    el2?.remove();
    if (!kind) return;
    el2 = kind === 'loading'
      ? h('div', { class: 'empty', role: 'status' }, h('span', { class: 'older' }, h('span', { class: 'spin' })), h('p', {}, t('loading')))
      : h('div', { class: 'empty', role: 'alert' }, h('span', { class: 'round' }, icon('alert')), h('h2', {}, t('notLoaded')), h('p', {}, reason(error)),
        h('button', { type: 'button', class: 'button', on: { click: () => model.load(c) } }, t('tryAgain')));
    el2.kind = kind;
    scroll.prepend(el2);
  }

  function firstSeen() {
    const top = scroll.getBoundingClientRect().top;
    for (const li of log.children) {
      const r = li.getBoundingClientRect();
      if (r.bottom > top && !li.classList.contains('older')) return { el: li, top: r.top };
    }
    return null;
  }

  // ---- scrolling and reading

  function toEnd(byHand = false) {
    scroll.scrollTop = scroll.scrollHeight;
    if (byHand) write.focus();
  }

  /** The first screen begins at the first text that was not read. */
  function place() {
    placed = true;
    const fresh = log.querySelector('.fresh');
    if (fresh && scroll.scrollHeight - fresh.offsetTop > scroll.clientHeight) scroll.scrollTop = fresh.offsetTop - 72;
    else toEnd();
    scrolled();
  }

  function scrolled() {
    atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR;
    look();
    if (scroll.scrollTop < AHEAD && c.loaded && c.more && !c.loading && !failed) readOlder();
  }

  async function readOlder() {
    try {
      await model.older(c);
    } catch {
      failed = setTimeout(() => { failed = null; scrolled(); }, 3000);
    }
  }

  /** What is on the screen has been read. */
  function look() {
    jump.hidden = atEnd || !c.loaded;
    const n = atEnd ? 0 : c.unread;
    if (jump.n !== n) {
      jump.n = n;
      fill(jump, jump.firstChild, n > 0 && h('span', { class: 'badge' }, n > 99 ? '99+' : String(n)));
    }
    if (c.loaded && atEnd && document.visibilityState === 'visible' && document.hasFocus()) model.seen(c);
    if (c.loaded && c.more && !c.loading && scroll.scrollHeight <= scroll.clientHeight + AHEAD && !failed) readOlder();
  }

  /** Tab reaches one message; the arrow keys go on from there. */
  function rove() {
    const all = log.querySelectorAll('.msg');
    const now = document.activeElement?.closest?.('.msg');
    for (const li of all) if (li !== now && li.tabIndex === 0) li.tabIndex = -1;
    const one = now ?? all[all.length - 1];
    if (one) one.tabIndex = 0;
  }

  scroll.addEventListener('scroll', scrolled, { passive: true });
  scroll.addEventListener('focusin', rove);
  addEventListener('focus', look);
  document.addEventListener('visibilitychange', look);
  const sizes = new ResizeObserver(() => { if (atEnd && placed) toEnd(); });
  sizes.observe(scroll);

  // ---- editing, search

  function editLast() {
    const m = c.messages.findLast((x) => x.kind === 'text' && x.sender === model.me && !x.recalled && !x.type);
    if (m && Date.now() - m.time < 15 * 60000) write.edit(m);
  }

  let seek = null;
  function toggleSeek() {
    if (seek) {
      seek.el.remove();
      seek = null;
      draw();
      write.focus();
    } else {
      seek = seeker(model, c, { draw, goTo, close: toggleSeek });
      head.after(seek.el);
      seek.focus();
    }
    seekButton.setAttribute('aria-pressed', String(Boolean(seek)));
  }

  function goTo(id) {
    const li = log.querySelector(`[data-id="${id}"]`);
    if (!li) return;
    atEnd = false;
    li.scrollIntoView({ block: 'center' });
    li.classList.remove('flash');
    requestAnimationFrame(() => li.classList.add('flash'));
  }

  // ---- the conversation's life

  const off = model.on((what, id, m) => {
    if (what === 'thread' && id === c.id) {
      if (!freshFrom && c.loaded && !placed) freshFrom = firstFresh();
      draw();
    } else if (what === 'people' || what === 'list' || what === 'connection') {
      draw();
      if (what === 'list' || c.type === 'private') write.draw();
      if (what === 'connection' && model.connection.state === 'online' && c.error) model.load(c);
    } else if (what === 'news' && id === c.id) {
      if (m.kind === 'text' && m.sender !== model.me) announce(`${model.name(m.sender)}: ${m.text}`);
      if (m.kind === 'event') write.draw();
    }
  });

  /** Where the unread ones begin. */
  function firstFresh() {
    if (!c.unread) return 0;
    const own = c.messages.findLast((m) => m.kind === 'text' && m.sender === model.me)?.id ?? 0;
    return c.messages.find((m) => m.id > Math.max(c.read, own) && m.kind === 'text' && m.sender !== model.me)?.id ?? 0;
  }

  if (c.loaded) freshFrom = firstFresh();
  model.load(c);
  draw();
  return {
    el,
    detailsButton,
    focus: () => (matchMedia('(hover: none)').matches ? title.focus() : write.focus()),
    seek: () => { if (!seek) toggleSeek(); },
    close() {
      off();
      removeEventListener('focus', look);
      document.removeEventListener('visibilitychange', look);
      sizes.disconnect();
      clearTimeout(failed);
      write.close();
    },
  };
}
