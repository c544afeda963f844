// Details of the open conversation: the friend, or the group with its members and links.

import { groupLinks, inviteInto } from './actions.js';
import { busy, confirm, formDialog, field, menu, toast } from './dialogs.js';
import { h, icon, perFrame, tool } from './dom.js';
import { avatar, full, onlineWord, presence } from './format.js';
import { reason, t } from './i18n.js';

const HOUR = 3600000;
const MAX_SHOWN = 200; // members

export function panel(model, c, { close, open }) {
  const body = h('div', { class: 'panel-body' });
  const el = h('aside', { class: 'panel', 'aria-label': t('details') },
    h('header', { class: 'panel-head' }, h('h2', { tabindex: '-1' }, t('details')), tool('close', t('close'), close)), body);
  el.addEventListener('keydown', (e) => {
    if (e.key !== 'Escape') return;
    e.stopPropagation();
    close();
  });
  let members = null;
  let wrong = null;

  const action = (image, label, run, danger = false) => h('button', { type: 'button', class: `action ${danger ? 'danger' : ''}`, on: { click: (e) => run(e.currentTarget) } }, icon(image), h('span', {}, label));
  const section = (title, ...rest) => h('section', { class: 'section' }, title && h('h3', {}, title), ...rest);
  const sure = async (title, text, label, f) => {
    if (await confirm(title, text, label)) await busy(null, f);
  };

  // ---- a friend

  function person() {
    const uid = c.peer;
    const name = model.name(uid);
    const friend = model.friend(uid);
    const p = friend ? model.presenceOf(uid) : null;
    const profile = model.known.get(uid);
    return [
      h('div', { class: 'hero' }, avatar(uid, name, { size: 'big', online: p?.online }), h('h3', {}, name, onlineWord(p)),
        h('p', { class: 'faint' }, profile ? `@${profile.name}` : ''), p && h('p', { class: 'faint small' }, presence(p))),
      section(null,
        friend && action('remove-user', t('unfriend'), () => sure(t('unfriendTitle', { name }), t('unfriendText'), t('unfriend'), async () => {
          await model.session.unfriend(uid);
          model.peopleChanged();
        }), true),
        !friend && action('add-user', t('addAgain'), (b) => busy(b, async () => {
          await model.session.apply(uid, { greeting: '' });
          toast(t('applied'));
        })),
        action('block', t('block'), () => sure(t('blockTitle', { name }), t('blockText'), t('block'), async () => {
          await model.session.block(uid);
          model.peopleChanged();
          toast(t('blocked', { name }));
        }), true)),
    ];
  }

  // ---- a group

  function group() {
    const g = c.group;
    const admin = !c.left && c.role !== 'member';
    const owner = !c.left && c.role === 'owner';
    const toggle = (label, hint, on, f) => {
      const box = h('input', { type: 'checkbox', role: 'switch', checked: on });
      box.addEventListener('change', () => busy(null, () => f(box.checked)).then(refresh));
      return h('label', { class: 'switch' }, h('span', {}, label, h('small', {}, hint)), box);
    };
    return [
      h('div', { class: 'hero' }, avatar(c.id, c.name, { group: true, size: 'big' }), h('h3', {}, c.name),
        h('p', { class: 'faint' }, t('members', { n: c.members })), g && h('p', { class: 'faint small' }, t('since', { when: full(g.created) }))),
      admin && section(null,
        action('add-user', t('invite'), () => inviteInto(model, c, refresh)),
        action('link', t('links'), () => groupLinks(model, c)),
        action('edit', t('rename'), rename)),
      admin && g && section(null,
        toggle(t('muteAll'), t('muteAllHint'), g.muteAll, (on) => model.session.muteGroup(c.id, on)),
        toggle(t('openHistory'), t('openHistoryHint'), g.historyForNew, (on) => model.session.setHistoryForNew(c.id, on))),
      !c.left && section(t('memberList'), wrong ? h('p', { class: 'faint small' }, reason(wrong)) : !members ? h('div', { class: 'skeleton' }) : memberList(admin, owner)),
      section(null,
        !c.left && !owner && action('out', t('leave'), () => sure(t('leaveTitle', { name: c.name }), t('leaveText'), t('leave'), () => model.session.leaveGroup(c.id)), true),
        owner && action('trash', t('dissolve'), () => sure(t('dissolveTitle', { name: c.name }), t('dissolveText'), t('dissolve'), () => model.session.dissolveGroup(c.id)), true)),
    ].filter(Boolean);
  }

  function memberList(admin, owner) {
    const rank = { owner: 0, admin: 1, member: 2 };
    const list = [...members].sort((a, b) => rank[a.role] - rank[b.role] || model.name(a.uid).localeCompare(model.name(b.uid)));
    return h('ul', {}, list.slice(0, MAX_SHOWN).map((m) => {
      const name = m.uid === model.me ? t('youSubject') : model.name(m.uid);
      const below = rank[m.role] > rank[c.role];
      const muted = m.mutedUntil && m.mutedUntil > new Date();
      const items = m.uid === model.me ? [] : [
        model.friend(m.uid) && { icon: 'chats', label: t('writeTo'), run: async () => open(await model.withFriend(m.uid)) },
        !model.friend(m.uid) && { icon: 'add-user', label: t('addFriend'), run: () => busy(null, async () => { await model.session.apply(m.uid, {}); toast(t('applied')); }) },
        owner && m.role === 'member' && { icon: 'check', label: t('makeAdmin'), run: () => change(() => model.session.setRole(c.id, m.uid, 'admin')) },
        owner && m.role === 'admin' && { icon: 'undo', label: t('makeMember'), run: () => change(() => model.session.setRole(c.id, m.uid, 'member')) },
        owner && { icon: 'group', label: t('makeOwner'), run: () => sure(t('makeOwnerTitle', { name }), t('makeOwnerText'), t('makeOwner'), () => change(() => model.session.setRole(c.id, m.uid, 'owner'))) },
        admin && below && { icon: 'mute', label: muted ? t('unmute') : t('muteHour'), run: () => change(() => model.session.muteMember(c.id, m.uid, muted ? null : new Date(Date.now() + HOUR))) },
        admin && below && { icon: 'out', label: t('remove'), danger: true, run: () => sure(t('removeTitle', { name }), t('removeText'), t('remove'), () => change(() => model.session.removeMember(c.id, m.uid))) },
      ].filter(Boolean);
      const more = items.length > 0 && tool('more', `${t('actions')}: ${name}`, () => menu(more, items), { 'aria-haspopup': 'menu', 'aria-expanded': 'false' });
      return h('li', { class: 'row' }, avatar(m.uid, model.name(m.uid), { size: 'small', online: model.presenceOf(m.uid)?.online }),
        h('span', { class: 'row-main' }, h('span', { class: 'row-name' }, name)),
        muted && h('span', { class: 'tag' }, t('muted')), m.role !== 'member' && h('span', { class: 'tag' }, t(m.role)), more);
    }), members.length > MAX_SHOWN && h('li', { class: 'faint small' }, t('andMore', { n: members.length - MAX_SHOWN })));
  }

  const change = (f) => busy(null, async () => {
    await f();
    await refresh();
  });

  function rename() {
    const name = field(t('groupName'), { value: c.name, maxlength: '64', required: true, autofocus: true });
    formDialog(t('rename'), [name.el], t('save'), () => model.session.renameGroup(c.id, name.input.value.trim()));
  }

  /** Reads the group and its members again. */
  async function refresh() {
    if (c.type !== 'group' || c.left) return;
    try {
      [c.group, members] = await Promise.all([model.session.group(c.id), model.session.groupMembers(c.id)]);
      model.learn(members.filter((m) => !model.friend(m.uid)));
      c.role = c.group.role;
      wrong = null;
    } catch (error) {
      wrong = error;
    }
    draw();
  }

  const draw = perFrame(() => {
    const at = document.activeElement;
    const label = body.contains(at) ? at.getAttribute('aria-label') ?? at.textContent : null;
    body.replaceChildren(...(c.type === 'group' ? group() : person()).filter(Boolean));
    if (label) [...body.querySelectorAll('button')].find((b) => (b.getAttribute('aria-label') ?? b.textContent) === label)?.focus();
  });

  let soon = 0;
  const off = model.on((what, id, m) => {
    if (what === 'people' || what === 'list') draw();
    if (what === 'news' && id === c.id && m.kind === 'event') {
      clearTimeout(soon);
      soon = setTimeout(refresh, 200);
    }
  });
  draw();
  refresh();
  return {
    el,
    focus: () => el.querySelector('h2').focus(),
    close() {
      off();
      clearTimeout(soon);
    },
  };
}
