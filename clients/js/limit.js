import { failure } from './error.js';

/** Bounds a call: by a time in milliseconds, and by its caller's AbortSignal. Call end() when the call is over. */
export class Limit {
  constructor(op, ms, signal) {
    this.op = op;
    this.error = null;
    this.signal = signal;
    this.hit = new Promise((_, reject) => {
      const stop = (name) => {
        this.error ??= failure(name, op);
        reject(this.error);
      };
      this.aborted = () => stop('Aborted');
      if (signal?.aborted) this.aborted();
      else signal?.addEventListener('abort', this.aborted);
      this.timer = ms > 0 && ms < Infinity ? setTimeout(stop, ms, 'Timeout') : undefined;
    });
    this.hit.catch(() => {}); // also when nobody waits
  }

  /** Resolves like promise, unless the bound is reached before. */
  race(promise) {
    return Promise.race([promise, this.hit]);
  }

  end() {
    clearTimeout(this.timer);
    this.signal?.removeEventListener('abort', this.aborted);
  }
}
