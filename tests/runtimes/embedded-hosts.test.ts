// The embedded runtime gives the same answers on Node, Bun and Deno, and lets each of them exit.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const hosts: [name: string, args: string[]][] = [
  ['node', []],
  ['bun', []],
  ['deno', ['run', '-A', '--no-prompt']],
];

it('says the same with the same seed on every host, stops when told to, and ends', { timeout: 120_000 }, async () => {
  const answers = [];
  // One after the other: two engines on two cores would only slow each other down.
  for (const [name, args] of hosts) answers.push(await answer(name, args));
  const [node, bun, deno] = answers;
  expect(node).toMatchObject({ aborted: 'client_closed', dimensions: 96 });
  expect(node!['chunks']).toBeGreaterThan(5);
  expect(String(node!['text']).length).toBeGreaterThan(100);
  expect(node!['picture']).toMatch(/^[0-9a-f]{64}$/);
  expect(bun).toEqual(node);
  expect(deno).toEqual(node);
});

async function answer(name: string, args: string[]): Promise<Record<string, unknown>> {
  const { stdout } = await promisify(execFile)(
    `${root}node_modules/.bin/${name}`,
    [...args, 'tests/support/embedded-host.ts'],
    { cwd: root, timeout: 60_000 },
  );
  return JSON.parse(stdout) as Record<string, unknown>;
}
