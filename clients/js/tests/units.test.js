// The parts that need no server.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { jitter } from '../backoff.js';
import { refusal } from '../error.js';
import { Events } from '../events.js';
import { Inbox } from '../inbox.js';
import { Order } from '../order.js';
import { MAX_TEXT, newId, ParleyError, Session, textLength } from '../parley.js';
import * as parley from '../parley.js';
import { frame, messageOf, pageOf, Splitter } from '../wire.js';

const messages = (...ids) => ids.map((id) => messageOf({ thread_id: 1, msg_id: id, msg_content: `${id}`, created_ms: id }));
const ids = (list) => list.map((m) => m.id);

test('messages are put in order', () => {
  const o = new Order(7);
  assert.deepEqual(ids(o.push(1, messages(1, 2))), [1, 2]);
  assert.deepEqual(ids(o.push(1, messages(2, 1))), [], 'repeats');
  assert.deepEqual(ids(o.push(1, messages(5, 4))), [], 'early');
  assert.ok(o.hole(1));
  assert.deepEqual(ids(o.push(1, messages(3))), [3, 4, 5]);
  assert.ok(!o.hole(1));
  o.push(1, messages(9));
  assert.deepEqual(ids(o.page(1, messages(5, 6, 8), 8)), [6, 8, 9], '7 does not exist');
  o.expect(1, 12);
  assert.ok(o.hole(1));
  o.push(1, messages(14, 13));
  assert.deepEqual(ids(o.skip(1)), [13, 14]);
  assert.deepEqual(o.cursors(), [{ thread: 1, lastId: 14 }]);
  o.setBack(1, 10);
  assert.deepEqual(ids(o.page(1, messages(9, 10), 10)), [], 'handed on before the thread was set back');
  assert.deepEqual(ids(o.push(1, [{ ...messages(11)[0], time: new Date(99) }])), [11]);
});

test('whatever arrives in whatever order comes once and ascending', () => {
  for (let round = 0; round < 200; round++) {
    const o = new Order(7);
    const n = 60;
    const arrivals = [];
    for (let id = 1; id <= n; id++) for (let i = Math.floor(Math.random() * 3); i > 0; i--) arrivals.push(id);
    arrivals.sort(() => Math.random() - 0.5);
    const got = [];
    for (const id of arrivals) {
      got.push(...ids(o.push(1, messages(id))));
      if (Math.random() < 0.25) {
        const from = o.cursor(1);
        const next = Math.min(n, from + 1 + Math.floor(Math.random() * 10));
        const page = Array.from({ length: next - from }, (_, i) => from + 1 + i);
        got.push(...ids(o.page(1, messages(...page), next)));
      }
    }
    got.push(...ids(o.page(1, messages(...Array.from({ length: n - o.cursor(1) }, (_, i) => o.cursor(1) + 1 + i)), n)));
    assert.deepEqual(got, Array.from({ length: n }, (_, i) => i + 1));
  }
});

test('a session follows its membership of a group', () => {
  const event = (id, what, uids) => ({ ...messages(id)[0], kind: 'event', event: { what, by: 1, uids } });
  const o = new Order(7);
  assert.deepEqual(ids(o.page(1, [event(5, 'invited', [7])], 5)), [5]);
  assert.deepEqual(ids(o.push(1, [event(7, 'removed', [7]), ...messages(6, 8)])), [6, 7], '8 is not for this user');
  assert.ok(!o.hole(1));
  assert.deepEqual(ids(o.push(1, messages(9))), []);
  assert.deepEqual(ids(o.push(1, [event(12, 'invited', [7])])), []);
  assert.ok(o.hole(1));
  assert.deepEqual(ids(o.page(1, [event(12, 'invited', [7]), ...messages(13)], 13)), [12, 13]);
});

test('frames arrive in any pieces', () => {
  const bodies = [{ a: 1 }, { text: 'Grüße, 世界 👋' }, {}];
  const bytes = Buffer.concat([...bodies.map((b) => frame(2000, JSON.stringify(b))), Buffer.from([3, 255, 0, 0])]);
  for (let size = 1; size < bytes.length; size++) {
    const splitter = new Splitter();
    const got = [];
    for (let at = 0; at < bytes.length; at += size) got.push(...splitter.push(Uint8Array.from(bytes.subarray(at, at + size)).buffer));
    assert.deepEqual(got.map((f) => f.body), [...bodies, {}]);
    assert.equal(got.at(-1).id, 1023);
  }
  assert.throws(() => new Splitter().push(frame(1, '[]').buffer));
  assert.throws(() => frame(1, ' '.repeat(16385)), { name: 'BadRequest' });
});

test('an id that a number cannot hold is an error, not another id', () => {
  const page = (id) => pageOf(JSON.parse(`{"thread_id":1,"chat_datas":[{"thread_id":1,"msg_id":${id}}]}`));
  assert.equal(page('2147483647').messages[0].id, 2147483647);
  for (const id of ['9007199254740993', '1.5', '"7"', 'true']) assert.throws(() => page(id), /integer/);
});

test('a full inbox forgets what can be read back, and says so', async () => {
  const inbox = new Inbox(1000);
  const texts = (thread, ...list) => ({ name: 'texts', thread, messages: messages(...list) });
  assert.ok(inbox.put(texts(1, 1), 600));
  assert.ok(inbox.put(texts(1, 3, 4), 600), 'no room');
  assert.ok(inbox.put(texts(1, 2), 10), 'would have room, but comes after what is missing');
  assert.ok(inbox.put({ name: 'online', states: [{ uid: 5, online: true }] }, 600));
  assert.ok(inbox.put({ name: 'online', states: [{ uid: 5, online: false }] }, 1));
  assert.ok(inbox.put({ name: 'typing' }, 600));
  assert.ok(!inbox.put({ name: 'applied' }, 600));
  inbox.end(refusal('goodbye', 2008));
  assert.equal((await inbox.next(Infinity)).messages[0].id, 1);
  assert.deepEqual(await inbox.next(Infinity), { name: 'gap', thread: 1, from: 2 });
  assert.deepEqual(await inbox.next(Infinity), { name: 'online', states: [{ uid: 5, online: false }] });
  await assert.rejects(inbox.next(Infinity), { code: 2008 });
  assert.equal(await new Inbox().next(Date.now() + 1), null);
});

test('handlers take events one after the other', async () => {
  const taken = [];
  const events = new Events((event) => taken.push(event.n));
  let release;
  const off = events.on('e', ({ n }) => (n === 1 ? new Promise((resolve) => (release = resolve)) : undefined));
  for (let n = 1; n <= 65; n++) assert.ok(events.offer({ name: 'e', n }));
  assert.ok(!events.offer({ name: 'e', n: 66 }), 'one is being taken, 64 wait');
  assert.deepEqual(taken, []);
  const room = events.room();
  release();
  await room;
  assert.deepEqual(taken.slice(0, 3), [1, 2, 3]);
  off();
  assert.equal(events.emit('e', {}), null);
});

test('lengths of texts are those of UTF-8', () => {
  for (const s of ['', 'a', 'ü', '世界', '👋🏽', 'a\u0000b', '\ud800', 'x\udc00y']) assert.equal(textLength(s), Buffer.byteLength(s), s);
});

test('texts that may not be sent are refused before anything is sent', async () => {
  const session = new Session({ gate: 'http://127.0.0.1:1', email: 'a', password: 'b', WebSocket: class {} });
  for (const text of ['', 'a\0', '\ud800', 'x'.repeat(MAX_TEXT + 1), '\u0001'.repeat(MAX_TEXT), undefined]) {
    await assert.rejects(session.send(1, text), { name: 'InvalidText', code: 0, advice: 'give up' });
  }
  for (const to of [0, -1, 1.5, '1', {}, { thread: 1, user: 2 }, { thread: '1' }]) await assert.rejects(session.send(to, 'x'), TypeError);
  await assert.rejects(session.send(1, 'x', { id: 'x'.repeat(65) }), TypeError);
  await assert.rejects(session.send(1, 'x', { type: 'Text' }), TypeError);
  await assert.rejects(session.send(1, 'x', { signal: AbortSignal.abort() }), { name: 'Aborted' });
  const id = newId();
  assert.match(id, /^[A-Z2-7]{26}$/);
  const first = session.send(1, 'x', { id });
  await assert.rejects(session.send(1, 'x', { id }), { name: 'InFlight' });
  assert.deepEqual(session.unsent().map((d) => [d.id, d.to, d.text, d.state]), [[id, { thread: 1 }, 'x', 'waiting']]);
  await session.close();
  await assert.rejects(first, { name: 'Closed', op: 'send' });
  assert.deepEqual(session.unsent(), []);
});

test('a session without anything to log in with is refused', () => {
  class WebSocket {}
  assert.throws(() => new Session({ gate: 'http://127.0.0.1:1', WebSocket }), /ticket/);
  assert.throws(() => new Session({ gate: 'http://127.0.0.1:1', email: 'a', password: 'b', WebSocket, device: 'Phone' }), /device/);
});

test('a session replaced by a login of its own that was carried out late goes on', async () => {
  const sockets = [];
  class WebSocket {
    constructor() {
      sockets.push(this);
      queueMicrotask(() => this.onopen());
    }
    send() {
      if (this.sent) return;
      this.sent = true;
      if (sockets.length === 2) queueMicrotask(() => this.onclose({ code: 1006, reason: '' }));
      else this.push(1006, { error: 0, uid: 7, name: 'a', resume: `r${sockets.length}` });
    }
    push(id, body) {
      queueMicrotask(() => this.onmessage?.({ data: frame(id, JSON.stringify(body)).buffer }));
    }
    close() {}
  }
  const ticket = { url: 'ws://a.test/', uid: 7, token: 't' };
  const session = new Session({ ticket, WebSocket, cursors: [], backoffBase: 1, backoffLimit: 1 });
  const connected = () => new Promise((resolve) => session.on('connected', resolve));
  await session.open();
  let again = connected();
  sockets[0].onclose({ code: 1006, reason: '' });
  await again;
  again = connected();
  sockets[2].push(1021, { error: 0, uid: 7 });
  await again;
  assert.equal(sockets.length, 4);
  await session.close();
});

test('texts beyond the rate go at the rate, without any back-off', { timeout: 30000 }, async () => {
  const stored = [];
  class WebSocket {
    #splitter = new Splitter();
    constructor() {
      queueMicrotask(() => this.onopen());
    }
    send(data) {
      for (const { id, body } of this.#splitter.push(data)) {
        if (id === 1005) this.push(1006, { error: 0, uid: 7, name: 'a', window: 64, caps: ['batch'] });
        if (id === 1017) this.push(1018, { error: 0, thread_id: 7, retry_ms: 20, chat_datas: body.text_array.map(this.#answer) });
      }
    }
    #answer({ unique_id, content }, i) {
      if (i >= 8) return { unique_id, status: 1, code: 2003 };
      stored.push(content);
      return { unique_id, content, status: 2, message_id: stored.length };
    }
    push(id, body) {
      queueMicrotask(() => this.onmessage?.({ data: frame(id, JSON.stringify(body)).buffer }));
    }
    close() {}
  }
  const ticket = { url: 'ws://a.test/', uid: 7, token: 't' };
  const session = new Session({ ticket, WebSocket, cursors: [], backoffBase: 60000, backoffLimit: 60000 });
  await session.open();
  const texts = Array.from({ length: 200 }, (_, i) => `t${i}`);
  await Promise.all(texts.map((text) => session.send(7, text)));
  assert.deepEqual(stored, texts);
  await session.close();
});

test('attempts are spread', () => {
  for (let n = 0; n < 100; n++) {
    for (let i = 0; i < 20; i++) {
      const wait = jitter(500, 30000, n);
      assert.ok(wait >= 0 && wait <= Math.min(30000, 500 * 2 ** n));
    }
  }
});

test('errors say what to do', () => {
  const busy = refusal('send', 2001, { retryAfter: 250 });
  assert.ok(busy instanceof ParleyError && busy instanceof Error);
  assert.deepEqual([busy.name, busy.code, busy.retryAfter, busy.op, busy.advice], ['Busy', 2001, 250, 'send', 'retry']);
  assert.equal(refusal('login', 1010).advice, 'login');
  assert.deepEqual([refusal('x', 4711).name, refusal('x', 4711).advice], ['Unknown', 'give up']);
});

test('the type declarations name what there is', () => {
  const types = readFileSync(new URL('../parley.d.ts', import.meta.url), 'utf8');
  const exported = [...types.matchAll(/^export (?:const|function|class) (\w+)/gm)].map((m) => m[1]);
  assert.deepEqual(exported.sort(), Object.keys(parley).sort());
  for (const name of ['Session', 'Gate']) {
    const body = new RegExp(`^export class ${name} \\{\\n(.*?)^\\}`, 'ms').exec(types)[1];
    const declared = [...body.matchAll(/^ {2}(?:readonly )?(\w+)[(:<]/gm)].map((m) => m[1]);
    const real = Object.getOwnPropertyNames(parley[name].prototype);
    if (name === 'Gate') real.push('url');
    assert.deepEqual(declared.sort(), real.sort(), name);
  }
  const errors = readFileSync(new URL('../error.js', import.meta.url), 'utf8');
  const names = /^export type ErrorName =(.*?);$/ms.exec(types)[1];
  for (const [, name] of names.matchAll(/'(\w+)'/g)) if (name !== 'Unknown') assert.ok(errors.includes(`['${name}'`), name);
});
