// Sessions against a standalone cluster.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Gate, newId, ParleyError, Session, textLength } from '../parley.js';
import { Cluster, Collector, next } from './cluster.js';

let cluster;
before(async () => {
  cluster = await Cluster.start();
});
after(() => cluster.close());

test('two people talk', async () => {
  const { a, b, people, thread } = await cluster.pair();
  const atA = new Collector(a);
  const atB = new Collector(b);
  const sent = await a.send({ user: people[1].uid }, 'hello');
  assert.equal(sent.thread, thread);
  assert.ok(Math.abs(sent.time - Date.now()) < 60000);
  const back = await b.send(thread, 'hello to you', { type: 'text/x-greeting', id: 'my-own-id' });
  assert.equal(back.messageId, sent.messageId + 1);
  assert.equal(back.id, 'my-own-id');
  await Promise.all([atA.all(['hello', 'hello to you']), atB.all(['hello', 'hello to you'])]);
  const m = atA.messages.at(-1);
  assert.deepEqual(
    { thread: m.thread, kind: m.kind, sender: m.sender, uniqueId: m.uniqueId, type: m.type, event: m.event },
    { thread, kind: 'text', sender: people[1].uid, uniqueId: 'my-own-id', type: 'text/x-greeting', event: null },
  );
  assert.deepEqual(a.user.name, people[0].name);
  assert.deepEqual(a.friends.map((f) => f.uid), [people[1].uid]);
  await Promise.all([a.close(), b.close()]);
  assert.equal(a.state, 'closed');
  await assert.rejects(a.send(thread, 'too late'), { name: 'Closed', code: 0 });
});
