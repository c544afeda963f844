// The left side: who the user is, conversations, people, search.

import { applyTo, joinByLink, newFriend, newGroup, settings } from './actions.js';
import { busy, menu } from './dialogs.js';
import { arrows, attr, fill, h, icon, keyed, perFrame, tool, unseen } from './dom.js';
import { avatar, full, onlineWord, presence, shortTime } from './format.js';
import { t } from './i18n.js';
import { eventText, tickOf } from './message.js';

/** The line below a conversation's name: what was written last. */
function lastLine(model, c) {
  if (c.typing.size) {
    const who = c.type === 'group' ? model.name([...c.typing.keys()][0]) : '';
    return h('span', { class: 'row-last typing' }, who ? t('isTyping', { name: who }) : t('typing'));
  }
  if (c.draft && c.id !== model.openId) return h('span', { class: 'row-last draft' }, h('b', {}, `${t('draft')} `), c.draft);
  const p = c.pending.at(-1);
  if (p) return h('span', { class: 'row-last' }, icon(p.state === 'failed' ? 'alert' : 'clock', 'tick'), p.text);
  const m = c.last;
  if (!m) return h('span', { class: 'row-last' }, c.type === 'group' ? t('members', { n: c.members }) : t('nothingYet'));
  if (m.kind === 'event') return h('span', { class: 'row-last' }, eventText(model, m));
  const text = m.recalled ? t('recalled') : m.type ? `[${m.type}]` : m.text;
  const own = m.sender === model.me;
  return h('span', { class: 'row-last' },
    own && !m.recalled && tickOf(c, m),
    !own && c.type === 'group' && `${model.name(m.sender)}: `, text);
}

export function side(model, { open, settingsChanged, logout }) {
  let tab = 'chats';
  let query = '';
  const list = h('div', { class: 'rows', id: 'rows', role: 'tabpanel' });
  arrows(list, 'button.row');

  const me = h('button', {
    type: 'button', class: 'me', 'aria-label': t('you'), title: t('you'), 'aria-haspopup': 'menu', 'aria-expanded': 'false',
    on: {
      click: () => menu(me, [
        { icon: 'gear', label: t('settings'), run: () => settings(model, settingsChanged) },
        '-',
        { icon: 'out', label: t('signOut'), run: () => logout(false) },
        { icon: 'out', label: t('signOutAll'), run: () => logout(true), danger: true },
      ]),
    },
  });
  const add = tool('plus', t('new'), () => menu(add, [
    { icon: 'add-user', label: t('addFriend'), run: () => newFriend(model) },
    model.session.granted('groups') && { icon: 'group', label: t('newGroup'), run: () => newGroup(model, open) },
    model.session.granted('groups') && { icon: 'link', label: t('joinLink'), run: () => joinByLink(model, open) },
  ]), { 'aria-haspopup': 'menu', 'aria-expanded': 'false' });

  const search = h('input', {
    type: 'search', placeholder: t('search'), 'aria-label': t('search'), autocomplete: 'off', spellcheck: 'false', enterkeyhint: 'search',
    on: {
      input: () => { query = search.value.trim(); draw(); },
      keydown: (e) => {
        if (e.key === 'Escape' && search.value) {
          e.stopPropagation();
          clear();
        }
        if (e.key === 'ArrowDown' || e.key === 'Enter') {
          const first = list.querySelector('button.row');
          if (!first) return;
          e.preventDefault();
          if (e.key === 'Enter') first.click();
          else first.focus();
        }
      },
    },
  });
  const clearButton = tool('close', t('clear'), () => clear(), { hidden: true });
  const clear = () => {
    search.value = query = '';
    draw();
    search.focus();
  };

  const tabButton = (name, label) => h('button', {
    type: 'button', role: 'tab', id: `tab-${name}`, 'aria-controls': 'rows', on: { click: () => show(name) },
  }, h('span', {}, label));
  const chats = tabButton('chats', t('chats'));
  const people = tabButton('people', t('people'));
  const tabs = h('div', { class: 'tabs', role: 'tablist', 'aria-label': t('lists') }, chats, people);
  arrows(tabs, 'button');
  const show = (name) => {
    tab = name;
    list.scrollTop = 0;
    draw();
  };

  function conversation(c) {
    const title = model.title(c);
    const p = c.type === 'private' ? model.presenceOf(c.peer) : null;
    const current = c.id === model.openId;
    const time = c.last?.time ?? c.pending.at(-1)?.since;
    return h('li', {}, h('button', { type: 'button', class: `row ${c.unread ? 'unread' : ''}`, 'aria-current': current ? 'true' : null, on: { click: () => choose(() => open(c)) } },
      avatar(c.type === 'group' ? c.id : c.peer, title, { group: c.type === 'group', online: p?.online }),
      h('span', { class: 'row-main' },
        h('span', { class: 'row-top' }, h('span', { class: 'row-name' }, title, onlineWord(p)), time && h('time', { datetime: time.toISOString(), title: full(time) }, shortTime(time))),
        h('span', { class: 'row-bottom' }, lastLine(model, c),
          c.unread > 0 && h('span', { class: 'badge' }, c.unread > 99 ? '99+' : String(c.unread), unseen(` ${t('unread')}`))))));
  }
  const conversations = (items) => ['ul', items, {
    key: (c) => c.id,
    version: (c) => [c.since, c.unread, c.draft, c.id === model.openId, model.title(c), model.presenceOf(c.peer)?.online, c.last && c.type === 'group' && model.name(c.last.sender), new Date().getDate()].join(),
    make: conversation,
  }];

  function friend(f) {
    const p = model.presenceOf(f.uid);
    return h('li', {}, h('button', { type: 'button', class: 'row', on: { click: (e) => busy(e.currentTarget, async () => { const c = await model.withFriend(f.uid); choose(() => open(c)); }) } },
      avatar(f.uid, model.name(f.uid), { online: p?.online }),
      h('span', { class: 'row-main' }, h('span', { class: 'row-name' }, model.name(f.uid)),
        h('span', { class: 'row-bottom' }, h('span', { class: 'row-last' }, presence(p) || `@${f.name}`)))));
  }
  const friends = (items) => ['ul', items, { key: (f) => f.uid, version: (f) => [model.name(f.uid), presence(model.presenceOf(f.uid))].join(), make: friend }];

  function application(a) {
    return h('li', { class: 'row' }, avatar(a.uid, a.nick || a.name),
      h('span', { class: 'row-main' }, h('span', { class: 'row-name' }, a.nick || a.name), h('span', { class: 'row-bottom' }, h('span', { class: 'row-last', title: a.greeting }, a.greeting || t('wantsToTalk')))),
      h('span', { class: 'row-actions' },
        h('button', { type: 'button', class: 'button small primary', on: { click: (e) => busy(e.currentTarget, async () => { await model.session.approve(a.uid); model.peopleChanged(); }) } }, t('accept'))));
  }
  const applications = (items) => ['ul', items, { key: (a) => a.uid, version: (a) => a.greeting, make: application }];

  const heading = (text) => ['h2', text];
  const empty = (image, title, text, action) => ['empty', [image, title, text, action]];

  /** What the list holds: headings, lists, empty states. */
  function content() {
    const all = model.list();
    const mine = model.session.friends.map((f) => ({ ...f, shown: model.name(f.uid) })).sort((a, b) => a.shown.localeCompare(b.shown));
    if (query) {
      const has = (text) => text.toLowerCase().includes(query.toLowerCase());
      const found = all.filter((c) => has(model.title(c)));
      const others = mine.filter((f) => (has(f.shown) || has(f.name)) && !found.some((c) => c.peer === f.uid));
      return [
        found.length && heading(t('chats')), found.length && conversations(found),
        others.length && heading(t('people')), others.length && friends(others),
        heading(t('elsewhere')), ['lookup', query],
      ];
    }
    if (tab === 'people') {
      const apps = model.session.applications;
      return [
        apps.length && heading(t('applications')), apps.length && applications(apps),
        mine.length && heading(t('friends', { n: mine.length })), mine.length && friends(mine),
        !mine.length && !apps.length && empty('people', t('noFriends'), t('noFriendsHint'), [t('addFriend'), () => newFriend(model)]),
      ];
    }
    if (!model.loaded) return [['skeleton', 5]];
    return [all.length ? conversations(all) : empty('chats', t('noChats'), t('noChatsHint'), [t('addFriend'), () => newFriend(model)])];
  }

  function block(old, [kind, value, how]) {
    const same = old?.kind === kind;
    if (kind === 'ul') {
      const el = same ? old : h('ul', {});
      keyed(el, value, how);
      el.kind = kind;
      return el;
    }
    const version = JSON.stringify(value);
    if (same && old.made === version) return old;
    const el = kind === 'h2' ? h('h2', {}, value)
      : kind === 'lookup' ? lookup(value)
        : kind === 'skeleton' ? h('div', { 'aria-busy': 'true', 'aria-label': t('loading') }, Array.from({ length: value }, () => h('div', { class: 'skeleton' })))
          : h('div', { class: 'empty' }, h('span', { class: 'round' }, icon(value[0])), h('h2', {}, value[1]), h('p', {}, value[2]), h('button', { type: 'button', class: 'button', on: { click: value[3][1] } }, value[3][0]));
    el.kind = kind;
    el.made = version;
    return el;
  }

  /** Somebody who is no friend yet is found by exact name. */
  function lookup(name) {
    return h('button', { type: 'button', class: 'row', on: { click: (e) => busy(e.currentTarget, async () => applyTo(model, await model.session.search(name), open)) } },
      h('span', { class: 'avatar' }, icon('search')), h('span', { class: 'row-main' }, h('span', { class: 'row-name' }, t('findUser', { name })), h('span', { class: 'row-bottom' }, t('exactName'))));
  }

  const choose = (f) => {
    if (query) {
      search.value = query = '';
      draw();
    }
    f();
  };

  const draw = perFrame(() => {
    const name = model.name(model.me);
    const where = `${name} · ${model.session.node}`;
    if (me.title !== where) {
      me.title = where;
      me.replaceChildren(avatar(model.me, name, { size: 'small' }));
      me.setAttribute('aria-label', `${t('you')}: ${name}`);
    }
    for (const b of [chats, people]) {
      const on = b === (tab === 'chats' ? chats : people);
      attr(b, 'aria-selected', String(on));
      attr(b, 'tabindex', on ? '0' : '-1');
    }
    attr(list, 'aria-labelledby', `tab-${tab}`);
    tabs.hidden = Boolean(query);
    clearButton.hidden = !query;
    badge(chats, model.unread());
    badge(people, model.session.applications.length);
    const blocks = content().filter(Boolean);
    fill(list, blocks.map((b, i) => block(list.children[i], b)));
  });
  function badge(button, n) {
    const old = button.querySelector('.badge');
    if ((old?.n ?? 0) === n) return;
    old?.remove();
    if (!n) return;
    const el = h('span', { class: 'badge' }, n > 99 ? '99+' : String(n));
    el.n = n;
    button.append(el);
  }

  draw();
  return {
    el: h('section', { class: 'side', 'aria-label': t('lists') },
      h('header', { class: 'side-head' }, h('h1', {}, 'Parley'), add, me),
      h('div', { class: 'find' }, icon('search'), search, clearButton), tabs, list),
    draw,
    show,
    focusSearch: () => search.focus(),
  };
}
