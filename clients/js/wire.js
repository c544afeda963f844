// The frames of the protocol, and what their JSON means: docs/PROTOCOL.md.

import { Code, refusal } from './error.js';

/** Message ids of requests and pushes; the reply to a request has the next higher one. */
export const Msg = {
  login: 1005,
  search: 1007,
  apply: 1009,
  applied: 1011,
  approve: 1013,
  approved: 1015,
  text: 1017,
  textReply: 1018,
  textPush: 1019,
  replaced: 1021,
  heartbeat: 1023,
  threads: 1025,
  openThread: 1027,
  history: 1029,
  goodbye: 2101,
  sync: 2102,
  gap: 2104,
  unfriend: 2105,
  block: 2107,
  unblock: 2109,
  blocks: 2111,
  logout: 2113,
  logoutReply: 2114,
  friendsChanged: 2115,
  groupCreate: 2116,
  groupInfo: 2118,
  groupMembers: 2120,
  groupInvite: 2122,
  groupLeave: 2124,
  groupRemove: 2126,
  groupRole: 2128,
  groupChange: 2130,
  groupMute: 2132,
  groupDissolve: 2134,
  linkCreate: 2136,
  links: 2138,
  linkRevoke: 2140,
  linkJoin: 2142,
  groupPush: 2144,
  rowPush: 2145,
  mark: 2146,
  markPush: 2148,
  marks: 2149,
  watch: 2151,
  watchReply: 2152,
  online: 2153,
  typing: 2154,
  typingPush: 2155,
  visible: 2156,
  recall: 2158,
  edit: 2160,
  hide: 2162,
  hiddenPush: 2164,
};

/** The largest body of a frame that servers take, in bytes. */
export const MAX_BODY = 16 * 1024;

const HEADER = 4;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Returns the length of a string in bytes of UTF-8. */
export function byteLength(s) {
  let n = s.length;
  for (let i = 0; i < s.length; i++) {
    const c = s.charCodeAt(i);
    if (c < 0x80) continue;
    if (c < 0x800) n += 1;
    else if (c >= 0xd800 && c < 0xdc00 && (s.charCodeAt(i + 1) & 0xfc00) === 0xdc00) {
      n += 2; // four bytes for two units
      i++;
    } else n += 2;
  }
  return n;
}

/** Returns a frame with a body of JSON text. */
export function frame(id, json, most = MAX_BODY) {
  const body = encoder.encode(json);
  if (body.length > most) throw refusal('request', Code.BadRequest, { reason: 'longer than 16 KiB' });
  const out = new Uint8Array(HEADER + body.length);
  const view = new DataView(out.buffer);
  view.setUint16(0, id);
  view.setUint16(2, body.length);
  out.set(body, HEADER);
  return out;
}

/** Cuts a stream of bytes into frames. */
export class Splitter {
  #rest = new Uint8Array(0);

  /** Takes the next bytes and returns the frames they complete: their id, their body as an object, and their length. */
  push(data) {
    let bytes = new Uint8Array(data);
    if (this.#rest.length > 0) {
      const joined = new Uint8Array(this.#rest.length + bytes.length);
      joined.set(this.#rest);
      joined.set(bytes, this.#rest.length);
      bytes = joined;
    }
    const frames = [];
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    let at = 0;
    while (bytes.length - at >= HEADER) {
      const end = at + HEADER + view.getUint16(at + 2);
      if (end > bytes.length) break;
      frames.push({ id: view.getUint16(at), body: decode(bytes.subarray(at + HEADER, end)), length: end - at });
      at = end;
    }
    this.#rest = bytes.slice(at); // at most one frame: 64 KiB
    return frames;
  }
}

function decode(bytes) {
  if (bytes.length === 0) return {};
  const body = JSON.parse(decoder.decode(bytes));
  if (body === null || typeof body !== 'object' || Array.isArray(body)) throw new Error('a body is not an object');
  return body;
}

/** Returns an integer of a body; a missing one is 0. One that a number cannot hold exactly is an error. */
export function int(v) {
  if (v === undefined || v === null) return 0;
  if (!Number.isSafeInteger(v)) throw new Error('not an integer that JavaScript can hold');
  return v;
}

const str = (v) => (typeof v === 'string' ? v : '');
const list = (v) => (Array.isArray(v) ? v : []);

const dateOf = (ms) => (int(ms) > 0 ? new Date(ms) : null);

// timeOf prefers milliseconds; foreign nodes send only the text form, in UTC.
function timeOf(ms, text) {
  return dateOf(ms) ?? new Date(text ? `${text.replace(' ', 'T')}Z` : 0);
}

export function profileOf(p) {
  return { uid: int(p.uid), name: str(p.name), nick: str(p.nick), icon: str(p.icon), sex: int(p.sex), desc: str(p.desc) };
}

export const friendOf = (f) => ({ ...profileOf(f), alias: str(f.back) });

/** An element of apply_list: it carries the greeting where a profile has its description. */
export const applicationOf = (a) => ({ ...profileOf(a), desc: '', greeting: str(a.desc) });

export const blockedOf = (b) => ({ ...profileOf(b), since: timeOf(b.created_ms) });

export const markOf = (m) => ({ uid: int(m.uid), read: int(m.read), recv: int(m.recv) });

export const marksOf = (body) => list(body.marks).map(markOf);

const roles = ['member', 'admin', 'owner'];

export const roleOf = (n) => roles[int(n)] ?? 'member';

export function roleNumber(role) {
  const n = roles.indexOf(role);
  if (n < 0) throw new TypeError(`no role: ${role}`);
  return n;
}

export function threadOf(t, self) {
  const group = t.type === 'group';
  const peer = group ? 0 : int(t.user1_id) === self ? int(t.user2_id) : int(t.user1_id);
  return {
    id: int(t.thread_id),
    type: group ? 'group' : 'private',
    peer,
    lastId: int(t.last_seq),
    unread: int(t.unread),
    read: int(t.read),
    recv: int(t.recv),
    peerRead: int(t.peer_read),
    peerRecv: int(t.peer_recv),
    name: str(t.name),
    role: roleOf(t.role),
    members: int(t.members),
    firstId: int(t.first_id),
    left: int(t.left),
  };
}

function parsed(json) {
  try {
    return JSON.parse(json) ?? {};
  } catch {
    return {};
  }
}

const kinds = ['text', 'event', 'recall', 'edit'];

// message returns a message with the defaults of what is missing.
function message(fields) {
  return {
    thread: 0,
    id: 0,
    kind: 'text',
    sender: 0,
    uniqueId: '',
    text: '',
    type: '',
    time: new Date(0),
    edited: null,
    recalled: false,
    hidden: false,
    target: 0,
    event: null,
    ...fields,
  };
}

/** A row as history, sync and pushes of rows have it. */
export function messageOf(s) {
  const m = message({
    thread: int(s.thread_id),
    id: int(s.msg_id),
    kind: kinds[int(s.kind)] ?? 'other',
    sender: int(s.sender),
    uniqueId: str(s.unique_id),
    type: str(s.type),
    time: timeOf(s.created_ms, s.chat_time),
    edited: dateOf(s.edited_ms),
    recalled: s.recalled === true,
    hidden: s.hidden === true,
  });
  const content = str(s.msg_content);
  if (m.kind === 'text') m.text = content;
  else if (m.kind === 'event') m.event = eventOf(parsed(content));
  else if (m.kind !== 'other') {
    const change = parsed(content);
    m.target = int(change.msg_id);
    if (m.kind === 'edit' && typeof change.content === 'string') {
      m.text = change.content;
      m.type = str(change.type);
      m.edited = dateOf(change.edited_ms);
    }
  }
  return m;
}

export const messagesOf = (rows) => list(rows).map(messageOf);

function eventOf(e) {
  return {
    what: str(e.event),
    by: int(e.by),
    uids: list(e.uids).map(int),
    name: str(e.name),
    role: roleOf(e.role),
    until: dateOf(e.until_ms),
    on: e.on === true,
  };
}

const refused = (t) => int(t.code) !== 0 || int(t.status) === 1;

/** The elements of a 1018: where and when each text was stored, or its code. */
export function answersOf(body) {
  return list(body.chat_datas).map((t) => ({
    id: str(t.unique_id),
    code: refused(t) ? int(t.code) || 2000 : 0,
    thread: int(body.thread_id),
    messageId: int(t.message_id),
    time: timeOf(t.created_ms, t.chat_time),
  }));
}

/** The texts of a 1018 or 1019 that have a place in their thread. */
export function storedOf(body, sender) {
  return list(body.chat_datas)
    .filter((t) => !refused(t) && int(t.message_id) > 0)
    .map((t) =>
      message({
        thread: int(body.thread_id),
        id: int(t.message_id),
        sender,
        uniqueId: str(t.unique_id),
        text: str(t.content),
        type: str(t.type),
        time: timeOf(t.created_ms, t.chat_time),
      }),
    );
}

/** A page of 1030, or of one thread in a 2103. */
export function pageOf(p) {
  return { thread: int(p.thread_id), messages: messagesOf(p.chat_datas), next: int(p.last_message_id), more: p.load_more === true };
}

export function statesOf(body) {
  return list(body.states).map((s) => ({
    uid: int(s.uid),
    online: s.online === true,
    lastSeen: dateOf(int(s.last_seen_min) * 60000),
  }));
}

export function groupOf(g) {
  return {
    thread: int(g.thread_id),
    name: str(g.name),
    owner: int(g.owner),
    members: int(g.members),
    muteAll: g.mute_all === true,
    historyForNew: g.history_for_new === true,
    dissolved: g.dissolved === true,
    created: timeOf(g.created_ms),
    role: roleOf(g.role),
    mutedUntil: dateOf(g.muted_until_ms),
    firstId: int(g.first_id),
    lastId: int(g.last_seq),
    left: int(g.left),
  };
}

export function memberOf(m) {
  return { ...profileOf(m), role: roleOf(m.role), joined: timeOf(m.joined_ms), mutedUntil: dateOf(m.muted_until_ms) };
}

export function linkOf(l) {
  return { code: str(l.code), by: int(l.by), created: dateOf(l.created_ms), expires: timeOf(l.expires_ms), uses: int(l.uses) };
}

export { int as intOf, list as listOf, str as strOf };
