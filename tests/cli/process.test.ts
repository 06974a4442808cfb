// The command line as real processes: on Node, Bun and Deno, with signals, pipes and a gateway beside.
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createHome, start, startProcess, type Started } from '../support/command-line.ts';
import { openFakeOllama, type FakeOllama } from '../support/fake-ollama.ts';
import { engines, eventually, root, type Engine } from '../support/gateway.ts';

const LONG = 60_000;
const all = Object.keys(engines) as Engine[];

let home: ReturnType<typeof createHome>;
let ollama: FakeOllama;
let started: Started[];

beforeEach(async () => {
  home = createHome();
  ollama = await openFakeOllama({ tokenMs: 60 });
  started = [];
});
afterEach(async () => {
  for (const { child, done } of started) {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await done;
  }
  await ollama.close();
  home.remove();
});

function run(argv: string[], options: { engine?: Engine; env?: Record<string, string>; stdin?: string } = {}): Started {
  const process = start(argv, { ...home.env, ...options.env }, options.engine, options.stdin);
  started.push(process);
  return process;
}

async function serve(options: { engine?: Engine; env?: Record<string, string> } = {}) {
  const gateway = run(['serve', '--port', '0'], { ...options, env: { OLLAMA_HOST: ollama.url, ...options.env } });
  const [url] = await gateway.says(/http:\/\/127\.0\.0\.1:\d+/);
  return { ...gateway, url };
}

describe.each(all)('on %s', (engine) => {
  it('runs the built-in models with nothing else there', { timeout: LONG }, async () => {
    const made = await run(['text', 'gen', '--max-tokens', '8', '--seed', '1', '--json'], { engine, stdin: 'The sun' })
      .done;
    expect(made.code, made.stderr).toBe(0);
    expect(JSON.parse(made.stdout)).toMatchObject({ model: 'tiny-story', runtime: 'embedded' });
    expect((await run(['version', '--json'], { engine }).done).stdout).toContain(`"host":"${engine} `);
  });

  it('stops the runtime and ends with 130 on Ctrl-C', { timeout: LONG }, async () => {
    const chat = run(['text', 'chat', 'hi', '-m', 'slow'], { engine, env: { OLLAMA_HOST: ollama.url } });
    await chat.says(/\w+ \w+/);
    await eventually('the model speaks', () => chat.stdout() !== '');
    chat.child.kill('SIGINT');
    expect((await chat.done).code).toBe(130);
    await eventually('the runtime was told', () => ollama.aborts() === 1);
  });

  it(
    'serves, is found by the next command, and lets a running answer finish when it is stopped',
    { timeout: LONG },
    async () => {
      const gateway = await serve({ engine });
      const owner = JSON.parse(readFileSync(join(home.env.HONO_AI_STATE_DIR, 'gateway.json'), 'utf8')) as {
        instance: string;
      };
      const asked = await run(['api', 'GET', '/health']).done;
      expect(JSON.parse(asked.stdout)).toMatchObject({ instance: owner.instance });
      expect((await run(['status']).done).stderr).toContain(gateway.url);

      const answer = run(['text', 'gen', 'hi', '-m', 'echo', '--json-stream']);
      await answer.says(/"chunk"/);
      gateway.child.kill('SIGTERM');
      await gateway.says(/stopping: 1 running/);
      const { code, stdout } = await answer.done;
      expect(code).toBe(0);
      const last = JSON.parse(stdout.trim().split('\n').at(-1)!) as unknown;
      expect(last).toMatchObject({ type: 'result', result: { model: 'echo:latest' } });
      expect((await gateway.done).code).toBe(0);
      expect(existsSync(join(home.env.HONO_AI_STATE_DIR, 'gateway.json'))).toBe(false);
      expect(ollama.aborts()).toBe(0);
    },
  );

  it('says in one line that a port is taken', { timeout: LONG }, async () => {
    const other = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const { code, stderr } = await run(['serve', '--port', String(port)], { engine }).done;
    other.close();
    expect(code, stderr).toBe(1);
    expect(stderr).toContain(`Port ${port} is taken by another program.`);
    expect(stderr).not.toMatch(/\n\s+at /);
  });
});

describe('serve', () => {
  it(
    'refuses to be the second of a state directory, and takes over what a dead one left',
    { timeout: LONG },
    async () => {
      const first = await serve();
      const second = await run(['serve', '--port', '0']).done;
      expect(second.code).toBe(1);
      expect(second.stderr).toContain(`A gateway already runs on ${first.url}`);
      first.child.kill('SIGKILL');
      await first.done;
      expect(existsSync(join(home.env.HONO_AI_STATE_DIR, 'gateway.json'))).toBe(true);
      const third = await serve();
      third.child.kill('SIGINT');
      expect((await third.done).code).toBe(0);
    },
  );

  it('leaves at once when it is told twice', { timeout: LONG }, async () => {
    const gateway = await serve();
    const answer = run(['text', 'gen', 'hi', '-m', 'slow']);
    await answer.says(/\w+ \w+ \w+/);
    await eventually('the model speaks', () => answer.stdout() !== '');
    gateway.child.kill('SIGTERM');
    await gateway.says(/stopping/);
    gateway.child.kill('SIGTERM');
    expect((await gateway.done).code).toBe(130);
    expect((await answer.done).code).toBe(5);
  });

  it('tells which runtimes are up and how to call it', { timeout: LONG }, async () => {
    const gateway = await serve({
      env: { HONO_AI_API_KEY: 'a-key-of-sixteen-letters', OLLAMA_HOST: 'http://127.0.0.1:1' },
    });
    await gateway.says(/ollama: down\. \S/);
    expect(gateway.stderr()).toMatch(/^hono-ai \S+ on http:\S+ \(node \S+\) — docs at http:\S+\/docs\n/);
    expect(gateway.stderr()).toContain('curl');
    expect(gateway.stderr()).not.toContain('a-key-of-sixteen-letters');
    const wrong = await run(['models', 'ls', '--url', gateway.url], {
      env: { HONO_AI_API_KEY: 'wrong-key-of-letters' },
    }).done;
    expect(wrong.code).toBe(4);
    const right = await run(['models', 'ls', '--ids'], { env: { HONO_AI_API_KEY: 'a-key-of-sixteen-letters' } }).done;
    expect(right.stdout).toContain('tiny-story\n');
  });

  it.each([
    [{ PORT: 'many' }, 'PORT'],
    [{ HOST: '0.0.0.0' }, 'HONO_AI_API_KEY'],
  ])('refuses a configuration that cannot be used: %j', { timeout: LONG }, async (env, remedy) => {
    const { code, stderr } = await run(['serve'], { env }).done;
    expect(code).toBe(2);
    expect(stderr).toContain(remedy);
    expect(stderr.trim().split('\n').length).toBeLessThanOrEqual(2);
  });
});

describe('pipes', () => {
  it('that close early are no failure, and stop the work', { timeout: LONG }, async () => {
    const { command } = engines.node;
    const script = `${command} ${join(root, 'cli/main.ts')} text gen hi -m slow -q | head -c 5; echo " ended with \${PIPESTATUS[0]}"`;
    const shell = startProcess('bash', ['-c', script], { ...home.env, OLLAMA_HOST: ollama.url });
    started.push(shell);
    const { stdout, stderr } = await shell.done;
    expect(stdout).toMatch(/^.{5} ended with 0\n$/s);
    expect(stderr).toBe('');
    await eventually('the runtime was told', () => ollama.aborts() === 1);
  });

  it('from a shell follow the words', { timeout: LONG }, async () => {
    const { command } = engines.node;
    const script = `echo piped | ${command} ${join(root, 'cli/main.ts')} text gen words -m echo --json`;
    const shell = startProcess('bash', ['-c', script], { ...home.env, OLLAMA_HOST: ollama.url });
    started.push(shell);
    expect((await shell.done).code).toBe(0);
    const asked = ollama.requests.find(({ path }) => path === '/api/generate' || path === '/api/chat')!;
    expect(JSON.stringify(asked.body)).toContain('words\\n\\npiped');
  });
});

describe('the installed command', () => {
  it('hands over to a Node that is recent enough', { timeout: LONG }, async () => {
    const command = startProcess('node', [join(root, 'cli/hono-ai.mjs'), 'version', '--json'], home.env);
    started.push(command);
    const { code, stdout } = await command.done;
    expect(code).toBe(0);
    const { host } = JSON.parse(stdout) as { host: string };
    expect(Number(/^node (\d+)/.exec(host)![1])).toBeGreaterThanOrEqual(22);
  });
});

describe('completion', () => {
  const ask = async (line: string[]) => {
    const shim = `hono-ai() { ${engines.node.command} ${join(root, 'cli/main.ts')} "$@"; }`;
    const words = line.map((word) => `'${word}'`).join(' ');
    const script = `${shim}; source <(hono-ai completion bash); COMP_WORDS=(${words}); COMP_CWORD=${line.length - 1}; _hono_ai; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const shell = startProcess('bash', ['-c', script], { ...home.env, OLLAMA_HOST: ollama.url });
    started.push(shell);
    const { stdout, stderr } = await shell.done;
    expect(stderr).toBe('');
    return stdout.trim().split('\n');
  };

  it('in bash offers commands, flags, values and models', { timeout: LONG }, async () => {
    expect(await ask(['hono-ai', 'te'])).toEqual(['text']);
    expect(await ask(['hono-ai', 'text', ''])).toEqual(expect.arrayContaining(['gen', 'chat', 'story']));
    expect(await ask(['hono-ai', 'text', 'story', '--aud'])).toEqual(['--audience']);
    expect(await ask(['hono-ai', 'text', 'story', '--audience', 'y'])).toEqual(['young']);
    expect(await ask(['hono-ai', 'text', 'gen', '-m', 'tiny-s'])).toEqual(['tiny-story']);
  });
});
