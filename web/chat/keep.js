// What the page keeps in the browser of its session: per signed-in tab its resume ticket and unsent texts. Never a password.
//
// Each tab has a session of its own, under a device name of its own. A tab that is opened later takes up a kept session that no
// other tab uses: it holds a lock while it lives.

import { read, write } from './shared/prefs.js';

const SESSIONS = 'parley.sessions';
const TAB = 'parley.tab';
const MAX_KEPT = 8; // devices of a user

const random = () => Array.from(crypto.getRandomValues(new Uint8Array(6)), (b) => (b % 36).toString(36)).join('');

// Without locks (a page that came by plain http from another host) two tabs could not tell who uses what: each keeps to itself.
const shared = () => Boolean(navigator.locks);

/** Takes a kept session for this tab, or says that another tab has it. */
function claim(id, patience) {
  if (!shared()) return Promise.resolve(true);
  return new Promise((done) => {
    const hold = (lock) => {
      done(Boolean(lock));
      return lock ? new Promise(() => {}) : null; // until the tab ends
    };
    if (!patience) {
      navigator.locks.request(`parley.${id}`, { ifAvailable: true }, hold);
      return;
    }
    // The document that this one replaces may still hold it.
    navigator.locks.request(`parley.${id}`, { signal: AbortSignal.timeout(patience) }, hold).catch(() => done(false));
  });
}

/** A session of this tab, kept or new. */
export class Kept {
  constructor(id, stay) {
    this.id = id;
    this.device = `web-${id}`;
    this.storage = stay && shared() ? localStorage : sessionStorage;
    this.ticketKey = `parley.ticket.${id}`;
    this.unsentKey = `parley.unsent.${id}`;
  }

  get hasTicket() { return this.storage.getItem(this.ticketKey) !== null; }

  /** Whose texts are not sent yet, and which: {uid, drafts}. */
  get unsent() { return read(this.storage, this.unsentKey, { uid: 0, drafts: [] }); }
  set unsent(unsent) {
    if (unsent.drafts.length) write(this.storage, this.unsentKey, unsent);
    else this.storage.removeItem(this.unsentKey);
  }

  /** Remembers this session for the next time. */
  save() {
    sessionStorage.setItem(TAB, JSON.stringify({ id: this.id, stay: this.storage === localStorage }));
    if (this.storage !== localStorage) return;
    const all = read(localStorage, SESSIONS, []).filter((id) => id !== this.id);
    for (const id of all.splice(MAX_KEPT - 1)) new Kept(id, true).forget();
    write(localStorage, SESSIONS, [this.id, ...all]);
  }

  /** Forgets it: the user has logged out. */
  forget() {
    this.storage.removeItem(this.ticketKey);
    this.storage.removeItem(this.unsentKey);
    write(localStorage, SESSIONS, read(localStorage, SESSIONS, []).filter((id) => id !== this.id));
    if (read(sessionStorage, TAB, {}).id === this.id) sessionStorage.removeItem(TAB);
  }
}

/** A new session for this tab; `stay` keeps it when the browser is closed. */
export async function fresh(stay) {
  const kept = new Kept(random(), stay);
  await claim(kept.id, 0);
  return kept;
}

/** The session that this tab had before it was loaded again, or one that no tab uses; null if there is none. */
export async function restore() {
  const tab = read(sessionStorage, TAB, null);
  if (tab?.id) {
    const kept = new Kept(tab.id, tab.stay);
    if (kept.hasTicket && await claim(tab.id, 1500)) return kept;
  }
  if (!shared()) return null;
  for (const id of read(localStorage, SESSIONS, [])) {
    const kept = new Kept(id, true);
    if (id !== tab?.id && kept.hasTicket && await claim(id, 0)) return kept;
  }
  return null;
}
