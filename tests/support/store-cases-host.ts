// The store suite on another host: one child process runs all cases, and each is a test here.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { engines, root, type Engine } from './gateway.ts';
import type { StoreName } from './store-cases-factories.ts';
import { storeCases } from './store-cases.ts';

const run = promisify(execFile);
const LONGEST_MS = 300_000;
const OPERATIONS = '600';

export function testStoreOn(engine: Engine, store: StoreName): void {
  describe(`store ${store} on ${engine}`, () => {
    const results = new Map<string, string | undefined>();
    beforeAll(async () => {
      const { command, args } = engines[engine];
      const script = join(root, 'tests/support/run-store-cases.ts');
      const { stdout } = await run(command, [...args, script, store], {
        cwd: root,
        timeout: LONGEST_MS,
        env: { ...process.env, HONO_AI_STORE_OPERATIONS: OPERATIONS },
      });
      for (const line of stdout.split('\n')) {
        if (!line.startsWith('{"name"')) continue;
        const { name, error } = JSON.parse(line) as { name: string; error?: string };
        results.set(name, error);
      }
    }, LONGEST_MS);

    it.each(storeCases)('$name', ({ name }) => {
      expect(results.has(name), 'the case was not run').toBe(true);
      expect(results.get(name)).toBeUndefined();
    });
  });
}
