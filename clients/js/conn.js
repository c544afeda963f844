// One logged-in connection to one chat node.

import { Code, failure, known, refusal } from './error.js';
import { Inbox } from './inbox.js';
import { Limit } from './limit.js';
import * as wire from './wire.js';

const { Msg, intOf: int, strOf: str } = wire;

const SUBPROTOCOL = 'parley.v1';
const CAPS = ['batch', 'resume', 'gap', 'groups', 'rows', 'marks', 'presence'];

const PART_TIMEOUT = 3000; // how long a server may take to close after it said that it would
const CHECK_TIMEOUT = 10000; // how long an answer to a heartbeat may take, at most half a period
const ANSWER_TIMEOUT = 5000; // a server that sends nothing for so long after a request is sent a heartbeat, and has as long again
const DEFAULT_HEARTBEAT = 10; // seconds, where the server grants no period
const MAX_HEARTBEAT = 3600;
const WINDOW_TEXTS = 64; // where the server grants no window
const WINDOW_BYTES = 96 << 10; // a server takes 128 KiB of texts of a connection at a time
const MAX_WAITING = 1000; // requests of one kind
const MAX_TEXTS = 64; // texts of one request
const TYPING_EVERY = 3000;

/** Conn ends by itself when the network fails or the server closes; `err` then says why, and what was waiting fails with it. */
export class Conn {
  /** null while the connection lives, then why it ended. */
  err = null;
  inbox = new Inbox();

  #ws;
  #splitter = new wire.Splitter();
  #first = null; // takes the first frame, the answer to the login
  #parting = null; // why the server is about to close
  #kinds = new Map(); // id of a reply -> requests that wait for it; the first was sent
  #texts = new Map(); // unique id -> request that holds the text
  #threads = new Map(); // uid -> private thread, as far as known
  #lastRead = 0;
  #beat; // timer
  #beatAt = 0; // when the unanswered heartbeat was sent; 0 if there is none
  #partTimer;
  #sent = false; // the login
  #askedAt = 0; // when something was sent that is answered; 0 if the server has sent anything since
  #doubt = null; // timer
  #typed = { thread: 0, at: 0 };

  /**
   * Connects and logs in. `o` holds `ticket`, `WebSocket`, `client`, `device`, `heartbeat` (0: as granted), `loginTimeout`,
   * `requestTimeout` and an AbortSignal, `signal`.
   */
  static async dial(url, o) {
    const limit = new Limit('login', o.loginTimeout, o.signal);
    const conn = new Conn(url, o);
    try {
      await limit.race(conn.#login(o));
      return conn;
    } catch (err) {
      conn.close(err);
      err.unanswered = conn.#sent && !err.code; // the server may carry the login out later
      throw err;
    } finally {
      limit.end();
    }
  }

  constructor(url, o) {
    this.url = url;
    this.requestTimeout = o.requestTimeout;
    this.ended = new Promise((resolve) => {
      this.ending = resolve;
    });
  }

  async #login(o) {
    const { uid, token, resume } = o.ticket;
    const body = { uid, client: o.client, device: o.device, caps: CAPS };
    if (resume) body.resume = resume;
    else body.token = token;
    if (o.heartbeat > 0) body.heartbeat_s = Math.round(o.heartbeat / 1000);

    let ws;
    try {
      ws = new o.WebSocket(this.url, [SUBPROTOCOL]);
    } catch (err) {
      throw failure('Network', 'login', err);
    }
    this.#ws = ws;
    ws.binaryType = 'arraybuffer';
    await new Promise((resolve, reject) => {
      this.ended.then(() => reject(this.err));
      this.#first = (f) => {
        if (f.id !== Msg.login + 1) throw failure('Protocol', 'login');
        if (int(f.body.error) !== 0) throw refused('login', f.body);
        this.#welcome(f.body);
        resolve();
      };
      ws.onopen = () => {
        this.#sent = true;
        this.#write(Msg.login, body);
      };
      ws.onmessage = ({ data }) => this.#read(data);
      ws.onclose = ({ code, reason }) => this.#closed(code, reason);
      ws.onerror = ({ message }) => {
        this.cause = message; // Node's; a browser does not tell
      };
    });
  }

  #welcome(w) {
    this.user = wire.profileOf(w);
    this.friends = wire.listOf(w.friend_list).map(wire.friendOf);
    this.applications = wire.listOf(w.apply_list).filter((a) => int(a.status) === 0).map(wire.applicationOf);
    this.caps = new Set(wire.listOf(w.caps));
    this.resume = str(w.resume);
    this.other = str(w.other);
    this.node = str(w.node);
    this.data = str(w.data);
    this.maxTexts = int(w.window) > 0 ? int(w.window) : WINDOW_TEXTS;
    this.freeTexts = this.maxTexts;
    this.freeBytes = WINDOW_BYTES;
    const seconds = int(w.heartbeat_s);
    this.period = (seconds > 0 ? Math.min(seconds, MAX_HEARTBEAT) : DEFAULT_HEARTBEAT) * 1000;
    // Spread, so that clients that log in together do not send heartbeats together.
    this.#beat = setTimeout(() => this.#heartbeat(), (this.period * (1 + Math.random())) / 2);
  }

  granted(capability) {
    return this.caps.has(capability);
  }

  /** Ends the connection. Only the first call counts. */
  close(err) {
    if (this.err) return;
    if (this.#parting && err.name !== 'Closed') err = this.#parting;
    this.err = err;
    clearTimeout(this.#beat);
    clearTimeout(this.#partTimer);
    clearTimeout(this.#doubt);
    const ws = this.#ws;
    if (ws) {
      ws.onopen = ws.onmessage = ws.onclose = null;
      ws.onerror = () => {};
      // A browser would wait for the answer to its close. So would Node's ws, and keep the process; it can do without.
      if (err.name === 'Timeout' && ws.terminate) ws.terminate();
      else ws.close();
    }
    this.ending();
    for (const calls of this.#kinds.values()) {
      for (const call of calls) call.reject(err);
    }
    this.#kinds.clear();
    const texts = new Set(this.#texts.values());
    this.#texts.clear();
    for (const call of texts) call.done(call.drafts.map(() => ({ lost: true })));
    this.inbox.end(err);
  }

  #closed(code, reason) {
    const told = code === 4000 && /^\d{4}$/.test(reason) ? refusal('goodbye', Number(reason)) : null;
    this.close(told ?? failure('Network', '', this.cause ?? `closed with ${code}`));
  }

  // part notes that the server is about to close, and why.
  #part(err) {
    this.#parting ??= err;
    this.#partTimer ??= setTimeout(() => this.close(err), PART_TIMEOUT);
  }

  // Heartbeats

  // heartbeat runs twice a period: it sends one, then looks whether anything came back.
  #heartbeat() {
    const wait = Math.min(this.period / 2, CHECK_TIMEOUT);
    if (this.#beatAt) {
      const silent = this.#lastRead < this.#beatAt;
      this.#beatAt = 0;
      if (silent) this.close(failure('Timeout', 'heartbeat'));
      else this.#beat = setTimeout(() => this.#heartbeat(), this.period - wait);
      return;
    }
    this.check(wait);
  }

  /** Sends a heartbeat now; a server that has not sent anything `wait` milliseconds later is gone. */
  check(wait) {
    if (this.err || this.#beatAt) return;
    clearTimeout(this.#beat);
    this.#beatAt = Date.now();
    this.#beat = setTimeout(() => this.#heartbeat(), wait);
    this.#write(Msg.heartbeat, {});
  }

  // expect looks soon whether the server still sends: something that it answers was sent. Until the next heartbeat a connection that
  // swallows everything would pass for a good one.
  #expect(wait = ANSWER_TIMEOUT) {
    this.#askedAt ||= Date.now();
    this.#doubt ??= setTimeout(() => {
      this.#doubt = null;
      if (!this.#askedAt || this.err) return;
      const left = this.#askedAt + ANSWER_TIMEOUT - Date.now();
      if (left > 0) this.#expect(left);
      else this.check(ANSWER_TIMEOUT);
    }, wait);
  }

  // Requests

  /**
   * Sends a request and returns its reply; a code other than 0 becomes an error. There is one request of a kind at a time: replies
   * carry no number, and a refusal may overtake an answer.
   */
  async request(op, id, body, limit) {
    const own = limit ? null : new Limit(op, this.requestTimeout);
    const bound = limit ?? own;
    try {
      return await bound.race(
        new Promise((resolve, reject) => {
          if (this.err) throw this.err;
          const calls = this.#kinds.get(id + 1) ?? [];
          if (calls.length >= MAX_WAITING) throw failure('QueueFull', op);
          calls.push({ op, id, json: JSON.stringify(body), bound, resolve, reject });
          this.#kinds.set(id + 1, calls);
          if (calls.length === 1) this.#sendFirst(id + 1);
        }),
      );
    } finally {
      own?.end();
    }
  }

  /** The same for what needs a capability. */
  requestFor(capability, op, id, body, limit) {
    if (!this.granted(capability)) throw failure('Unsupported', op);
    return this.request(op, id, body, limit);
  }

  // sendFirst sends the first request of a kind for which somebody still waits.
  #sendFirst(replyId) {
    const calls = this.#kinds.get(replyId);
    while (calls.length > 0) {
      const [call] = calls;
      if (!call.bound.error) {
        try {
          this.#ws.send(wire.frame(call.id, call.json));
          this.#expect();
          return;
        } catch (err) {
          call.reject(known(err, call.op));
        }
      }
      calls.shift();
    }
    this.#kinds.delete(replyId);
  }

  #reply(id, body) {
    const calls = this.#kinds.get(id);
    if (!calls) return; // unexpected or unknown: newer servers may send more
    const call = calls.shift();
    if (int(body.error) === 0) call.resolve(body);
    else call.reject(refused(call.op, body));
    this.#sendFirst(id);
  }

  #write(id, body) {
    this.#ws.send(wire.frame(id, JSON.stringify(body)));
  }

  /** Tells the members of a thread that this user is typing, unless it was done just before. */
  typing(thread) {
    const now = Date.now();
    if (this.err || !this.granted('presence')) return;
    if (this.#typed.thread === thread && now - this.#typed.at < TYPING_EVERY) return;
    this.#typed = { thread, at: now };
    this.#write(Msg.typing, { thread_id: thread });
  }

  // Texts

  /** How many texts one request may hold. */
  get batchTexts() {
    return Math.min(MAX_TEXTS, this.maxTexts);
  }

  /** Remembers the private thread with a user: a text that names its thread spares the server a look-up. */
  noteThread(uid, thread) {
    if (uid > 0 && thread > 0) this.#threads.set(uid, thread);
  }

  /** Whether the window has room for texts. */
  fits(texts, bytes) {
    return texts <= this.freeTexts && bytes <= this.freeBytes;
  }

  /**
   * Sends texts in one request. `elements` are their JSON. `done` gets an answer for each, in order: where it was stored, or a
   * `refusal`, or `lost`: the connection ended before.
   */
  post(to, drafts, elements, bytes, done) {
    const user = to.user ?? 0;
    const thread = to.thread ?? this.#threads.get(user) ?? 0;
    const call = { user, drafts, bytes, done };
    const json = `{"fromuid":${this.user.uid},"touid":${user},"thread_id":${thread},"text_array":[${elements.join(',')}]}`;
    for (const d of drafts) this.#texts.set(d.id, call);
    this.freeTexts -= drafts.length;
    this.freeBytes -= bytes;
    this.#ws.send(wire.frame(Msg.text, json));
    this.#expect();
  }

  #release(call) {
    for (const d of call.drafts) this.#texts.delete(d.id);
    this.freeTexts += call.drafts.length;
    this.freeBytes += call.bytes;
  }

  #textReply(body, length) {
    const answers = wire.answersOf(body);
    if (answers.length === 0) {
      // A refusal that names no text could be about any: all in flight get it. Those that are stored all the same are
      // recognised when they are sent again.
      if (int(body.error) === 0) return;
      const calls = new Set(this.#texts.values());
      for (const call of calls) this.#release(call);
      for (const call of calls) call.done(call.drafts.map(() => ({ refusal: refused('send', body) })));
      return;
    }
    const call = this.#texts.get(answers[0].id);
    if (!call) return;
    this.#release(call);
    const byId = new Map(answers.map((a) => [a.id, a]));
    const results = call.drafts.map((d) => {
      const a = byId.get(d.id);
      if (!a) return { refusal: refusal('send', Code.Internal) }; // the answer leaves it out
      return a.code ? { refusal: refused('send', { ...body, error: a.code }) } : a;
    });
    this.noteThread(call.user, int(body.thread_id));
    const messages = wire.storedOf(body, this.user.uid);
    if (messages.length > 0) this.#emit({ name: 'texts', thread: int(body.thread_id), messages }, length);
    call.done(results);
  }

  // What the server sends

  #read(data) {
    try {
      for (const f of this.#splitter.push(data)) {
        this.#lastRead = Date.now();
        this.#askedAt = 0;
        const first = this.#first;
        this.#first = null;
        if (first) first(f);
        else this.#frame(f);
        if (this.err) return;
      }
    } catch (err) {
      this.close(known(err, 'read'));
    }
  }

  #frame({ id, body, length }) {
    switch (id) {
      case Msg.heartbeat + 1:
        return;
      case Msg.textReply:
        this.#textReply(body, length);
        return;
      case Msg.textPush:
        if (int(body.error) === 0) this.#emitTexts(int(body.thread_id), wire.storedOf(body, int(body.fromuid)), length);
        return;
      case Msg.groupPush:
      case Msg.rowPush:
        this.#emitTexts(int(body.thread_id), wire.messagesOf(body.chat_datas), length);
        return;
      case Msg.hiddenPush:
        this.#emit({ name: 'hidden', thread: int(body.thread_id), ids: wire.listOf(body.msg_ids).map(int) }, length);
        return;
      case Msg.applied:
        this.#emit({ name: 'applied', application: wire.applicationOf({ ...body, uid: body.applyuid }) }, length);
        return;
      case Msg.approved: {
        const friend = wire.profileOf({ ...body, uid: body.fromuid });
        this.#emit({ name: 'approved', friend, messages: wire.messagesOf(body.chat_datas) }, length);
        return;
      }
      case Msg.friendsChanged:
        this.#emit({ name: 'friendschanged', uid: int(body.uid), change: str(body.change) }, length);
        return;
      case Msg.replaced:
        this.#part(failure('Replaced'));
        return;
      case Msg.goodbye:
        this.#part(refused('goodbye', body));
        return;
      case Msg.gap:
        this.#emit({ name: 'gap', thread: int(body.thread_id), from: int(body.from_seq) }, length);
        return;
      case Msg.markPush: {
        const marks = wire.marksOf(body);
        if (marks.length > 0) this.#emit({ name: 'marks', thread: int(body.thread_id), marks }, length);
        return;
      }
      case Msg.watchReply:
        this.#reply(id, body);
        this.#emitStates(body, length); // behind what was told of an earlier set
        return;
      case Msg.online:
        this.#emitStates(body, length);
        return;
      case Msg.typingPush:
        this.#emit({ name: 'typing', thread: int(body.thread_id), uid: int(body.uid) }, length);
        return;
      case Msg.logoutReply:
        if (int(body.error) === 0) this.#part(failure('LoggedOut'));
        this.#reply(id, body);
        return;
      default:
        this.#reply(id, body);
    }
  }

  #emitTexts(thread, messages, length) {
    if (messages.length > 0) this.#emit({ name: 'texts', thread, messages }, length);
  }

  #emitStates(body, length) {
    const states = wire.statesOf(body);
    if (states.length > 0) this.#emit({ name: 'online', states }, length);
  }

  #emit(event, length) {
    if (!this.inbox.put(event, length)) throw refusal('read', 2004, { reason: 'events are not being taken' });
  }

  /** Has the session look for the row of its own change, in case the push is lost. */
  changed(reply) {
    const thread = int(reply.thread_id);
    const id = int(reply.msg_id);
    if (id > 0) this.inbox.put({ name: 'stored', thread, id }, 0);
  }
}

function refused(op, body) {
  return refusal(op, int(body.error), { retryAfter: int(body.retry_ms), reason: str(body.reason), to: str(body.to) });
}
