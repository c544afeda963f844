// Takes the README's pictures from the real thing: two people who talk on the chat page, and the dashboard. `make screenshots` runs it.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

import { chromiumPath } from './browser.mjs';
import { root, standalone } from './standalone.mjs';

const out = join(root, 'docs/img');
const talk = [
  ['alice', 'Are we still on for the lake on Saturday?'],
  ['bob', 'Yes! The train leaves at 9:40, platform 7.'],
  ['bob', 'I bring the stove if you bring something worth cooking on it.'],
  ['alice', 'Deal. There is a bakery at the station that opens at eight, so breakfast is covered too.'],
  ['bob', 'Croissants?'],
  ['alice', 'Croissants. See you at the clock at half past nine.'],
];

const { urls, stop } = await standalone();
const browser = await chromium.launch({ executablePath: chromiumPath(), args: ['--no-sandbox', '--disable-gpu'] });
try {
  mkdirSync(out, { recursive: true });
  const scale = { deviceScaleFactor: 2, locale: 'en-GB', reducedMotion: 'reduce' };
  const person = async (name, other, width, colorScheme) => {
    const context = await browser.newContext({ ...scale, viewport: { width, height: 640 }, colorScheme });
    const page = await context.newPage();
    await page.goto(urls.gate);
    await page.locator('.demo .button', { hasText: name }).click();
    await page.locator('button.row', { hasText: other }).click();
    await page.locator('textarea').waitFor();
    return page;
  };
  const pages = { alice: await person('alice', 'bob', 860, 'light'), bob: await person('bob', 'alice', 390, 'dark') };
  for (const [who, text] of talk) {
    await pages[who].locator('textarea').pressSequentially(text, { delay: 5 });
    await pages[who].getByRole('button', { name: 'Send', exact: true }).click();
    for (const page of Object.values(pages)) await page.locator('.msg[data-id] .said', { hasText: text }).waitFor();
  }
  await pages.alice.locator('.msg.own').last().locator('.tick.read').waitFor();
  await pages.bob.waitForTimeout(3000); // the next that is told of typing, after that of his last text
  await pages.bob.locator('textarea').pressSequentially('Half past nine');
  await pages.alice.locator('.chat-sub.typing').waitFor();
  await pages.alice.bringToFront();
  const pictures = {};
  for (const [who, page] of Object.entries(pages)) pictures[who] = (await page.screenshot()).toString('base64');

  const table = await browser.newPage({ ...scale, viewport: { width: 1330, height: 720 } });
  await table.setContent(`<style>
    body { margin: 0; display: flex; justify-content: center; align-items: center; gap: 24px; height: 720px; background: #dfe5e0; }
    img { height: 640px; border-radius: 14px; box-shadow: 0 2px 6px rgb(20 40 34 / 18%), 0 18px 50px rgb(20 40 34 / 24%); }
  </style><img src="data:image/png;base64,${pictures.alice}"><img src="data:image/png;base64,${pictures.bob}">`);
  await table.screenshot({ path: join(out, 'chat.png') });

  const dashboard = await browser.newPage({ ...scale, viewport: { width: 1330, height: 900 }, deviceScaleFactor: 1 });
  await dashboard.goto(`${urls.dashboard ?? urls.operations}/`);
  await dashboard.waitForTimeout(6000); // for the curves to have a beginning
  await dashboard.screenshot({ path: join(out, 'dashboard.png') });
} finally {
  await browser.close();
  stop();
}
