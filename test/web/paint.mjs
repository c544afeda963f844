// Measures how soon the chat page is seen: the median of ten loads, each with empty caches. PARLEY_GATE names a gate; without it,
// bin/standalone is started. `make paint` runs it.

import { chromium } from 'playwright-core';

import { chromiumPath, gate } from './browser.mjs';
import { standalone } from './standalone.mjs';

const LOADS = 10;

const server = gate ? { urls: { gate }, stop: () => {} } : await standalone();
const browser = await chromium.launch({ executablePath: chromiumPath(), args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
try {
  const figures = { 'first paint': [], 'first contentful paint': [], 'sign-in form': [], files: [], connections: [] };
  for (let i = 0; i <= LOADS; i++) {
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
    await page.goto(server.urls.gate);
    await page.waitForFunction(() => window.formShown && performance.getEntriesByType('paint').length > 1);
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
    if (i === 0) continue; // the browser is still starting
    for (const [name, value] of Object.entries(seen)) figures[name].push(value);
  }
  for (const [name, values] of Object.entries(figures)) {
    values.sort((a, b) => a - b);
    const unit = name === 'files' || name === 'connections' ? '' : ' ms';
    const median = (values[LOADS / 2 - 1] + values[LOADS / 2]) / 2;
    console.log(`${name}: ${Math.round(median)}${unit} (${Math.round(values[0])}–${Math.round(values.at(-1))}${unit})`);
  }
} finally {
  await browser.close();
  server.stop();
  process.exit();
}
