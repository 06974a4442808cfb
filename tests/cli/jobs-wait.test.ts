// Waiting for jobs and watching them in this process, beside a gateway that really listens and works.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { JobView } from '../../src/jobs/view.ts';
import { call, createHome, type CallOptions } from '../support/command-line.ts';
import { eventually } from '../support/gateway.ts';
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

async function until(id: string, state: string): Promise<void> {
  const end = performance.now() + 5000;
  while ((await show(id)).state !== state) {
    if (performance.now() > end) throw new Error(`${id} is not ${state}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('jobs wait', () => {
  it.each([
    ['a word', 0, 'done'],
    ['fail', 1, 'failed'],
  ])('ends with how the job ended: %s', async (prompt, code, state) => {
    const id = await detach(prompt);
    const waited = await run(['jobs', 'wait', id, '--json']);
    expect(waited.code).toBe(code);
    expect(JSON.parse(waited.stdout)).toMatchObject({ id, state });
  });

  it('tells why a job failed, and prints no id for it', async () => {
    const { stdout, stderr } = await run(['jobs', 'wait', await detach('fail')]);
    expect(stdout).toBe('');
    expect(stderr).toContain('Too long for the easel.');
  });

  it('ends with 130 for a job that is cancelled meanwhile', async () => {
    const id = await detach('hold');
    const waiting = run(['jobs', 'wait', id]);
    await until(id, 'running');
    expect((await run(['jobs', 'cancel', id])).stdout).toBe(`${id}\n`);
    expect((await waiting).code).toBe(130);
    await eventually('it reached the runtime', () => studio.aborts === 1);
  });

  it('takes ids from standard input, whatever stands behind them', async () => {
    const ids = [await detach('one'), await detach('fail'), await detach('two')];
    const { code, stdout } = await run(['jobs', 'wait', '-'], {
      stdin: `${ids.map((id) => `${id}\tx y`).join('\n')}\n\n`,
    });
    expect(code).toBe(1);
    expect(stdout.trim().split('\n').toSorted()).toEqual([ids[0], ids[2]].toSorted());
  });

  it('ends with the first with --any', async () => {
    const held = await detach('hold');
    const quick = await detach('a word');
    expect((await run(['jobs', 'wait', held, quick, '--any'])).stdout).toBe(`${quick}\n`);
    studio.release();
  });

  it('gives up after --timeout with 124, and the job goes on', async () => {
    const id = await detach('hold');
    const { code, stderr } = await run(['jobs', 'wait', id, '--timeout', '0.5']);
    expect(code).toBe(124);
    expect(stderr).toContain(`hono-ai jobs wait ${id}`);
    await until(id, 'running');
    studio.release();
    expect((await run(['jobs', 'wait', id])).code).toBe(0);
    expect(studio.aborts).toBe(0);
  });

  it('is ended by Ctrl-C with 130, the job is not', async () => {
    const id = await detach('hold');
    const stop = new AbortController();
    const waiting = run(['jobs', 'wait', id], { signal: stop.signal });
    await until(id, 'running');
    stop.abort();
    const { code, stderr } = await waiting;
    expect(code).toBe(130);
    expect(stderr).toContain(`hono-ai jobs cancel ${id}`);
    studio.release();
    expect((await run(['jobs', 'wait', id])).code).toBe(0);
    expect(studio.aborts).toBe(0);
  });

  it('prints each event as a line with --json-stream, and what came of it last', async () => {
    const id = await detach('hold half hold');
    const waiting = run(['jobs', 'wait', id, '--json-stream'], {
      onOutput: (text) => text.includes('job:progress') && studio.release(),
    });
    await until(id, 'running');
    // Progress is told ten times a second at most.
    await new Promise((resolve) => setTimeout(resolve, 200));
    studio.release();
    const lines = (await waiting).stdout.trim().split('\n');
    const events = lines.map((line) => JSON.parse(line) as { type: string; result?: JobView });
    expect(events.map(({ type }) => type)).toEqual(expect.arrayContaining(['job:progress', 'job:done']));
    expect(events.at(-1)).toMatchObject({ type: 'result', result: { id, state: 'done' } });
  });

  it('draws one line on a terminal, and writes plain lines elsewhere', async () => {
    const follow = async (tty: boolean) => {
      const id = await detach('half hold');
      const waiting = run(['jobs', 'wait', id], { tty });
      await until(id, 'running');
      // A drawing a tenth of a second at most is what is promised, so it needs that long.
      await new Promise((resolve) => setTimeout(resolve, 300));
      studio.release();
      return { id, ...(await waiting) };
    };
    const drawn = await follow(true);
    expect(drawn.stderr).toContain('██████████░░░░░░░░░░');
    expect(drawn.stderr).toContain('50 %');
    expect(drawn.stderr.replaceAll('\r\x1b[K', '')).not.toMatch(/[\r\x1b]/);
    const plain = await follow(false);
    expect(plain.stderr).toContain(`${plain.id}: running: 50 %, 5 of 10 steps`);
    expect(plain.stderr).not.toMatch(/[\r\x1b█]/);
  });

  it('knows no job of that id, and none that was not named', async () => {
    expect((await run(['jobs', 'wait', `job_${'0'.repeat(32)}`])).code).toBe(3);
    expect((await run(['jobs', 'wait'], { stdin: '' })).code).toBe(2);
    expect((await run(['jobs', 'wait', '-'], { stdin: '' })).code).toBe(0);
    expect((await run(['jobs', 'wait', '../events'])).code).toBe(2);
  });
});

describe('jobs watch', () => {
  it('tells of everything until it is stopped', async () => {
    const stop = new AbortController();
    let seen = '';
    const watching = run(['jobs', 'watch'], { signal: stop.signal, onOutput: (text) => (seen = text) });
    await new Promise((resolve) => setTimeout(resolve, 300));
    const ids = [await detach('one'), await detach('fail')];
    await eventually(
      'both have ended',
      () => / done/.test(` ${seen.replaceAll('\t', ' ')}`) && seen.includes('failed'),
    );
    stop.abort();
    expect((await watching).code).toBe(130);
    for (const id of ids) expect(seen).toContain(`\t${id}\tqueued`);
  });

  it('of one job ends with it', async () => {
    const { code, stdout } = await run(['jobs', 'watch', await detach('a word'), '--json-stream']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout.trim().split('\n').at(-1)!)).toMatchObject({ type: 'job:done' });
  });
});

describe('without a gateway', () => {
  it('a job is kept, and what waits for it goes on when one serves', async () => {
    await gateway!.close();
    gateway = undefined;
    const { stdout, stderr } = await run(['text', 'gen', 'a word', '--detach'], { runtimes: [studio.runtime] });
    expect(stderr).toContain('starts with one: hono-ai serve');
    const id = stdout.trim();
    const waiting = run(['jobs', 'wait', id], { runtimes: [studio.runtime] });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(studio.begun).toEqual([]);
    gateway = await serveHere(home.env, studio.runtime);
    const { code, stdout: waited } = await waiting;
    expect({ code, waited }).toEqual({ code: 0, waited: `${id}\n` });
    expect((await run(['jobs', 'download', id])).stdout).toBe('a word\n');
  });
});
