// The read marks of a session on their way to the server.

import { Code } from './error.js';
import { Limit } from './limit.js';
import { mark } from './requests.js';

const EVERY = 1000; // between two marks of one thread
const PAUSE = 100; // between two marks, so that other requests have room
const LAST = 32; // marks sent at once when the session is closed; the next session makes the rest again
const LAST_WAIT = 1000; // for these
const MAX_THREADS = 4096; // that wait for a mark. What is beyond is marked with the next message.

const later = new Set([Code.Busy, Code.Unavailable, Code.RateLimited]);

/** Receipts sends the newest mark of each thread. `core` has connected() and pause(). */
export class Receipts {
  #core;
  #wait = new Map();
  #round = new Map(); // taken out of #wait; #run sends these, then pauses
  #running = false;

  constructor(core) {
    this.#core = core;
  }

  /** Has a mark sent; 0 says nothing. */
  note(thread, read, recv) {
    const m = this.#wait.get(thread);
    if (!m && this.#wait.size >= MAX_THREADS) return;
    this.#wait.set(thread, { read: Math.max(m?.read ?? 0, read), recv: Math.max(m?.recv ?? 0, recv) });
    if (!this.#running) {
      this.#running = true;
      this.#run().then(() => {
        this.#running = false;
      });
    }
  }

  /** Forgets what waits. */
  clear() {
    this.#wait.clear();
    this.#round.clear();
  }

  get waiting() {
    return this.#wait.size + this.#round.size > 0;
  }

  /** Sends what waits at once, up to LAST marks. It never fails. */
  async last(conn) {
    for (const [thread, { read, recv }] of this.#round) this.note(thread, read, recv);
    const rest = [...this.#wait].slice(0, LAST);
    this.clear();
    const limit = new Limit('mark', LAST_WAIT);
    await Promise.allSettled(rest.map(([thread, { read, recv }]) => mark(conn, thread, read, recv, limit)));
    limit.end();
  }

  async #run() {
    await this.#core.pause(0); // what is noted in the same moment goes together
    while (this.#wait.size > 0) {
      this.#round = this.#wait;
      this.#wait = new Map();
      for (const [thread, { read, recv }] of this.#round) {
        this.#round.delete(thread);
        let conn;
        try {
          conn = await this.#core.connected();
        } catch {
          this.clear();
          return; // the session has ended
        }
        let retryAfter = 0;
        try {
          await mark(conn, thread, read, recv);
        } catch (err) {
          retryAfter = err.retryAfter;
          if (later.has(err.code) || conn.err) this.note(thread, read, recv);
        }
        await this.#core.pause(Math.max(PAUSE, retryAfter));
      }
      await this.#core.pause(EVERY);
    }
  }
}
