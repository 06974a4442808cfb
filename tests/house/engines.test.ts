// Commands of the operator on every engine: run, ended with all that they started, and waited for by nobody once they have ended.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { engines, root, type Engine } from '../support/gateway.ts';

it.each(Object.keys(engines) as Engine[])('%s', async (engine) => {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-house-'));
  const program = (name: string, script: string) =>
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  program('good', `echo "$1"; (sleep 600 & echo $! > "${folder}/left"; wait) &`);
  program('hangs', `sleep 600 & echo $! > "${folder}/ended"; wait`);
  const { command, args } = engines[engine];
  const child = spawn(command, [...args, 'tests/support/run-watchdog.ts', folder], { cwd: root });
  const read = (name: string) => Number(readFileSync(join(folder, name), 'utf8'));
  let said = '';
  for (const pipe of [child.stdout, child.stderr]) pipe.on('data', (bytes) => (said += bytes));
  try {
    const [code] = await once(child, 'close');
    expect(code, said).toBe(0);
    const { outcomes, messages, code: none } = JSON.parse(said) as Record<string, unknown>;
    expect([outcomes, none]).toEqual([[true, false, false], null]);
    expect(messages).toEqual(expect.arrayContaining(['two words', 'r was restarted and answers again.']));
    // What a command leaves running on purpose goes on.
    expect([lives(read('left')), lives(read('ended'))]).toEqual([true, false]);
  } finally {
    child.kill('SIGKILL');
    if (existsSync(join(folder, 'left'))) process.kill(read('left'), 'SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
});

/** What has ended and waits for a parent that takes no notice does not live. */
function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
