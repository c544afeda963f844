// What a person can do beside writing: add friends, make and join groups, settings.

import { busy, confirm, copy, dialog, field, formDialog, toast, wrongBox } from './dialogs.js';
import { h, icon, tool } from './dom.js';
import { avatar, full } from './format.js';
import { LANGUAGES, language, listed, reason, t } from './i18n.js';
import { preference } from './shared/prefs.js';

const WEEK = 7 * 24 * 3600000;

/** Finds a user by name and asks for friendship. */
export function newFriend(model) {
  const name = field(t('userName'), { autocomplete: 'off', spellcheck: 'false', required: true, autofocus: true }, t('exactName'));
  const d = formDialog(t('addFriend'), [name.el], t('find'), async () => {
    const query = name.input.value.trim();
    if (!query) throw Object.assign(new Error(), { said: t('fillIn') });
    const found = await model.session.search(query);
    setTimeout(() => applyTo(model, found));
  });
  return d;
}

/** Shows who was found, and asks for friendship. `open` shows the conversation with a friend. */
export function applyTo(model, user, open = null) {
  const name = user.nick || user.name;
  if (user.uid === model.me) {
    toast(t('thatIsYou'));
    return;
  }
  if (model.friend(user.uid)) {
    if (open) model.withFriend(user.uid).then(open);
    else toast(t('alreadyFriends', { name }));
    return;
  }
  if (model.session.applications.some((a) => a.uid === user.uid)) {
    busy(null, async () => {
      await model.session.approve(user.uid);
      model.peopleChanged();
    });
    return;
  }
  const greeting = field(t('greeting'), { value: t('greetingText', { name: model.name(model.me) }), maxlength: '200' });
  formDialog(t('addFriend'), [
    h('div', { class: 'hero' }, avatar(user.uid, name, { size: 'big' }), h('h3', {}, name), h('p', { class: 'faint' }, `@${user.name}`)),
    greeting.el,
  ], t('ask'), async () => {
    await model.session.apply(user.uid, { greeting: greeting.input.value.trim() });
    toast(t('applied'));
  });
}

/** A list of friends to choose from. */
function picks(model, without = []) {
  const list = model.session.friends.filter((f) => !without.includes(f.uid)).sort((a, b) => model.name(a.uid).localeCompare(model.name(b.uid)));
  const boxes = list.map((f) => h('input', { type: 'checkbox', value: String(f.uid) }));
  return {
    el: list.length ? h('fieldset', { class: 'field' }, h('legend', {}, t('chooseFriends')), h('div', { class: 'picks' },
      list.map((f, i) => h('label', { class: 'pick' }, avatar(f.uid, model.name(f.uid), { size: 'small' }), h('span', {}, model.name(f.uid)), boxes[i]))))
      : h('p', { class: 'faint' }, t('nobodyToChoose')),
    chosen: () => boxes.filter((b) => b.checked).map((b) => Number(b.value)),
  };
}

const refusedToast = (model, refused) => {
  if (refused.length) toast(t('notAdded', { who: listed(refused.map((u) => model.name(u))) }));
};

export function newGroup(model, open) {
  const name = field(t('groupName'), { maxlength: '64', required: true, autofocus: true, autocomplete: 'off' });
  const friends = picks(model);
  formDialog(t('newGroup'), [name.el, friends.el], t('create'), async () => {
    if (!name.input.value.trim()) throw Object.assign(new Error(), { said: t('fillIn') });
    const made = await model.session.createGroup({ name: name.input.value.trim(), members: friends.chosen() });
    refusedToast(model, made.refused);
    await model.refresh();
    open(model.conversations.get(made.thread));
  });
}

export function inviteInto(model, c, done) {
  busy(null, async () => {
    const members = await model.session.groupMembers(c.id);
    const friends = picks(model, members.map((m) => m.uid));
    formDialog(t('invite'), [friends.el], t('invite'), async () => {
      const uids = friends.chosen();
      if (uids.length) refusedToast(model, (await model.session.invite(c.id, uids)).refused);
      done();
    });
  });
}

/** The code in a link's text: people paste either. */
const codeOf = (text) => text.trim().split('#join=').at(-1);

export function joinByLink(model, open, code = '') {
  const link = field(t('linkOrCode'), { autocomplete: 'off', spellcheck: 'false', required: true, autofocus: true, value: code });
  formDialog(t('joinLink'), [link.el], t('join'), async () => {
    const joined = await model.session.joinByLink(codeOf(link.input.value));
    await model.refresh();
    open(model.conversations.get(joined.thread));
  });
}

/** The links of a group: make one, copy, revoke. */
export function groupLinks(model, c) {
  const list = h('ul', {});
  const wrong = wrongBox();
  const draw = () => busy(null, async () => {
    const links = await model.session.links(c.id);
    list.replaceChildren(...links.map((l) => h('li', { class: 'row' },
      h('span', { class: 'row-main' }, h('span', { class: 'row-name' }, l.code), h('span', { class: 'row-bottom' }, h('span', { class: 'row-last' }, t('linkUntil', { n: l.uses, when: full(l.expires) })))),
      tool('copy', t('copy'), () => copy(`${location.origin}${location.pathname}#join=${l.code}`)),
      tool('trash', t('revoke'), (e) => busy(e.currentTarget, async () => {
        await model.session.revokeLink(c.id, l.code);
        await draw();
      })))));
    if (!links.length) list.replaceChildren(h('li', { class: 'faint' }, t('noLinks')));
  }, (error) => wrong.show(reason(error)));
  draw();
  dialog(t('links'), [h('p', { class: 'faint' }, t('linksHint')), list, wrong.el,
    h('button', {
      type: 'button', class: 'button wide', on: {
        click: (e) => busy(e.currentTarget, async () => {
          await model.session.createLink(c.id, { ttl: WEEK, uses: 100 });
          await draw();
        }, (error) => wrong.show(reason(error))),
      },
    }, icon('link'), t('newLink'))]);
}

/** Who has read an own text of a group. */
export function seenBy(model, c, m) {
  const list = h('ul', {}, h('li', { class: 'skeleton' }));
  dialog(t('seenBy'), [list]);
  busy(null, async () => {
    const marks = await model.session.marks(c.id);
    c.mark(marks);
    const readers = [...c.readBy].filter(([uid, read]) => uid !== model.me && read >= m.id);
    list.replaceChildren(...readers.map(([uid]) => h('li', { class: 'row' }, avatar(uid, model.name(uid), { size: 'small' }), h('span', { class: 'row-main' }, model.name(uid)))));
    if (!readers.length) list.replaceChildren(h('li', { class: 'faint' }, t('nobodyYet')));
    model.changed('thread', c.id);
  });
}

/** Language, looks, visibility, blocked users, password, the end of the account. */
export function settings(model, changed) {
  const { gate } = model;
  const choose = (name, label, options, now, f) => h('fieldset', { class: 'field' }, h('legend', {}, label), h('div', { class: 'segments' },
    options.map(([value, text]) => h('label', {}, h('input', { type: 'radio', name, value, checked: value === now, on: { change: () => f(value) } }), text))));
  const visible = h('input', { type: 'checkbox', role: 'switch' });
  visible.disabled = true;
  if (model.session.granted('presence')) {
    model.session.visible().then((on) => {
      visible.checked = on;
      visible.disabled = false;
    }).catch(() => {});
  }
  visible.addEventListener('change', async () => {
    if (!await busy(null, () => model.session.setVisible(visible.checked))) visible.checked = !visible.checked;
  });
  const row = (image, label, run, danger) => h('button', { type: 'button', class: `action ${danger ? 'danger' : ''}`, on: { click: run } }, icon(image), h('span', {}, label));
  dialog(t('settings'), (close) => [
    choose('lang', t('language'), LANGUAGES, language(), (l) => {
      close();
      changed({ language: l });
    }),
    choose('theme', t('theme'), [['auto', t('auto')], ['light', t('light')], ['dark', t('dark')]], preference('theme', 'auto'), (theme) => changed({ theme })),
    h('label', { class: 'switch' }, h('span', {}, t('visible'), h('small', {}, t('visibleHint'))), visible),
    h('hr', { class: 'rule' }),
    h('div', { class: 'section' },
      row('block', t('blockedUsers'), () => { close(); blockedUsers(model); }),
      row('edit', t('changePassword'), () => { close(); changePassword(gate); }),
      row('trash', t('deleteAccount'), () => { close(); deleteAccount(model, gate); }, true)),
    h('p', { class: 'faint small' }, t('connectedTo', { node: model.session.node })),
  ]);
}

function blockedUsers(model) {
  const list = h('ul', {}, h('li', { class: 'skeleton' }));
  dialog(t('blockedUsers'), [list]);
  const draw = () => busy(null, async () => {
    const users = await model.session.blocks();
    list.replaceChildren(...users.map((u) => h('li', { class: 'row' }, avatar(u.uid, u.nick || u.name, { size: 'small' }),
      h('span', { class: 'row-main' }, h('span', { class: 'row-name' }, u.nick || u.name)),
      h('button', { type: 'button', class: 'button small', on: { click: (e) => busy(e.currentTarget, async () => { await model.session.unblock(u.uid); await draw(); }) } }, t('unblock')))));
    if (!users.length) list.replaceChildren(h('li', { class: 'faint' }, t('nobodyBlocked')));
  });
  draw();
}

function changePassword(gate) {
  const email = field(t('email'), { type: 'email', autocomplete: 'username', required: true, autofocus: true });
  const old = field(t('oldPassword'), { type: 'password', autocomplete: 'current-password', required: true });
  const next = field(t('newPassword'), { type: 'password', autocomplete: 'new-password', required: true }, t('passwordHint'));
  formDialog(t('changePassword'), [h('p', { class: 'faint' }, t('changePasswordHint')), email.el, old.el, next.el], t('setPassword'),
    () => gate.changePassword({ email: email.input.value.trim(), password: old.input.value, newPassword: next.input.value }));
}

function deleteAccount(model, gate) {
  const email = field(t('email'), { type: 'email', autocomplete: 'username', required: true, autofocus: true });
  const password = field(t('password'), { type: 'password', autocomplete: 'current-password', required: true });
  formDialog(t('deleteAccount'), [h('p', { class: 'faint' }, t('deleteAccountHint')), email.el, password.el], t('deleteAccount'), async () => {
    if (await confirm(t('deleteAccountTitle'), t('deleteAccountText'), t('deleteAccount'))) await gate.deleteAccount(email.input.value.trim(), password.input.value);
  }, true);
}
