// What the page knows: the user, people, conversations, the connection. It turns the session's events into state and tells views
// which part has changed; it touches no element.

import { newId } from './client/parley.js';
import { Conversation } from './conversation.js';

const TYPING_MS = 5500;
const LOOKUPS = 50; // users by uid alone, who are looked up

export class Model {
  constructor(session, kept) {
    this.session = session;
    this.kept = kept;
    this.conversations = new Map();
    this.known = new Map(); // uid -> profile
    this.presence = new Map();
    this.loaded = false; // the list of conversations
    this.connection = { state: 'connecting', retryAt: 0, error: null };
    this.openId = 0;
    this.looking = new Set();
    this.keptSent = false; // what was kept has been taken over, and may be overwritten
    this.listeners = new Set();
    this.listen();
  }

  // ---- telling views

  /** Adds a function that is called with what has changed: 'list', 'people', 'connection', 'closed', or 'thread' and its id. */
  on(f) {
    this.listeners.add(f);
    return () => this.listeners.delete(f);
  }

  changed(what, id = 0, detail = null) {
    for (const f of [...this.listeners]) f(what, id, detail);
  }

  // ---- the session's events

  listen() {
    const s = this.session;
    s.on('state', ({ state }) => {
      this.connection.state = state;
      this.changed('connection');
    });
    s.on('connected', () => {
      this.connection = { state: 'online', retryAt: 0, error: null };
      this.learn([s.user, ...s.friends, ...s.applications]);
      this.changed('connection');
      this.peopleChanged();
    });
    s.on('disconnected', ({ error, retry }) => {
      this.connection = { state: 'offline', retryAt: Date.now() + retry, error };
      for (const c of this.conversations.values()) c.stopTyping();
      this.presence.clear();
      this.changed('connection');
      this.changed('people');
    });
    s.on('closed', ({ error }) => this.changed('closed', 0, error));
    s.on('caughtup', () => { if (this.loaded) return this.refresh(); });
    s.on('texts', ({ thread, messages }) => this.texts(thread, messages));
    s.on('applied', ({ application }) => {
      this.learn([application]);
      this.changed('people');
      this.changed('applied', application.uid, application);
    });
    s.on('approved', ({ friend }) => {
      this.learn([friend]);
      this.peopleChanged();
      this.changed('approved', friend.uid, friend);
    });
    s.on('friendschanged', () => this.peopleChanged());
    s.on('marks', ({ thread, marks }) => this.marks(thread, marks));
    s.on('hidden', ({ thread, ids }) => this.with(thread, (c) => c.hide(ids)));
    s.on('online', ({ states }) => {
      for (const p of states) this.presence.set(p.uid, p);
      this.changed('people');
    });
    s.on('typing', ({ thread, uid }) => this.with(thread, (c) => c.isTyping(uid, TYPING_MS, () => this.changed('thread', thread))));
    s.on('unsent', ({ drafts }) => this.unsent(drafts));
    s.on('datareplaced', () => this.changed('closed', 0, { name: 'DataReplaced' }));
  }

  with(id, f) {
    const c = this.conversations.get(id);
    if (!c) return;
    f(c);
    this.changed('thread', id);
  }

  texts(id, messages) {
    let c = this.conversations.get(id);
    if (!c) {
      // A new conversation, or one of a list that is not there yet. What kind it is only the server says.
      c = new Conversation(this.me, { id, type: '', peer: 0, lastId: messages[0].id - 1, unread: 0, read: 0, recv: 0, peerRead: 0, peerRecv: 0, name: '', role: 'member', members: 0, firstId: 0, left: 0 });
      this.conversations.set(id, c);
      this.refreshSoon();
    }
    const news = c.add(messages);
    if (messages.some((m) => m.kind === 'event')) this.refreshSoon();
    for (const m of news) this.changed('news', id, m);
    this.changed('thread', id);
  }

  marks(id, marks) {
    this.with(id, (c) => {
      if (c.mark(marks)) this.refreshSoon();
    });
  }

  unsent(drafts) {
    const states = new Map(drafts.map((d) => [d.id, d.state]));
    for (const c of this.conversations.values()) {
      let moved = false;
      for (const p of c.pending) {
        const state = states.get(p.id);
        if (state && p.state !== state && p.state !== 'failed') {
          p.state = state;
          moved = true;
        }
      }
      if (moved) this.changed('thread', c.id);
    }
    this.keepUnsent();
    this.changed('connection'); // it says how many wait
  }

  keepUnsent() {
    if (!this.keptSent) return;
    const drafts = [...this.conversations.values()].flatMap((c) => c.pending.map((p) => ({ id: p.id, thread: c.id, text: p.text, since: +p.since })));
    this.kept.unsent = { uid: this.me, drafts };
  }

  // ---- people

  get me() { return this.session.user?.uid ?? 0; }

  learn(profiles) {
    for (const p of profiles) if (p) this.known.set(p.uid, p);
  }

  friend(uid) { return this.session.friends.find((f) => f.uid === uid) ?? null; }

  /** What is known of a user's presence; undefined while the connection is not there to tell. */
  presenceOf(uid) {
    return this.connection.state === 'online' && navigator.onLine !== false ? this.presence.get(uid) : undefined;
  }

  /** The name under which the page shows a user. */
  name(uid) {
    const p = this.known.get(uid);
    if (p) return p.alias || p.nick || p.name;
    if (uid > 0 && !this.looking.has(uid) && this.looking.size < LOOKUPS) {
      this.looking.add(uid);
      this.session.search(String(uid)).then((found) => {
        if (found.uid !== uid) return;
        this.learn([found]);
        this.changed('people');
      }).catch(() => {});
    }
    return `#${uid}`;
  }

  /** Friends have changed: whom to watch, and what may be written, has too. */
  peopleChanged() {
    this.learn(this.session.friends);
    this.changed('people');
    const uids = this.session.friends.slice(0, 500).map((f) => f.uid);
    if (this.session.granted('presence')) this.session.watch(uids).catch(() => {});
    this.refreshSoon();
  }

  // ---- conversations

  /** Reads the list of conversations, with the newest text of each. */
  async refresh() {
    const threads = await this.session.threads({ last: true });
    for (const t of threads) {
      const c = this.conversations.get(t.id);
      if (c) c.update(t);
      else this.conversations.set(t.id, new Conversation(this.me, t));
    }
    this.loaded = true;
    this.changed('list');
  }

  refreshSoon() {
    if (!this.loaded || this.soon) return;
    this.soon = setTimeout(() => {
      this.soon = 0;
      this.refresh().catch(() => {});
    }, 150);
  }

  /** Sends what this tab, or this user before signing in again, had not sent. */
  sendKept() {
    const { uid, drafts } = this.kept.unsent;
    for (const d of uid === this.me ? drafts : []) {
      const c = this.conversations.get(d.thread);
      if (c) this.post(c, d.id, d.text, new Date(d.since));
    }
    this.keptSent = true;
    this.keepUnsent();
  }

  /** The conversations to list, newest first. */
  list() {
    return [...this.conversations.values()]
      .filter((c) => c.type && (c.lastId > 0 || c.type === 'group' || this.friend(c.peer)))
      .sort((a, b) => b.when - a.when || b.id - a.id);
  }

  title(c) { return c.type === 'group' ? c.name : this.name(c.peer); }

  unread() {
    let n = 0;
    for (const c of this.conversations.values()) n += c.unread;
    return n;
  }

  /** How many texts are not stored yet. */
  waiting() {
    let n = 0;
    for (const c of this.conversations.values()) n += c.pending.length;
    return n;
  }

  /** Since when the oldest of them waits; Infinity if none does. */
  waitingSince() {
    let at = Infinity;
    for (const c of this.conversations.values()) for (const p of c.pending) if (p.state !== 'failed') at = Math.min(at, p.since);
    return at;
  }

  /** The conversation with a friend. */
  async withFriend(uid) {
    for (const c of this.conversations.values()) if (c.type === 'private' && c.peer === uid) return c;
    const id = await this.session.openThread(uid);
    let c = this.conversations.get(id);
    if (!c) {
      await this.refresh();
      c = this.conversations.get(id);
    }
    return c;
  }

  /** Reads the newest texts of a conversation that is opened for the first time. */
  async load(c) {
    if (c.loading || c.loaded) return;
    c.loading = true;
    c.error = null;
    this.changed('thread', c.id);
    try {
      const page = await this.session.history(c.id, { limit: 60 });
      c.prepend(page.messages, page.more);
      c.loaded = true;
      if (c.type === 'group') this.session.marks(c.id).then((marks) => this.marks(c.id, marks)).catch(() => {});
    } catch (error) {
      c.error = error;
    } finally {
      c.loading = false;
      this.changed('thread', c.id);
    }
  }

  /** Reads older texts. */
  older(c) {
    if (!c.more || !c.loaded) return Promise.resolve();
    c.reading ??= this.#readOlder(c).finally(() => { c.reading = null; });
    return c.reading;
  }

  async #readOlder(c) {
    c.loading = true;
    this.changed('thread', c.id);
    try {
      const page = await this.session.history(c.id, { before: c.firstLoaded, limit: 60 });
      c.prepend(page.messages, page.more);
    } finally {
      c.loading = false;
      this.changed('thread', c.id);
    }
  }

  /** The user has seen everything in the conversation. */
  seen(c) {
    const id = c.lastId;
    if (id <= c.seenTo) return;
    c.seenTo = id;
    const had = c.unread > 0;
    c.unread = 0;
    this.session.markRead(c.id, id);
    if (had) this.changed('thread', c.id);
  }

  send(c, text) { this.post(c, newId(), text, new Date()); }

  post(c, id, text, since) {
    c.await({ id, text, since, state: 'waiting', error: null });
    this.changed('thread', c.id);
    this.session.send(c.id, text, { id }).then((sent) => {
      c.stored(sent, text);
    }).catch((error) => {
      if (['Closed', 'Replaced', 'LoggedOut'].includes(error.name)) return; // it stays for the next session
      c.failed(id, error);
    }).finally(() => {
      this.keepUnsent();
      this.changed('thread', c.id);
    });
    this.keepUnsent();
  }

  retry(c, p) {
    c.drop(p.id);
    this.post(c, p.id, p.text, p.since);
  }

  discard(c, p) {
    c.drop(p.id);
    this.keepUnsent();
    this.changed('thread', c.id);
  }

  /** May the user write here? 'yes', or why not. */
  async mayWrite(c) {
    if (c.type === 'private') return this.friend(c.peer) ? 'yes' : 'notFriends';
    if (c.left) return 'former';
    const g = await this.session.group(c.id);
    c.group = g;
    if (g.dissolved) return 'dissolved';
    if (g.role === 'member' && g.muteAll) return 'muteAll';
    if (g.mutedUntil && g.mutedUntil > new Date()) return 'muted';
    return 'yes';
  }
}
