// Sessions over a network that loses, repeats, delays and breaks.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Msg } from '../wire.js';
import { Cluster, Collector, next, test } from './cluster.js';

let cluster;
let network;
before(async () => {
  cluster = await Cluster.start();
  ({ network } = cluster);
});
after(() => cluster.close());

const close = (...sessions) => Promise.all(sessions.map((s) => s.close()));
const numbered = (n, name = 't') => Array.from({ length: n }, (_, i) => `${name}${i}`);

// faulty runs a test with a filter on all frames.
async function faulty(filter, run) {
  network.filter = filter;
  try {
    await run();
  } finally {
    network.filter = null;
  }
}

test('nothing is lost, nothing comes twice and all is in order while connections break', async () => {
  const { a, b, thread } = await cluster.pair();
  const collectors = [new Collector(a), new Collector(b)];
  const mine = numbered(60, 'a');
  const theirs = numbered(60, 'b');
  let resumed = 0;
  for (const s of [a, b]) s.on('connected', (e) => (resumed += e.resumed ? 1 : 0));
  let cuts = 0;
  let count = 0;
  // Connections break at any frame: before a text is stored, before its answer arrives, at a push.
  await faulty(
    ({ link, id, body }) => {
      const eligible = id === Msg.text || id === Msg.textReply || id === Msg.textPush;
      if (!eligible || ++count % 5 !== 0 || cuts === 10) return [{ id, body }];
      queueMicrotask(() => link.cut());
      return cuts++ % 2 ? [] : [{ id, body }];
    },
    async () => {
      const send = async (s, texts) => {
        const sent = [];
        for (let i = 0; i < texts.length; i += 5) sent.push(...(await Promise.all(texts.slice(i, i + 5).map((t) => s.send(thread, t)))));
        return sent;
      };
      const sent = await Promise.all([send(a, mine), send(b, theirs)]);
      const ids = sent.flat().map((s) => s.messageId);
      assert.equal(new Set(ids).size, ids.length);
      await Promise.all(collectors.map((c) => c.all([...mine, ...theirs])));
    },
  );
  assert.ok(cuts === 10 && resumed > 0, `${cuts} cuts, ${resumed} resumed`);
  for (const c of collectors) {
    assert.equal(c.texts.length, new Set(c.texts).size);
    assert.deepEqual(c.texts.filter((t) => /^a\d/.test(t)), mine, 'in the order of the calls');
  }
  await close(a, b);
});

test('lost, late and repeated pushes make no difference', async () => {
  const { a, b, thread } = await cluster.pair();
  const atB = new Collector(b);
  let held = [];
  let n = 0;
  await faulty(
    ({ id, body, up }) => {
      if (up || id !== Msg.textPush) return [{ id, body }];
      n++;
      if (n % 4 === 1) return []; // lost
      if (n % 4 === 2) {
        held.push({ id, body });
        return []; // late
      }
      const all = [{ id, body }, ...held, { id, body }];
      held = [];
      return all;
    },
    async () => {
      for (const text of numbered(20)) await a.send(thread, text);
      network.filter = null;
      await a.send(thread, 'last'); // its push shows what is missing
      await atB.all([...numbered(20), 'last']);
      assert.deepEqual(atB.texts, [...numbered(20), 'last']);
    },
  );
  await close(a, b);
});

test('a gap notice has the history read', async () => {
  const { a, b, thread } = await cluster.pair();
  const atB = new Collector(b);
  await faulty(
    ({ id, body, up }) => (!up && id === Msg.textPush ? [] : [{ id, body }]),
    async () => {
      const sent = await a.send(thread, 'lost');
      cluster.link(b).inject(Msg.gap, { thread_id: thread, from_seq: sent.messageId });
      await atB.all(['lost']);
      await a.send(thread, 'lost too');
      cluster.link(b).inject(Msg.gap, { thread_id: 0, from_seq: 0 }); // of any thread
      await atB.all(['lost too']);
    },
  );
  await close(a, b);
});

test('the last text of a conversation is found without its push', async () => {
  const { a, b, people, thread } = await cluster.pair();
  const attentive = cluster.session(people[1], { device: 'attentive', syncEvery: 200 });
  await attentive.open();
  const collector = new Collector(attentive);
  await faulty(
    ({ id, body, up }) => (!up && id === Msg.textPush ? [] : [{ id, body }]),
    async () => {
      await a.send(thread, 'the last');
      await collector.all(['the last']);
    },
  );
  await close(a, b, attentive);
});

test('a text refused for the moment is sent again, in its place', async () => {
  const { a, b, thread } = await cluster.pair();
  const atB = new Collector(b);
  let refusals = 0;
  const states = new Set();
  a.on('unsent', ({ drafts }) => drafts.forEach((d) => states.add(d.state)));
  await faulty(
    ({ id, body, up, link }) => {
      if (!up || id !== Msg.text || refusals === 3) return [{ id, body }];
      refusals++;
      const chat_datas = body.text_array.map((t) => ({ unique_id: t.unique_id, message_id: 0, status: 1, code: 2001 }));
      // The last one names no text.
      const answer = refusals === 3 ? { error: 2002, retry_ms: 5 } : { error: 0, thread_id: thread, retry_ms: 5, chat_datas };
      setTimeout(() => link.inject(Msg.textReply, answer));
      return [];
    },
    async () => {
      await Promise.all(numbered(10).map((text) => a.send(thread, text)));
    },
  );
  await atB.all(numbered(10));
  assert.deepEqual(atB.texts, numbered(10));
  assert.equal(refusals, 3);
  assert.deepEqual([...states].sort(), ['refused', 'sending', 'waiting']);
  await close(a, b);
});

test('a text that makes the server fail is given up, and no other', async () => {
  const { a, b, thread } = await cluster.pair({ backoffLimit: 5 });
  let failures = 0;
  await faulty(
    ({ id, body, up, link }) => {
      if (!up || id !== Msg.text || !body.text_array.some((t) => t.content === 'poison')) return [{ id, body }];
      failures++;
      const chat_datas = body.text_array.map((t) => ({ unique_id: t.unique_id, status: 1, code: t.content === 'poison' ? 2000 : 2001 }));
      setTimeout(() => link.inject(Msg.textReply, { error: 0, thread_id: thread, chat_datas }));
      return [];
    },
    async () => {
      const poison = a.send(thread, 'poison');
      const good = a.send(thread, 'good');
      await assert.rejects(poison, { name: 'Internal', code: 2000 });
      await good;
    },
  );
  assert.equal(failures, 5);
  await close(a, b);
});

test('a session waits for the network, and sends then', async () => {
  const { a, b, thread } = await cluster.pair();
  const atB = new Collector(b);
  network.down = true;
  const lost = Promise.all([next(a, 'disconnected'), next(b, 'disconnected')]);
  network.cut();
  const [{ error, retry }] = await lost;
  assert.ok(error.name === 'Network' && error.advice === 'retry' && retry >= 0);
  assert.equal(a.state, 'offline');
  const sending = numbered(5).map((text) => a.send(thread, text));
  const threads = a.threads();
  assert.deepEqual(a.unsent().map((d) => [d.text, d.state]), numbered(5).map((text) => [text, 'waiting']));
  await next(a, 'disconnected'); // an attempt has failed
  const caughtUp = next(b, 'caughtup');
  network.down = false;
  a.reconnect();
  await Promise.all([...sending, atB.all(numbered(5)), caughtUp]);
  assert.equal((await threads).length, 1);
  assert.deepEqual(a.unsent(), []);
  await a.flush();
  await close(a, b);
});

test('a browser that is online again need not wait', async () => {
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  try {
    const { a, b } = await cluster.pair({ backoffBase: 1e9, backoffLimit: 1e9 });
    network.down = true;
    const lost = next(a, 'disconnected');
    network.cut();
    await lost;
    const connected = next(a, 'connected');
    network.down = false;
    page.dispatchEvent(new Event('offline'));
    page.dispatchEvent(new Event('online'));
    await connected;
    await close(a, b);
  } finally {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  }
});

test('a node that goes away says where to go', async () => {
  const { a, b, thread } = await cluster.pair();
  const dialled = [];
  const connected = next(a, 'connected');
  const link = cluster.link(a);
  const to = `${link.url}?next`;
  await faulty(
    ({ id, body, up, link: l }) => {
      if (up && id === Msg.login) dialled.push(l.url);
      return [{ id, body }];
    },
    async () => {
      link.inject(Msg.goodbye, { error: 2008, reason: 'node is going away', retry_ms: 0, to });
      assert.equal((await next(a, 'disconnected')).error.name, 'Draining');
      await connected;
    },
  );
  assert.deepEqual(dialled, [to]);
  assert.equal(a.ticket.url, to);
  assert.equal(a.ticket.nodes.at(-1), link.url, 'where to go when that one is gone');
  await a.send(thread, 'from the next node');
  await close(a, b);
});

test('a ticket that is refused leads to the gate; a node that does not answer, to the next', async () => {
  const { a, b, people, thread } = await cluster.pair();
  const { url } = b.ticket;
  const nodes = cluster.session(people[1], { ticket: { ...b.ticket, url: 'ws://127.0.0.1:1/', nodes: ['ws://127.0.0.1:2/', url] }, password: undefined });
  const connected = next(nodes, 'connected');
  await b.close();
  await nodes.open();
  assert.ok((await connected).resumed);
  const { ticket, node } = nodes;
  await nodes.close();
  const elsewhere = cluster.session(people[1], { ticket: { ...ticket, url: 'ws://127.0.0.1:1/', nodes: ticket.nodes.slice(0, 1) }, password: undefined });
  await elsewhere.open();
  assert.notEqual(elsewhere.node, node, 'each login names another node');
  const forged = { ...elsewhere.ticket, resume: 'forged' };
  await elsewhere.close();
  const again = cluster.session(people[1], { ticket: forged, nodes: ['ws://127.0.0.1:1/'] });
  const loggedIn = next(again, 'connected');
  await again.open();
  assert.equal((await loggedIn).resumed, false);
  await again.send(thread, 'here');
  await close(a, again);
});

test('a slow program gets everything all the same', async () => {
  const { a, b, thread } = await cluster.pair();
  const atB = new Collector(b);
  let release;
  const block = new Promise((resolve) => (release = resolve));
  const off = b.on('texts', () => block);
  const texts = numbered(80); // more than may wait
  for (const text of texts) await a.send(thread, text);
  assert.ok(atB.texts.length < texts.length);
  assert.equal(b.state, 'online');
  assert.equal(b.cursors().find((c) => c.thread === thread).lastId, 2, 'the handler is not done with any');
  cluster.link(b).cut(); // it reconnects although events wait
  await next(b, 'connected');
  off();
  release();
  await atB.all(texts);
  assert.deepEqual(atB.texts, texts);
  await close(a, b);
});

test('a request that breaks is repeated if that is safe', async () => {
  const { a, b, people } = await cluster.pair();
  let breaks = 1;
  await faulty(
    ({ id, body, up, link }) => {
      if (!up && breaks > 0 && (id === Msg.groupDissolve + 1 || id === Msg.history + 1)) {
        breaks--;
        queueMicrotask(() => link.cut());
        return [];
      }
      return [{ id, body }];
    },
    async () => {
      const { thread } = await a.createGroup({ name: 'short-lived', members: [people[1].uid] });
      breaks = 1;
      await a.dissolveGroup(thread); // the second one is refused, because the first took effect
      breaks = 1;
      assert.ok((await a.history(thread, { after: 0 })).messages.length >= 2);
    },
  );
  await close(a, b);
});

test('a session watches again after a reconnect', async () => {
  const { a, b, people } = await cluster.pair();
  await a.watch([people[1].uid]);
  const again = next(a, 'online');
  cluster.link(a).cut();
  assert.deepEqual((await again).states.map((s) => [s.uid, s.online]), [[people[1].uid, true]]);
  await close(a, b);
});

test('marks are stored after a reconnect', async () => {
  const { a, b, thread } = await cluster.pair();
  const { messageId } = await a.send(thread, 'read me');
  let lose = true;
  await faulty(
    ({ id, body, up, link }) => {
      if (up && id === Msg.mark && lose) {
        lose = false;
        queueMicrotask(() => link.cut());
        return [];
      }
      return [{ id, body }];
    },
    async () => {
      b.markRead(thread, messageId);
      while ((await a.threads())[0].peerRead !== messageId) await sleep(50);
    },
  );
  await close(a, b);
});

test('data that was replaced begins anew', async () => {
  const { a, b, thread } = await cluster.pair();
  await a.send(thread, 'before');
  const replaced = next(b, 'datareplaced');
  const got = [];
  b.on('texts', ({ messages }) => got.push(...messages.map((m) => m.text)));
  await faulty(
    ({ id, body, up }) => [!up && id === Msg.login + 1 ? { id, body: { ...body, data: 'another' } } : { id, body }],
    async () => {
      const caughtUp = next(b, 'caughtup');
      cluster.link(b).cut();
      assert.deepEqual(await replaced, { thread: 0, lastId: 0 });
      await caughtUp;
    },
  );
  assert.ok(got.includes('hi') && got.includes('before'), 'from the beginning');
  assert.equal(b.data, 'another');
  await close(a, b);
});

test('what cannot be read ends the connection, not the session', async () => {
  const { a, b, thread } = await cluster.pair();
  const atB = new Collector(b);
  for (const body of [{ thread_id: 2 ** 53, chat_datas: [{ msg_id: 1 }] }, { thread_id: thread, chat_datas: [{ msg_id: 'one' }] }]) {
    const ended = next(b, 'disconnected');
    const back = next(b, 'connected');
    cluster.link(b).inject(Msg.rowPush, body);
    assert.equal((await ended).error.name, 'Protocol');
    await back;
  }
  await a.send(thread, 'still here');
  await atB.all(['still here']);
  await close(a, b);
});
