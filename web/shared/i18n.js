// The language of a page: its texts, and how its dates and numbers are written.

import { prefer, preference } from './prefs.js';

let texts = { en: {} };
let current = 'en';

export const LANGUAGES = [['en', 'English'], ['zh', '中文']];

/** Gives the page its texts, by language and key. English has all of them. */
export function setTexts(all) { texts = all; }

/** Sets the language: the one that the person has chosen, else that of the browser, if it is one of ours. */
export function startLanguage() {
  const browser = (navigator.languages ?? [navigator.language]).map((l) => l.slice(0, 2)).find((l) => l in texts);
  setLanguage(preference('language', browser));
}

export function chooseLanguage(lang) {
  prefer('language', lang);
  setLanguage(lang);
}

function setLanguage(lang) {
  current = lang in texts ? lang : 'en';
  document.documentElement.lang = current === 'zh' ? 'zh-CN' : 'en';
}

export const language = () => current;

/** The other language: [code, name]. */
export const otherLanguage = () => LANGUAGES.find(([l]) => l !== current);

/** For dates and numbers: the browser's own variant of the language, if it has one. */
export const locale = () => (navigator.languages ?? []).find((l) => l.startsWith(current)) ?? (current === 'zh' ? 'zh-CN' : 'en-GB');

/** Whether the page has a text of this key. */
export const known = (key) => key in texts.en;

/** A text of the page, with what is in braces replaced. `{n|message|messages}` chooses by the number n. */
export function t(key, values = {}) {
  const text = texts[current][key] ?? texts.en[key] ?? key;
  return text.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (_, name, one, many) => (
    one === undefined ? String(values[name] ?? '') : values[name] === 1 ? one : many));
}
