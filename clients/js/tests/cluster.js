// A standalone cluster for tests, and people in it.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test as nodeTest } from 'node:test';

import { Gate, Session } from '../parley.js';
import { Network } from './network.js';

// The Go test sets it to a program with the flags of standalone.
const program = process.env.PARLEY_STANDALONE ?? '../../bin/standalone';

/** A test that ends also if what it waits for never comes. */
export const test = (name, run) => nodeTest(name, { timeout: 120000 }, run);

/** Cluster is a process; killed and started again it has the same data, but other ports. */
export class Cluster {
  network = new Network();
  #dir = mkdtempSync(join(tmpdir(), 'parley-js-'));
  #codes = new Map(); // e-mail address -> functions that wait for its code
  #process = null;
  #people = 0;
  #sessions = new Set();
  #dialers = new WeakMap();

  static async start() {
    const cluster = new Cluster();
    await cluster.start();
    return cluster;
  }

  async start() {
    const child = spawn(program, ['--free-ports', '--data', this.#dir, '--log', 'error'], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#process = child;
    this.exited = new Promise((resolve) => child.on('exit', resolve));
    await new Promise((resolve, reject) => {
      child.on('error', reject);
      this.exited.then((code) => reject(new Error(`${program} ended with ${code}`)));
      createInterface({ input: child.stdout }).on('line', (line) => {
        const gate = /^\s+gate\s+(http:\S+)/.exec(line);
        if (gate) {
          this.url = gate[1];
          resolve();
        }
        const mail = /to=(\S+) code=(\d+)/.exec(line);
        if (mail) this.#codes.get(mail[1])?.(mail[2]);
      });
    });
  }

  /** Ends the process as a power failure would. */
  async kill() {
    this.#process.kill('SIGKILL');
    await this.exited;
  }

  /** Ends the process in good order; clients are told. */
  async stop() {
    this.#process.kill('SIGTERM');
    await this.exited;
  }

  async close() {
    await Promise.all([...this.#sessions].map((s) => s.close())); // of tests that failed
    await this.stop();
    rmSync(this.#dir, { recursive: true });
  }

  /** A fetch that reaches the gate wherever it listens now. */
  fetch = (url, init) => this.network.fetch(this.url + new URL(url).pathname, init);

  gate() {
    return new Gate('http://gate.test', { fetch: this.fetch });
  }

  /** Registers a user. */
  async person(name = `person${process.pid}x${++this.#people}`) {
    const email = `${name}@example.com`;
    const code = new Promise((resolve) => this.#codes.set(email, resolve));
    const gate = this.gate();
    await gate.requestCode(email);
    const { uid } = await gate.register({ name, email, password: 'password', code: await code });
    return { uid, name, email, password: 'password' };
  }

  /** Options of a session of a person. */
  options(person, more = {}) {
    const { email, password } = person;
    return { gate: this.gate(), email, password, WebSocket: this.network.dialer(), backoffBase: 50, backoffLimit: 500, ...more };
  }

  session(person, more) {
    const options = this.options(person, more);
    const session = new Session(options);
    this.#dialers.set(session, options.WebSocket);
    this.#sessions.add(session);
    session.on('closed', () => this.#sessions.delete(session));
    return session;
  }

  /** The latest connection of a session. */
  link(session) {
    return this.#dialers.get(session).latest;
  }

  /** Registers two users who are friends, and returns them with their open sessions and the id of their thread. */
  async pair(more = {}) {
    const people = [await this.person(), await this.person()];
    const [a, b] = people.map((p) => this.session(p, more));
    await Promise.all([a.open(), b.open()]);
    const applied = next(b, 'applied');
    await a.apply(people[1].uid, { greeting: 'hi' });
    await applied;
    const approved = next(a, 'approved');
    await b.approve(people[0].uid);
    await approved;
    const thread = await a.openThread(people[1].uid);
    return { a, b, people, thread };
  }
}

/** Resolves with the next event of a name for which `wanted` holds. */
export function next(session, name, wanted = () => true) {
  return new Promise((resolve) => {
    const off = session.on(name, (event) => {
      if (!wanted(event)) return;
      off();
      resolve(event);
    });
  });
}

/** Collects the messages that a session brings, and checks that each thread's come once and in order. */
export class Collector {
  messages = [];
  #last = new Map();
  #faults = [];
  #waiting = [];

  constructor(session) {
    session.on('texts', ({ thread, messages }) => {
      for (const m of messages) {
        const last = this.#last.get(thread);
        if (m.thread !== thread || (last !== undefined && m.id !== last + 1)) this.#faults.push(`${thread}: ${m.id} after ${last}`);
        this.#last.set(thread, m.id);
        this.messages.push(m);
      }
      this.#waiting = this.#waiting.filter((look) => !look());
    });
  }

  /** The texts of all messages of kind text. */
  get texts() {
    return this.messages.filter((m) => m.kind === 'text').map((m) => m.text);
  }

  /** Resolves when all of these texts have come. */
  all(texts) {
    return this.#until(() => {
      const have = new Set(this.texts);
      return texts.every((t) => have.has(t));
    });
  }

  /** Resolves when there are as many texts. */
  more(count) {
    return this.#until(() => this.texts.length >= count);
  }

  /** Resolves when an event of a group has come. */
  event(what) {
    return this.#until(() => this.messages.some((m) => m.event?.what === what));
  }

  async #until(look) {
    if (!look()) await new Promise((resolve) => this.#waiting.push(() => look() && (resolve(), true)));
    if (this.#faults.length > 0) throw new Error(`not each once and in order: ${this.#faults.join(', ')}`);
  }
}
