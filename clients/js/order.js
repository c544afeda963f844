// The one order of the messages of each thread, without holes and without repeats.

// MAX_AHEAD bounds the messages kept of a thread while what comes before them is fetched. What is beyond is fetched too.
const MAX_AHEAD = 256;

// MAX_BACK is how many messages at the end of a thread that was set back are looked at for new ones.
const MAX_BACK = 1000;

/**
 * Order puts messages in order. They come as pushes, which may be early, late, repeated or missing, and as pages of the history, which
 * say what there is. It is plain state: no connection, no time.
 *
 * In a group the messages that the user may read begin with the event that admits it and end with the event that parts it from the
 * group; a page says where they begin.
 */
export class Order {
  constructor(self = 0) {
    this.self = self;
    this.threads = new Map();
  }

  #at(thread) {
    let p = this.threads.get(thread);
    if (!p) {
      p = {
        cursor: 0, // everything up to here has been handed on
        highest: 0, // the highest id heard of; above cursor means that something is missing
        ahead: new Map(),
        newest: -Infinity, // when the newest message that was handed on was stored
        back: 0, // up to here messages no newer than that have been handed on already
        admitted: 0, // the newest event heard of that admits the user to the group
        parted: 0, // the newest event handed on that parts the user from it
      };
      this.threads.set(thread, p);
    }
    return p;
  }

  /** Says that everything of the thread up to id is known. */
  start(thread, id) {
    const p = this.#at(thread);
    p.cursor = Math.max(p.cursor, id);
    p.highest = Math.max(p.highest, id);
  }

  /** Says that the thread holds messages up to id. */
  expect(thread, id) {
    const p = this.#at(thread);
    p.highest = Math.max(p.highest, id);
  }

  /** Takes messages as they arrive and returns those that are next, in order. */
  push(thread, messages) {
    const p = this.#at(thread);
    const ready = [];
    for (const m of messages) {
      this.#hear(p, m);
      if (p.parted > p.admitted && m.id > p.parted) continue; // not for this user
      p.highest = Math.max(p.highest, m.id);
      if (m.id === p.cursor + 1) {
        p.cursor++;
        this.#handOn(p, ready, m);
        this.#drain(p, ready);
      } else if (m.id > p.cursor && p.ahead.size < MAX_AHEAD) {
        p.ahead.set(m.id, m);
      }
    }
    return ready;
  }

  /**
   * Takes a part of the history that begins right after the cursor and returns what is new in it, in order. An id that the history
   * leaves out does not exist.
   */
  page(thread, messages, next) {
    const p = this.#at(thread);
    const ready = [];
    for (const m of messages) {
      this.#hear(p, m);
      if (m.id > p.cursor) {
        p.cursor = m.id;
        this.#handOn(p, ready, m);
      }
    }
    p.cursor = Math.max(p.cursor, next);
    p.highest = Math.max(p.highest, p.cursor);
    this.#drain(p, ready);
    return ready;
  }

  // hear notes that the user was admitted to a group.
  #hear(p, m) {
    if (m.event && m.id > p.admitted && admits(m.event, this.self)) p.admitted = m.id;
  }

  // drain appends what was kept and is next now, and forgets what is known by now.
  #drain(p, ready) {
    for (let m; (m = p.ahead.get(p.cursor + 1)); ) {
      p.ahead.delete(m.id);
      p.cursor++;
      this.#handOn(p, ready, m);
    }
    if (p.parted > p.admitted) {
      p.ahead.clear();
      p.highest = p.cursor;
    }
    for (const id of p.ahead.keys()) {
      if (id <= p.cursor) p.ahead.delete(id);
    }
  }

  /**
   * Gives up on what is missing and returns what was kept, in order: for a history that does not hold what was pushed, or what was
   * said to be there.
   */
  skip(thread) {
    const p = this.#at(thread);
    const ready = [];
    for (const m of [...p.ahead.values()].sort((a, b) => a.id - b.id)) {
      if (p.parted > p.admitted) break;
      p.cursor = m.id;
      this.#handOn(p, ready, m);
    }
    p.ahead.clear();
    p.highest = p.cursor;
    return ready;
  }

  // handOn appends a message that is next, unless it was handed on before the thread was set back.
  #handOn(p, ready, m) {
    if (m.event && parts(m.event, this.self)) p.parted = m.id;
    const time = m.time.getTime();
    if (m.id <= p.back && time <= p.newest) return;
    p.newest = Math.max(p.newest, time);
    ready.push(m);
  }

  /**
   * Says that the thread ends at last, before the cursor, because an older backup was restored. What was stored since may be among
   * its last messages; the time tells.
   */
  setBack(thread, last) {
    const p = this.#at(thread);
    p.cursor = p.highest = p.back = last;
    p.ahead.clear();
    p.admitted = p.parted = 0;
    if (p.newest > -Infinity) p.cursor = Math.max(0, last - MAX_BACK);
  }

  /** Returns up to where the thread has been handed on. */
  cursor(thread) {
    return this.#at(thread).cursor;
  }

  /** Whether something of the thread is known to be missing. */
  hole(thread) {
    const p = this.#at(thread);
    return p.highest > p.cursor;
  }

  /** The cursor of the thread of which the newest message was handed on, or null. */
  latest() {
    let found = null;
    let newest = -Infinity;
    for (const [thread, p] of this.threads) {
      if (p.newest > newest) {
        newest = p.newest;
        found = { thread, lastId: p.cursor };
      }
    }
    return found;
  }

  /** All cursors. */
  cursors() {
    return [...this.threads].map(([thread, p]) => ({ thread, lastId: p.cursor }));
  }
}

// admits reports whether the event makes the user a member.
function admits(e, uid) {
  if (e.what === 'created' || e.what === 'joined') return e.by === uid || e.uids.includes(uid);
  return e.what === 'invited' && e.uids.includes(uid);
}

// parts reports whether the user is no member after the event.
function parts(e, uid) {
  if (e.what === 'left') return e.by === uid;
  if (e.what === 'removed') return e.uids.includes(uid);
  return e.what === 'dissolved';
}
