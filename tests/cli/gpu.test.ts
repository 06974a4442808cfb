// `gpu` and what belongs to it from the command line: in this process, and against a gateway that runs.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { call, createHome, type CallOptions } from '../support/command-line.ts';
import { createLoading, GB, type LoadingRuntime } from '../support/loading-runtime.ts';
import { serveHere, type ServedHere } from './serve-here.ts';

let home: ReturnType<typeof createHome>;
let env: Record<string, string>;
let runtime: LoadingRuntime;
let served: ServedHere | undefined;
beforeEach(() => {
  home = createHome();
  env = { ...home.env, HONO_AI_EMBEDDED: 'false', HONO_AI_VRAM: '6GB' };
  runtime = createLoading({ name: 'shelf' });
});
afterEach(async () => {
  await served?.close();
  served = undefined;
  home.remove();
});

const run = (argv: string[], options: CallOptions = {}) =>
  call(argv, { ...options, env, runtimes: [options.runtimes?.[0] ?? runtime] });
const serve = async () => (served = await serveHere(env, runtime));

describe('gpu', () => {
  it('alone shows the card, with its flags; other words belong to it', async () => {
    const { code, stdout } = await run(['gpu', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ budget: 6 * GB, hold: null, waiting: [], swaps: [] });
    const help = (await run(['gpu', '--help'])).stdout;
    for (const word of ['--watch', 'gpu log', 'gpu plan', 'gpu hold', 'gpu release']) expect(help).toContain(word);
    expect((await run(['gpu', '--wtach'])).stderr).toContain('Did you mean --watch?');
    const { code: odd, stderr } = await run(['gpu', 'hodl']);
    expect([odd, stderr]).toEqual([2, expect.stringContaining('Did you mean hono-ai gpu hold?')]);
    expect((await run(['--help'])).stdout).toMatch(/ {2}gpu {2,}\S[\s\S]* {2}gpu hold/);
    const { stdout: script } = await run(['completion', 'bash']);
    expect(script).toContain("(' gpu') _hono_ai_offer < <(printf '%s\\n' 'log' 'plan' 'hold' 'release')");
  });
});

describe('gpu plan', () => {
  it('tells what would happen, by the id of the capability or the words of its command', async () => {
    for (const words of [['text.generate'], ['text', 'gen']]) {
      const { code, stdout, stderr } = await run(['gpu', 'plan', ...words, '-m', 'a']);
      expect(code, stderr).toBe(0);
      expect(stdout).toMatch(/^a on shelf: load\n/);
      expect(stdout).toMatch(/done in about .* to run/);
      expect(stderr).toContain('No gateway is running');
    }
    expect(runtime.loads).toEqual([]);
  });

  it('says what would leave, and all of it as JSON', async () => {
    runtime.inside.set('b', { model: 'b', vram: 4 * GB });
    const { stdout } = await run(['gpu', 'plan', 'text.generate', '-m', 'a']);
    expect(stdout).toMatch(/^a on shelf: swap\n.*\nunloads b of shelf\n/);
    const json = await run(['gpu', 'plan', 'text.generate', '-m', 'a', '--input', '{"prompt":"x"}', '--json']);
    expect(JSON.parse(json.stdout)).toMatchObject({ would: 'swap', evicts: [{ runtime: 'shelf', model: 'b' }] });
    expect([...runtime.inside.keys()]).toEqual(['b']);
  });

  it('fails with the exit codes of the run', async () => {
    expect((await run(['gpu', 'plan'])).code).toBe(2);
    const { code, stderr } = await run(['gpu', 'plan', 'text.generat']);
    expect([code, stderr]).toEqual([2, expect.stringContaining('Did you mean text.generate?')]);
    expect((await run(['gpu', 'plan', 'text.generate', '-m', 'nobody'])).code).toBe(3);
    expect((await run(['gpu', 'plan', 'text.generate', '--input', '{"temperature":"hot"}'])).code).toBe(2);
  });
});

describe('gpu hold', () => {
  it('lends the card of the gateway that runs; gpu shows it and who waits, and release gives it back', async () => {
    await serve();
    await run(['text', 'gen', 'Hi', '-m', 'a']);
    expect(runtime.inside.size).toBe(1);
    const { code, stdout, stderr } = await run(['gpu', 'hold', '--for', '30m', '--reason', 'gaming']);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^lent until \d\d:\d\d \(gaming\), 30 min more\n$/);
    expect(stderr).toContain('hono-ai gpu release');
    expect(runtime.inside.size).toBe(0);
    const waiting = run(['text', 'gen', 'Hi', '-m', 'a']);
    await expect.poll(async () => (await run(['gpu'])).stderr).toContain('waits: 1. a of shelf');
    const shown = (await run(['gpu'])).stderr;
    expect(shown).toMatch(/lent until \d\d:\d\d \(gaming\), \d+ min more/);
    expect(shown).toMatch(/waits: 1\. a of shelf.*: the card is lent until \d\d:\d\d \(gaming\)/);
    const longer = await run(['gpu', 'hold', '--for', '1h', '--json']);
    expect(JSON.parse(longer.stdout).hold).toMatchObject({ reason: 'gaming', left_s: 3600 });
    const back = await run(['gpu', 'release']);
    expect([back.code, back.stdout]).toEqual([0, 'The card is back.\n']);
    expect((await waiting).stdout).toBe('Hi\n');
    expect((await run(['gpu', 'release'])).stdout).toBe('The card was not lent.\n');
  });

  it('without a gateway is kept to by one that starts, and by one that is started again', async () => {
    const { code, stderr } = await run(['gpu', 'hold', '--for', '2h']);
    expect([code, stderr]).toEqual([0, expect.stringContaining('one that starts keeps to it')]);
    for (let starts = 0; starts < 2; starts++) {
      const { url, close } = await serve();
      const state = (await (await fetch(`${url}/gpu/hold`)).json()) as { hold: { left_s: number } };
      expect(state.hold.left_s).toBeGreaterThan(7100);
      await close();
      served = undefined;
    }
  });

  it('is refused without a time, and with one that is none', async () => {
    for (const argv of [[], ['--for', 'soon'], ['--for', '25h'], ['--for', '10']]) {
      const { code, stderr } = await run(['gpu', 'hold', ...argv]);
      expect([code, stderr], argv.join(' ')).toEqual([2, expect.stringContaining('--for')]);
    }
  });
});

describe('gpu log', () => {
  it('tells what left the card for what', async () => {
    expect((await run(['gpu', 'log'])).stderr).toContain('No gateway is running');
    await serve();
    for (const model of ['a', 'b', 'a']) expect((await run(['text', 'gen', 'Hi', '-m', model])).code).toBe(0);
    const { code, stdout } = await run(['gpu', 'log']);
    expect(code).toBe(0);
    const rows = stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split('\t'));
    expect(rows.map(([, model, , caller, gone]) => [model, caller, gone])).toEqual([
      ['a', 'owner', 'b'],
      ['b', 'owner', 'a'],
    ]);
    expect((await run(['gpu', 'log', '-n', '1'])).stdout.trim().split('\n')).toHaveLength(1);
    expect(JSON.parse((await run(['gpu', 'log', '--json'])).stdout).data).toHaveLength(2);
    expect((await run(['gpu'])).stderr).toMatch(/swap: \d\d:\d\d:\d\d b: unloaded a in [\d.]+ s/);
    expect((await run(['gpu', 'log', '-n', '0'])).code).toBe(2);
  });
});
