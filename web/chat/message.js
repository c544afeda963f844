// One message as it is shown, and what can be done with it.

import { seenBy } from './actions.js';
import { busy, confirm, copy, menu, toast } from './dialogs.js';
import { h, icon, unseen } from './dom.js';
import { avatar, clock, full, hue, isJumbo, said } from './format.js';
import { listed, reason, t } from './i18n.js';

const RECALL_MS = 2 * 60000; // by default; the server decides
const EDIT_MS = 15 * 60000;

/** How far an own text has come. */
export function tickOf(c, m) {
  const { state, count } = c.tick(m);
  const svg = icon(state === 'sent' ? 'one' : 'two', `tick ${state}`);
  const word = c.type === 'group' && count ? t('seenByN', { n: count }) : t(state);
  return h('span', { title: word }, svg, unseen(word));
}

/** An event of a group in words. */
export function eventText(model, m) {
  const e = m.event;
  if (!e) return '';
  const me = model.me;
  const who = listed(e.uids.map((u) => (u === me ? t('youObject') : model.name(u))));
  const by = e.by === me ? t('youSubject') : model.name(e.by);
  let key = `ev_${e.what}`;
  if (e.what === 'role') key = e.role === 'admin' ? 'ev_admin' : 'ev_member';
  if (e.what === 'mute_all' || e.what === 'history') key += e.on ? '_on' : '_off';
  if (e.what === 'created' && !e.uids.length) key = 'ev_created_alone';
  return t(key, { by, who, name: e.name });
}

/** What can be done with a message, as items of a menu. */
export function actionsOf(model, c, m, { edit }) {
  const own = m.sender === model.me;
  const age = Date.now() - m.time;
  const admin = c.type === 'group' && c.role !== 'member' && !c.left;
  const rows = model.session.granted('rows');
  return [
    !m.recalled && { icon: 'copy', label: t('copy'), run: () => copy(m.text) },
    rows && own && !m.recalled && !m.type && age < EDIT_MS && { icon: 'edit', label: t('edit'), run: () => edit(m) },
    c.type === 'group' && own && !m.recalled && { icon: 'eye', label: t('seenBy'), run: () => seenBy(model, c, m) },
    rows && !m.recalled && (own ? age < RECALL_MS || admin : admin) && { icon: 'undo', label: t('recall'), run: () => recall(model, c, m) },
    rows && '-',
    rows && { icon: 'trash', label: t('deleteForMe'), danger: true, run: () => hide(model, c, m) },
  ].filter(Boolean);
}

async function recall(model, c, m) {
  if (await confirm(t('recallTitle'), t('recallText'), t('recall'))) {
    await busy(null, () => model.session.recall(c.id, m.id), (error) => toast(error.name === 'NotAllowed' ? t('tooLate') : reason(error)));
  }
}

async function hide(model, c, m) {
  if (!await confirm(t('deleteTitle'), t('deleteText'), t('deleteForMe'))) return;
  await busy(null, async () => {
    await model.session.hide(c.id, [m.id]);
    c.hide([m.id]);
    model.changed('thread', c.id);
  });
}

/** Everything that a message's looks depend on. */
export function versionOf(model, c, item) {
  const m = item.m;
  if (!m) return [item.kind, item.text, item.p?.state].join();
  const own = m.sender === model.me;
  const tick = own && m.kind === 'text' ? Object.values(c.tick(m)).join() : '';
  return [m.id, m.changes ?? 0, item.first, item.last, tick, item.query ?? '', m.kind === 'event' ? eventText(model, m) : own ? '' : model.name(m.sender)].join();
}

/** Makes the element of an item: a message, an event, a heading, a text that waits. */
export function make(model, c, item, tools) {
  if (item.kind === 'day') return h('li', { class: 'day' }, h('span', {}, item.text));
  if (item.kind === 'fresh') return h('li', { class: 'fresh' }, item.text);
  if (item.kind === 'older') return h('li', { class: 'older' }, h('span', { class: 'spin' }), unseen(t('loading')));
  if (item.kind === 'start') {
    const title = model.title(c);
    return h('li', { class: 'start' }, avatar(c.type === 'group' ? c.id : c.peer, title, { group: c.type === 'group', size: 'big' }),
      h('h3', {}, title), h('p', { class: 'faint' }, c.type === 'group' ? t('startGroup') : t('startPrivate', { name: title })));
  }
  if (item.kind === 'pending') return waiting(model, c, item);
  if (item.m.kind === 'event') return h('li', { class: 'event' }, eventText(model, item.m));
  return text(model, c, item, tools);
}

function text(model, c, { m, first, last, query }, tools) {
  const own = m.sender === model.me;
  const group = c.type === 'group';
  const name = own ? t('youSubject') : model.name(m.sender);
  const jumbo = !m.recalled && !m.type && isJumbo(m.text);
  const body = m.recalled ? t('recalledBy', { name }) : m.type ? [`[${m.type}] `, m.text] : said(m.text, query);
  const act = h('button', {
    type: 'button', class: 'act', tabindex: '-1', 'aria-label': t('actions'), title: t('actions'), 'aria-haspopup': 'menu', 'aria-expanded': 'false',
    on: { click: () => menu(act, actionsOf(model, c, m, tools)) },
  }, icon('more'));
  const el = h('li', {
    class: `msg ${own ? 'own' : 'other'} ${first ? 'first' : ''} ${last ? 'last' : ''} ${jumbo ? 'jumbo' : ''} ${m.recalled ? 'gone' : ''}`,
    tabindex: '-1', dataset: { id: m.id },
    on: {
      contextmenu: (e) => {
        if (e.target.closest('a') || String(getSelection())) return;
        e.preventDefault();
        menu(el, actionsOf(model, c, m, tools), e.button === -1 || (!e.clientX && !e.clientY) ? null : { x: e.clientX, y: e.clientY });
      },
      keydown: (e) => {
        if (e.target !== el || (e.key !== 'Enter' && e.key !== ' ')) return;
        e.preventDefault();
        act.click();
      },
    },
  },
  !own && group && (last ? avatar(m.sender, name) : h('span', { class: 'avatar none' })),
  h('div', { class: 'bubble' },
    h('span', { class: own || !group || !first ? 'unseen' : `who ${hue(m.sender)}` }, own || !group || !first ? `${name}: ` : name),
    h('p', { class: 'said' }, body),
    h('span', { class: 'meta' },
      m.edited && !m.recalled && h('span', {}, t('edited')),
      h('time', { datetime: m.time.toISOString(), title: full(m.time) }, clock(m.time)),
      own && !m.recalled && tickOf(c, m))),
  act);
  return el;
}

function waiting(model, c, { p, first, last }) {
  const failed = p.state === 'failed';
  return h('li', { class: `msg own ${failed ? 'failed' : 'waiting'} ${first ? 'first' : ''} ${last ? 'last' : ''}`, tabindex: '-1', dataset: { pending: p.id } },
    h('div', { class: 'stack' },
      h('div', { class: 'bubble' }, unseen(`${t('youSubject')}: `), h('p', { class: 'said' }, said(p.text)),
        h('span', { class: 'meta' }, h('time', { datetime: p.since.toISOString() }, clock(p.since)), icon(failed ? 'alert' : 'clock', 'tick'), unseen(failed ? t('notSent') : t('waiting')))),
      failed && h('div', { class: 'fail', role: 'alert' }, h('span', {}, `${t('notSent')}: ${reason(p.error)}`),
        h('div', {}, h('button', { type: 'button', on: { click: () => model.retry(c, p) } }, t('tryAgain')), h('button', { type: 'button', on: { click: () => model.discard(c, p) } }, t('discard'))))));
}
