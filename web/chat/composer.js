// Where texts are written.

import { MAX_TEXT, textLength } from './client/parley.js';
import { busy, toast } from './dialogs.js';
import { h, icon, tool } from './dom.js';
import { reason, t } from './i18n.js';

const TELL_FROM = MAX_TEXT - 400; // bytes from where the page says how many are left

/** `typed` is called when a text was sent, `editLast` when the arrow key asks for the last own text. */
export function composer(model, c, { typed, editLast }) {
  let editing = null; // the message that is being edited
  let kept = ''; // what was being written before
  const area = h('textarea', { rows: '1', placeholder: t('write'), 'aria-label': t('write'), enterkeyhint: matchMedia('(hover: none)').matches ? 'enter' : 'send' });
  const count = h('output', { class: 'count', hidden: true });
  const send = h('button', { class: 'send', 'aria-label': t('send'), title: t('send') }, icon('send'));
  const form = h('form', { 'aria-label': t('write') }, area, count, send);
  const bar = h('div', { class: 'editing', hidden: true }, icon('edit'), h('span', {}), tool('close', t('cancel'), () => stopEditing()));
  const closed = h('p', { class: 'closed', role: 'status', hidden: true });
  const el = h('div', { class: 'composer' }, bar, form, closed);

  function fit() {
    area.style.height = 'auto';
    area.style.height = `${Math.min(168, area.scrollHeight)}px`;
    const n = textLength(area.value.trim());
    const over = n > MAX_TEXT;
    count.hidden = n < TELL_FROM;
    count.textContent = String(MAX_TEXT - n);
    count.classList.toggle('over', over);
    send.disabled = n === 0 || over;
  }

  area.addEventListener('input', () => {
    if (!editing) c.draft = area.value;
    if (area.value.trim() && !editing) model.session.typing(c.id);
    fit();
  });
  area.addEventListener('keydown', (e) => {
    if (e.isComposing) return;
    if (e.key === 'Enter' && !e.shiftKey && !matchMedia('(hover: none)').matches) {
      e.preventDefault();
      form.requestSubmit();
    } else if (e.key === 'Escape' && editing) {
      e.stopPropagation();
      stopEditing();
    } else if (e.key === 'ArrowUp' && !area.value) {
      e.preventDefault();
      editLast();
    }
  });
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    const text = area.value.trim();
    if (send.disabled || !text) return;
    if (editing) {
      const m = editing;
      stopEditing();
      if (text !== m.text) busy(null, () => model.session.edit(c.id, m.id, text), (error) => toast(error.name === 'NotAllowed' ? t('tooLate') : reason(error)));
      return;
    }
    area.value = c.draft = '';
    fit();
    model.send(c, text);
    typed();
    area.focus();
  });

  function edit(m) {
    if (!editing) kept = area.value;
    editing = m;
    bar.hidden = false;
    bar.querySelector('span').textContent = t('editing');
    area.value = m.text;
    fit();
    area.focus();
    area.setSelectionRange(m.text.length, m.text.length);
  }

  function stopEditing() {
    editing = null;
    bar.hidden = true;
    area.value = kept;
    kept = '';
    fit();
    area.focus();
  }

  /** Whether one may write here at all; the server has the last word. */
  async function draw() {
    let may = 'yes';
    try {
      may = await model.mayWrite(c);
    } catch { /* the server says so at the first text */ }
    form.hidden = may !== 'yes';
    closed.hidden = may === 'yes';
    if (may !== 'yes') closed.textContent = t(`closed_${may}`);
  }

  area.value = c.draft;
  requestAnimationFrame(fit);
  draw();
  return { el, edit, draw, focus: () => (form.hidden ? null : area.focus()), close: () => {} };
}
