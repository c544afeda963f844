// The standalone program, for scripts that people run.

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export const root = join(import.meta.dirname, '../..');

/** Starts bin/standalone and returns the URLs that it prints, by name, and what stops it. */
export async function standalone() {
  const server = spawn(join(root, 'bin/standalone'), ['--free-ports', '--data', ''], { stdio: ['ignore', 'pipe', 'inherit'] });
  const urls = {};
  await new Promise((resolve, reject) => {
    server.on('error', reject);
    server.on('exit', (code) => reject(new Error(`standalone ended with ${code}`)));
    createInterface({ input: server.stdout }).on('line', (line) => {
      const found = /^\s+(gate|operations|dashboard)\s+(http:\/\/[^/\s]+)/.exec(line);
      if (found) urls[found[1]] = found[2];
      if (line.startsWith('Ctrl-C')) resolve();
    });
  });
  server.removeAllListeners('exit');
  return { urls, stop: () => server.kill() };
}
