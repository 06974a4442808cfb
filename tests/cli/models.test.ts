// `models`, `ps`, `gpu`: got, loaded, named and deleted from the command line, in this process.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { call, createHome, type CallOptions } from '../support/command-line.ts';
import { eventually } from '../support/eventually.ts';
import { openShelf, type Shelf } from '../support/open-shelf.ts';

let home: ReturnType<typeof createHome>;
let shelf: Shelf;
beforeEach(() => {
  home = createHome();
  shelf = openShelf({ models: ['here:1b', 'there:1b'] });
});
afterEach(() => home.remove());

const run = (argv: string[], options: CallOptions = {}) =>
  call(argv, {
    ...options,
    runtimes: options.runtimes ?? [shelf.runtime],
    env: { ...home.env, HONO_AI_EMBEDDED: 'false', HONO_AI_VRAM: '8GB', ...options.env },
  });

describe('models pull', () => {
  it('gets a model and prints its name; what is told of the way goes to standard error', async () => {
    const { code, stdout, stderr } = await run(['models', 'pull', 'new:1b']);
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'new:1b\n' });
    expect(stderr).toMatch(/ of 2\.0 GB/);
    expect(stderr).toContain('new:1b: ready on shelf, 2.0 GB');
    expect((await run(['models', 'ls', '--ids'])).stdout).toContain('new:1b\n');
    expect((await run(['text', 'gen', 'Hi', '-m', 'new:1b'])).stdout).toBe('Hi!\n');
  });

  it('says when it will not fit on the card', async () => {
    const { code, stderr } = await run(['models', 'pull', 'new:1b'], { env: { HONO_AI_VRAM: '1GB' } });
    expect(code).toBe(0);
    expect(stderr).toMatch(/warning: It needs about 2\.\d GB of the card, and models may use 1\.1 GB/);
    expect((await run(['models', 'pull', 'other:1b'])).stderr).not.toContain('warning');
  });

  it('takes several, and says everything as JSON', async () => {
    const { code, stdout } = await run(['models', 'pull', 'a:1b', 'b:1b', '--json']);
    expect(code).toBe(0);
    const { data } = JSON.parse(stdout) as { data: { model: string; runtime: string; files: object[] }[] };
    expect(data.map(({ model, runtime }) => [model, runtime])).toEqual([
      ['a:1b', 'shelf'],
      ['b:1b', 'shelf'],
    ]);
    expect(data[0]!.files).toEqual([{ name: 'weights.gguf', size: 2e9 }]);
  });

  it('tells why it cannot, with the exit code of the failure', async () => {
    const { code, stderr } = await run(['models', 'pull', 'nowhere']);
    expect(code).toBe(3);
    expect(stderr).toContain('There is no model “nowhere” to be got.');
    expect(stderr).toContain('Look for another.');
    expect((await run(['models', 'pull'])).code).toBe(2);
    expect((await run(['models', 'pull', 'a', 'b', '--source', 'https://x/y.gguf'])).code).toBe(2);
  });

  it('stops on Ctrl-C, takes the job back, and says that what came is kept', async () => {
    const held = openShelf({ holds: true });
    const abort = new AbortController();
    const running = run(['models', 'pull', 'slow:1b'], { runtimes: [held.runtime], signal: abort.signal });
    await eventually('the pull has begun', () => held.pulls.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 100));
    abort.abort();
    const { code, stderr } = await running;
    expect(code).toBe(130);
    expect(stderr).toContain('hono-ai models pull slow:1b goes on there');
    const jobs = JSON.parse((await run(['jobs', 'ls', '--json'])).stdout) as { data: { state: string }[] };
    expect(jobs.data.map(({ state }) => state)).toEqual(['cancelled']);
  });

  it('only tells what it would take with --dry-run', async () => {
    const { code, stdout } = await run(['models', 'pull', 'new:1b', '--dry-run']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/bytes\t2\.0 GB/);
    expect(stdout).toMatch(/fit\tfits/);
    expect(shelf.pulls).toEqual([]);
  });

  it('leaves it to a gateway with --detach', async () => {
    const { code, stdout, stderr } = await run(['models', 'pull', 'later:1b', '--detach']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^job_[0-9a-f]{32}\n$/);
    expect(stderr).toContain('hono-ai serve');
    expect(shelf.pulls).toEqual([]);
  });
});

describe('what is in memory', () => {
  it('is loaded, listed, pinned and unloaded', async () => {
    const loaded = await run(['models', 'load', 'here:1b']);
    expect({ code: loaded.code, stdout: loaded.stdout }).toEqual({ code: 0, stdout: 'here:1b\n' });
    expect(shelf.loads).toEqual(['here:1b']);
    const ps = await run(['ps']);
    expect(ps.stdout).toMatch(/^here:1b\tshelf\t2\.8 GiB\t/);
    expect((await run(['models', 'pin', 'here:1b'])).stderr).toContain('here:1b: pinned');
    expect((await run(['models', 'ls'])).stdout).toContain('loaded, pinned');
    expect((await run(['models', 'pin', 'here:1b', '--off', '--ttl', '60'])).code).toBe(0);
    expect((await run(['models', 'unload', 'here:1b'])).stdout).toBe('here:1b\n');
    expect(shelf.loaded.size).toBe(0);
    expect((await run(['ps'])).stderr).toContain('Nothing is loaded.');
    expect((await run(['models', 'unload', '--all'])).stderr).toContain('Nothing was loaded.');
  });

  it('is refused words that make no sense', async () => {
    expect((await run(['models', 'load'])).code).toBe(2);
    expect((await run(['models', 'load', 'not-there'])).code).toBe(3);
    expect((await run(['models', 'load', 'here:1b', '--keep', 'long'])).code).toBe(2);
    expect((await run(['models', 'unload', 'here:1b', '--all'])).code).toBe(2);
  });
});

describe('names', () => {
  it('stand for models, in order, and last', async () => {
    expect((await run(['models', 'alias', 'gpt-4o', 'gone:1b', 'here:1b'])).code).toBe(0);
    expect((await run(['models', 'alias'])).stdout).toBe('gpt-4o\tgone:1b, then here:1b\n');
    const { code, stdout, stderr } = await run(['text', 'gen', 'Hi', '-m', 'gpt-4o']);
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'Hi!\n' });
    expect(stderr).toContain('gone:1b');
    expect((await run(['models', 'alias', 'gpt-4o', '--rm'])).stderr).toContain('gpt-4o: removed');
    expect((await run(['text', 'gen', 'Hi', '-m', 'gpt-4o'])).code).toBe(3);
    expect((await run(['models', 'alias', 'gpt-4o'])).code).toBe(2);
    const quick = await run(['models', 'alias', 'quick', 'gone:1b', 'here:1b', '--warm']);
    expect(quick.stderr).toContain('quick stands for whichever is in memory of gone:1b, here:1b\n');
    expect(quick.stderr).toContain('There is no model "gone:1b" now');
  });

  it('are the defaults', async () => {
    expect((await run(['models', 'default', 'text.generate', 'there:1b'])).code).toBe(0);
    expect((await run(['models', 'default', 'text.generate'])).stdout).toBe('text.generate\tthere:1b\n');
    expect((await run(['text', 'gen', 'Hi', '--json'])).stdout).toContain('"there:1b"');
    expect((await run(['models', 'default', 'text.nothing', 'there:1b'])).code).toBe(2);
    const wrong = await run(['models', 'default', 'image.generate', 'there:1b']);
    expect(wrong.stderr).toBe(
      'image.generate is answered by there:1b\nwarning: "there:1b" does not offer image.generate\n',
    );
  });
});

describe('looking', () => {
  it('shows all about a model, and what one that is not here would take', async () => {
    const here = await run(['models', 'show', 'here:1b']);
    expect(here.stdout).toMatch(/quantization\tQ4_K_M/);
    const away = await run(['models', 'show', 'away:1b']);
    expect(away.code).toBe(0);
    expect(away.stdout).toMatch(/bytes\t2\.0 GB/);
    expect(here.stdout).toMatch(/capabilities\ttext: generate/);
    expect(here.stdout).not.toMatch(/created|owned_by|\[/);
    expect(away.stdout).toMatch(/files\t\S+ \(2\.0 GB\)/);
    const nowhere = await run(['models', 'show', 'nowhere']);
    expect(nowhere.code).toBe(3);
    expect(nowhere.stderr).toContain('There is no model “nowhere” to be got.');
    expect((await run(['models', 'ls', '--state', 'pulling'])).stderr).toBe('No model is like that.\n');
  });

  it('finds what could be got', async () => {
    expect((await run(['models', 'search', 'tiny'])).stdout).toMatch(
      /^tiny:1b\tshelf\t\t1\.0 GB\tfits\t-\tA small one\n/,
    );
    expect((await run(['models', 'search', 'tiny', '--ids'])).stdout).toMatch(/^tiny:1b\n/);
  });

  it('deletes', async () => {
    expect((await run(['models', 'rm', 'here:1b'])).stderr).toContain('here:1b: deleted, 2.0 GB freed');
    expect(shelf.removed).toEqual(['here:1b']);
    expect((await run(['models', 'rm', 'here:1b'])).code).toBe(3);
  });

  it('says that there is no card', async () => {
    const { code, stderr, stdout } = await run(['gpu', '--json']);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ budget: 8 * 1024 ** 3, cards: expect.any(Array) });
  });
});
