// Handlers, and the events that wait for them.

const ROOM = 64; // events that may wait for handlers before the session stops taking more from its connection

/** Events calls handlers, one event after the other. */
export class Events {
  #handlers = new Map();
  #queue = [];
  #busy = false;
  #stopped = false;
  #room = null;

  /** @param taken is called with each queued event once its handlers are done with it. */
  constructor(taken) {
    this.taken = taken;
  }

  on(name, handler) {
    if (typeof handler !== 'function') throw new TypeError('a handler is a function');
    this.off(name, handler);
    this.#handlers.set(name, [...(this.#handlers.get(name) ?? []), handler]);
    return () => this.off(name, handler);
  }

  off(name, handler) {
    const handlers = this.#handlers.get(name)?.filter((h) => h !== handler);
    if (handlers) this.#handlers.set(name, handlers);
  }

  /** Calls the handlers at once. Returns a promise if they return any, otherwise null. */
  emit(name, event) {
    const pending = [];
    for (const handler of this.#handlers.get(name) ?? []) {
      try {
        const result = handler(event);
        if (typeof result?.then === 'function') pending.push(Promise.resolve(result).catch(report));
      } catch (err) {
        report(err);
      }
    }
    return pending.length > 0 ? Promise.all(pending) : null;
  }

  /** Queues an event. Returns false if there is no room. */
  offer(event) {
    if (this.#queue.length >= ROOM) return false;
    this.#queue.push(event);
    this.#pump();
    return true;
  }

  /** Resolves when there may be room. */
  room() {
    return new Promise((resolve) => {
      this.#room = resolve;
    });
  }

  /** Forgets what waits. */
  stop() {
    this.#stopped = true;
    this.#queue = [];
  }

  #pump() {
    while (!this.#busy && this.#queue.length > 0) {
      const event = this.#queue.shift();
      const { name, ...rest } = event;
      this.#busy = true;
      const pending = this.emit(name, rest);
      if (pending) pending.then(() => this.#done(event));
      else this.#done(event, false);
    }
  }

  #done(event, more = true) {
    this.#busy = false;
    if (!this.#stopped) this.taken(event);
    this.#room?.();
    if (more) this.#pump();
  }
}

// report makes an exception of a handler an uncaught one: a fault of the program, not of the session.
function report(err) {
  queueMicrotask(() => {
    throw err;
  });
}
