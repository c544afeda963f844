// Search in a conversation. The server does not search: the page looks at what it has read, and reads older messages until one matches.

import { fill, h, icon, tool } from './dom.js';
import { dateTime } from './format.js';
import { t } from './i18n.js';

const MAX_PAGES = 20; // that are read before the person is asked whether to go on

/** A bar to search with. `draw` marks `query` in what is on the screen, `goTo` scrolls to a message. */
export function seeker(model, c, { draw, goTo, close }) {
  const out = h('output', { 'aria-live': 'polite' });
  const input = h('input', { type: 'search', placeholder: t('searchHere'), 'aria-label': t('searchHere'), autocomplete: 'off', enterkeyhint: 'search' });
  const further = h('button', { type: 'button', class: 'text-button', on: { click: () => go(1) } });
  const reach = h('span', {});
  const far = h('div', { class: 'seek-far', hidden: true }, reach, further);
  const s = { query: '', focus: () => input.focus() };
  let at = 0; // which match is shown, from the newest on

  const matches = () => (s.query ? c.messages.filter((m) => m.kind === 'text' && !m.recalled && m.text.toLowerCase().includes(s.query.toLowerCase())) : []);

  /** Says what was found, and how far back. */
  function tell(found, { busy = false, failed = false } = {}) {
    fill(out, busy ? '…' : !s.query ? '' : found.length ? `${found.length - at} / ${found.length}${c.more ? '+' : ''}` : t('nothingFound'));
    far.hidden = !s.query || !c.more || c.messages.length === 0;
    if (far.hidden) return;
    fill(reach, failed ? t('searchFailed') : t('searchedTo', { when: dateTime(c.messages[0].time) }));
    fill(further, failed ? t('tryAgain') : t('searchOn'));
    further.disabled = busy;
  }

  /** Goes to an older match, or a newer one. Older texts are read until one matches. */
  async function go(step) {
    const asked = s.query;
    let found = matches();
    let failed = false;
    at = found.length > 0 ? Math.max(0, at + step) : 0;
    for (let i = 0; asked && at >= found.length && c.more && i < MAX_PAGES; i++) {
      tell(found, { busy: true });
      try {
        await model.older(c);
      } catch {
        failed = true;
        break;
      }
      if (asked !== s.query || !s.el.isConnected) return;
      found = matches();
    }
    at = Math.min(at, Math.max(0, found.length - 1));
    tell(found, { failed });
    draw();
    const m = found[found.length - 1 - at];
    if (m) setTimeout(() => goTo(m.id), 70);
  }

  input.addEventListener('input', () => {
    s.query = input.value.trim();
    at = 0;
    go(0);
  });
  input.addEventListener('keydown', (e) => {
    if (e.key === 'Enter') go(e.shiftKey ? -1 : 1);
    else if (e.key === 'Escape') close();
    else return;
    e.preventDefault();
    e.stopPropagation();
  });
  s.el = h('div', { class: 'seek', role: 'search' }, h('div', { class: 'find' }, icon('search'), input), out,
    tool('down', t('older'), () => go(1), { class: 'tool up' }), tool('down', t('newer'), () => go(-1)), tool('close', t('close'), close), far);
  return s;
}
