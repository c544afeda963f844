// The texts of a session until they are answered, across connections.

import { jitter } from './backoff.js';
import { Code, during, failure } from './error.js';
import { byteLength, MAX_BODY } from './wire.js';

export const MAX_TEXT = 4096;

const MAX_ID = 64;
const REQUEST_COST = 96; // bounds a 1017 beside its elements, in bytes
const MAX_INTERNAL = 5; // how often a text is sent again after "internal error": the fault may lie in this very text
// MAX_PAUSE bounds the wait after a refusal, unless the server asks for more: somebody waits for the text.
const MAX_PAUSE = 5000;

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** Returns a unique id: 130 random bits. */
export function newId() {
  const random = new Uint8Array(26);
  if (globalThis.crypto?.getRandomValues) globalThis.crypto.getRandomValues(random);
  else random.forEach((_, i) => (random[i] = Math.random() * 256)); // Node 18: ids must differ, not be secret
  return Array.from(random, (b) => ALPHABET[b % 32]).join('');
}

export const textLength = byteLength;

const wellFormed = (s) => typeof s === 'string' && !/\p{Surrogate}/u.test(s);

function targetOf(to) {
  const target = typeof to === 'number' ? { thread: to } : { ...to };
  const [key, ...others] = Object.keys(target);
  const id = target[key];
  if ((key !== 'thread' && key !== 'user') || others.length > 0 || !Number.isInteger(id) || id < 1) {
    throw new TypeError('a text goes to a thread id, { thread } or { user }');
  }
  return target;
}

/**
 * Outbox has a lane for each destination with at most one request in flight, so that a text refused for a moment is not overtaken by
 * the next; what waits meanwhile shares the next request.
 */
export class Outbox {
  #conn = null;
  #lanes = new Map();
  #waiting = new Map(); // unique id -> text
  #starved = []; // lanes that found the window full
  #ended = null;
  #idle = []; // resolve functions of flush

  constructor({ limit, base, backoffLimit, changed }) {
    this.limit = limit;
    this.base = base;
    this.backoffLimit = Math.min(backoffLimit, MAX_PAUSE);
    this.changed = changed;
  }

  /** Queues a text. The promise resolves once it is stored. */
  send(to, text, { id = newId(), type = '', signal } = {}) {
    const target = targetOf(to);
    if (!wellFormed(text) || text === '' || text.includes('\0') || byteLength(text) > MAX_TEXT) throw failure('InvalidText', 'send');
    if (!wellFormed(id) || id === '' || byteLength(id) > MAX_ID) throw new TypeError('a unique id has 1 to 64 bytes of UTF-8');
    if (type !== '' && !/^[a-z0-9./+-]{1,32}$/.test(type)) throw new TypeError('a type has 1 to 32 of [a-z0-9./+-]');
    const element = JSON.stringify(type ? { content: text, unique_id: id, type } : { content: text, unique_id: id });
    const bytes = byteLength(element) + 1;
    // Control characters are escaped, six bytes for one.
    if (bytes + REQUEST_COST > MAX_BODY) throw failure('InvalidText', 'send');
    if (this.#ended) throw during('send', this.#ended);
    if (signal?.aborted) throw failure('Aborted', 'send');
    if (this.#waiting.has(id)) throw failure('InFlight', 'send');
    if (this.#waiting.size >= this.limit) throw failure('QueueFull', 'send');

    const key = `${target.user ?? ''}:${target.thread ?? ''}`;
    let lane = this.#lanes.get(key);
    if (!lane) {
      lane = { key, to: target, queue: [], flying: [], pause: undefined, fails: 0, starved: false };
      this.#lanes.set(key, lane);
    }
    return new Promise((resolve, reject) => {
      const p = { id, to: target, text, type, since: new Date(), element, bytes, fails: 0, gone: false, resolve, reject, lane };
      p.settle = () => {
        signal?.removeEventListener('abort', p.abort);
        this.#waiting.delete(id);
      };
      p.abort = () => this.#drop(p);
      signal?.addEventListener('abort', p.abort);
      this.#waiting.set(id, p);
      lane.queue.push(p);
      this.#pump(lane);
      this.changed();
    });
  }

  // drop says that no caller waits for p any more: it is not sent again, and not at all if it was not sent yet.
  #drop(p) {
    p.gone = true;
    p.reject(failure('Aborted', 'send'));
    const at = p.lane.queue.indexOf(p);
    if (at < 0) return;
    p.lane.queue.splice(at, 1);
    this.#settled(p);
    this.#tidy(p.lane);
  }

  #settled(p) {
    p.settle();
    this.changed();
    if (this.#waiting.size > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Lets everything that waits go out over a connection. */
  attach(conn) {
    this.#conn = conn;
    this.#starved = [];
    for (const lane of this.#lanes.values()) {
      lane.starved = false;
      this.#pump(lane);
    }
    this.changed();
  }

  /** Takes the connection away. It has ended, so that everything in flight is back in its lane. */
  detach() {
    this.#conn = null;
    this.changed();
  }

  /** Answers everything with err, now and later. */
  end(err) {
    this.#conn = null;
    this.#ended = err;
    for (const lane of this.#lanes.values()) clearTimeout(lane.pause);
    this.#lanes.clear();
    for (const p of [...this.#waiting.values()]) {
      this.#settled(p);
      p.reject(during('send', err));
    }
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Resolves when nothing waits. */
  flushed() {
    if (this.#waiting.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Whether the answer to some text is outstanding. */
  get inFlight() {
    return this.#conn !== null && this.#waiting.size > 0;
  }

  /** The texts that are not answered yet, oldest first. */
  drafts() {
    return [...this.#waiting.values()].map((p) => ({
      id: p.id,
      to: { ...p.to },
      text: p.text,
      type: p.type,
      since: p.since,
      state: p.lane.flying.includes(p) ? 'sending' : p.lane.pause !== undefined ? 'refused' : 'waiting',
    }));
  }

  // pump sends what the lane holds, as much as fits one request, unless something stands in the way, whose end pumps again.
  #pump(lane) {
    const conn = this.#conn;
    if (!conn || conn.err || lane.flying.length > 0 || lane.pause !== undefined || lane.starved || lane.queue.length === 0) return;
    let n = 0;
    let bytes = 0;
    while (n < lane.queue.length && n < conn.batchTexts && bytes + lane.queue[n].bytes + REQUEST_COST <= MAX_BODY) {
      bytes += lane.queue[n++].bytes;
    }
    if (!conn.fits(n, bytes)) {
      lane.starved = true;
      this.#starved.push(lane);
      return;
    }
    const batch = lane.queue.splice(0, n);
    lane.flying = batch;
    const elements = batch.map((p) => p.element);
    conn.post(lane.to, batch, elements, bytes, (answers) => this.#answered(lane, answers));
  }

  // answered takes the results of a lane's request.
  #answered(lane, answers) {
    if (this.#ended) return;
    const again = [];
    let refused = false;
    let limited = true;
    let pause = 0;
    const flying = lane.flying;
    lane.flying = [];
    flying.forEach((p, i) => {
      const a = answers[i];
      const verdict = judge(p, a);
      if (verdict === 'settle') {
        lane.fails = 0; // it goes on, if slowly
        this.#settled(p);
        if (a.refusal) p.reject(a.refusal);
        else if (!a.lost) p.resolve({ id: p.id, thread: a.thread, messageId: a.messageId, time: a.time });
        return;
      }
      again.push(p);
      if (verdict === 'later') {
        refused = true;
        limited &&= a.refusal.code === Code.RateLimited && a.refusal.retryAfter > 0;
        pause = Math.max(pause, a.refusal.retryAfter);
      }
    });
    lane.queue.unshift(...again);
    if (refused) {
      // The limit is the user's own: nobody else comes back when it ends.
      if (!limited) pause += jitter(this.base, this.backoffLimit, lane.fails++);
      lane.pause = setTimeout(() => {
        lane.pause = undefined;
        this.#pump(lane);
        this.#tidy(lane);
        this.changed();
      }, pause);
    }
    for (const other of [...this.#starved.splice(0), lane]) {
      other.starved = false;
      this.#pump(other);
      this.#tidy(other);
    }
    this.changed();
  }

  // tidy forgets a lane that holds nothing.
  #tidy(lane) {
    const busy = lane.queue.length > 0 || lane.flying.length > 0 || lane.pause !== undefined || lane.starved;
    if (!busy && this.#lanes.get(lane.key) === lane) this.#lanes.delete(lane.key);
  }
}

// judge decides what an answer means for a text: settle it, send it again over the next connection, or later.
function judge(p, a) {
  if (p.gone) return 'settle';
  if (a.lost) return 'again';
  if (!a.refusal || a.refusal.advice !== 'retry') return 'settle';
  p.fails++;
  return a.refusal.code === Code.Internal && p.fails >= MAX_INTERNAL ? 'settle' : 'later';
}
