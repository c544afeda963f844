// The requests of the protocol, each over one connection. `limit` bounds the call; without it the connection's own bound holds.

import { Code, failure } from './error.js';
import * as wire from './wire.js';

const { Msg, intOf: int, strOf: str } = wire;

const PAGE = 500; // threads, messages and so on to ask for at once: what a server gives at most
const MAX_PATIENCE = 5;

const still = (op) => failure('Protocol', op, 'the cursor stands still');

/**
 * Repeats what is refused for its rate, after the time the server names, a few times: a caller that reads many pages cannot know how
 * fast it may.
 */
export async function patiently(pause, ask) {
  for (let n = 0; ; n++) {
    try {
      return await ask();
    } catch (err) {
      if ((err.code !== Code.RateLimited && err.code !== Code.Busy) || n === MAX_PATIENCE) throw err;
      await pause(Math.max(err.retryAfter, 100));
    }
  }
}

/** A page of threads above an id: `{ threads, next }`; `next` is 0 at the end. */
export async function threads(conn, after, limit) {
  const reply = await conn.request('threads', Msg.threads, { thread_id: after, limit: PAGE }, limit);
  const list = wire.listOf(reply.threads).map((t) => wire.threadOf(t, conn.user.uid));
  for (const t of list) conn.noteThread(t.peer, t.id);
  const next = reply.load_more === true ? int(reply.next_last_id) : 0;
  if (reply.load_more === true && next <= after) throw still('threads');
  return { list, next };
}

export async function openThread(conn, uid, limit) {
  const reply = await conn.request('open thread', Msg.openThread, { other_id: uid }, limit);
  conn.noteThread(uid, int(reply.thread_id));
  return int(reply.thread_id);
}

/** The messages of a thread above an id, oldest first. */
export async function history(conn, thread, after, n = PAGE, limit = undefined) {
  const body = { thread_id: thread, message_id: after, limit: Math.min(n, PAGE) };
  const page = wire.pageOf(await conn.request('history', Msg.history, body, limit));
  if (page.more && page.next <= after) throw still('history');
  return page;
}

async function syncRequest(conn, body, limit) {
  const reply = await conn.request('sync', Msg.sync, body, limit);
  return { pages: wire.listOf(reply.threads).map(wire.pageOf), more: reply.load_more === true, since: str(reply.since) };
}

const wireCursors = (cursors) => cursors.map((c) => ({ thread_id: c.thread, seq: c.lastId }));

/** What lies beyond the cursors; with `all` also the threads without a cursor, from their beginning. */
export const sync = (conn, cursors, all, limit) =>
  syncRequest(conn, { cursors: wireCursors(cursors), all, want_since: true }, limit);

/** What has come to threads since an earlier sync. `newest` is the cursor of the thread whose text is the newest known, or null. */
export const syncSince = (conn, since, newest, limit) =>
  syncRequest(conn, { since, cursors: wireCursors(newest ? [newest] : []) }, limit);

export async function search(conn, query, limit) {
  return wire.profileOf(await conn.request('search', Msg.search, { uid: query }, limit));
}

export const apply = (conn, uid, greeting, alias, limit) =>
  conn.request('apply', Msg.apply, { touid: uid, applyname: greeting, bakname: alias }, limit);

export async function approve(conn, uid, alias, limit) {
  const reply = await conn.request('approve', Msg.approve, { touid: uid, back: alias }, limit);
  const messages = wire.messagesOf(reply.chat_datas);
  if (messages.length > 0) conn.inbox.put({ name: 'texts', thread: messages[0].thread, messages }, 0);
  return { friend: { ...wire.profileOf(reply), alias }, messages };
}

const others = { unfriend: Msg.unfriend, block: Msg.block, unblock: Msg.unblock };

/** Runs 'unfriend', 'block' or 'unblock'. */
export const changeFriend = (conn, op, uid, limit) => conn.request(op, others[op], { uid }, limit);

/** A page of users that this user has blocked, above a uid. */
export async function blocks(conn, after, limit) {
  const reply = await conn.request('blocks', Msg.blocks, { after_uid: after, limit: PAGE }, limit);
  const next = reply.load_more === true ? int(reply.last_uid) : 0;
  if (reply.load_more === true && next <= after) throw still('blocks');
  return { list: wire.listOf(reply.blocked).map(wire.blockedOf), next };
}

export const logout = (conn, scope, limit) => conn.request('log out', Msg.logout, { scope }, limit);

export async function mark(conn, thread, read, recv, limit) {
  const body = { thread_id: thread };
  if (read > 0) body.read = read;
  if (recv > 0) body.recv = recv;
  const reply = await conn.requestFor('marks', 'mark', Msg.mark, body, limit);
  return wire.markOf({ ...reply, uid: conn.user.uid });
}

/** A page of the marks of a thread, above a uid. */
export async function marks(conn, thread, after, limit) {
  const body = { thread_id: thread, after_uid: after, limit: PAGE };
  const reply = await conn.requestFor('marks', 'marks', Msg.marks, body, limit);
  const list = wire.marksOf(reply);
  const next = reply.load_more === true ? (list.at(-1)?.uid ?? 0) : 0;
  if (reply.load_more === true && next <= after) throw still('marks');
  return { list, next };
}

export async function watch(conn, uids, limit) {
  return wire.statesOf(await conn.requestFor('presence', 'watch', Msg.watch, { uids }, limit));
}

/** Sets whether friends may see this user's presence, if `visible` is given, and returns whether they may. */
export async function visible(conn, value, limit) {
  const body = value === undefined ? {} : { visible: value };
  return (await conn.requestFor('presence', 'visible', Msg.visible, body, limit)).visible === true;
}

// Changes that a row of the thread tells of

async function changeRow(conn, capability, op, id, body, limit) {
  const reply = await conn.requestFor(capability, op, id, body, limit);
  conn.changed(reply);
  return reply;
}

export const recall = (conn, thread, id, limit) =>
  changeRow(conn, 'rows', 'recall', Msg.recall, { thread_id: thread, msg_id: id }, limit);

export const edit = (conn, thread, id, content, limit) =>
  changeRow(conn, 'rows', 'edit', Msg.edit, { thread_id: thread, msg_id: id, content }, limit);

export const hide = (conn, thread, ids, limit) =>
  conn.requestFor('rows', 'hide', Msg.hide, { thread_id: thread, msg_ids: ids }, limit);

const refusedOf = (reply) => wire.listOf(reply.refused).map(int);

export async function createGroup(conn, { name, members = [], id }, limit) {
  const reply = await changeRow(conn, 'groups', 'create group', Msg.groupCreate, { name, unique_id: id, uids: members }, limit);
  return { thread: int(reply.thread_id), refused: refusedOf(reply) };
}

export async function group(conn, thread, limit) {
  return wire.groupOf(await conn.requestFor('groups', 'group', Msg.groupInfo, { thread_id: thread }, limit));
}

/** A page of the members of a group, above a uid. */
export async function groupMembers(conn, thread, after, n, limit) {
  const body = { thread_id: thread, after_uid: after, limit: Math.min(n, PAGE) };
  const reply = await conn.requestFor('groups', 'group members', Msg.groupMembers, body, limit);
  const next = reply.load_more === true ? int(reply.last_uid) : 0;
  if (reply.load_more === true && next <= after) throw still('group members');
  return { list: wire.listOf(reply.members).map(wire.memberOf), next };
}

export async function invite(conn, thread, uids, limit) {
  const reply = await changeRow(conn, 'groups', 'invite', Msg.groupInvite, { thread_id: thread, uids }, limit);
  return { refused: refusedOf(reply) };
}

/** Runs a request that changes a group: `op` names it in errors. */
export const changeGroup = (conn, op, id, thread, fields, limit) =>
  changeRow(conn, 'groups', op, id, { thread_id: thread, ...fields }, limit);

export async function createLink(conn, thread, ttl, uses, limit) {
  const body = { thread_id: thread };
  if (ttl) body.ttl_s = Math.round(ttl / 1000);
  if (uses) body.uses = uses;
  const reply = await conn.requestFor('groups', 'create link', Msg.linkCreate, body, limit);
  return { ...wire.linkOf(reply), by: conn.user.uid };
}

export async function links(conn, thread, limit) {
  const reply = await conn.requestFor('groups', 'links', Msg.links, { thread_id: thread }, limit);
  return wire.listOf(reply.links).map(wire.linkOf);
}

export const revokeLink = (conn, thread, code, limit) =>
  conn.requestFor('groups', 'revoke link', Msg.linkRevoke, { thread_id: thread, code }, limit);

export async function joinByLink(conn, code, limit) {
  const reply = await changeRow(conn, 'groups', 'join by link', Msg.linkJoin, { code }, limit);
  return { thread: int(reply.thread_id), name: str(reply.name) };
}
