// The commands for jobs in this process, asking a gateway that really listens and works.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { JobView } from '../../src/jobs/view.ts';
import { call, createHome, type CallOptions, type Ran } from '../support/command-line.ts';
import { createStudio, serveHere, type ServedHere, type Studio } from './serve-here.ts';

let home: ReturnType<typeof createHome>;
let studio: Studio;
let gateway: ServedHere | undefined;

beforeEach(async () => {
  home = createHome();
  studio = createStudio();
  gateway = await serveHere(home.env, studio.runtime);
});
afterEach(async () => {
  await gateway?.close();
  home.remove();
});

const run = (argv: string[], options: CallOptions = {}) =>
  call(argv, { ...options, env: { ...home.env, ...options.env } });

async function detach(prompt: string, ...flags: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(['text', 'gen', prompt, '--detach', ...flags]);
  expect(code, stderr).toBe(0);
  expect(stdout).toMatch(/^job_[0-9a-f]{32}\n$/);
  return stdout.trim();
}

async function show(id: string): Promise<JobView> {
  return JSON.parse((await run(['jobs', 'show', id, '--json'])).stdout) as JobView;
}

describe('--detach', () => {
  it('prints the id alone, and says how to go on elsewhere', async () => {
    const { stdout, stderr } = await run(['text', 'gen', 'a word', '--detach']);
    const id = stdout.trim();
    expect(stdout).toBe(`${id}\n`);
    expect(stderr).toContain(`hono-ai jobs wait ${id}`);
    expect((await run(['jobs', 'wait', id])).stdout).toBe(stdout);
    expect((await run(['jobs', 'download', id])).stdout).toBe('a word\n');
  });

  it('prints the job with --json', async () => {
    const { stdout } = await run(['text', 'gen', 'a word', '--detach', '--json']);
    expect(JSON.parse(stdout)).toMatchObject({ object: 'job', capability: 'text.generate' });
  });

  it('says of a job what its flags say', async () => {
    const id = await detach('a word', '--delay', '600', '--priority', 'background', '-m', 'easel');
    const job = await show(id);
    expect(job).toMatchObject({ state: 'queued', priority: 'background', model: 'easel' });
    expect(Date.parse(job.run_at) - Date.parse(job.created_at)).toBe(600_000);
  });

  it('gives the same job for the same key', async () => {
    const first = await detach('a word', '--idempotency-key', 'once');
    expect(await detach('a word', '--idempotency-key', 'once')).toBe(first);
    const other = await run(['text', 'gen', 'other words', '--detach', '--idempotency-key', 'once']);
    expect(other.code).toBe(2);
  });

  it('remembers what a seed made, unless --no-cache', async () => {
    const first = await detach('a word', '--seed', '1');
    await run(['jobs', 'wait', first]);
    const second = await detach('a word', '--seed', '1');
    await run(['jobs', 'wait', second]);
    expect(studio.begun).toHaveLength(1);
    expect((await show(second)).cached).toBe(true);
    await run(['jobs', 'wait', await detach('a word', '--seed', '1', '--no-cache')]);
    expect(studio.begun).toHaveLength(2);
  });

  it('is needed for what only a job can have', async () => {
    const { code, stderr } = await run(['text', 'gen', 'a word', '--delay', '5']);
    expect(code).toBe(2);
    expect(stderr).toContain('Add --detach');
  });
});

describe('jobs ls and show', () => {
  it('list the newest first, with the id in the first column', async () => {
    const ids = [await detach('one'), await detach('fail')];
    await run(['jobs', 'wait', ...ids]);
    const rows = (await run(['jobs', 'ls'])).stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split('\t'));
    expect(rows.map(([id, state]) => [id, state])).toEqual([
      [ids[1], 'failed'],
      [ids[0], 'done'],
    ]);
    expect(rows[0]![5]).toContain('Too long for the easel.');
  });

  it('filter by state, and print ids alone', async () => {
    const [good, bad] = [await detach('one'), await detach('fail')];
    await run(['jobs', 'wait', good, bad]);
    expect((await run(['jobs', 'ls', '--state', 'failed', '--ids'])).stdout).toBe(`${bad}\n`);
    expect((await run(['jobs', 'ls', '--state', 'failed,done', '--ids'])).stdout).toBe(`${bad}\n${good}\n`);
    expect((await run(['jobs', 'ls', '--state', 'over'])).code).toBe(2);
    expect((await run(['jobs', 'ls', '--capability', 'text.chat', '--ids'])).stdout).toBe('');
  });

  it('go on from page to page, as far as asked', async () => {
    const { stdout } = await run(['jobs', 'batch', '-', '--capability', 'text.generate', '--delay', '600'], {
      stdin: Array.from({ length: 130 }, (_, index) => JSON.stringify({ prompt: `${index}` })).join('\n'),
    });
    const batch = stdout.trim();
    const count = async (...flags: string[]) =>
      (await run(['jobs', 'ls', '--batch', batch, '--ids', ...flags])).stdout.trim().split('\n').length;
    expect([await count(), await count('--limit', '110'), await count('--all')]).toEqual([20, 110, 130]);
    const lines = (await run(['jobs', 'ls', '--json-stream', '--limit', '3'])).stdout.trim().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as JobView).object)).toEqual(['job', 'job', 'job']);
    expect(JSON.parse((await run(['jobs', 'ls', '--json'])).stdout)).toMatchObject({ object: 'list', has_more: true });
  });

  it('show one with its result', async () => {
    const id = await detach('a word');
    await run(['jobs', 'wait', id]);
    expect(await show(id)).toMatchObject({ id, result: { text: 'a word', model: 'easel' } });
    expect((await run(['jobs', 'show', id])).stdout).toContain('state\tdone\n');
  });

  it('leave no way to drive a terminal', async () => {
    const id = await detach('a\x1b]0;title\x07b');
    await run(['jobs', 'wait', id]);
    for (const argv of [
      ['jobs', 'show', id],
      ['jobs', 'download', id],
      ['jobs', 'ls'],
    ]) {
      expect((await run(argv, { tty: true })).stdout).not.toMatch(/\x1b\]|\x07/);
    }
  });
});

describe('jobs cancel, retry and rm', () => {
  it('are done with the ids that come in, and go out again', async () => {
    const bad = await detach('fail');
    await run(['jobs', 'wait', bad]);
    const failed = await run(['jobs', 'ls', '--state', 'failed']);
    const again = await run(['jobs', 'retry', '-'], { stdin: failed.stdout });
    expect(again.stdout).toBe(`${bad}\n`);
    await run(['jobs', 'wait', '-'], { stdin: again.stdout });
    expect(studio.begun).toEqual(['fail', 'fail']);
    expect((await run(['jobs', 'rm', bad])).stdout).toBe(`${bad}\n`);
    expect((await run(['jobs', 'show', bad])).code).toBe(3);
  });

  it('tell what could not be done, and do the rest', async () => {
    const done = await detach('a word');
    await run(['jobs', 'wait', done]);
    const waiting = await detach('a word', '--delay', '600');
    const { code, stdout, stderr } = await run(['jobs', 'cancel', done, waiting]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: `${waiting}\n` });
    expect(stderr).toContain(done);
    expect((await show(waiting)).state).toBe('cancelled');
    const whole = JSON.parse((await run(['jobs', 'cancel', done, '--json'])).stdout) as unknown;
    expect(whole).toMatchObject({ error: { code: 'conflict' } });
  });
});

describe('jobs download', () => {
  it('saves files under their own names, and prints where', async () => {
    const out = join(home.folder, 'out');
    const id = await detach('file:one.txt file:two.txt');
    await run(['jobs', 'wait', id]);
    const { code, stdout, stderr } = await run(['jobs', 'download', '-', '-o', `${out}/`], { stdin: id });
    expect(code, stderr).toBe(0);
    expect(stdout).toBe(`${join(out, 'one.txt')}\n${join(out, 'two.txt')}\n`);
    expect(readFileSync(join(out, 'two.txt'), 'utf8')).toBe('two.txt');
    expect(readdirSync(out).toSorted()).toEqual(['one.txt', 'two.txt']);
  });

  it('writes over nothing, unless told to', async () => {
    const file = join(home.folder, 'mine.txt');
    writeFileSync(file, 'mine');
    const id = await detach('file:one.txt');
    await run(['jobs', 'wait', id]);
    const { code, stderr } = await run(['jobs', 'download', id, '-o', file]);
    expect(code).toBe(1);
    expect(stderr).toContain('--force');
    expect(readFileSync(file, 'utf8')).toBe('mine');
    expect((await run(['jobs', 'download', id, '-o', file, '--force'])).code).toBe(0);
    expect(readFileSync(file, 'utf8')).toBe('one.txt');
  });

  it('keeps to the folder, whatever a file is called', async () => {
    const out = join(home.folder, 'a', 'out');
    mkdirSync(out, { recursive: true });
    const id = await detach('file:../../escape.txt file:/etc/escape.txt file:-rf.txt');
    await run(['jobs', 'wait', id]);
    const { stdout } = await run(['jobs', 'download', id, '-o', out]);
    expect(stdout.trim().split('\n')).toHaveLength(3);
    expect(readdirSync(out).toSorted()).toEqual(['escape-2.txt', 'escape.txt', 'rf.txt']);
    expect(existsSync(join(home.folder, 'escape.txt'))).toBe(false);
  });

  it('sends bytes to standard output with -o -, one file at most', async () => {
    const [one, two] = [await detach('file:one.txt'), await detach('file:one.txt file:two.txt')];
    await run(['jobs', 'wait', one, two]);
    expect((await run(['jobs', 'download', one, '-o', '-'])).stdout).toBe('one.txt');
    expect((await run(['jobs', 'download', two, '-o', '-'])).code).toBe(2);
  });

  it('makes a file of a text, and needs a job that is done', async () => {
    const id = await detach('a word');
    await run(['jobs', 'wait', id]);
    expect((await run(['jobs', 'download', id, '-o', `${home.folder}/`])).code).toBe(0);
    expect(readFileSync(join(home.folder, `${id}.txt`), 'utf8')).toBe('a word\n');
    const held = await run(['jobs', 'download', await detach('x', '--delay', '600')]);
    expect(held.code).toBe(1);
    expect(held.stderr).toContain('jobs wait');
    const bad = await detach('fail');
    await run(['jobs', 'wait', bad]);
    expect((await run(['jobs', 'download', bad])).stderr).toContain('Too long for the easel.');
  });
});

describe('batches', () => {
  const start = async (lines: unknown[], ...flags: string[]): Promise<Ran> =>
    run(['jobs', 'batch', '--capability', 'text.generate', '-', ...flags], {
      stdin: lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'),
    });

  it('are one id for many inputs, waited for like a job', async () => {
    const { stdout } = await start([{ prompt: 'one' }, { prompt: 'two' }], '--model', 'easel');
    expect(stdout).toMatch(/^batch_[0-9a-f]{32}\n$/);
    const waited = await run(['jobs', 'wait', '-', '--json'], { stdin: stdout });
    expect(waited.code, waited.stderr).toBe(0);
    expect(JSON.parse(waited.stdout)).toMatchObject({ object: 'batch', counts: { done: 2 } });
    expect(studio.begun.toSorted()).toEqual(['one', 'two']);
  });

  it('end with 1 where one of their jobs failed', async () => {
    const { stdout } = await start([{ prompt: 'one' }, { prompt: 'fail' }]);
    const { code, stderr } = await run(['jobs', 'wait', stdout.trim()]);
    expect(code).toBe(1);
    expect(stderr).toContain('1 failed');
  });

  it('can be cancelled, and looked at', async () => {
    const id = (await start([{ prompt: 'one' }, { prompt: 'two' }], '--delay', '600')).stdout.trim();
    expect((await run(['jobs', 'cancel', id])).stdout).toBe(`${id}\n`);
    expect((await run(['jobs', 'wait', id])).code).toBe(130);
    expect((await run(['jobs', 'show', id])).stdout).toContain('total\t2');
  });

  it('name the line that cannot be used', async () => {
    const { code, stderr } = await start([{ prompt: 'one' }, 'two']);
    expect(code).toBe(2);
    expect(stderr).toContain('Line 2');
    expect((await run(['jobs', 'batch', '-'], { stdin: '{}' })).stderr).toContain('--capability');
  });
});
