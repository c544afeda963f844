// Two people on different nodes talk. One loses the network for 20 s; meanwhile the node of the other is killed. Nothing is lost,
// nothing comes twice, both read the same order, and each text is marked as read in the end.

import assert from 'node:assert/strict';

import { ask, pause, Person, register, run, until } from './browser.mjs';

const AWAY_MS = 20_000;
const EVERY_MS = 500;

await run(async () => {
  await register('alice');
  await register('bob');
  const alice = await Person.open('alice');
  const bob = await Person.open('bob', { width: 768, height: 1024, colorScheme: 'dark' });
  await alice.signIn();
  await bob.signIn();
  const nodes = [await alice.node(), await bob.node()];
  assert.notEqual(nodes[0], nodes[1], 'the two are placed on different nodes');
  await alice.addFriend('bob');
  await bob.accept('alice');
  await alice.open('bob');
  await bob.open('alice');

  const said = { alice: [], bob: [] };
  let talking = true;
  const talk = async (p) => {
    for (let i = 1; talking; i++) {
      const text = `${p.name} ${i}`;
      said[p.name].push(text);
      await p.say(text);
      await pause(EVERY_MS);
    }
  };
  const talks = [talk(alice), talk(bob)];

  await bob.sees('alice 4');
  await alice.sees('bob 4');
  await alice.shot('talk-1-before');

  bob.network.cut();
  await bob.context.setOffline(true);
  const mended = pause(AWAY_MS);
  await bob.page.locator('.banner').waitFor();
  await bob.page.locator('.msg.waiting').nth(3).waitFor();
  await bob.shot('talk-2-bob-offline');

  await ask({ what: 'kill', node: nodes[0] });
  await until('alice moves to another node', async () => ((await alice.node()) === nodes[1] ? '' : await alice.node()));
  const moved = said.alice.at(-1);
  await mended;
  bob.network.mend();
  await bob.context.setOffline(false);
  await bob.page.locator('.banner').waitFor({ state: 'hidden' });
  await bob.sees(moved);
  await bob.shot('talk-3-bob-back');
  await pause(4 * EVERY_MS);
  talking = false;
  await Promise.all(talks);

  const want = said.alice.length + said.bob.length;
  for (const p of [alice, bob]) {
    await until(`${p.name} has everything`, async () => {
      const texts = (await p.texts()).filter((m) => / \d+$/.test(m.text));
      const unread = texts.filter((m) => m.own && !m.read).length;
      const waiting = await p.page.locator('.msg.waiting, .msg.failed').count();
      return texts.length === want && !unread && !waiting ? '' : `${texts.length} of ${want} texts, ${waiting} waiting, ${unread} not marked as read`;
    });
  }
  const check = async () => {
    const [a, b] = await Promise.all([alice.texts(), bob.texts()]);
    assert.deepEqual(a.map((m) => [m.id, m.text]), b.map((m) => [m.id, m.text]), 'both read the same, in one order');
    const numbers = a.map((m) => m.id);
    assert.deepEqual(numbers, numbers.map((_, i) => numbers[0] + i), 'without holes');
    for (const who of ['alice', 'bob']) {
      assert.deepEqual(a.map((m) => m.text).filter((x) => x.startsWith(`${who} `)), said[who], `each text of ${who} once, in the order in which it was said`);
    }
  };
  await check();
  await alice.shot('talk-4-after');

  // A page that is loaded again is still signed in and shows the same.
  await bob.page.reload();
  await bob.page.locator('.msg').first().waitFor();
  await until('bob reads the history', async () => {
    await bob.page.locator('.scroll').evaluate((el) => { el.scrollTop = 0; });
    const [a, b] = [await alice.texts(), await bob.texts()];
    return a.length === b.length ? '' : `${b.length} of ${a.length}`;
  });
  await check();
  await ask({ what: 'start', node: nodes[0] });
  console.log(`${want} texts, ${said.bob.length} of them by the one who was away`);
});
