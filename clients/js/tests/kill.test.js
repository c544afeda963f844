// Sessions whose cluster is killed, stopped or silent.

import assert from 'node:assert/strict';
import { describe } from 'node:test';

import { Cluster, Collector, next, test } from './cluster.js';

async function withCluster(run) {
  const cluster = await Cluster.start();
  try {
    await run(cluster);
  } finally {
    await cluster.close();
  }
}

// talk has two people send until stop is called, and checks what came of it.
function talk({ a, b, thread }) {
  const collectors = [new Collector(a), new Collector(b)];
  let going = true;
  const send = async (s, name) => {
    const sent = [];
    while (going) {
      const texts = [0, 1, 2].map((i) => `${name}${sent.length + i}`);
      const answers = await Promise.all(texts.map((text) => s.send(thread, text)));
      sent.push(...texts.map((text, i) => ({ text, id: answers[i].messageId })));
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    return sent;
  };
  const sending = Promise.all([send(a, 'a'), send(b, 'b')]);
  return {
    collectors,
    async stop() {
      going = false;
      const sent = (await sending).flat().sort((x, y) => x.id - y.id);
      for (const c of collectors) {
        await c.all(sent.map((s) => s.text));
        const got = c.messages.filter((m) => /^[ab]\d/.test(m.text)).map((m) => ({ text: m.text, id: m.id }));
        assert.deepEqual(got, sent, 'what was acknowledged, once, in order, under its id');
      }
      return sent.length;
    },
  };
}

describe('the server', { concurrency: true }, () => {
  test('is killed while two people talk', () =>
    withCluster(async (cluster) => {
      const pair = await cluster.pair();
      const talking = talk(pair);
      for (let i = 0; i < 2; i++) {
        const count = talking.collectors[0].texts.length;
        await talking.collectors[0].more(count + 10);
        await cluster.kill();
        await cluster.start();
      }
      await Promise.all(talking.collectors.map((c) => c.more(c.texts.length + 10)));
      assert.ok((await talking.stop()) >= 30);
    }));

  test('is stopped in good order, and comes back', () =>
    withCluster(async (cluster) => {
      const pair = await cluster.pair();
      const talking = talk(pair);
      await talking.collectors[0].more(10);
      const told = next(pair.a, 'disconnected', ({ error }) => error.op === 'goodbye');
      await cluster.stop();
      assert.equal((await told).error.name, 'Draining');
      await cluster.start();
      await talking.collectors[0].more(talking.collectors[0].texts.length + 10);
      await talking.stop();
    }));

  test('has gone silent', () =>
    withCluster(async (cluster) => {
      const { a } = await cluster.pair({ heartbeat: 5000 });
      const ended = next(a, 'disconnected');
      cluster.link(a).stall(true);
      assert.equal((await ended).error.name, 'Timeout');
      await next(a, 'connected');
    }));

  // Heartbeats of 300 s would notice after the test's time is up.
  test('is behind a network that swallows everything, which is noticed soon after a text', () =>
    withCluster(async (cluster) => {
      const { a, thread } = await cluster.pair({ heartbeat: 300000 });
      const ended = next(a, 'disconnected');
      const swallowing = cluster.link(a);
      cluster.network.filter = ({ link, id, body }) => (link === swallowing ? [] : [{ id, body }]);
      const sending = a.send(thread, 'into the void');
      assert.equal((await ended).error.name, 'Timeout');
      assert.ok((await sending).messageId > 0, 'over the next connection');
    }));
});
