// Measures how soon the chat page is seen: the median of ten loads, each with empty caches, in turn with an empty page, which says how
// much of it is the browser's and the machine's. PARLEY_GATE names gates, separated by commas, to compare them; without it,
// bin/standalone is started. `make paint` runs it.

import { createServer } from 'node:http';
import { loadavg } from 'node:os';

import { chromium } from 'playwright-core';

import { chromiumPath, gate } from './browser.mjs';
import { standalone } from './standalone.mjs';

const LOADS = 10;

const empty = createServer((_, response) => response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>-</title><p>-'));
await new Promise((resolve) => empty.listen(0, '127.0.0.1', resolve));
const server = gate ? { stop: () => {} } : await standalone();
const pages = [['an empty page', `http://127.0.0.1:${empty.address().port}`, false]];
for (const url of (gate ?? server.urls.gate).split(',')) pages.push([`the chat page at ${url}`, url, true]);
const browser = await chromium.launch({ executablePath: chromiumPath(), args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });

/** Loads a page with empty caches, and returns what was seen when, in ms. */
async function load(url, hasForm) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, reducedMotion: 'reduce', ignoreHTTPSErrors: true });
  const page = await context.newPage();
  // When the form is there, by the page's own clock.
  await page.addInitScript(() => {
    new MutationObserver((_, observer) => {
      if (!document.querySelector('input[type=password]')) return;
      observer.disconnect();
      requestAnimationFrame(() => { window.formShown = performance.now(); });
    }).observe(document, { childList: true, subtree: true });
  });
  await page.goto(url);
  await page.waitForFunction((form) => (!form || window.formShown) && performance.getEntriesByType('paint').length > 1, hasForm);
  const seen = await page.evaluate(() => {
    const paint = Object.fromEntries(performance.getEntriesByType('paint').map((e) => [e.name, e.startTime]));
    const loaded = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
    return {
      'first paint': paint['first-paint'],
      'first contentful paint': paint['first-contentful-paint'],
      'sign-in form': window.formShown,
      files: loaded.length,
      connections: loaded.filter((e) => e.connectEnd > e.connectStart).length,
    };
  });
  await context.close();
  return seen;
}

try {
  const figures = pages.map(() => ({}));
  for (let i = 0; i <= LOADS; i++) {
    for (const [k, [, url, hasForm]] of pages.entries()) {
      const seen = await load(url, hasForm);
      if (i === 0) continue; // the browser is still starting
      for (const [name, value] of Object.entries(seen)) if (value !== undefined) (figures[k][name] ??= []).push(value);
    }
  }
  console.log(`load ${loadavg()[0].toFixed(1)}`);
  for (const [k, [what]] of pages.entries()) {
    console.log(what);
    for (const [name, values] of Object.entries(figures[k])) {
      values.sort((a, b) => a - b);
      const unit = name === 'files' || name === 'connections' ? '' : ' ms';
      const median = (values[LOADS / 2 - 1] + values[LOADS / 2]) / 2;
      console.log(`  ${name}: ${Math.round(median)}${unit} (${Math.round(values[0])}–${Math.round(values.at(-1))}${unit})`);
    }
  }
} finally {
  await browser.close();
  server.stop();
  process.exit();
}
