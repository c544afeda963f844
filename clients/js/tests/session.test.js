// Sessions against a standalone cluster.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';

import { Session } from '../parley.js';
import { Cluster, Collector, next, test } from './cluster.js';

let cluster;
before(async () => {
  cluster = await Cluster.start();
});
after(() => cluster.close());

const close = (...sessions) => Promise.all(sessions.map((s) => s.close()));
const ids = (page) => page.messages.map((m) => m.id);

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
  assert.equal(a.user.name, people[0].name);
  assert.deepEqual(a.friends.map((f) => f.uid), [people[1].uid]);
  await Promise.all([a.close(), b.close()]);
  assert.equal(a.state, 'closed');
  await assert.rejects(a.send(thread, 'too late'), { name: 'Closed', code: 0 });
});

test('history is read in both directions', async () => {
  const { a, b, thread } = await cluster.pair();
  const first = (await a.history(thread)).messages.at(-1).id;
  const texts = Array.from({ length: 60 }, (_, i) => `${i} ${'x'.repeat(2000)}`); // more than a frame holds
  await Promise.all(texts.map((text) => a.send(thread, text)));
  const last = first + texts.length;

  const newest = await b.history(thread, { limit: 40 });
  assert.deepEqual(ids(newest), Array.from({ length: 40 }, (_, i) => last - 39 + i));
  assert.ok(newest.more);
  const before = await b.history(thread, { before: newest.messages[0].id, limit: 500 });
  assert.deepEqual(ids(before), Array.from({ length: last - 40 }, (_, i) => i + 1));
  assert.ok(!before.more);
  assert.deepEqual(ids(await b.history(thread, { before: 1 })), []);

  const upwards = [];
  for (let after = first, more = true; more; after = upwards.at(-1)) {
    const page = await b.history(thread, { after, limit: 500 });
    upwards.push(...ids(page));
    ({ more } = page);
  }
  assert.deepEqual(upwards, Array.from({ length: texts.length }, (_, i) => first + 1 + i));
  assert.deepEqual(await b.history(thread + 1000), { thread: thread + 1000, messages: [], more: false }, 'of other users');
  await close(a, b);
});

test('threads say what is unread, and what is newest', async () => {
  const { a, b, people, thread } = await cluster.pair();
  const moved = next(a, 'marks', ({ marks }) => marks[0].read > 0);
  await a.send(thread, 'one');
  const two = await a.send(thread, 'two');
  await a.edit(thread, two.messageId, 'two, edited');
  const [listed] = await b.threads({ last: true });
  assert.deepEqual(
    { id: listed.id, type: listed.type, peer: listed.peer, unread: listed.unread, lastId: listed.lastId, last: listed.last.text },
    { id: thread, type: 'private', peer: people[0].uid, unread: 2, lastId: two.messageId + 1, last: 'two, edited' },
  );
  b.markRead(thread, listed.lastId);
  assert.deepEqual(await moved, { thread, marks: [{ uid: people[1].uid, read: listed.lastId, recv: listed.lastId }] });
  assert.equal((await b.threads())[0].unread, 0);
  assert.equal((await a.threads())[0].peerRead, listed.lastId);
  assert.deepEqual(await b.mark(thread, 1), { uid: people[1].uid, read: listed.lastId, recv: listed.lastId }, 'marks never move back');
  assert.deepEqual((await a.marks(thread)).find((m) => m.uid === people[1].uid).read, listed.lastId);
  await close(a, b);
});

test('what a session has brought is marked before it is closed', async () => {
  const { a, b, people, thread } = await cluster.pair();
  const atB = new Collector(b);
  await a.send(thread, 'one');
  const two = await a.send(thread, 'two');
  await atB.all(['one', 'two']);
  b.markRead(thread, two.messageId);
  await b.close(); // within the second between two marks of a thread
  const marks = await a.marks(thread);
  assert.deepEqual(marks.find((m) => m.uid === people[1].uid), { uid: people[1].uid, read: two.messageId, recv: two.messageId });
  await a.close();
});

test('texts are recalled, edited and hidden', async () => {
  const { a, b, people, thread } = await cluster.pair();
  const other = cluster.session(people[0], { device: 'other' });
  await other.open();
  const hidden = next(other, 'hidden');
  const atB = new Collector(b);
  const one = await a.send(thread, 'one');
  const two = await a.send(thread, 'two');
  await a.recall(thread, one.messageId);
  await a.edit(thread, two.messageId, 'zwei');
  await a.hide(thread, [two.messageId]);
  assert.deepEqual(await hidden, { thread, ids: [two.messageId] });
  await a.send(thread, 'three');
  await atB.all(['one', 'two', 'three']);
  const changes = atB.messages.filter((m) => m.kind === 'recall' || m.kind === 'edit');
  assert.deepEqual(
    changes.map((m) => [m.kind, m.target, m.text, m.sender]),
    [
      ['recall', one.messageId, '', people[0].uid],
      ['edit', two.messageId, 'zwei', people[0].uid],
    ],
  );
  const { messages } = await b.history(thread, { after: one.messageId - 1 });
  assert.deepEqual(messages.slice(0, 2).map((m) => [m.text, m.recalled, m.edited !== null]), [['', true, false], ['zwei', false, true]]);
  assert.ok((await a.history(thread, { after: one.messageId })).messages[0].hidden);
  await assert.rejects(b.edit(thread, two.messageId, 'mine'), { name: 'NotAllowed', code: 2006, op: 'edit' });
  await close(a, b, other);
});

test('all devices of a user bring the same', async () => {
  const { a, b, people, thread } = await cluster.pair();
  const phone = cluster.session(people[0], { device: 'phone' });
  await phone.open();
  const collectors = [a, phone, b].map((s) => new Collector(s));
  const texts = Array.from({ length: 20 }, (_, i) => `t${i}`);
  await Promise.all(texts.map((text, i) => [a, phone, b][i % 3].send(thread, text)));
  await Promise.all(collectors.map((c) => c.all(texts)));
  for (const c of collectors) assert.deepEqual(c.texts.slice(-20), collectors[0].texts.slice(-20));

  const again = cluster.session(people[0], { device: 'phone' });
  const replaced = next(phone, 'closed');
  await again.open();
  assert.equal((await replaced).error.name, 'Replaced');
  await assert.rejects(phone.threads(), { name: 'Replaced', op: 'threads', advice: 'give up' });
  await close(a, b, again);
});

test('friends come and go', async () => {
  const { a, b, people } = await cluster.pair();
  const [alice, bob] = people;
  assert.deepEqual([(await a.search(bob.name)).uid, (await a.search(`${bob.uid}`)).name], [bob.uid, bob.name]);
  await assert.rejects(a.search('nobody of this name'), { name: 'NoSuchUser', code: 1011 });

  const elsewhere = cluster.session(alice, { device: 'elsewhere' });
  await elsewhere.open();
  const changed = next(elsewhere, 'friendschanged');
  await a.block(bob.uid);
  assert.deepEqual(await changed, { uid: bob.uid, change: 'block' });
  assert.deepEqual([a.friends, elsewhere.friends], [[], []]);
  assert.deepEqual((await a.blocks()).map((u) => u.name), [bob.name]);
  await assert.rejects(b.send({ user: alice.uid }, 'hello?'), { name: 'NotAllowed', op: 'send' });
  await assert.rejects(b.openThread(alice.uid), { name: 'NotFriends' });
  await a.unblock(bob.uid);

  const applied = next(a, 'applied');
  await b.apply(alice.uid, { greeting: 'again?', alias: 'al' });
  assert.equal((await applied).application.greeting, 'again?');
  assert.deepEqual(a.applications.map((u) => [u.uid, u.greeting]), [[bob.uid, 'again?']]);
  const approved = next(b, 'approved');
  const { friend, messages } = await a.approve(bob.uid, { alias: 'bobby' });
  assert.deepEqual([friend.uid, friend.alias, messages[0].text], [bob.uid, 'bobby', 'again?']);
  assert.equal((await approved).friend.uid, alice.uid);
  assert.deepEqual([a.friends[0].alias, a.applications, b.friends[0].uid], ['bobby', [], alice.uid]);
  await a.unfriend(bob.uid);
  assert.deepEqual(a.friends, []);
  await close(a, b, elsewhere);
});

test('presence and typing reach those who watch', async () => {
  const { a, b, people, thread } = await cluster.pair();
  const [alice, bob] = people;
  assert.deepEqual(await a.watch([bob.uid]), [{ uid: bob.uid, online: true, lastSeen: null }]);
  const typing = next(a, 'typing');
  const keys = setInterval(() => b.typing(thread), 100); // a busy server drops notices
  assert.deepEqual(await typing, { thread, uid: bob.uid });
  clearInterval(keys);
  const gone = next(a, 'online', ({ states }) => !states[0].online);
  await b.close();
  const [state] = (await gone).states;
  assert.ok(state.uid === bob.uid && Date.now() - state.lastSeen < 180000);
  assert.equal(await a.visible(), true);
  await a.setVisible(false);
  assert.equal(await a.visible(), false);
  assert.deepEqual((await a.watch([])).length, 0);
  assert.equal(a.user.uid, alice.uid);
  await a.close();
});

test('a group from its creation to its end', async () => {
  const { a, b, people } = await cluster.pair();
  const [alice, bob] = people;
  const carol = await cluster.person();
  const c = cluster.session(carol);
  await c.open();
  const atB = new Collector(b);
  const { thread, refused } = await a.createGroup({ name: 'book club', members: [bob.uid, carol.uid] });
  assert.deepEqual(refused, [carol.uid], 'no friend');
  const { code } = await a.createLink(thread, { uses: 2, ttl: 3600000 });
  assert.deepEqual(await c.joinByLink(code), { thread, name: 'book club' });
  assert.deepEqual((await a.links(thread)).map((l) => [l.code, l.uses, l.by]), [[code, 1, alice.uid]]);
  await a.revokeLink(thread, code);
  assert.deepEqual(await a.links(thread), []);
  await c.send(thread, 'hello all');
  assert.deepEqual((await a.groupMembers(thread)).map((m) => [m.uid, m.role]), [[alice.uid, 'owner'], [bob.uid, 'member'], [carol.uid, 'member']]);
  assert.deepEqual((await a.groupMembers(thread, { after: alice.uid, limit: 1 })).map((m) => m.uid), [bob.uid]);
  await a.setRole(thread, bob.uid, 'admin');
  await b.renameGroup(thread, 'reading');
  await b.muteMember(thread, carol.uid, new Date(Date.now() + 3600000));
  await assert.rejects(c.send(thread, 'not heard'), { name: 'NotAllowed' });
  await b.muteMember(thread, carol.uid, null);
  await a.muteGroup(thread, true);
  await a.setHistoryForNew(thread, true);
  const info = await c.group(thread);
  assert.deepEqual(
    [info.name, info.owner, info.members, info.muteAll, info.historyForNew, info.role, info.mutedUntil, info.left],
    ['reading', alice.uid, 3, true, true, 'member', null, 0],
  );
  await assert.rejects(c.renameGroup(thread, 'mine'), { name: 'NotAllowed' });
  await b.removeMember(thread, carol.uid);
  await a.setRole(thread, bob.uid, 'owner');
  await a.leaveGroup(thread);
  assert.equal((await b.invite(thread, [alice.uid])).refused.length, 0);
  await b.send(thread, 'welcome back');
  await atB.all(['hello all', 'welcome back']);
  await b.dissolveGroup(thread);
  await atB.event('dissolved');
  const events = atB.messages.filter((m) => m.thread === thread && m.event).map((m) => m.event.what);
  assert.deepEqual(events, [
    ...['created', 'joined', 'role', 'renamed', 'muted', 'unmuted', 'mute_all', 'history', 'removed', 'owner', 'left', 'invited', 'dissolved'],
  ]);
  await close(a, b, c);
});

test('accounts are made and changed at the gate', async () => {
  const person = await cluster.person();
  const gate = cluster.gate();
  await assert.rejects(gate.login(person.email, 'wrong password'), { name: 'WrongPassword', code: 1009, op: 'gate login' });
  await assert.rejects(gate.register({ ...person, code: '000000' }), { code: 1003, name: 'NoVerificationCode' });
  const session = cluster.session(person);
  await session.open();
  const closed = next(session, 'closed');
  await gate.changePassword({ ...person, newPassword: 'another one' });
  assert.ok((await closed).error.advice === 'give up', 'the password it has is no more');
  const again = cluster.session({ ...person, password: 'another one' });
  await again.open();
  await again.close();
  await gate.deleteAccount(person.email, 'another one');
  await assert.rejects(cluster.session(person).open(), { name: 'WrongPassword' });
});

test('a page that is loaded again stays logged in', async () => {
  const { a, b, people, thread } = await cluster.pair();
  const storage = new Map();
  const like = {
    getItem: (key) => storage.get(key) ?? null,
    setItem: (key, value) => storage.set(key, value),
    removeItem: (key) => storage.delete(key),
  };
  const device = 'tab1';
  const first = cluster.session(people[0], { storage: like, device });
  await first.open();
  const collector = new Collector(first);
  await b.send(thread, 'one');
  await collector.all(['one']);
  const cursors = first.cursors();
  const { data } = first;
  await first.close();
  assert.ok(!JSON.stringify([...storage]).includes('password'));
  await b.send(thread, 'two');

  const o = { gate: cluster.gate(), WebSocket: cluster.network.dialer(), storage: like, device };
  const second = new Session({ ...o, cursors, data });
  const connected = next(second, 'connected');
  const after = new Collector(second);
  await second.open();
  assert.ok((await connected).resumed);
  await after.all(['two']);
  assert.deepEqual(after.texts, ['two'], 'from where the first one had come');
  await second.logout();
  assert.equal(second.error.name, 'LoggedOut');
  assert.equal(storage.size, 0);
  assert.throws(() => new Session(o), TypeError);

  // A ticket of a session that has ended is refused, and the gate is asked.
  const { ticket } = b;
  await b.logoutEverywhere();
  const third = cluster.session(people[1], { ticket });
  const back = next(third, 'connected');
  await third.open();
  assert.ok(!(await back).resumed);
  await assert.rejects(new Session({ ticket, WebSocket: cluster.network.dialer() }).open(), { name: 'TokenInvalid', advice: 'login' });
  await close(a, third);
});

test('callers can stop waiting', async () => {
  const { a, b, thread } = await cluster.pair();
  const abort = new AbortController();
  cluster.network.filter = (f) => (f.body.text_array?.[0].content === 'never answered' || f.id === 1029 ? [] : [f]);
  const sending = a.send(thread, 'never answered', { signal: abort.signal });
  const behind = a.send(thread, 'not sent', { signal: abort.signal });
  const reading = a.history(thread, { after: 0, signal: abort.signal });
  const slow = cluster.session({ email: 'x', password: 'y' }, { requestTimeout: 20 });
  abort.abort();
  for (const p of [sending, behind, reading]) await assert.rejects(p, { name: 'Aborted', code: 0 });
  await assert.rejects(slow.threads(), { name: 'Timeout', op: 'threads' });
  cluster.network.filter = null;
  await close(a, b, slow);
});
