// The package as its users get it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Cluster, test } from './cluster.js';

const here = fileURLToPath(new URL('..', import.meta.url));

test('a fresh project installs the packed file, and the lines of the README work', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'parley-pack-'));
  const cluster = await Cluster.start();
  try {
    const run = (program, ...args) => execFileSync(program, args, { cwd: dir, encoding: 'utf8', timeout: 60000 });
    const npm = (...args) => run('npm', ...args, '--offline', '--no-audit', '--no-fund', '--cache', join(dir, 'cache'));
    npm('pack', here, '--pack-destination', dir);
    const [file] = readdirSync(dir).filter((name) => name.endsWith('.tgz'));
    writeFileSync(join(dir, 'package.json'), '{"name":"fresh","private":true}');
    npm('install', `./${file}`);
    const installed = join(dir, 'node_modules', 'parley-client');
    assert.deepEqual(
      readdirSync(installed).sort(),
      [...readdirSync(here).filter((name) => name.endsWith('.js')), 'LICENSE', 'parley.d.ts', 'package.json', 'README.md'].sort(),
    );
    assert.ok(!existsSync(join(installed, 'node_modules')));
    assert.equal(readFileSync(join(installed, 'LICENSE'), 'utf8'), readFileSync(join(here, '../../LICENSE'), 'utf8'), 'a copy of the root one');

    cpSync(join(here, 'node_modules', 'ws'), join(dir, 'node_modules', 'ws'), { recursive: true });
    const readme = readFileSync(join(here, 'README.md'), 'utf8');
    const lines = /```js\n(.*?)```/s.exec(readme)[1];
    assert.ok(lines.trim().split('\n').filter(Boolean).length <= 10);
    writeFileSync(join(dir, 'chat.mjs'), lines.replace('http://127.0.0.1:8080', cluster.url));
    const out = run('node', 'chat.mjs');
    assert.match(out, /stored as message \d+/);
  } finally {
    await cluster.close();
    rmSync(dir, { recursive: true });
  }
});
