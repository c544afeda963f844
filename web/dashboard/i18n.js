// The page's two languages, and what the status node says, in them.

import en from './en.js';
import { language, setTexts, t } from './shared/i18n.js';
import zh from './zh.js';

export * from './shared/i18n.js';

setTexts({ en, zh });

// The server speaks English, as for parleyctl: said_* are its texts, with what varies in braces.
const said = Object.entries(en).filter(([key]) => key.startsWith('said_')).map(([key, text]) => {
  const parts = text.split(/\{(\w+)\}/);
  const pattern = parts.map((part, i) => (i % 2 ? '(.+)' : part.replace(/[.()]/g, '\\$&'))).join('');
  return { key, names: parts.filter((_, i) => i % 2), pattern: new RegExp(`^${pattern}$`) };
});

/** A text of the server in the language of the page; as it is if the page does not know it. */
export function told(text) {
  if (language() === 'en') return text;
  for (const { key, names, pattern } of said) {
    const found = pattern.exec(text);
    if (found) return t(key, Object.fromEntries(names.map((name, i) => [name, found[i + 1]])));
  }
  return text;
}

/** Sets the texts of the page's own elements: data-t is the key of what stands in one, data-t-label that of its name. */
export function translate() {
  for (const el of document.querySelectorAll('[data-t]')) el.textContent = t(el.dataset.t);
  for (const el of document.querySelectorAll('[data-t-label]')) el.setAttribute('aria-label', t(el.dataset.tLabel));
}
