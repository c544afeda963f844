// What a connection has brought and the session has not taken yet.

const EVENT_COST = 128; // the assumed size of an event beside its frame, in bytes
const EVENT_BYTES = 1 << 20; // bound on what waits
const MAX_GAPS = 4096; // bounds the threads of which it is remembered that they have lost texts
const MAX_STATES = 2000; // bounds the users whose latest presence waits when the queue is full

/**
 * Inbox is bounded in bytes. Texts beyond the bound are forgotten and remembered as a gap of their thread, because the history has
 * them; of presence it keeps the latest states; hints are dropped.
 */
export class Inbox {
  #items = [];
  #bytes = 0;
  #gaps = new Map(); // thread -> first id dropped; texts of such a thread are dropped until the gap is delivered
  #states = new Map();
  #ended = null;
  #wake = null;

  constructor(limit = EVENT_BYTES) {
    this.limit = limit;
  }

  /** Queues an event. Returns false if there is no room and it cannot be read back later. */
  put(event, length) {
    const cost = length + EVENT_COST;
    const full = this.#bytes + cost > this.limit;
    const id = textId(event);
    if (id !== null) {
      const first = this.#gaps.get(event.thread);
      if (first !== undefined || full) {
        if (first === undefined && this.#gaps.size >= MAX_GAPS) return false;
        this.#gaps.set(event.thread, Math.min(first ?? id, id));
        return true;
      }
    } else if (event.name === 'online' && (full || this.#states.size > 0)) {
      for (const s of event.states) this.#states.set(s.uid, s);
      return this.#states.size <= MAX_STATES;
    } else if (full) {
      return event.name === 'marks' || event.name === 'typing' || event.name === 'hidden';
    }
    this.#items.push({ event, cost });
    this.#bytes += cost;
    this.#wake?.();
    return true;
  }

  /** Makes next fail with err after what is queued. */
  end(err) {
    this.#ended = err;
    this.#wake?.();
  }

  /** Returns the oldest event, or null if none comes until a time. */
  async next(deadline) {
    for (;;) {
      const event = this.#take();
      if (event) return event;
      if (this.#ended) throw this.#ended;
      const left = deadline - Date.now();
      if (left <= 0) return null;
      await new Promise((resolve) => {
        const timer = left < Infinity ? setTimeout(resolve, Math.min(left, 2 ** 31 - 1)) : undefined;
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = null;
    }
  }

  // take returns the oldest event. Gaps come when nothing else waits: they say "from here on", so later is not wrong.
  #take() {
    const item = this.#items.shift();
    if (item) {
      this.#bytes -= item.cost;
      return item.event;
    }
    for (const [thread, from] of this.#gaps) {
      this.#gaps.delete(thread);
      return { name: 'gap', thread, from };
    }
    if (this.#states.size > 0) {
      const states = [...this.#states.values()];
      this.#states.clear();
      return { name: 'online', states };
    }
    return null;
  }
}

// textId returns the first id of an event that the history can replace, else null.
function textId(event) {
  if (event.name === 'texts') return event.messages[0].id;
  if (event.name === 'gap') return event.from;
  return event.name === 'stored' ? event.id : null;
}
