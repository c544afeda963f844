// What people do with the page, one thing after the other, from the first registration on; and whether everybody can: what is on the screen is
// checked for accessibility, and pictures are taken at three widths, light and dark.

import assert from 'node:assert/strict';

import { ask, gate, PATIENCE, Person, register, run, until } from './browser.mjs';

const sizes = { phone: [390, 844], tablet: [768, 1024], desktop: [1440, 900] };

await run(async () => {
  await register('dave');
  const carol = await Person.open('carol');

  // The door refuses in words, and lets in.
  await carol.accessible('door');
  await carol.shot('door-desktop-light');
  await carol.page.getByLabel('E-mail').fill('carol@example.com');
  await carol.page.getByLabel('Password').fill('not-the-one');
  await carol.button('Sign in', { exact: true }).click();
  await carol.page.getByRole('alert').filter({ hasText: 'Wrong address or password.' }).waitFor();
  await carol.shot('door-refused-desktop-light');
  await carol.button('Create an account').click();
  await carol.page.getByLabel('Name').fill('carol');
  await carol.page.getByLabel('Password').fill('carol-secret');
  await carol.button('Send code').click();
  const code = await ask({ what: 'code', email: 'carol@example.com' });
  await carol.page.getByLabel('Verification code').fill(code === '000000' ? '000001' : '000000');
  await carol.button('Create an account').click();
  await carol.page.getByRole('alert').filter({ hasText: 'The code is wrong.' }).waitFor();
  await carol.accessible('registration');
  await carol.page.getByLabel('Verification code').fill(code);
  await carol.button('Create an account').click();
  await carol.page.locator('.shell').waitFor();
  await carol.page.getByText('No conversations yet').waitFor();
  await carol.accessible('an empty list');
  await carol.shot('empty-desktop-light');

  // Friends.
  const dave = await Person.open('dave', { width: 390, height: 844, colorScheme: 'dark', hasTouch: true, isMobile: true });
  await dave.signIn();
  await carol.addFriend('dave');
  await dave.page.getByRole('tab', { name: 'People' }).click();
  await dave.page.locator('.row', { hasText: 'carol' }).waitFor();
  await dave.accessible('an application');
  await dave.shot('people-phone-dark');
  await dave.accept('carol');
  await carol.open('dave');
  await dave.open('carol');

  // Texts: typing, marks, edit, recall, delete for me.
  await dave.page.locator('textarea').pressSequentially('Hello ');
  await carol.page.locator('.chat-sub', { hasText: 'typing…' }).waitFor();
  await dave.say('Hello carol');
  await carol.sees('Hello carol');
  await carol.say('Hello dave, see https://example.com/a?b=1.');
  await dave.sees('Hello dave');
  assert.equal(await dave.message('Hello dave').locator('a').getAttribute('href'), 'https://example.com/a?b=1');
  await carol.message('Hello dave').locator('.tick.read').waitFor();
  await carol.say('Tipo');
  await dave.sees('Tipo');
  await carol.choose('Tipo', 'Edit');
  await carol.say('Typo');
  await dave.sees('Typo');
  await dave.message('Typo').getByText('edited').waitFor();
  await carol.say('<img src=x onerror=alert(1)>');
  await dave.sees('<img src=x onerror=alert(1)>');
  await carol.choose('<img', 'Recall');
  await carol.button('Recall', { exact: true }).click();
  await dave.sees('carol recalled a message');
  await carol.choose('Hello carol', 'Delete for me');
  await carol.page.locator('dialog').getByRole('button', { name: 'Delete for me' }).click();
  await carol.message('Hello carol').waitFor({ state: 'detached' });
  assert.equal(await dave.message('Hello carol').count(), 1, 'the other still has it');

  // A second device of dave reads the same history; what is read on one is read on both.
  const second = await Person.open('talking');
  await second.signIn('dave@example.com', 'dave-secret');
  await second.sees('Typo');
  await carol.say('For both devices');
  await second.sees('For both devices');
  await dave.sees('For both devices');
  await second.say('Sent by the second');
  await dave.sees('Sent by the second');
  assert.ok((await dave.message('Sent by the second').getAttribute('class')).includes('own'));

  // A text that was not sent outlives its page, and even its session: then it goes out when the user has signed in again.
  const unsent = async (text) => {
    second.network.cut();
    await second.say(text);
    await second.page.locator('.msg.waiting').waitFor();
  };
  const back = async () => {
    await second.page.goto('about:blank');
    second.network.mend();
    await second.page.goto(gate);
  };
  await unsent('Sent later');
  await back();
  await carol.sees('Sent later');
  await second.sees('Sent later');
  await unsent('Not lost');
  await second.page.evaluate(() => {
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith('parley.ticket.')) localStorage.setItem(key, JSON.stringify({ ...JSON.parse(localStorage.getItem(key)), resume: 'spent' }));
    }
  });
  await back();
  await second.page.getByRole('alert').filter({ hasText: 'Please sign in again.' }).waitFor();
  await second.signIn('dave@example.com', 'dave-secret');
  await carol.sees('Not lost');

  // A group: made with a friend, renamed, joined by a link, left.
  await register('erin');
  const erin = await Person.open('erin', { width: 768, height: 1024 });
  await erin.signIn();
  await carol.button('New', { exact: true }).click();
  await carol.item('New group').click();
  await carol.page.getByLabel('Name of the group').fill('Book club');
  await carol.page.getByRole('checkbox').first().check();
  await carol.accessible('the dialog for a group');
  await carol.button('Create').click();
  await carol.page.locator('.chat-head h2', { hasText: 'Book club' }).waitFor();
  await carol.say('Welcome, everybody');
  await second.open('Book club');
  await second.sees('Welcome, everybody');
  await second.say('Thank you');
  await carol.sees('Thank you');
  await carol.button('Details').click();
  await carol.page.locator('.panel .row', { hasText: 'dave' }).waitFor();
  await carol.accessible('details of a group');
  await carol.shot('group-desktop-light');
  await carol.button('Invite links').click();
  await carol.button('New link').click();
  const link = await carol.page.locator('dialog .row-name').textContent();
  await carol.accessible('links');
  await carol.page.keyboard.press('Escape');
  await erin.button('New', { exact: true }).click();
  await erin.item('Join by link').click();
  await erin.page.getByLabel('Link or code').fill(link);
  await erin.button('Join', { exact: true }).click();
  await erin.page.locator('.event', { hasText: 'You joined' }).waitFor();
  await erin.say('Here I am');
  await carol.sees('Here I am');
  await carol.page.locator('.panel .row', { hasText: 'erin' }).waitFor();
  await carol.button('Rename').click();
  await carol.page.getByLabel('Name of the group').fill('The book club');
  await carol.button('Save').click();
  await erin.page.locator('.chat-head h2', { hasText: 'The book club' }).waitFor();
  await carol.page.getByRole('switch', { name: /Only admins write/ }).check();
  await erin.page.getByText('Only admins may write here.').waitFor();
  await erin.accessible('a group that one may not write to');
  await erin.button('Details').click();
  await erin.button('Leave group').click();
  await erin.page.locator('dialog').getByRole('button', { name: 'Leave group' }).click();
  await erin.page.getByText('You are no longer a member.').waitFor();
  await carol.page.locator('.event', { hasText: 'erin left' }).waitFor();

  // Search in a conversation, by the keyboard alone.
  await carol.button('Close').last().click();
  await carol.page.keyboard.press('Control+k');
  await carol.page.keyboard.type('dave');
  await carol.page.keyboard.press('Enter');
  await carol.page.locator('.chat-head h2', { hasText: 'dave' }).waitFor();
  await carol.page.keyboard.press('Control+f');
  await carol.page.keyboard.type('typo');
  await carol.page.locator('mark', { hasText: 'Typo' }).waitFor();
  await carol.page.keyboard.press('Escape');

  // A search that has not read everything says so, and goes on when it is asked to.
  const far = await carol.page.evaluate(async () => {
    const { seeker } = await import('./seek.js');
    const c = { messages: [], more: true };
    let pages = 0;
    let stuck = false;
    const older = async () => {
      if (stuck) throw new Error('no network');
      pages++;
      c.messages.unshift({ id: 1000 - pages, kind: 'text', text: pages === 25 ? 'needle' : 'hay', time: new Date(2026, 0, 31 - pages) });
      c.more = pages < 26;
    };
    const s = seeker({ older }, c, { draw: () => {}, goTo: () => {}, close: () => {} });
    document.body.append(s.el);
    const settled = async () => {
      do await new Promise((r) => setTimeout(r, 5)); while (s.el.querySelector('output').textContent === '…');
      return { pages, text: s.el.innerText.replace(/\s+/g, ' ').trim() };
    };
    const input = s.el.querySelector('input');
    input.value = 'needle';
    input.dispatchEvent(new Event('input'));
    const seen = [await settled()];
    for (stuck of [true, false, false]) {
      s.el.querySelector('.seek-far button').click();
      seen.push(await settled());
    }
    s.el.remove();
    return seen;
  });
  assert.deepEqual(far, [
    { pages: 20, text: 'None Searched back to 11 Jan 2026, 00:00. Search further' },
    { pages: 20, text: 'None Older messages could not be loaded. Try again' },
    { pages: 25, text: '1 / 1+ Searched back to 6 Jan 2026, 00:00. Search further' },
    { pages: 26, text: '1 / 1' },
  ]);

  // Pictures and checks at each width, light and dark, English and Chinese.
  for (const [size, [width, height]] of Object.entries(sizes)) {
    await carol.page.setViewportSize({ width, height });
    for (const colorScheme of ['light', 'dark']) {
      await carol.page.emulateMedia({ colorScheme });
      await carol.accessible(`a conversation, ${size}, ${colorScheme}`);
      await carol.shot(`chat-${size}-${colorScheme}`);
    }
  }
  await carol.button('You:').click();
  await carol.item('Settings').click();
  await carol.accessible('settings');
  await carol.page.getByText('中文').click();
  await carol.page.getByRole('tab', { name: '聊天' }).waitFor();
  await carol.accessible('in Chinese');
  await carol.shot('chat-desktop-dark-zh');
  await carol.button('你:').click();
  await carol.item('设置').click();
  await carol.page.getByText('English').click();

  // A demonstration: one click, and two people talk in two windows.
  const visitor = await Person.open('visitor');
  const demo = ['erin', 'dave'].map((name) => ({ name, email: `${name}@example.com`, password: `${name}-secret` }));
  await visitor.context.route('**/page.json', (route) => route.fulfill({ json: { demo } }));
  await visitor.page.reload();
  const opened = visitor.page.waitForEvent('popup');
  await visitor.button('Open both, side by side').click();
  const beside = await opened;
  beside.setDefaultTimeout(PATIENCE);
  await visitor.page.locator('.me[aria-label*="erin"]').waitFor();
  // The newest conversation is open. Where the window is narrow, it covers what belongs to the list.
  const talking = () => beside.locator('.shell[data-pane="chat"] .me[aria-label*="dave"]').waitFor({ state: 'attached' });
  await talking();
  assert.ok(!beside.url().includes('#'), beside.url());
  await beside.reload();
  await talking();

  // The end of a friendship, the end of a session.
  await carol.open('dave');
  await carol.button('Details').click();
  await carol.button('Block').click();
  await carol.page.locator('dialog').getByRole('button', { name: 'Block' }).click();
  await carol.page.getByText('You are not friends, so you cannot write here.').waitFor();
  await carol.button('You:').click();
  await carol.item('Sign out').first().click();
  await carol.page.getByLabel('E-mail').waitFor();
  await carol.page.reload();
  await carol.page.getByLabel('E-mail').waitFor();
  const kept = await carol.page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  assert.ok(!kept.includes('ticket') && !kept.includes('secret'), `nothing is kept of a session that was signed out: ${kept}`);
  await until('dave stays signed in', async () => ((await dave.page.locator('.shell').count()) ? '' : 'no shell'));
});
