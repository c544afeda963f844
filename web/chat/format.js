// How names, times and texts look.

import { h, unseen } from './dom.js';
import { locale, t } from './i18n.js';

const DAY = 86400000;

const formats = new Map();
function format(date, options) {
  const key = locale() + JSON.stringify(options);
  let f = formats.get(key);
  if (!f) formats.set(key, (f = new Intl.DateTimeFormat(locale(), options)));
  return f.format(date);
}

const midnight = (d) => new Date(d.getFullYear(), d.getMonth(), d.getDate()).getTime();
const daysAgo = (d) => Math.round((midnight(new Date()) - midnight(d)) / DAY);

export const sameDay = (a, b) => midnight(a) === midnight(b);
export const clock = (d) => format(d, { hour: '2-digit', minute: '2-digit' });
export const dateTime = (d) => format(d, { dateStyle: 'medium', timeStyle: 'short' });
export const full = (d) => format(d, { dateStyle: 'full', timeStyle: 'short' });

/** The time in a list: of today the hour, of this week the day, else the date. */
export function shortTime(d) {
  const n = daysAgo(d);
  if (n <= 0) return clock(d);
  if (n === 1) return t('yesterday');
  if (n < 7) return format(d, { weekday: 'short' });
  return format(d, { day: 'numeric', month: 'short', ...(d.getFullYear() === new Date().getFullYear() ? {} : { year: 'numeric' }) });
}

/** The heading of a day. */
export function day(d) {
  const n = daysAgo(d);
  if (n === 0) return t('today');
  if (n === 1) return t('yesterday');
  return format(d, { weekday: 'long', day: 'numeric', month: 'long', ...(d.getFullYear() === new Date().getFullYear() ? {} : { year: 'numeric' }) });
}

/** What is known of somebody's presence. */
export function presence(p) {
  if (!p) return '';
  if (p.online) return t('online');
  if (!p.lastSeen) return t('offline');
  const minutes = Math.floor((Date.now() - p.lastSeen) / 60000);
  if (minutes < 2) return t('seenNow');
  if (minutes < 60) return t('seenMinutes', { n: minutes });
  return t('seen', { when: daysAgo(p.lastSeen) === 0 ? clock(p.lastSeen) : shortTime(p.lastSeen) });
}

/** The letters of an avatar. */
function initials(name) {
  const words = name.trim().split(/[\s._-]+/).filter(Boolean);
  if (!words.length) return '?';
  const first = (w) => [...w][0].toLocaleUpperCase();
  return words.length > 1 && /^[\x20-\u024f]*$/.test(name) ? first(words[0]) + first(words.at(-1)) : first(words[0]);
}

/** The hue of a user or group, always the same. */
export const hue = (id) => `c${Math.abs(Math.imul(id, 2654435761) >> 8) % 7}`;

/** A picture of a user or group. `online` adds a dot. */
export function avatar(id, name, { group = false, size = '', online = false } = {}) {
  return h('span', { class: `avatar ${hue(id)} ${group ? 'group' : ''} ${size}`, 'aria-hidden': 'true' },
    initials(name), online && h('span', { class: 'dot' }));
}

/** The words for an online dot, for screen readers. */
export const onlineWord = (p) => (p?.online ? unseen(`, ${t('online')}`) : null);

const link = /https?:\/\/[^\s<>"'`\u3000-\u303f\uff00-\uffef]+[^\s<>"'`.,;:!?)\]}\u3000-\u303f\uff00-\uffef]/g;

/** A text as nodes: links can be opened, and what was searched for is marked. */
export function said(text, query = '') {
  const out = [];
  let end = 0;
  for (const m of text.matchAll(link)) {
    out.push(...marked(text.slice(end, m.index), query));
    out.push(h('a', { href: m[0], target: '_blank', rel: 'noopener noreferrer' }, ...marked(m[0], query)));
    end = m.index + m[0].length;
  }
  out.push(...marked(text.slice(end), query));
  return out;
}

function marked(text, query) {
  if (!query) return text ? [text] : [];
  const out = [];
  const low = text.toLowerCase();
  const q = query.toLowerCase();
  let end = 0;
  for (let at = low.indexOf(q); at >= 0; at = low.indexOf(q, end)) {
    out.push(text.slice(end, at), h('mark', {}, text.slice(at, at + q.length)));
    end = at + q.length;
  }
  out.push(text.slice(end));
  return out.filter((x) => x !== '');
}

/** Whether a text is one to three emoji and nothing else. */
export const isJumbo = (text) => text.length <= 24 && /^(\p{Extended_Pictographic}[\u{1f3fb}-\u{1f3ff}\ufe0f]?(\u200d\p{Extended_Pictographic}\ufe0f?)*\s*){1,3}$/u.test(text);
