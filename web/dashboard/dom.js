// What the panels are made of, and how numbers and times are written.

import { locale, t } from './i18n.js';

export * from './shared/dom.js';

/** Returns the element with an id. */
export const $ = (id) => document.getElementById(id);

/** Sets the text of an element, unless it has it: a screen reader would read it again. */
export function say(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

/** Writes a number with as many digits as a person reads. */
export const number = (n) => n.toLocaleString(locale(), { maximumFractionDigits: Math.abs(n) < 100 ? 1 : 0 });

/** Writes milliseconds; 0 is "no figure". */
export function millis(ms) {
  if (!ms) return '–';
  return ms < 1000 ? `${number(ms)} ms` : `${number(ms / 1000)} s`;
}

/** Writes how long something took, in one unit or two. */
export function span(ms) {
  const s = Math.max(Math.round(ms / 1000), 0);
  if (s < 60) return t('seconds', { n: s });
  const m = Math.floor(s / 60);
  if (m < 60) return t('minutes', { n: m });
  const hours = Math.floor(m / 60);
  return hours < 48 ? t('hours', { n: hours, m: m % 60 }) : t('days', { n: Math.floor(hours / 24) });
}

/** Writes the time of day. */
export const clock = (ms) => new Date(ms).toLocaleTimeString(locale(), { hourCycle: 'h23' });
