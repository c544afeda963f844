// What keeps a session logged in.

import { jitter } from './backoff.js';
import { Conn } from './conn.js';
import { Code, during, failure, known, refusal } from './error.js';
import { Events } from './events.js';
import { Gate } from './gate.js';
import { Limit } from './limit.js';
import { Outbox } from './outbox.js';
import { Reader } from './reader.js';
import { Receipts } from './receipts.js';

export const VERSION = '0.1.0';

const MAX_NODES = 4; // addresses of nodes that a ticket remembers beside its own
const MAX_HOPS = 3; // how many "go to that node" in a row are followed
const LATE_LOGIN = 20000; // how long a login without an answer may still be carried out: a server gives it ten seconds, and has a few more
const STEADY_AFTER = 10000; // how long a connection must have lived for the back-off to begin anew
const MAX_WAITING = 1000; // requests that wait for a connection
const WAKE_CHECK = 5000; // how long a server may take to answer when the network or the page comes and goes

const defaults = {
  storageKey: 'parley',
  device: 'js',
  client: `parley-js/${VERSION}`,
  heartbeat: 0,
  maxUnsent: 1024,
  requestTimeout: 15000,
  loginTimeout: 10000,
  backoffBase: 500,
  backoffLimit: 30000,
  syncEvery: 5 * 60000,
  nodes: [],
};

const isURL = (s) => typeof s === 'string' && /^wss?:\/\//.test(s);

export class Core {
  state = 'idle';
  error = null;
  closing = false;
  conn = null; // the living one, or null
  last = null; // the latest
  ticket = null;
  friends = new Map();
  applications = new Map();
  seen = new Map(); // thread -> what handlers have dealt with
  seenData = ''; // id of the data that seen is of

  #gate = null;
  #waiters = new Set(); // calls that wait for a connection
  #watched = [];
  #backlog = []; // events handed out before anything else
  #pauses = new Set(); // functions that end a pause
  #nudge = null; // ends the wait before the next attempt
  #hurry = false; // that wait is to be left out
  #stop = new AbortController(); // aborts a login under way
  #attempt = 0;
  #unanswered = -Infinity; // when a login last failed after it was sent
  #running = null;

  constructor(options) {
    const o = { ...defaults };
    for (const [key, value] of Object.entries(options)) {
      if (value !== undefined) o[key] = value;
    }
    o.WebSocket ??= globalThis.WebSocket;
    if (!o.WebSocket) throw new TypeError('there is no global WebSocket here: pass one, such as that of package ws');
    if (!/^[a-z0-9_-]{1,32}$/.test(o.device)) throw new TypeError('a device has 1 to 32 of [a-z0-9_-]');
    if (o.heartbeat && !(o.heartbeat >= 5000 && o.heartbeat <= 300000)) throw new TypeError('a heartbeat is 5000 to 300000');
    this.o = o;
    if (o.gate instanceof Gate) this.#gate = o.gate;
    else if (o.gate !== undefined) this.#gate = new Gate(o.gate, { fetch: o.fetch });
    this.ticket = o.ticket ?? this.#stored();
    if (!this.ticket && !this.#hasPassword) {
      throw new TypeError('a session needs a gate with email and password, a ticket, or a storage that holds one');
    }
    this.events = new Events((event) => this.#taken(event));
    this.receipts = new Receipts(this);
    this.reader = new Reader(this, o.syncEvery);
    this.reader.data = o.data ?? '';
    let told = false; // changes of one moment are told once
    this.outbox = new Outbox({
      limit: o.maxUnsent,
      base: o.backoffBase,
      backoffLimit: o.backoffLimit,
      changed: () => {
        if (told) return;
        told = true;
        queueMicrotask(() => {
          told = false;
          this.events.emit('unsent', { drafts: this.outbox.drafts() });
        });
      },
    });
    for (const c of o.cursors ?? []) {
      this.reader.order.start(c.thread, c.lastId);
      this.seen.set(c.thread, Math.max(this.seen.get(c.thread) ?? 0, c.lastId));
    }
  }

  get #hasPassword() {
    return this.#gate !== null && Boolean(this.o.email && this.o.password);
  }

  // Open and close

  async open(signal) {
    if (this.state !== 'idle') throw new TypeError('open was called already');
    const limit = new Limit('open', 0, signal);
    limit.hit.catch(() => this.#stop.abort());
    this.#setState('connecting');
    let login;
    try {
      login = await this.#login();
      if (!this.o.cursors) await limit.race(this.reader.beginNow(login.conn, this.seen));
      if (this.closing || limit.error) throw limit.error;
    } catch (err) {
      login?.conn.close(failure('Closed'));
      if (this.closing) throw failure('Closed', 'open');
      this.#stop = new AbortController();
      this.#setState('idle');
      if (err?.advice === 'login') this.#forget();
      throw limit.error ?? known(err, 'open');
    } finally {
      limit.end();
    }
    const { conn, resumed } = login;
    this.#attach(conn, resumed);
    this.seenData = conn.data;
    if (!this.o.cursors) {
      this.reader.data = conn.data;
    } else if (this.#dataChanged(conn)) {
      this.seenData = this.o.data; // until handlers have taken datareplaced
      this.#backlog.push({ name: 'datareplaced', thread: 0, lastId: 0 });
    }
    this.#listen(true);
    this.#running = this.#run(conn);
  }

  async close() {
    this.closing = true;
    this.events.stop();
    if (this.conn && this.receipts.waiting) await this.receipts.last(this.conn);
    this.#stop.abort();
    for (const end of [...this.#pauses]) end();
    this.conn?.close(failure('Closed'));
    if (this.#running) await this.#running;
    else this.#end(failure('Closed'));
  }

  /** Resolves when the session has ended. */
  ended() {
    return this.#running ?? Promise.resolve();
  }

  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.events.emit('state', { state });
  }

  // run keeps the session connected until it is closed or there is no point in going on. It never fails.
  async #run(conn) {
    let err;
    try {
      for (;;) {
        const began = Date.now();
        err = await this.reader.serve(conn).catch((e) => known(e, 'read'));
        this.conn = null;
        conn.close(this.closing ? failure('Closed') : err);
        this.outbox.detach();
        if (err.name === 'Replaced' && Date.now() - this.#unanswered < LATE_LOGIN) {
          err = failure('Network', 'session', 'replaced by an earlier login of this session, which was carried out after its last');
        }
        if (Date.now() - began > STEADY_AFTER) this.#attempt = 0;
        conn = await this.#reconnect(err);
      }
    } catch (e) {
      err = this.closing ? failure('Closed') : known(e, 'session');
    }
    this.#end(err);
  }

  // reconnect logs in again after err, as often as it takes. It throws if no attempt would help.
  async #reconnect(err) {
    for (; ; this.#attempt++) {
      if (this.closing) throw failure('Closed');
      if (err.advice === 'give up' || (err.advice === 'login' && !this.#hasPassword)) throw err;
      if (this.ticket && isURL(err.to)) this.ticket = { ...this.ticket, url: err.to };
      const spread = jitter(this.o.backoffBase, this.o.backoffLimit, this.#attempt);
      this.#hurry = false;
      this.#setState('offline');
      this.events.emit('disconnected', { error: err, retry: err.retryAfter + spread });
      await this.pause(err.retryAfter);
      if (!this.#hurry) {
        await this.pause(spread, (end) => {
          this.#nudge = end;
        });
        this.#nudge = null;
      }
      if (this.closing) continue;
      this.#setState('connecting');
      let login;
      try {
        login = await this.#login();
      } catch (e) {
        err = known(e, 'login');
        continue;
      }
      if (this.closing) {
        login.conn.close(failure('Closed'));
        continue;
      }
      this.#attempt++;
      this.#attach(login.conn, login.resumed);
      if (this.#dataChanged(login.conn)) this.#backlog.push({ name: 'datareplaced', thread: 0, lastId: 0 }); // before any text
      return login.conn;
    }
  }

  // login makes one attempt: with the ticket at its node and at the others known, then with the password at the gate.
  async #login() {
    let err = refusal('login', Code.TokenInvalid, { reason: 'no ticket, and no password to get one' });
    if (this.ticket) {
      const { ticket } = this;
      const known = this.#hasPassword ? [] : (ticket.nodes ?? []); // the gate knows better
      const more = new Set([...shuffled(this.o.nodes), ...shuffled(known)]);
      more.delete(ticket.url);
      for (const url of [ticket.url, ...more]) {
        try {
          return { conn: await this.#dial({ ...ticket, url }), resumed: Boolean(ticket.resume) };
        } catch (e) {
          err = e;
        }
        if (this.#stop.signal.aborted) throw err;
        if (err.advice === 'login') {
          this.ticket = null;
          break;
        }
        if (err.code && err.code !== Code.Draining) throw err; // a living node says wait, or never
      }
    }
    if (!this.#hasPassword) throw err;
    const { email, password, transport } = this.o;
    const ticket = await this.#gate.login(email, password, { transport, signal: this.#stop.signal });
    try {
      return { conn: await this.#dial(ticket), resumed: false };
    } catch (e) {
      // A fresh token refused: the stores behind the nodes are in trouble, not the user.
      throw e.advice === 'login' ? failure('Network', 'login', 'fresh token refused') : e;
    }
  }

  // dial connects, and follows a node that names another one.
  async #dial(ticket) {
    const { o } = this;
    for (let hop = 0; ; hop++) {
      try {
        return await Conn.dial(ticket.url, { ...o, ticket, signal: this.#stop.signal });
      } catch (err) {
        if (err.unanswered) this.#unanswered = Date.now();
        if (!isURL(err.to) || err.to === ticket.url || hop === MAX_HOPS) throw err;
        ticket = { ...ticket, url: err.to };
      }
    }
  }

  // attach makes conn the session's connection.
  #attach(conn, resumed) {
    // Another node, and those of before, are tried when this one does not answer: a page that was loaded again has no password to ask
    // the gate.
    const before = new Set([conn.other, this.last?.url, this.ticket?.url, ...(this.ticket?.nodes ?? [])]);
    before.delete(conn.url);
    const nodes = [...before].filter(isURL).slice(0, MAX_NODES);
    this.conn = this.last = conn;
    this.ticket = conn.resume ? { uid: conn.user.uid, resume: conn.resume, url: conn.url, nodes } : null;
    this.#store();
    this.reader.order.self = conn.user.uid;
    this.friends = new Map(conn.friends.map((f) => [f.uid, f]));
    this.applications = new Map(conn.applications.map((a) => [a.uid, a]));
    for (const w of this.#waiters) w.resolve(conn);
    this.#waiters.clear();
    this.outbox.attach(conn);
    this.#setState('online');
    this.events.emit('connected', { node: conn.node, resumed });
  }

  // dataChanged reports whether conn's server works on other data than the session so far; then all starts anew.
  #dataChanged(conn) {
    const before = this.reader.data;
    if (!conn.data || before === conn.data) return false;
    this.reader.data = conn.data;
    if (!before) {
      this.seenData = conn.data;
      return false;
    }
    this.reader.reset();
    this.receipts.clear(); // other threads have these ids now
    return true;
  }

  // end ends the session for good.
  #end(err) {
    if (this.error) return;
    this.error = err;
    this.#listen(false);
    this.outbox.end(err);
    for (const w of this.#waiters) w.reject(err);
    this.#waiters.clear();
    for (const end of [...this.#pauses]) end();
    if (err.name !== 'Closed') this.#forget();
    this.#setState('closed');
    this.events.emit('closed', { error: err });
  }

  // Where the ticket is kept. Storage that fails, or holds something else, is as if there were none.

  #stored() {
    try {
      const ticket = JSON.parse(this.o.storage?.getItem(this.o.storageKey) ?? 'null');
      return ticket?.uid > 0 && ticket.resume && isURL(ticket.url) ? ticket : null;
    } catch {
      return null;
    }
  }

  #store() {
    try {
      if (this.ticket) this.o.storage?.setItem(this.o.storageKey, JSON.stringify(this.ticket));
      this.kept = this.ticket?.resume;
    } catch {
      // It is full or forbidden: the next page logs in with the password.
    }
  }

  // forget removes the ticket, unless another session has put its own there.
  #forget() {
    try {
      const stored = this.#stored();
      if (stored && (!this.kept || stored.resume === this.kept)) this.o.storage.removeItem(this.o.storageKey);
    } catch {
      // as above
    }
  }

  // Waiting

  /** Waits some milliseconds, or until the session ends. `hook` gets a function that ends it early. */
  pause(ms, hook) {
    return new Promise((resolve) => {
      if (this.closing || this.error) {
        resolve();
        return;
      }
      const end = () => {
        clearTimeout(timer);
        this.#pauses.delete(end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#pauses.add(end);
      hook?.(end);
    });
  }

  reconnect() {
    this.#hurry = true;
    this.#nudge?.();
  }

  // listen follows what a browser says of its network and of the page.
  #listen(on) {
    const change = on ? 'addEventListener' : 'removeEventListener';
    globalThis[change]?.('online', this.#woken);
    globalThis[change]?.('offline', this.#woken);
    globalThis.document?.[change]?.('visibilitychange', this.#woken);
  }

  #woken = ({ type }) => {
    if (type === 'visibilitychange' && globalThis.document.visibilityState === 'hidden') return;
    if (type !== 'offline') this.reconnect();
    this.conn?.check(WAKE_CHECK);
  };

  /** The living connection, waiting for one. */
  connected(limit) {
    if (this.error) return Promise.reject(this.error);
    if (this.conn && !this.conn.err) return Promise.resolve(this.conn);
    if (this.#waiters.size >= MAX_WAITING) return Promise.reject(failure('QueueFull', limit?.op));
    return new Promise((resolve, reject) => {
      const waiter = { resolve, reject };
      this.#waiters.add(waiter);
      limit?.hit.catch(() => this.#waiters.delete(waiter));
    });
  }

  /**
   * Runs a request on the living connection, and again on the next one if that breaks under it. `request` gets the connection and the
   * bound.
   */
  async ask(op, signal, request, { once = false } = {}) {
    const limit = new Limit(op, this.o.requestTimeout, signal);
    try {
      for (;;) {
        const conn = await limit.race(this.connected(limit));
        try {
          return await limit.race(request(conn, limit));
        } catch (err) {
          if (!conn.err || limit.error || once) throw known(err, op);
        }
      }
    } catch (err) {
      throw err.op === op ? err : during(op, err);
    } finally {
      limit.end();
    }
  }

  // Events

  /** Gives an event to handlers, waiting for room. If conn ends meanwhile the event stays in the backlog. */
  hand(conn, event) {
    this.#backlog.push(event);
    return this.handOut(conn);
  }

  async handOut(conn) {
    while (this.#backlog.length > 0) {
      if (this.closing) throw failure('Closed');
      if (this.events.offer(this.#backlog[0])) {
        this.#backlog.shift();
        continue;
      }
      if (conn.err) throw conn.err;
      await Promise.race([this.events.room(), conn.ended]);
    }
  }

  /** Gives an event to handlers if there is room. */
  offer(event) {
    if (this.#backlog.length === 0) this.events.offer(event);
  }

  // taken notes that handlers are done with an event.
  #taken(event) {
    if (event.name === 'texts') {
      const lastId = event.messages.at(-1).id;
      this.seen.set(event.thread, lastId);
      const self = this.last.user.uid;
      if (event.messages.some((m) => m.kind === 'text' && m.sender !== self)) this.receipts.note(event.thread, 0, lastId);
    } else if (event.name === 'datareplaced') {
      if (event.thread === 0) {
        this.seen.clear();
        this.seenData = this.last.data;
      } else {
        this.seen.set(event.thread, event.lastId);
      }
    }
  }

  // Friends

  befriend(friend) {
    const alias = friend.alias || this.friends.get(friend.uid)?.alias || '';
    this.friends.set(friend.uid, { ...friend, alias });
    this.applications.delete(friend.uid);
  }

  applied(application) {
    this.applications.set(application.uid, application);
  }

  parted(uid) {
    this.friends.delete(uid);
    this.applications.delete(uid);
  }

  inFlight() {
    return this.outbox.inFlight;
  }

  watched() {
    return this.#watched;
  }

  watch(uids) {
    this.#watched = uids;
  }
}

function shuffled(list) {
  return list.map((v) => [Math.random(), v]).sort((a, b) => a[0] - b[0]).map(([, v]) => v);
}
