// One user sits at the page, a Go client and a stock client at once, and a friend writes too. Each text reaches every client that can be
// told of it, all have one history in the end, and what is read on one is read on all.

import assert from 'node:assert/strict';

import { ask, Person, run, until } from './browser.mjs';

const seen = async () => JSON.parse(await ask({ what: 'seen' }));

await run(async () => {
  const nina = await Person.open('nina');
  await nina.signIn();
  await nina.open('omar');

  const said = [];
  for (let round = 1; round <= 3; round++) {
    for (const who of ['page', 'go', 'stock', 'friend']) {
      const text = `${who} ${round}`;
      said.push(text);
      if (who === 'page') await nina.say(text);
      else await ask({ what: who, text });
      await nina.sees(text);
      assert.equal((await nina.message(text).getAttribute('class')).includes('own'), who !== 'friend');
      await until(`${text} is everywhere`, async () => {
        const now = await seen();
        // A stock client is not told what its user's other devices say: it reads that at its next login.
        const at = { go: now.go.some((m) => m.text === text), friend: now.friend.some((m) => m.text === text), stock: now.stock.includes(text) };
        const want = { go: true, friend: true, stock: who === 'stock' || who === 'friend' };
        return JSON.stringify(at) === JSON.stringify(want) ? '' : JSON.stringify(at);
      });
    }
  }
  const live = (await seen()).stock.filter((text) => said.includes(text));
  assert.deepEqual(live, said.filter((text) => /^(stock|friend)/.test(text)), 'the stock client shows each once, in order');

  await ask({ what: 'again' });
  const now = await seen();
  const page = (await nina.texts()).filter((m) => said.includes(m.text));
  const lines = page.map(({ id, text }) => ({ id, text }));
  assert.deepEqual(lines.map((m) => m.text), said);
  assert.deepEqual(lines.map((m) => m.id), lines.map((_, i) => lines[0].id + i), 'without holes');
  for (const who of ['go', 'friend']) assert.deepEqual(now[who].filter((m) => said.includes(m.text)), lines, who);
  assert.deepEqual(now.stock.filter((text) => said.includes(text)), said, 'the stock client');
  assert.equal(now.faults, '');

  const last = lines.at(-1).id;
  await until('what the page shows is read on all', async () => {
    const { marks, theirs } = await seen();
    return marks.Read === last && marks.Unread === 0 && theirs.PeerRead === last ? '' : JSON.stringify({ marks, theirs });
  });
  await ask({ what: 'read' });
  await until('the friend has read it, on all', async () => {
    const { marks, theirs } = await seen();
    const unread = (await nina.texts()).filter((m) => m.own && !m.read).length;
    return marks.PeerRead === last && theirs.Read === last && theirs.Unread === 0 && unread === 0 ? '' : JSON.stringify({ marks, theirs, unread });
  });
});
