// Accounts and logins over HTTP.

import { failure, ParleyError, refusal } from './error.js';
import { Limit } from './limit.js';
import { int, strOf as str } from './wire.js';

const TIMEOUT = 15000; // the gate verifies passwords behind a queue that waits up to 2 s

export class Gate {
  #fetch;
  #timeout;

  constructor(url, { fetch, timeout = TIMEOUT } = {}) {
    this.url = url.replace(/\/+$/, '');
    this.#fetch = fetch ?? ((...args) => globalThis.fetch(...args)); // a browser's fetch wants its own receiver
    this.#timeout = timeout;
  }

  async requestCode(email) {
    await this.#post('request code', '/get_varifycode', { email });
  }

  async register({ name, email, password, code, nick = name, icon = ':/res/head_1.jpg', sex = 0 }) {
    const reply = await this.#post('register', '/user_register', {
      user: name,
      email,
      passwd: password,
      confirm: password,
      varifycode: code,
      nick,
      icon,
      sex,
      plain: true,
    });
    return { uid: int(reply.uid) };
  }

  async resetPassword({ name, email, password, code }) {
    await this.#post('reset password', '/reset_pwd', { user: name, email, passwd: password, varifycode: code, plain: true });
  }

  async changePassword({ email, password, newPassword }) {
    await this.#post('change password', '/change_password', { email, passwd: password, newpasswd: newPassword, plain: true });
  }

  async login(email, password, { transport, signal } = {}) {
    const reply = await this.#post('gate login', '/user_login', { email, passwd: password, plain: true }, signal);
    const ticket = { uid: int(reply.uid), token: str(reply.token), url: this.#choose(reply.addresses ?? {}, transport) };
    if (ticket.uid < 1 || !ticket.token) throw failure('Protocol', 'gate login');
    if (!ticket.url) throw failure('Unsupported', 'gate login', 'the chat node offers no WebSocket that may be used here');
    return ticket;
  }

  async deleteAccount(email, password) {
    await this.#post('delete account', '/delete_account', { email, passwd: password, plain: true });
  }

  // choose returns one of a node's addresses. A page that came by https may not open ws.
  #choose({ ws, wss }, transport) {
    if (transport) return str(transport === 'wss' ? wss : ws);
    const page = globalThis.location?.protocol === 'https:';
    if (page || this.url.startsWith('https:')) return str(wss) || (page ? '' : str(ws));
    return str(ws) || str(wss);
  }

  async #post(op, route, fields, signal) {
    const limit = new Limit(op, this.#timeout, signal);
    const abort = new AbortController();
    limit.hit.catch(() => abort.abort());
    try {
      return await limit.race(this.#exchange(op, route, fields, abort.signal));
    } finally {
      limit.end();
    }
  }

  async #exchange(op, route, fields, signal) {
    let response;
    let reply;
    try {
      response = await this.#fetch(this.url + route, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(fields),
        credentials: 'omit',
        cache: 'no-store',
        signal,
      });
      if (response.status === 200) reply = await response.json();
    } catch (err) {
      if (response && err instanceof SyntaxError) throw failure('Protocol', op, 'the answer is not JSON');
      throw err instanceof ParleyError ? err : failure('Network', op, err);
    }
    // A gate answers its routes with 200 and a code in the body, so anything else is not a gate, or not this request.
    if (response.status !== 200) throw failure('Protocol', op, `HTTP ${response.status}`);
    if (typeof reply?.error !== 'number') throw failure('Protocol', op, 'the answer has no code');
    if (reply.error !== 0) {
      const seconds = Number(response.headers?.get?.('Retry-After')) || 0;
      throw refusal(op, reply.error, { retryAfter: int(reply.retry_ms) || Math.max(0, seconds * 1000) });
    }
    return reply;
  }
}
