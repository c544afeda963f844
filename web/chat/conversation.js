// One conversation: its messages as far as they are loaded, what waits to be sent, marks, who is typing.

const SHOWN = new Set(['text', 'event']);

export class Conversation {
  constructor(me, thread) {
    this.me = me;
    this.id = thread.id;
    this.messages = []; // texts and events, ascending by id, without holes among those that exist
    this.loaded = false;
    this.loading = false;
    this.more = true; // there are older ones than the first
    this.firstLoaded = 0;
    this.pending = []; // {id, text, since, state, error}
    this.typing = new Map(); // uid -> timer
    this.readBy = new Map(); // uid -> id, of a group
    this.draft = '';
    this.seenTo = 0;
    this.last = null;
    this.lastId = 0;
    this.since = 0; // changes with every change: what is drawn from this conversation is drawn again
    this.read = this.peerRead = this.peerRecv = 0;
    this.arrived = []; // ids of texts by others, since the list was read
    this.unread = 0;
    this.update(thread);
  }

  /** Takes over what the server says of this conversation. Pushes may have told of more already. */
  update(t) {
    this.type = t.type || this.type;
    this.peer = t.peer || this.peer || 0;
    this.name = t.name || this.name || '';
    this.role = t.role;
    this.members = t.members;
    this.firstId = t.firstId;
    this.left = t.left;
    this.read = Math.max(this.read, t.read);
    this.peerRead = Math.max(this.peerRead, t.peerRead);
    this.peerRecv = Math.max(this.peerRecv, t.peerRecv);
    this.arrived = this.arrived.filter((id) => id > t.lastId);
    this.unread = t.lastId <= this.seenTo ? this.arrived.length : t.unread + this.arrived.length;
    this.lastId = Math.max(this.lastId, t.lastId);
    if (t.last && (!this.last || t.last.id >= this.last.id)) this.last = t.last;
    this.since++;
  }

  /** When something happened here last. */
  get when() {
    return Math.max(+(this.last?.time ?? 0), +(this.pending.at(-1)?.since ?? 0));
  }

  find(id) { return this.messages.find((m) => m.id === id); }

  /** Takes messages that were pushed. Returns the texts and events that are new. */
  add(messages) {
    const news = [];
    for (const m of messages) {
      if (m.id <= this.lastId && this.find(m.id)) continue;
      const fresh = m.id > this.lastId;
      this.lastId = Math.max(this.lastId, m.id);
      if (m.kind === 'recall' || m.kind === 'edit') this.change(m);
      if (!SHOWN.has(m.kind)) continue;
      this.wrote(m);
      if (this.loaded || this.loading) this.insert(m);
      if (!this.last || m.id >= this.last.id) this.last = m;
      if (m.kind === 'text' && m.sender === this.me) this.drop(m.uniqueId);
      if (!fresh) continue;
      news.push(m);
      this.stopTyping(m.sender);
      if (m.kind !== 'text') continue;
      if (m.sender === this.me) {
        this.unread = 0;
        this.arrived = [];
      } else {
        this.arrived.push(m.id);
        this.unread++;
      }
    }
    this.since++;
    return news;
  }

  insert(m) {
    let at = this.messages.length;
    while (at > 0 && this.messages[at - 1].id > m.id) at--;
    if (this.messages[at - 1]?.id === m.id) this.messages[at - 1] = m;
    else this.messages.splice(at, 0, m);
  }

  /** Adds a page of older messages. */
  prepend(messages, more) {
    for (const m of messages) {
      this.wrote(m);
      if (SHOWN.has(m.kind) && !m.hidden) this.insert(m);
    }
    for (const m of messages) if (m.kind === 'recall') this.change(m);
    if (messages.length) this.firstLoaded = Math.min(this.firstLoaded || Infinity, messages[0].id);
    this.more = more && messages.length > 0;
    this.since++;
  }

  /** A text was recalled or edited. */
  change(m) {
    for (const at of new Set([this.find(m.target), this.last?.id === m.target ? this.last : null])) {
      if (!at) continue;
      if (m.kind === 'recall' || (m.kind === 'edit' && !m.edited)) {
        at.recalled = true;
        at.text = '';
      } else {
        at.text = m.text;
        at.edited = m.edited;
      }
      at.changes = (at.changes ?? 0) + 1;
    }
    this.since++;
  }

  hide(ids) {
    this.messages = this.messages.filter((m) => !ids.includes(m.id));
    if (this.last && ids.includes(this.last.id)) this.last = this.messages.at(-1) ?? null;
    this.since++;
  }

  // ---- what waits to be sent

  await(p) {
    this.pending.push(p);
    this.since++;
  }

  drop(id) {
    this.pending = this.pending.filter((p) => p.id !== id);
    this.since++;
  }

  failed(id, error) {
    const p = this.pending.find((x) => x.id === id);
    if (p) Object.assign(p, { state: 'failed', error });
    this.since++;
  }

  /** The server has stored a text. It comes as a message too, before or after this. */
  stored(sent, text) {
    this.drop(sent.id);
    if (this.find(sent.messageId) || sent.messageId <= (this.last?.id ?? 0)) return;
    const m = {
      thread: this.id, id: sent.messageId, kind: 'text', sender: this.me, uniqueId: sent.id, text, type: '', time: sent.time,
      edited: null, recalled: false, hidden: false, target: 0, event: null,
    };
    if (this.loaded || this.loading) this.insert(m);
    this.last = m;
  }

  // ---- marks

  /** Marks that moved. Returns whether only the server can say what is unread now. */
  mark(marks) {
    let ask = false;
    for (const m of marks) {
      if (m.uid === this.me) {
        if (m.read > this.read) ask = this.unread > 0;
        this.read = Math.max(this.read, m.read);
        if (m.read >= this.lastId) {
          this.unread = 0;
          this.arrived = [];
          ask = false;
        }
      } else if (this.type === 'private') {
        this.peerRead = Math.max(this.peerRead, m.read);
        this.peerRecv = Math.max(this.peerRecv, m.recv, m.read);
      } else {
        this.readBy.set(m.uid, Math.max(this.readBy.get(m.uid) ?? 0, m.read));
      }
    }
    this.since++;
    return ask;
  }

  /** Who writes has read what was before. */
  wrote(m) {
    if (m.kind !== 'text' || m.sender === this.me) return;
    if (this.type === 'private') {
      this.peerRead = Math.max(this.peerRead, m.id);
      this.peerRecv = Math.max(this.peerRecv, m.id);
    } else {
      this.readBy.set(m.sender, Math.max(this.readBy.get(m.sender) ?? 0, m.id));
    }
  }

  /** How far an own text has come: 'sent', 'received' or 'read'. In a group, `count` members have read it. */
  tick(m) {
    if (this.type === 'private') {
      return { state: m.id <= this.peerRead ? 'read' : m.id <= this.peerRecv ? 'received' : 'sent', count: 0 };
    }
    let count = 0;
    for (const [uid, read] of this.readBy) if (uid !== this.me && read >= m.id) count++;
    return { state: count > 0 && count >= this.members - 1 ? 'read' : count > 0 ? 'received' : 'sent', count };
  }

  // ---- typing

  isTyping(uid, ms, over) {
    clearTimeout(this.typing.get(uid));
    this.typing.set(uid, setTimeout(() => {
      this.typing.delete(uid);
      this.since++;
      over();
    }, ms));
    this.since++;
  }

  stopTyping(uid) {
    for (const [who, timer] of this.typing) {
      if (uid !== undefined && who !== uid) continue;
      clearTimeout(timer);
      this.typing.delete(who);
      this.since++;
    }
  }
}
