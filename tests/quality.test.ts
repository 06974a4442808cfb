// Types, lint and format, so that the one test command says all.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { root } from './support/gateway.ts';

const run = promisify(execFile);

it.each([
  ['types', 'tsc', []],
  ['lint', 'oxlint', ['--deny-warnings']],
  ['format', 'oxfmt', ['--check']],
])('%s', { timeout: 120_000 }, async (_, tool, args) => {
  const output = await run(join(root, 'node_modules/.bin', tool), args, { cwd: root }).then(
    () => '',
    (error: { stdout: string; stderr: string }) => error.stdout + error.stderr,
  );
  expect(output).toBe('');
});
