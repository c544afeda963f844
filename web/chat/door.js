// The door: sign in, create an account, set a new password.

import { busy, field, toast, wrongBox } from './dialogs.js';
import { h, icon } from './dom.js';
import { avatar } from './format.js';
import { chooseLanguage, otherLanguage, reason, t } from './i18n.js';

/**
 * Shows the door. `enter(credentials, stay)` signs in and fails with what the server says; `demo` are users to try with; `notice` says why the
 * user is here.
 */
export function door(root, { gate, demo, notice, enter, toggleTheme }) {
  let mode = 'login';
  let email = '';

  const page = () => {
    const card = { login, register, reset }[mode]();
    const next = otherLanguage();
    root.replaceChildren(h('div', { class: 'door' },
      h('header', { class: 'pitch' },
        h('div', { class: 'brand' }, icon('logo', 'logo'), 'Parley'),
        h('div', {},
          h('ul', { class: 'sample', 'aria-hidden': 'true' }, h('li', {}, t('sample1')), h('li', { class: 'own' }, t('sample2'), icon('two', 'tick'))),
          h('h1', {}, t('pitch')), h('p', {}, t('pitchMore'))),
        h('small', {}, t('pitchFoot'))),
      h('main', { class: 'gate' },
        h('div', { class: 'corner' },
          h('button', { type: 'button', class: 'tool', lang: next[0], on: { click: () => { chooseLanguage(next[0]); page(); } } }, next[1]),
          h('button', { type: 'button', class: 'tool', on: { click: toggleTheme } }, t('theme'))),
        card)));
    document.title = 'Parley';
  };

  const go = (to) => () => {
    mode = to;
    notice = null;
    page();
    root.querySelector('.card input')?.focus();
  };

  const card = (title, lead, ...rest) => h('div', { class: 'card' },
    h('header', {}, h('div', { class: 'brand' }, icon('logo', 'logo'), 'Parley'), h('h2', {}, title), lead && h('p', { class: 'faint' }, lead)), ...rest);

  const link = (text, to) => h('button', { type: 'button', class: 'text-button', on: { click: go(to) } }, text);

  function submitting(form, wrong, f) {
    form.addEventListener('submit', async (e) => {
      e.preventDefault();
      wrong.clear();
      const missing = [...form.elements].find((x) => x.required && !x.value.trim());
      for (const x of form.elements) if (x.matches('input')) x.toggleAttribute('aria-invalid', false);
      if (missing) {
        missing.setAttribute('aria-invalid', 'true');
        missing.focus();
        wrong.show(t('fillIn'));
        return;
      }
      await busy(form.querySelector('.primary'), f, (error) => wrong.show(error.said ?? reason(error)));
    });
  }

  const emailField = () => {
    const f = field(t('email'), { type: 'email', name: 'email', autocomplete: 'username', inputmode: 'email', required: true, value: email, spellcheck: 'false' });
    f.input.addEventListener('input', () => { email = f.input.value.trim(); });
    return f;
  };

  function login() {
    const address = emailField();
    const password = field(t('password'), { type: 'password', name: 'password', autocomplete: 'current-password', required: true });
    const stay = h('input', { type: 'checkbox', name: 'stay', checked: true });
    const wrong = wrongBox();
    if (notice) wrong.show(notice);
    const form = h('form', { class: 'form', novalidate: true }, address.el, password.el,
      h('label', { class: 'switch' }, h('span', {}, t('stay')), stay), wrong.el,
      h('button', { class: 'button primary wide' }, t('signIn')));
    submitting(form, wrong, () => enter({ email: address.input.value.trim(), password: password.input.value }, stay.checked));
    /** Signs in as the first here, and as the second in a window beside this one. */
    const both = (e) => {
      const width = Math.round(screen.availWidth / 2);
      const other = open(`#as=${encodeURIComponent(demo[1].name)}`, '', `popup,width=${width},height=${screen.availHeight},left=${screen.availLeft + width},top=${screen.availTop}`);
      history.replaceState({ talk: true }, '');
      if (!other) toast(t('demoBlocked', { name: demo[1].name }));
      busy(e.currentTarget, () => enter(demo[0], true), (error) => wrong.show(reason(error)));
    };
    const tryOut = demo.length > 0 && h('section', { class: 'demo', 'aria-label': t('demo') },
      h('p', {}, t('demoHint')),
      demo.length > 1 && h('button', { type: 'button', class: 'button wide both', on: { click: both } }, icon('people'), t('demoBoth')),
      h('div', {}, demo.map((user, i) => h('button', {
        type: 'button', class: 'button', on: { click: (e) => busy(e.currentTarget, () => enter(user, true), (error) => wrong.show(reason(error))) },
      }, avatar(i + 1, user.name, { size: 'small' }), user.name))));
    return card(t('signIn'), null, tryOut, tryOut && h('div', { class: 'or' }, t('or')), form,
      h('p', { class: 'swap' }, t('noAccount'), ' ', link(t('createAccount'), 'register'), ' · ', link(t('forgot'), 'reset')));
  }

  /** A code, with the button that has it mailed. */
  function codeField(address, wrong) {
    const code = field(t('code'), { name: 'code', inputmode: 'numeric', autocomplete: 'one-time-code', maxlength: '6', required: true }, demo.length ? t('codeHintDemo') : t('codeHint'));
    const send = h('button', {
      type: 'button', class: 'button', on: {
        click: () => {
          wrong.clear();
          const to = address.input.value.trim();
          if (!to) {
            wrong.show(t('fillIn'));
            address.input.focus();
            return;
          }
          busy(send, async () => {
            await gate.requestCode(to);
            send.textContent = t('sendAgain');
            code.input.focus();
          }, (error) => wrong.show(reason(error)));
        },
      },
    }, t('sendCode'));
    const row = h('div', { class: 'with' });
    code.input.replaceWith(row);
    row.append(code.input, send);
    return code;
  }

  function register() {
    const wrong = wrongBox();
    const address = emailField();
    const name = field(t('name'), { name: 'name', autocomplete: 'nickname', required: true, maxlength: '64' }, t('nameHint'));
    const code = codeField(address, wrong);
    const password = field(t('password'), { type: 'password', name: 'password', autocomplete: 'new-password', minlength: '6', required: true }, t('passwordHint'));
    const form = h('form', { class: 'form', novalidate: true }, name.el, address.el, code.el, password.el, wrong.el,
      h('button', { class: 'button primary wide' }, t('createAccount')));
    submitting(form, wrong, async () => {
      const user = { name: name.input.value.trim(), email: address.input.value.trim(), password: password.input.value, code: code.input.value.trim() };
      await gate.register(user);
      await enter(user, true);
    });
    return card(t('createAccount'), null, form, h('p', { class: 'swap' }, t('haveAccount'), ' ', link(t('signIn'), 'login')));
  }

  function reset() {
    const wrong = wrongBox();
    const address = emailField();
    const name = field(t('name'), { name: 'name', autocomplete: 'nickname', required: true });
    const code = codeField(address, wrong);
    const password = field(t('newPassword'), { type: 'password', name: 'password', autocomplete: 'new-password', minlength: '6', required: true }, t('passwordHint'));
    const form = h('form', { class: 'form', novalidate: true }, address.el, name.el, code.el, password.el, wrong.el,
      h('button', { class: 'button primary wide' }, t('setPassword')));
    submitting(form, wrong, async () => {
      const user = { name: name.input.value.trim(), email: address.input.value.trim(), password: password.input.value, code: code.input.value.trim() };
      await gate.resetPassword(user);
      await enter(user, true);
    });
    return card(t('newPassword'), t('resetLead'), form, h('p', { class: 'swap' }, link(t('backToSignIn'), 'login')));
  }

  page();
}

/** A screen with one thing to say and one thing to do. */
export function standstill(root, { title, text, action, run, image = 'alert' }) {
  root.replaceChildren(h('main', { class: 'empty' },
    h('span', { class: 'round' }, icon(image)), h('h2', { tabindex: '-1' }, title), h('p', {}, text),
    h('button', { type: 'button', class: 'button primary', on: { click: (e) => busy(e.currentTarget, run) } }, action)));
  root.querySelector('h2').focus();
}
