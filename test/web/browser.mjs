// People with browsers, and the network between them and the cluster.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';

import { chromium } from 'playwright-core';

export const gate = process.env.PARLEY_GATE;
export const PATIENCE = 60_000; // for anything that takes a moment, on a busy machine
const shots = process.env.SCREENSHOTS ?? '';
const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');

// ---- the Go test, which has the cluster

const replies = [];
createInterface({ input: process.stdin }).on('line', (line) => replies.shift()?.(JSON.parse(line)));

/** Asks the Go test to do something with the cluster: { what: 'kill', node }, { what: 'code', email } and so on. */
export async function ask(question) {
  process.stdout.write(`ask ${JSON.stringify(question)}\n`);
  const reply = await new Promise((resolve) => replies.push(resolve));
  assert.ok(!reply.error, reply.error);
  return reply.answer;
}

async function post(path, body) {
  const reply = await (await fetch(gate + path, { method: 'POST', body: JSON.stringify({ ...body, plain: true }) })).json();
  assert.equal(reply.error, 0, `${path}: ${reply.error}`);
  return reply;
}

/** Makes an account as llfcchat's client would, without the page. */
export async function register(name) {
  const email = `${name}@example.com`;
  await post('/get_varifycode', { email });
  const varifycode = await ask({ what: 'code', email });
  await post('/user_register', { user: name, email, passwd: `${name}-secret`, confirm: `${name}-secret`, varifycode });
}

// ---- the network

/** A person's way to the cluster, as a proxy of the browser. While it is cut, everything that is sent is lost. */
class Network {
  #sockets = new Set();
  #down = false;

  async open() {
    this.server = createServer((browser) => this.#serve(browser));
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${this.server.address().port}`;
  }

  #serve(browser) {
    this.#keep(browser);
    browser.once('data', (head) => {
      if (this.#down) return;
      const [method, target] = head.toString('latin1').split(' ', 2);
      const [host, port] = method === 'CONNECT' ? target.split(':') : [new URL(target).hostname, new URL(target).port || 80];
      const server = connect(Number(port), host);
      this.#keep(server);
      const pass = (from, to) => {
        from.on('data', (data) => { if (!this.#down) to.write(data); });
        from.on('close', () => { if (!this.#down) to.destroy(); });
      };
      server.on('connect', () => {
        if (method === 'CONNECT') browser.write('HTTP/1.1 200 OK\r\n\r\n');
        else server.write(head);
        pass(browser, server);
        pass(server, browser);
      });
      server.on('close', () => { if (!this.#down) browser.destroy(); });
    });
  }

  #keep(socket) {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
  }

  cut() { this.#down = true; }

  mend() {
    for (const socket of this.#sockets) socket.destroy(); // they have lost bytes
    this.#down = false;
  }

  close() {
    for (const socket of this.#sockets) socket.destroy();
    this.server.close();
  }
}

// ---- people

let browser = null;

/** The system's Chromium: this driver brings none. */
export function chromiumPath() {
  const found = (process.env.PATH ?? '').split(delimiter).map((dir) => join(dir, 'chromium')).find((file) => existsSync(file));
  assert.ok(found, 'chromium is not installed');
  return found;
}

const everybody = [];
export const complaints = []; // what pages have reported as errors

/** Runs a scenario: everything that it opened is closed at the end, and a failure leaves a picture of each page. */
export async function run(scenario) {
  browser = await chromium.launch({ executablePath: chromiumPath(), args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
  try {
    await scenario();
    assert.deepEqual(complaints, []);
  } catch (error) {
    console.error(error);
    if (complaints.length) console.error('pages complained:', complaints);
    for (const p of everybody) await p.shot(`failure-${p.name}`).catch(() => {});
    process.exitCode = 1;
  } finally {
    await browser.close();
    for (const p of everybody) p.network.close();
    process.stdin.unref();
    process.exit();
  }
}

export class Person {
  constructor(name) {
    this.name = name;
    this.network = new Network();
    everybody.push(this);
  }

  /** Opens the page, with a browser of its own. */
  static async open(name, { width = 1440, height = 900, ...options } = {}) {
    const p = new Person(name);
    const server = await p.network.open();
    p.context = await browser.newContext({ viewport: { width, height }, locale: 'en-GB', reducedMotion: 'reduce', proxy: { server }, ...options });
    p.page = await p.context.newPage();
    p.page.setDefaultTimeout(PATIENCE);
    p.page.on('pageerror', (e) => complaints.push(`${name}: ${e.stack}`));
    p.page.on('console', (m) => {
      // A lost network is the browser's to report.
      if (m.type() === 'error' && !/net::ERR_|WebSocket connection to/.test(m.text())) complaints.push(`${name}: ${m.text()}`);
    });
    await p.page.goto(`${gate}/`);
    return p;
  }

  async signIn(email = `${this.name}@example.com`, password = `${this.name}-secret`) {
    await this.page.getByLabel('E-mail').fill(email);
    await this.page.getByLabel('Password').fill(password);
    await this.page.getByRole('button', { name: 'Sign in', exact: true }).click();
    await this.page.locator('.shell').waitFor();
    await this.page.locator('.rows .row, .rows .empty').first().waitFor();
  }

  async node() { return (await this.page.locator('.me').getAttribute('title')).split(' · ')[1]; }

  /** Asks somebody for friendship, by name. */
  async addFriend(name) {
    await this.button('New', { exact: true }).click();
    await this.item('Add a friend').click();
    await this.page.getByLabel('Name of the user').fill(name);
    await this.button('Find').click();
    await this.button('Ask to talk').click();
    await this.page.locator('dialog').waitFor({ state: 'detached' });
  }

  async accept(name) {
    await this.page.getByRole('tab', { name: 'People' }).click();
    await this.page.locator('.row', { hasText: name }).getByRole('button', { name: 'Accept' }).click();
    await this.page.locator('button.row', { hasText: name }).waitFor();
    await this.page.getByRole('tab', { name: 'Chats' }).click();
  }

  async open(title) {
    await this.page.locator('button.row', { hasText: title }).first().click();
    await this.page.locator('.chat-head h2', { hasText: title }).waitFor();
    await this.page.locator('textarea').waitFor();
  }

  async say(text) {
    await this.page.locator('textarea').fill(text);
    await this.button('Send', { exact: true }).click();
  }

  button(name, options = {}) { return this.page.getByRole('button', { name, ...options }); }
  item(name) { return this.page.getByRole('menuitem', { name }); }
  message(text) { return this.page.locator('.msg', { has: this.page.locator('.said', { hasText: text }) }).last(); }
  sees(text) { return this.message(text).waitFor(); }

  /** The texts of the open conversation that are stored, in the order in which they are shown. */
  texts() {
    return this.page.locator('.msg[data-id]').evaluateAll((list) => list.map((li) => ({
      id: Number(li.dataset.id), text: li.querySelector('.said').textContent, own: li.classList.contains('own'), read: Boolean(li.querySelector('.tick.read')),
    })));
  }

  async choose(text, action) {
    const m = this.message(text);
    await m.hover();
    await m.locator('.act').click();
    await this.item(action).click();
  }

  /** Saves a picture for people to look at, if somebody asked for pictures. */
  async shot(name) {
    if (!shots) return;
    mkdirSync(shots, { recursive: true });
    await this.page.screenshot({ path: join(shots, `${name}.png`) });
  }

  /** Fails if what is on the screen violates WCAG at level A or AA. */
  async accessible(what) {
    const found = await this.page.evaluate(`(async () => { ${axe}; return axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }); })()`);
    const list = found.violations.map((v) => `${what}: ${v.id} (${v.impact}): ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 160)).join(' | ')}`);
    assert.deepEqual(list, []);
  }
}

/** Waits until a condition holds; it returns what is missing, or ''. */
export async function until(what, f) {
  const end = Date.now() + PATIENCE;
  let missing;
  do {
    missing = await f();
    if (!missing) return;
    await new Promise((r) => setTimeout(r, 100));
  } while (Date.now() < end);
  assert.fail(`${what}: ${missing}`);
}

export const pause = (ms) => new Promise((r) => setTimeout(r, ms));
