// What stands below the nodes: events, refusals, slow consumers, sessions.

import { ask } from './ask.js';
import { get, post } from './api.js';
import { $, clock, follow, h, number, say, span } from './dom.js';

const maxShown = 60;
let events = [];

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
  follow($('events'), events.toReversed(), (e) => `${e.seq} ${e.at_ms}`, (e) => h('li', { 'data-kind': e.kind },
    h('time', { datetime: new Date(e.at_ms).toISOString() }, clock(e.at_ms)),
    h('span', { class: 'what' }, e.node ? h('b', {}, `${e.node} `) : null, e.text, e.remote ? h('span', { class: 'quiet' }, ` by ${e.remote}`) : null),
  ), () => {});
  $('no-events').hidden = true;
}

/** Shows a list of names and numbers as bars. */
function bars(id, items) {
  const most = Math.max(...items.map(([, n]) => n), 1);
  follow($(id), items, ([name]) => name, ([name]) => h('li', {}, h('span', {}, name), h('b'), h('span', { class: 'bar' }, h('i'))), (e, [, n, text]) => {
    say(e.querySelector('b'), text ?? number(n));
    e.querySelector('i').style.width = `${n / most * 100}%`;
  });
  $(`no-${id}`).hidden = items.length > 0;
}

const codes = { 1010: 'token invalid', 2000: 'internal', 2001: 'busy', 2002: 'unavailable', 2003: 'rate', 2005: 'bad request', 2006: 'not allowed', 2008: 'draining' };

/** Says a reason with the meaning of its code. */
export function reason(name) {
  return name.replace(/ (\d{4})$/, (_, code) => `: ${codes[code] ?? `code ${code}`}`);
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
  bars('slow', slow.map((s) => [`${s.uid} ${s.device || 'stock client'} on ${s.node}`, s.queued, `${number(s.queued / 1024)} KiB`]));
}

/** Lists the sessions of a user, or the first ones of all. */
export async function findSessions(uid) {
  const { sessions, failed } = await get(uid ? `sessions?uid=${encodeURIComponent(uid)}` : 'sessions?limit=20');
  const now = Date.now();
  $('sessions').replaceChildren(...sessions.map((s) => h('li', {},
    h('span', { class: 'who' }, h('b', {}, String(s.uid)), ` ${s.device || 'stock client'}`),
    h('span', { class: 'quiet' }, `on ${s.node} for ${span(now - s.since_ms)}, heard ${span(now - s.seen_ms)} ago`),
    h('button', { type: 'button', class: 'button small', 'aria-label': `End session of ${s.uid} ${s.device}`, onclick: () => kick(s, uid) }, 'End…'),
  )));
  const missing = Object.keys(failed ?? {});
  say($('no-sessions'), missing.length > 0 ? `Not asked, because silent: ${missing.join(', ')}.` : uid ? `User ${uid} is not logged in.` : 'Nobody is logged in.');
  $('no-sessions').hidden = sessions.length > 0 && missing.length === 0;
}

async function kick(s, uid) {
  await ask({
    title: `End this session of user ${s.uid}?`,
    content: h('p', {}, `The device “${s.device || 'stock client'}” has to log in with the password again. Nothing that was sent is lost.`),
    yes: 'End session',
    danger: true,
    act: () => post('sessions/kick', { uid: s.uid, sid: s.sid }),
  });
  await findSessions(uid);
}
