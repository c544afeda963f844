// The public face of a session. parley.d.ts documents it.

import { Core } from './core.js';
import { Code } from './error.js';
import { Limit } from './limit.js';
import { newId } from './outbox.js';
import * as requests from './requests.js';
import { Msg, roleNumber } from './wire.js';

const MAX_ID = 2 ** 31 - 1; // of a message
const MAX_PAGE = 500;
const LAST_THREADS = 300; // threads whose newest message is read along
const LAST_ROWS = 5; // rows of each that are looked at

export class Session {
  #core;

  constructor(options) {
    this.#core = new Core(options);
  }

  open({ signal } = {}) {
    return this.#core.open(signal);
  }

  close() {
    return this.#core.close();
  }

  logout(options) {
    return this.#logout('device', options);
  }

  logoutEverywhere(options) {
    return this.#logout('all', options);
  }

  async #logout(scope, options) {
    try {
      await this.#ask('log out', options, (conn, limit) => requests.logout(conn, scope, limit));
    } catch (err) {
      if (err.name !== 'LoggedOut') throw err;
    }
    await this.#core.ended();
  }

  reconnect() {
    this.#core.reconnect();
  }

  on(name, handler) {
    return this.#core.events.on(name, handler);
  }

  off(name, handler) {
    this.#core.events.off(name, handler);
  }

  get state() {
    return this.#core.state;
  }

  get error() {
    return this.#core.error;
  }

  get user() {
    return this.#core.last?.user ?? null;
  }

  get friends() {
    return byUid(this.#core.friends);
  }

  get applications() {
    return byUid(this.#core.applications);
  }

  get node() {
    return this.#core.last?.node ?? '';
  }

  get data() {
    return this.#core.seenData;
  }

  get ticket() {
    return this.#core.ticket?.resume ? { ...this.#core.ticket } : null;
  }

  cursors() {
    return [...this.#core.seen].map(([thread, lastId]) => ({ thread, lastId })).sort((a, b) => a.thread - b.thread);
  }

  granted(capability) {
    return this.#core.last?.granted(capability) ?? false;
  }

  #ask(op, options, request, how) {
    return this.#core.ask(op, options?.signal, request, how);
  }

  // patiently asks for one page, again if there were too many requests.
  #patiently(op, options, request) {
    return requests.patiently(
      (ms) => this.#core.pause(ms),
      () => this.#ask(op, options, request),
    );
  }

  // pages reads all pages above an id; `page` returns `{ list, next }`.
  async #pages(op, options, page) {
    const all = [];
    let after = 0;
    do {
      const part = await this.#patiently(op, options, (conn, limit) => page(conn, after, limit));
      all.push(...part.list);
      after = part.next;
    } while (after > 0);
    return all;
  }

  // Texts

  async send(to, text, options) {
    return this.#core.outbox.send(to, text, options);
  }

  unsent() {
    return this.#core.outbox.drafts();
  }

  async flush({ signal } = {}) {
    const limit = new Limit('flush', 0, signal);
    try {
      await limit.race(this.#core.outbox.flushed());
    } finally {
      limit.end();
    }
    if (this.error) throw this.error;
  }

  async recall(thread, id, options) {
    await this.#ask('recall', options, (conn, limit) => requests.recall(conn, thread, id, limit));
  }

  async edit(thread, id, text, options) {
    await this.#ask('edit', options, (conn, limit) => requests.edit(conn, thread, id, text, limit));
  }

  async hide(thread, ids, options) {
    await this.#ask('hide', options, (conn, limit) => requests.hide(conn, thread, ids, limit));
  }

  typing(thread) {
    this.#core.conn?.typing(thread);
  }

  // Threads and history

  async threads(options) {
    const all = await this.#pages('threads', options, requests.threads);
    if (options?.last) await this.#addLast(all, options);
    return all;
  }

  // addLast reads the newest rows of threads.
  async #addLast(all, options) {
    const some = new Map(all.slice(-LAST_THREADS).filter((t) => t.lastId > 0).map((t) => [t.id, t]));
    let cursors = [...some.values()].map((t) => ({ thread: t.id, lastId: Math.max(0, t.lastId - LAST_ROWS) }));
    while (cursors.length > 0) {
      const asked = new Map(cursors.map((c) => [c.thread, c.lastId]));
      const reply = await this.#patiently('threads', options, (conn, limit) => requests.sync(conn, cursors, false, limit));
      for (const page of reply.pages) {
        const shown = page.messages.filter((m) => !m.hidden && (m.kind === 'text' || m.kind === 'event'));
        const thread = some.get(page.thread);
        if (thread && shown.length > 0) thread.last = shown.at(-1);
        if (page.more && page.next > asked.get(page.thread)) asked.set(page.thread, page.next);
        else asked.delete(page.thread);
      }
      if (!reply.more || reply.pages.length === 0) return;
      cursors = [...asked].map(([thread, lastId]) => ({ thread, lastId }));
    }
  }

  openThread(uid, options) {
    return this.#ask('open thread', options, (conn, limit) => requests.openThread(conn, uid, limit));
  }

  async history(thread, options = {}) {
    const n = Math.min(Math.max(1, options.limit ?? 50), MAX_PAGE);
    const read = (after, count) =>
      this.#patiently('history', options, (conn, limit) => requests.history(conn, thread, after, count, limit));
    if (options.after !== undefined) {
      const page = await read(options.after, n);
      return { thread, messages: page.messages, more: page.more };
    }
    const before = options.before ?? (await this.#end(thread, options)) + 1;
    const start = Math.max(0, before - 1 - n);
    const messages = [];
    for (let after = start, more = true; more && after < before - 1; ) {
      const page = await read(after, before - 1 - after);
      messages.push(...page.messages.filter((m) => m.id < before));
      ({ more, next: after } = page);
    }
    // Ids have no holes, so a gap at the beginning means that the user may read no more.
    const whole = messages.length > 0 && (messages[0].id === start + 1 || !this.granted('rows'));
    return { thread, messages, more: start > 0 && whole };
  }

  // end returns the id of the newest message of a thread.
  async #end(thread, options) {
    const beyond = [{ thread, lastId: MAX_ID }];
    const reply = await this.#patiently('history', options, (conn, limit) => requests.sync(conn, beyond, false, limit));
    return reply.pages.find((page) => page.thread === thread)?.next ?? 0;
  }

  markRead(thread, id) {
    this.#core.receipts.note(thread, id, 0);
  }

  mark(thread, id, options) {
    return this.#ask('mark', options, (conn, limit) => requests.mark(conn, thread, id, 0, limit));
  }

  marks(thread, options) {
    return this.#pages('marks', options, (conn, after, limit) => requests.marks(conn, thread, after, limit));
  }

  // Friends

  search(query, options) {
    return this.#ask('search', options, (conn, limit) => requests.search(conn, query, limit));
  }

  async apply(uid, options = {}) {
    const { greeting = '', alias = '' } = options;
    await this.#ask('apply', options, (conn, limit) => requests.apply(conn, uid, greeting, alias, limit));
  }

  async approve(uid, options = {}) {
    const { alias = '' } = options;
    const approval = await this.#ask('approve', options, (conn, limit) => requests.approve(conn, uid, alias, limit), { once: true });
    this.#core.befriend(approval.friend);
    return approval;
  }

  unfriend(uid, options) {
    return this.#part('unfriend', uid, options);
  }

  block(uid, options) {
    return this.#part('block', uid, options);
  }

  // part ends a friendship: the user is neither a friend nor an applicant after it.
  async #part(op, uid, options) {
    await this.#ask(op, options, (conn, limit) => requests.changeFriend(conn, op, uid, limit));
    this.#core.parted(uid);
  }

  async unblock(uid, options) {
    await this.#ask('unblock', options, (conn, limit) => requests.changeFriend(conn, 'unblock', uid, limit));
  }

  blocks(options) {
    return this.#pages('blocks', options, requests.blocks);
  }

  // Presence

  async watch(uids, options) {
    const set = [...uids];
    this.#core.watch(set);
    try {
      return await this.#patiently('watch', options, (conn, limit) => requests.watch(conn, this.#core.watched(), limit));
    } catch (err) {
      if (this.#core.watched() === set) this.#core.watch([]);
      throw err;
    }
  }

  async setVisible(visible, options) {
    await this.#ask('visible', options, (conn, limit) => requests.visible(conn, visible, limit));
  }

  visible(options) {
    return this.#ask('visible', options, (conn, limit) => requests.visible(conn, undefined, limit));
  }

  // Groups

  createGroup(group, options) {
    const draft = { ...group, id: group.id ?? newId() }; // the same on every connection
    return this.#ask('create group', options, (conn, limit) => requests.createGroup(conn, draft, limit));
  }

  group(thread, options) {
    return this.#ask('group', options, (conn, limit) => requests.group(conn, thread, limit));
  }

  async groupMembers(thread, options = {}) {
    const { after, limit: n } = options;
    if (after === undefined && n === undefined) {
      return this.#pages('group members', options, (conn, from, limit) => requests.groupMembers(conn, thread, from, MAX_PAGE, limit));
    }
    const page = (conn, limit) => requests.groupMembers(conn, thread, after ?? 0, n ?? MAX_PAGE, limit);
    return (await this.#patiently('group members', options, page)).list;
  }

  invite(thread, uids, options) {
    return this.#ask('invite', options, (conn, limit) => requests.invite(conn, thread, uids, limit));
  }

  leaveGroup(thread, options) {
    return this.#changeGroup('leave group', Msg.groupLeave, thread, {}, options, (g) => g.left > 0);
  }

  removeMember(thread, uid, options) {
    return this.#changeGroup('remove member', Msg.groupRemove, thread, { uid }, options);
  }

  async setRole(thread, uid, role, options) {
    const fields = { uid, role: roleNumber(role) };
    await this.#changeGroup('set role', Msg.groupRole, thread, fields, options, (g) => role === 'owner' && g.owner === uid);
  }

  renameGroup(thread, name, options) {
    return this.#changeGroup('rename group', Msg.groupChange, thread, { name }, options);
  }

  muteGroup(thread, on, options) {
    return this.#changeGroup('mute group', Msg.groupChange, thread, { mute_all: on }, options);
  }

  setHistoryForNew(thread, on, options) {
    return this.#changeGroup('set history for new members', Msg.groupChange, thread, { history_for_new: on }, options);
  }

  muteMember(thread, uid, until, options) {
    return this.#changeGroup('mute member', Msg.groupMute, thread, { uid, until_ms: until ? until.getTime() : 0 }, options);
  }

  dissolveGroup(thread, options) {
    return this.#changeGroup('dissolve group', Msg.groupDissolve, thread, {}, options, (g) => g.dissolved);
  }

  // changeGroup changes a group. After some changes the user may not ask for them again: then a refusal of a request that was repeated
  // is success if `done` says that the group shows the first one.
  async #changeGroup(op, id, thread, fields, options, done = () => false) {
    let tries = 0;
    try {
      await this.#ask(op, options, (conn, limit) => {
        tries++;
        return requests.changeGroup(conn, op, id, thread, fields, limit);
      });
    } catch (err) {
      if (tries < 2 || err.code !== Code.NotAllowed) throw err;
      const group = await this.group(thread, options).catch(() => null);
      if (!group || !done(group)) throw err;
    }
  }

  createLink(thread, options = {}) {
    const { ttl, uses } = options;
    return this.#ask('create link', options, (conn, limit) => requests.createLink(conn, thread, ttl, uses, limit));
  }

  links(thread, options) {
    return this.#ask('links', options, (conn, limit) => requests.links(conn, thread, limit));
  }

  async revokeLink(thread, code, options) {
    await this.#ask('revoke link', options, (conn, limit) => requests.revokeLink(conn, thread, code, limit));
  }

  joinByLink(code, options) {
    return this.#ask('join by link', options, (conn, limit) => requests.joinByLink(conn, code, limit));
  }
}

const byUid = (map) => [...map.values()].sort((a, b) => a.uid - b.uid);
