// What stands below the nodes: events, refusals, slow consumers, sessions.

import { ask } from './ask.js';
import { get, post } from './api.js';
import { $, clock, h, keyed, number, say, span } from './dom.js';
import { known, language, t, told } from './i18n.js';

const maxShown = 60;
let events = [];
let found = null; // { sessions, failed, uid }: what was last searched for

/** Reads the events that came since the last time. */
export async function readEvents() {
  const last = events.at(-1)?.seq ?? 0;
  const { events: more } = await get(`events?after=${last}`);
  if (more.length === 0) {
    return;
  }
  if (more[0].seq <= last) {
    events = []; // of another life of the status node
  }
  events = [...events, ...more].slice(-maxShown);
  showEvents();
}

function showEvents() {
  keyed($('events'), events.toReversed(), {
    key: (e) => `${e.seq} ${e.at_ms}`,
    version: language,
    make: (e) => h('li', { 'data-kind': e.kind },
      h('time', { datetime: new Date(e.at_ms).toISOString() }, clock(e.at_ms)),
      h('span', { class: 'what' }, e.node && h('b', {}, `${e.node} `), told(e.text), e.remote && h('span', { class: 'quiet' }, ` ${t('by', { who: e.remote })}`))),
  });
  $('no-events').hidden = events.length > 0;
}

/** Shows a list of names and numbers as bars. */
function bars(id, items) {
  const most = Math.max(...items.map(([, n]) => n), 1);
  keyed($(id), items, {
    key: ([name]) => name,
    make: ([name]) => h('li', {}, h('span', {}, name), h('b'), h('span', { class: 'bar' }, h('i'))),
    update: (e, [, n, text]) => {
      say(e.querySelector('b'), text ?? number(n));
      e.querySelector('i').style.width = `${n / most * 100}%`;
    },
  });
  $(`no-${id}`).hidden = items.length > 0;
}

/** Says what was refused, and why if the name ends with a code or a reason: `login 2001`. */
function reason(name) {
  const [, what, why] = /^(.+) (\w+)$/.exec(name) ?? [];
  if (known(`why_${why}`) && name !== 'request rate' && name !== 'text rate') return t('reason', { what: told(what), why: t(`why_${why}`) });
  return /^\d+$/.test(why) ? t('reason', { what: told(what), why: t('code', { n: why }) }) : told(name);
}

/** Shows the refusals and slow consumers of a look. */
export function showPanels(look) {
  const refusals = new Map();
  for (const node of look.nodes) {
    for (const [name, n] of Object.entries(node.refusals ?? {})) {
      refusals.set(reason(name), (refusals.get(reason(name)) ?? 0) + n);
    }
  }
  bars('refusals', [...refusals].sort((a, b) => b[1] - a[1]).slice(0, 8));
  const slow = look.nodes.flatMap((n) => n.slow ?? []).sort((a, b) => b.queued - a.queued).slice(0, 8);
  bars('slow', slow.map((s) => [t('slowOn', { uid: s.uid, device: s.device || t('stock'), node: s.node }), s.queued, `${number(s.queued / 1024)} KiB`]));
}

/** Shows everything again, in another language. */
export function retell() {
  showEvents();
  showSessions();
}

/** Lists the sessions of a user, or the first ones of all. */
export async function findSessions(uid) {
  found = { uid, ...await get(uid ? `sessions?uid=${encodeURIComponent(uid)}` : 'sessions?limit=20') };
  showSessions();
}

function showSessions() {
  if (!found) return;
  const { uid, sessions, failed } = found;
  const now = Date.now();
  $('sessions').replaceChildren(...sessions.map((s) => h('li', {},
    h('span', { class: 'who' }, h('b', {}, String(s.uid)), ` ${s.device || t('stock')}`),
    h('span', { class: 'quiet' }, t('onNode', { node: s.node, span: span(now - s.since_ms), ago: span(now - s.seen_ms) })),
    h('button', { type: 'button', class: 'button small', 'aria-label': t('endOf', { uid: s.uid, device: s.device }), on: { click: () => kick(s, uid) } }, t('endAsk')),
  )));
  const missing = Object.keys(failed ?? {});
  say($('no-sessions'), missing.length > 0 ? t('notAsked', { nodes: missing.join(', ') }) : uid ? t('notLoggedIn', { uid }) : t('nobody'));
  $('no-sessions').hidden = sessions.length > 0 && missing.length === 0;
}

async function kick(s, uid) {
  await ask({
    title: t('endTitle', { uid: s.uid }),
    content: h('p', {}, t('endText', { device: s.device || t('stock') })),
    yes: t('endSession'),
    danger: true,
    act: () => post('sessions/kick', { uid: s.uid, sid: s.sid }),
  });
  await findSessions(uid);
}
