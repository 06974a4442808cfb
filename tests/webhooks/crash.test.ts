// A gateway that dies between the receiver's answer and writing it down sends again, under the same id, until it could.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openFakeReceiver, type FakeReceiver } from '../support/fake-receiver.ts';
import { engines, root } from '../support/gateway.ts';

let receiver: FakeReceiver;
let folder: string;

beforeEach(async () => {
  receiver = await openFakeReceiver();
  folder = mkdtempSync(join(tmpdir(), 'hono-ai-crash-'));
});
afterEach(async () => {
  await receiver.close();
  rmSync(folder, { recursive: true, force: true });
});

describe.each(['node', 'bun'] as const)('on %s', (engine) => {
  const { command, args } = engines[engine];
  const live = (options: { url?: string; dies: boolean; laterMs: number }) =>
    new Promise<{ signal: string | null; out: string; err: string }>((resolve) => {
      const given = JSON.stringify({ path: join(folder, 'store.sqlite'), ...options });
      const child = execFile(command, [...args, 'tests/webhooks/crash-child.ts', given], { cwd: root }, (_, out, err) =>
        resolve({ signal: child.signalCode, out, err }),
      );
    });

  it('the id is the same after every death, and the first success is the last try', { timeout: 60_000 }, async () => {
    const url = `${receiver.url}/ok`;
    // Each try belongs to its gateway for its timeout and ten seconds more.
    expect((await live({ url, dies: true, laterMs: 0 })).signal).toBe('SIGKILL');
    expect((await live({ dies: true, laterMs: 15_000 })).signal).toBe('SIGKILL');
    expect((await live({ dies: true, laterMs: 30_000 })).signal).toBe('SIGKILL');
    const { out, err } = await live({ dies: false, laterMs: 45_000 });
    expect(err.replaceAll(/^.*ExperimentalWarning.*\n.*\n/gm, '')).toBe('');
    const delivered = JSON.parse(out);
    expect(delivered).toMatchObject({ state: 'delivered', attempts: 4, status: 200 });
    const ids = receiver.received.map(({ headers }) => headers['webhook-id']);
    expect(ids).toEqual(Array(4).fill(delivered.id));
    expect(new Set(receiver.received.map(({ body }) => body)).size).toBe(1);
  });

  it('nobody takes over a try whose time is not over', { timeout: 60_000 }, async () => {
    expect((await live({ url: `${receiver.url}/ok`, dies: true, laterMs: 0 })).signal).toBe('SIGKILL');
    expect((await live({ dies: false, laterMs: 0 })).err).toContain('nothing was delivered');
    expect(receiver.received).toHaveLength(1);
  });
});
