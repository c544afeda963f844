// What a session does with what its connections bring: each message once and in order, holes filled from the history.

import { Code, failure, known } from './error.js';
import { Order } from './order.js';
import { history, sync, syncSince, threads, watch } from './requests.js';

const OWN_WAIT = 50; // before a hole is read while own texts are unanswered: the answer may be what is missing
const HOLE_BASE = 100; // after a page that did not fill a hole; doubled each time
const HOLE_LIMIT = 10000; // at most
const HOLE_TRIES = 4; // then the history's word counts: there is nothing
const GAP_SPREAD = 1000; // after the word that texts of any thread may be missing
const SYNC_CURSORS = 350; // cursors of the largest ids that fit a request

/** Something to be read at a time. */
class Due {
  tries = 0; // without an answer that filled it
  told = false; // by a gap notice: to be read although no later message shows that one is missing

  constructor(at = Infinity) {
    this.at = at;
  }

  /** Puts the next try off. */
  later(atLeast = 0) {
    this.at = Date.now() + Math.max(atLeast, Math.min(HOLE_BASE * 2 ** Math.min(this.tries, 10), HOLE_LIMIT));
    this.tries++;
  }
}

/**
 * Reader serves one connection after the other. Of `core` it uses hand() to give events to the program, inFlight(), watched(),
 * friends that come and go, and `closing`.
 */
export class Reader {
  order = new Order();
  data = ''; // id of the data that order is of; '' if not known
  #core;
  #syncEvery;
  #holes = new Map(); // thread -> Due
  #resync = new Due(); // of everything
  #again = new Due(); // of whom to watch, on this connection
  #caught = false; // everything has been read once on this connection
  #since = ''; // what the server gave for the last time that was done
  #whole = Infinity; // when all threads are to be looked at again, whatever since finds

  constructor(core, syncEvery) {
    this.#core = core;
    this.#syncEvery = syncEvery;
  }

  /** Begins at the present: the newest message of every thread is the one that was seen last. */
  async beginNow(conn, seen) {
    let after = 0;
    do {
      const page = await threads(conn, after);
      for (const t of page.list) {
        this.order.start(t.id, t.lastId);
        seen.set(t.id, t.lastId);
      }
      after = page.next;
    } while (after > 0);
  }

  /** Forgets everything: the server works on other data. */
  reset() {
    this.order = new Order(this.order.self);
    this.#since = '';
  }

  /** Hands on what conn brings. It ends by throwing why the connection has ended. */
  async serve(conn) {
    this.#holes = new Map();
    this.#resync = new Due(0);
    this.#again = new Due(0);
    this.#caught = false;
    await this.#core.handOut(conn);
    for (;;) {
      const due = this.#earliest();
      if (due <= Date.now()) {
        await this.#fetch(conn);
        continue;
      }
      const event = await conn.inbox.next(due);
      if (event) await this.#handle(conn, event);
    }
  }

  #earliest() {
    let at = Math.min(this.#resync.at, this.#again.at);
    for (const h of this.#holes.values()) at = Math.min(at, h.at);
    return at;
  }

  async #handle(conn, event) {
    const core = this.#core;
    switch (event.name) {
      case 'texts':
        await this.#pushed(conn, event.thread, event.messages);
        return;
      case 'gap':
        if (event.thread === 0) {
          // Many sessions of the node are told at the same time.
          this.#resync.at = Math.min(this.#resync.at, Date.now() + Math.random() * GAP_SPREAD);
        } else {
          this.#noteHole(event.thread, 0).told = true;
        }
        return;
      case 'stored':
        this.order.expect(event.thread, event.id);
        if (this.order.hole(event.thread)) this.#noteHole(event.thread, OWN_WAIT); // its push may be under way
        return;
      case 'applied':
        core.applied(event.application);
        break;
      case 'approved':
        core.befriend({ ...event.friend, alias: '' });
        await core.hand(conn, event);
        if (event.messages.length > 0) await this.#pushed(conn, event.messages[0].thread, event.messages);
        return;
      case 'friendschanged':
        if (event.change === 'unfriend' || event.change === 'block') core.parted(event.uid);
        break;
      case 'typing':
        core.offer(event); // without room it is worth nothing later
        return;
    }
    await core.hand(conn, event);
  }

  // pushed takes messages that came by themselves.
  async #pushed(conn, thread, messages) {
    const ready = this.order.push(thread, messages);
    if (this.order.hole(thread)) this.#noteHole(thread, this.#core.inFlight() ? OWN_WAIT : 0);
    else if (this.#holes.get(thread)?.told === false) this.#holes.delete(thread);
    await this.#handTexts(conn, thread, ready);
  }

  // noteHole has the thread's history read after a while, unless that is planned already.
  #noteHole(thread, wait) {
    let hole = this.#holes.get(thread);
    if (!hole) {
      hole = new Due(Date.now() + wait);
      this.#holes.set(thread, hole);
    }
    return hole;
  }

  async #handTexts(conn, thread, messages) {
    if (messages.length > 0) await this.#core.hand(conn, { name: 'texts', thread, messages });
  }

  // attempt runs what reads from conn. It returns the error of a refusal, which puts it off, and throws if the connection, or the
  // session, has ended.
  async #attempt(conn, read) {
    try {
      await read();
      return null;
    } catch (err) {
      if (this.#core.closing) throw failure('Closed');
      if (conn.err) throw conn.err;
      return known(err, 'read');
    }
  }

  // fetch reads what is due.
  async #fetch(conn) {
    const now = Date.now();
    if (this.#resync.at <= now) {
      const err = await this.#attempt(conn, () => this.#catchUp(conn));
      if (err) {
        this.#resync.later(err.retryAfter);
      } else {
        this.#resync = new Due(this.#whole);
        if (!this.#caught) {
          this.#caught = true;
          await this.#core.hand(conn, { name: 'caughtup' });
        }
      }
    }
    if (this.#again.at <= now) {
      const err = await this.#attempt(conn, () => this.#rewatch(conn));
      if (err) this.#again.later(err.retryAfter);
      else this.#again = new Due();
    }
    for (const [thread, hole] of [...this.#holes]) {
      if (now < hole.at) continue;
      const err = await this.#attempt(conn, () => this.#pull(conn, thread));
      if (err) {
        hole.later(err.retryAfter);
      } else if (!this.order.hole(thread)) {
        this.#holes.delete(thread);
      } else if (hole.tries < HOLE_TRIES) {
        hole.later();
      } else {
        this.#holes.delete(thread);
        await this.#handTexts(conn, thread, this.order.skip(thread));
      }
    }
  }

  // rewatch watches on a new connection whom the one before did.
  async #rewatch(conn) {
    const uids = this.#core.watched();
    if (uids.length === 0) return;
    try {
      await watch(conn, uids);
    } catch (err) {
      const never = err.name === 'Unsupported' || err.code === Code.BadRequest || err.code === Code.NotAllowed;
      if (!never) throw err;
    }
  }

  // pull reads the thread's history from its cursor to its end.
  async #pull(conn, thread) {
    for (let more = true; more; ) {
      const page = await history(conn, thread, this.order.cursor(thread));
      await this.#handTexts(conn, thread, this.order.page(thread, page.messages, page.next));
      more = page.more;
    }
  }

  // catchUp reads what was stored while we were away: of the threads that have changed since it was last done, if the server can
  // tell, and now and then of all.
  async #catchUp(conn) {
    if (this.#since && Date.now() < this.#whole) {
      await this.#readSince(conn);
      if (this.#since) return;
    }
    this.#since = await this.#catchUpAll(conn);
    const every = this.#syncEvery;
    this.#whole = every > 0 ? Date.now() + every * (0.5 + Math.random()) : Infinity;
  }

  // readSince empties since if the server has no use for it.
  async #readSince(conn) {
    for (let more = true; more; ) {
      const reply = await syncSince(conn, this.#since, this.order.latest());
      for (const page of reply.pages) await this.#changed(conn, page);
      if (reply.more && reply.since === this.#since) throw failure('Protocol', 'sync');
      this.#since = reply.since;
      more = reply.more && reply.since !== '';
    }
  }

  // changed takes a page of a thread that need not begin at the cursor.
  async #changed(conn, page) {
    const { thread } = page;
    if (!page.more && page.next < this.order.cursor(thread)) {
      await this.#setBack(conn, thread, page.next);
      return;
    }
    this.order.expect(thread, page.next);
    await this.#handTexts(conn, thread, this.order.push(thread, page.messages));
    if (page.more || this.order.hole(thread)) await this.#pull(conn, thread);
  }

  // catchUpAll reads what was stored beyond the cursors of all threads: by one request as a rule, thread by thread if there are
  // very many or the server cannot. It returns what the server gave for the moment before that.
  async #catchUpAll(conn) {
    if (this.order.threads.size <= SYNC_CURSORS) {
      try {
        return await this.#sync(conn);
      } catch (err) {
        const later = err.code === Code.Busy || err.code === Code.Unavailable || err.code === Code.RateLimited;
        if (later || conn.err || this.#core.closing) throw err;
      }
    }
    let since = '';
    const err = await this.#attempt(conn, async () => {
      since = (await sync(conn, [], false)).since;
    });
    if (err) since = '';
    let after = 0;
    do {
      const page = await threads(conn, after);
      for (const t of page.list) {
        if (t.lastId < this.order.cursor(t.id)) await this.#setBack(conn, t.id, t.lastId);
        this.order.expect(t.id, t.lastId);
        if (this.order.hole(t.id)) await this.#pull(conn, t.id);
      }
      after = page.next;
    } while (after > 0);
    return since;
  }

  // sync reads what lies beyond the cursors, and returns what the server gave for the moment of the first request.
  async #sync(conn) {
    let since = null;
    for (;;) {
      const reply = await sync(conn, this.order.cursors(), true);
      since ??= reply.since;
      let moved = false;
      for (const page of reply.pages) {
        const before = this.order.cursor(page.thread);
        if (page.next < before) {
          await this.#setBack(conn, page.thread, page.next);
          moved = true;
          continue;
        }
        const ready = this.order.page(page.thread, page.messages, page.next);
        moved ||= this.order.cursor(page.thread) > before;
        await this.#handTexts(conn, page.thread, ready);
      }
      if (!reply.more) return since;
      if (!moved) throw failure('Protocol', 'sync', 'the cursors stand still');
    }
  }

  // setBack deals with a thread that ends before what of it was handed on.
  async #setBack(conn, thread, last) {
    this.order.setBack(thread, last);
    await this.#core.hand(conn, { name: 'datareplaced', thread, lastId: last });
    await this.#pull(conn, thread);
  }
}
