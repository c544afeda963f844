// The page's two languages.

import en from './en.js';
import zh from './zh.js';

const languages = { en, zh };
let current = 'en';

export const LANGUAGES = [['en', 'English'], ['zh', '中文']];

/** The language of the browser, if it is one of ours. */
export const browserLanguage = () => (navigator.languages ?? [navigator.language]).map((l) => l.slice(0, 2)).find((l) => l in languages) ?? 'en';

export function setLanguage(lang) {
  current = lang in languages ? lang : 'en';
  document.documentElement.lang = current === 'zh' ? 'zh-CN' : 'en';
}

export const language = () => current;

/** For dates: the browser's own variant of the language, if it has one. */
export const locale = () => (navigator.languages ?? []).find((l) => l.startsWith(current)) ?? (current === 'zh' ? 'zh-CN' : 'en-GB');

/** A text of the page, with what is in braces replaced. `{n|message|messages}` chooses by the number n. */
export function t(key, values = {}) {
  const text = languages[current][key] ?? en[key] ?? key;
  return text.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (_, name, one, many) => (
    one === undefined ? String(values[name] ?? '') : values[name] === 1 ? one : many));
}

/** Names as one text: `a, b and c`. */
export const listed = (names) => new Intl.ListFormat(locale(), { type: 'conjunction' }).format(names);

/** What to tell a person about a failure. */
export function reason(error) {
  const key = `e${error?.name ?? ''}`;
  return key in en ? t(key) : t('eUnknown');
}
