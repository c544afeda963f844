// The page's two languages.

import en from './en.js';
import { known, locale, setTexts, t } from './shared/i18n.js';
import zh from './zh.js';

export * from './shared/i18n.js';

setTexts({ en, zh });

/** Names as one text: `a, b and c`. */
export const listed = (names) => new Intl.ListFormat(locale(), { type: 'conjunction' }).format(names);

/** What to tell a person about a failure. */
export function reason(error) {
  const key = `e${error?.name ?? ''}`;
  return t(known(key) ? key : 'eUnknown');
}
