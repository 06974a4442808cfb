// Gateways whose disk is full: nothing is taken that is not safe, nothing is shown that is half, and all goes on when there is room.
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import type { JobView } from '../../src/jobs/view.ts';
import { openBench, type Bench } from '../support/kill-bench.ts';
import { mayMount } from '../support/may-mount.ts';

const LIMIT_MS = 60_000;

const closing: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

async function open(env: Record<string, string>): Promise<Bench> {
  const bench = await openBench(env);
  closing.push(() => bench.close());
  return bench;
}

describe.skipIf(!mayMount()).each(['node', 'bun'] as const)(
  'a disk that is full, on %s (needs the right to mount a tmpfs)',
  (engine) => {
    /** More than what the gateway leaves to others on a disk: 256 MB. */
    const SIZE = 300 * 1024 * 1024;

    function mountDisk(): string {
      const folder = mkdtempSync(join(tmpdir(), 'hono-ai-disk-'));
      closing.push(() => rmSync(folder, { recursive: true }));
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE}`, 'tmpfs', folder]);
      closing.push(() => void execFileSync('umount', [folder]));
      return folder;
    }

    /** Leaves so many bytes free, and none with 0. */
    function fill(folder: string, left: number): () => void {
      const path = join(folder, 'ballast');
      const file = openSync(path, 'w');
      const piece = new Uint8Array(1024 * 1024).fill(1);
      try {
        for (;;) {
          const { bavail, bsize } = statfsSync(folder);
          const room = bavail * bsize - left;
          if (room <= 0) break;
          writeSync(file, piece, 0, Math.min(room, piece.length));
        }
      } finally {
        closeSync(file);
      }
      return () => rmSync(path);
    }

    it('takes no job, says so with 507, and works again when there is room', { timeout: LIMIT_MS }, async () => {
      const disk = mountDisk();
      const bench = await open({ HONO_AI_STATE_DIR: join(disk, 'state') });
      const seat = await bench.seat(engine);
      const before = await bench.submit(seat.ask, { key: 'before' });
      await bench.ended(seat.ask, before.id);
      const empty = fill(disk, 0);
      const answers = [];
      // A few may fit into pages that the file has already; what was taken then must be there.
      for (let index = 0; index < 50 && answers.at(-1)?.status !== 507; index++) {
        answers.push(await bench.send(seat.ask, { key: `full-${index}` }));
      }
      const refused = answers.pop()!;
      expect(refused.status).toBe(507);
      expect(refused.json).toMatchObject({ error: { code: 'storage_full' } });
      expect(JSON.stringify(refused.json)).not.toContain(disk);
      for (const { status } of answers) expect(status).toBe(202);
      empty();
      const after = await bench.submit(seat.ask, { key: 'after', files: ['one'] });
      for (const { json } of [...answers, { json: after }]) {
        expect((await bench.ended(seat.ask, (json as JobView).id)).state).toBe('done');
      }
      expect((await seat.ask('owner', '/ready')).status).toBe(200);
    });

    it('keeps the end of a job that ran until there is room for it', { timeout: LIMIT_MS }, async () => {
      const disk = mountDisk();
      const bench = await open({ HONO_AI_STATE_DIR: join(disk, 'state') });
      const seat = await bench.seat(engine);
      const hold = bench.runtime.hold('held', seat.generation);
      const { id } = await bench.submit(seat.ask, { key: 'held' });
      await bench.execution(id, 1);
      const empty = fill(disk, 0);
      hold.release();
      await sleep(1500);
      empty();
      expect((await bench.ended(seat.ask, id)).state).toBe('done');
      expect(bench.runtime.of(id)).toHaveLength(1);
    });

    it('fails a job whose files have no room, and shows none of them', { timeout: LIMIT_MS }, async () => {
      const disk = mountDisk();
      const bench = await open({ HONO_AI_STATE_DIR: join(disk, 'state') });
      const seat = await bench.seat(engine);
      const hold = bench.runtime.hold('held', seat.generation);
      const { id } = await bench.submit(seat.ask, { key: 'held', files: ['one', 'two'] });
      await bench.execution(id, 1);
      const empty = fill(disk, 8 * 1024 * 1024);
      hold.release();
      const view = await bench.ended(seat.ask, id);
      expect(view).toMatchObject({ state: 'failed', artifacts: [], error: { code: 'storage_full' } });
      expect(await bench.artifacts(seat.ask)).toEqual([]);
      empty();
      const again = await bench.submit(seat.ask, { key: 'again', files: ['one', 'two'] });
      expect((await bench.ended(seat.ask, again.id)).artifacts).toHaveLength(2);
    });
  },
);
