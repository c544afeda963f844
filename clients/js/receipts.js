// The read marks of a session on their way to the server.

import { Code } from './error.js';
import { mark } from './requests.js';

const EVERY = 1000; // between two marks of one thread
const PAUSE = 100; // between two marks, so that other requests have room
const MAX_THREADS = 4096; // that wait for a mark. What is beyond is marked with the next message.

const later = new Set([Code.Busy, Code.Unavailable, Code.RateLimited]);

/** Receipts sends the newest mark of each thread. `core` has connected() and pause(). */
export class Receipts {
  #core;
  #wait = new Map();
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
  }

  async #run() {
    await this.#core.pause(0); // what is noted in the same moment goes together
    while (this.#wait.size > 0) {
      const wait = this.#wait;
      this.#wait = new Map();
      for (const [thread, { read, recv }] of wait) {
        let conn;
        try {
          conn = await this.#core.connected();
        } catch {
          this.#wait.clear();
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
