// The dashboard, while a node is killed, brought back, drained and used again.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

import { ask, chromiumPath, PATIENCE } from './browser.mjs';

const shots = process.env.SCREENSHOTS ?? '';
const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const PROMISE = 2000; // what the page shows is at most so old, in ms
const SLACK = 3;

const complaints = [];
const browser = await chromium.launch({ executablePath: chromiumPath(), args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
const page = await browser.newPage({ viewport: { width: 1440, height: 1000 }, colorScheme: 'light', reducedMotion: 'reduce' });
page.setDefaultTimeout(PATIENCE);
page.on('pageerror', (e) => complaints.push(e.stack));
page.on('console', (m) => { if (m.type() === 'error') complaints.push(m.text()); });

async function shot(name, width, scheme) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.setViewportSize({ width, height: width < 500 ? 844 : 1000 });
  await page.emulateMedia({ colorScheme: scheme });
  await page.waitForTimeout(300); // the curves are drawn again
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
  await page.setViewportSize({ width: 1440, height: 1000 });
  await page.emulateMedia({ colorScheme: 'light' });
}

/** Checks the page with axe; levels A and AA. */
async function accessible(what) {
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme });
    const violations = await page.evaluate(async (code) => {
      if (!window.axe) (0, eval)(code);
      const { violations } = await window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] });
      return violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(' | ')}`);
    }, axe);
    assert.deepEqual(violations, [], `${what}, ${scheme}`);
  }
  await page.emulateMedia({ colorScheme: 'light' });
}

/** What the page says of the nodes: { chat1: { state, sessions } }. */
const shown = () => page.evaluate(() => Object.fromEntries([...document.querySelectorAll('#node-rows tr')].map((row) => [row.dataset.node, {
  state: row.querySelector('[data-is=state]').textContent, sessions: row.querySelector('[data-is=sessions]').textContent,
}])));

/** Whether the page says of a node what is true. */
function agrees(says, is) {
  if (!says) return false;
  if (!is.running) return is.live ? says.state === 'Silent' || says.state === 'Dead' : says.state === 'Dead';
  const states = is.draining ? ['Draining', 'Drained'] : ['Open'];
  return states.includes(says.state) && says.sessions === String(is.sessions);
}

/** Waits until something is true of the cluster, and then until the page says so; reports how long the page took. */
async function becomes(what, holds) {
  const began = performance.now();
  let since = 0;
  for (;;) {
    const truth = JSON.parse(await ask({ what: 'truth' }));
    const now = performance.now();
    if (!since && holds(truth)) since = now;
    const says = await shown();
    if (since && Object.keys(truth).every((name) => agrees(says[name], truth[name]))) {
      console.log(`${what}: shown after ${Math.round(performance.now() - since)} ms`);
      return;
    }
    const last = `${what}: the page says ${JSON.stringify(says)}, true is ${JSON.stringify(truth)}`;
    assert.ok(!since || now - since < PROMISE * SLACK, last);
    assert.ok(now - began < PATIENCE, last);
    await new Promise((done) => setTimeout(done, 50));
  }
}

const all = (truth, f) => Object.values(truth).every(f);
const sum = (truth) => Object.values(truth).reduce((n, t) => n + t.sessions, 0);
const button = (name) => page.getByRole('button', { name, exact: true });
const confirm = async (name) => {
  await page.locator('dialog').getByRole('button', { name, exact: true }).click();
  await page.locator('dialog').waitFor({ state: 'hidden' });
};

try {
  await page.goto(`http://${await ask({ what: 'ops' })}/`);
  await becomes('the cluster', (t) => all(t, (n) => n.live && n.sessions > 0));
  await accessible('at rest');
  await button('中文').click();
  await page.getByRole('heading', { name: '节点' }).waitFor();
  await page.locator('#events', { hasText: '接受登录' }).waitFor();
  await accessible('in Chinese');
  await shot('dash-zh', 1440, 'light');
  await page.reload();
  await page.getByRole('heading', { name: '节点' }).waitFor(); // the choice is kept
  await button('English').click();
  await becomes('the cluster after a reload', (t) => all(t, (n) => n.live));
  const people = sum(JSON.parse(await ask({ what: 'truth' })));

  await ask({ what: 'kill', node: 'chat1' });
  await becomes('a killed node', (t) => !t.chat1.running);
  await becomes('its clients elsewhere', (t) => t.chat2.sessions === people);
  await page.locator('#events [data-kind=silent]').first().waitFor();
  await accessible('with a silent node');
  await shot('dash-silent', 1440, 'dark');

  await ask({ what: 'start', node: 'chat1' });
  await becomes('the node back', (t) => t.chat1.running && t.chat1.live);

  await button('Rebalance…').click();
  await page.getByRole('heading', { name: 'Rebalance?' }).waitFor();
  await accessible('a question');
  await shot('dash-rebalance', 1440, 'light');
  await confirm('Move them');
  await becomes('a rebalance', (t) => Math.abs(t.chat1.sessions - t.chat2.sessions) <= 1 && sum(t) === people);

  await button('Drain chat2').click();
  await page.getByLabel('Spread over').fill('3');
  await confirm('Drain');
  await becomes('a drain', (t) => t.chat2.draining);
  await becomes('a drained node', (t) => t.chat2.sessions === 0 && t.chat1.sessions === people);
  await page.locator('[data-node=chat2] [data-is=state]', { hasText: 'Drained' }).waitFor();
  const note = await page.locator('[data-node=chat2] [data-is=note]').textContent();
  console.log(note);
  const [, moved, told] = note.match(/^(\d+) of (\d+) clients moved · gap p50 .*, p99 .*, max /) ?? [];
  assert.ok(moved && moved === told, note);
  await shot('dash', 1440, 'light');
  await shot('dash-768', 768, 'dark');
  await shot('dash-390', 390, 'light');

  await button('Undrain chat2').click();
  await confirm('Undrain');
  await becomes('the node in use again', (t) => !t.chat2.draining);

  await page.getByLabel('User').fill('30040');
  await button('Find').click();
  await page.getByRole('button', { name: /^End session of 30040/ }).click();
  await confirm('End session');
  await page.getByText('User 30040 is not logged in.').waitFor();
  await becomes('a session ended', (t) => sum(t) === people - 1);
  assert.deepEqual(complaints, []);
} catch (error) {
  console.error(error, complaints);
  await shot('failure-dash', 1440, 'light');
  process.exitCode = 1;
} finally {
  await browser.close();
  process.exit();
}
