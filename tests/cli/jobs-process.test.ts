// Jobs from real processes: a gateway that is killed and comes back, pipes of a shell, signals.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createHome, start, startProcess, type Started } from '../support/command-line.ts';
import { openFakeOllama, type FakeOllama } from '../support/fake-ollama.ts';
import { engines, eventually, root, type Engine } from '../support/gateway.ts';

const LONG = 60_000;

let home: ReturnType<typeof createHome>;
let ollama: FakeOllama;
let started: Started[];

beforeEach(async () => {
  home = createHome();
  ollama = await openFakeOllama({ tokenMs: 60 });
  Object.assign(home.env, { OLLAMA_HOST: ollama.url, HONO_AI_JOB_LEASE_MS: '1000' });
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

function run(argv: string[], { engine = 'node' as Engine, stdin = '' } = {}): Started {
  const process = start(argv, home.env, engine, stdin);
  started.push(process);
  return process;
}

async function serve(engine: Engine = 'node'): Promise<Started> {
  const gateway = run(['serve', '--port', '0'], { engine });
  await gateway.says(/http:\/\/127\.0\.0\.1:\d+/);
  return gateway;
}

function shell(script: string): Started {
  const shim = `hono-ai() { ${engines.node.command} ${join(root, 'cli/main.ts')} "$@"; }`;
  const process = startProcess('bash', ['-c', `set -o pipefail; ${shim}; ${script}`], home.env);
  started.push(process);
  return process;
}

describe.each(Object.keys(engines) as Engine[])('on %s', (engine) => {
  it('a job is detached, waited for and fetched', { timeout: 2 * LONG }, async () => {
    await serve(engine);
    const detached = await run(['text', 'gen', 'hi', '-m', 'echo', '--detach'], { engine }).done;
    expect(detached.stdout, detached.stderr).toMatch(/^job_[0-9a-f]{32}\n$/);
    const waited = await run(['jobs', 'wait'], { engine, stdin: detached.stdout }).done;
    expect(waited, waited.stderr).toMatchObject({ code: 0, stdout: detached.stdout });
    const out = `${join(home.folder, 'out')}/`;
    const fetched = await run(['jobs', 'download', '-', '-o', out], { engine, stdin: waited.stdout }).done;
    expect(fetched.code, fetched.stderr).toBe(0);
    expect(readdirSync(out)).toEqual([`${waited.stdout.trim()}.txt`]);
    expect(readFileSync(fetched.stdout.trim(), 'utf8')).toMatch(/\w/);
  });
});

describe('jobs wait', () => {
  it('goes on when the gateway is killed and another takes its place', { timeout: LONG }, async () => {
    const first = await serve();
    const id = (await run(['text', 'gen', 'hi', '-m', 'slow', '--detach']).done).stdout.trim();
    const waiting = run(['jobs', 'wait', id]);
    await waiting.says(/running/);
    first.child.kill('SIGKILL');
    await first.done;
    await waiting.says(/waiting for it to come back/);
    // Another port: the command finds it by its state directory.
    await serve();
    await waiting.says(/is back/);
    expect((await run(['jobs', 'cancel', id]).done).code).toBe(0);
    const { code, stderr } = await waiting.done;
    expect(code, stderr).toBe(130);
    expect(stderr).toContain('was cancelled');
  });

  it('is left with Ctrl-C, and the job is not', { timeout: LONG }, async () => {
    await serve();
    const id = (await run(['text', 'gen', 'hi', '-m', 'slow', '--detach']).done).stdout.trim();
    const waiting = run(['jobs', 'wait', id]);
    await waiting.says(/running/);
    waiting.child.kill('SIGINT');
    const { code, stderr } = await waiting.done;
    expect(code).toBe(130);
    expect(stderr).toContain(`hono-ai jobs cancel ${id}`);
    expect(ollama.aborts()).toBe(0);
    expect((await run(['jobs', 'cancel', id]).done).code).toBe(0);
    await eventually('the runtime was told', () => ollama.aborts() === 1);
  });
});

describe('a shell', () => {
  it('passes ids from command to command', { timeout: LONG }, async () => {
    await serve();
    const { code, stdout, stderr } = await shell(
      'hono-ai jobs wait $(hono-ai text gen hi -m echo --detach) | hono-ai jobs download -o - && hono-ai jobs ls --state done | hono-ai jobs rm -',
    ).done;
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/\w[^]*\njob_[0-9a-f]{32}\n$/);
    expect((await shell('hono-ai jobs ls').done).stdout).toBe('');
  });

  it('does not take an id that is missing for work that went well', { timeout: LONG }, async () => {
    await serve();
    expect((await shell('hono-ai jobs wait $(hono-ai text gen hi -m nope --detach) < /dev/null').done).code).not.toBe(
      0,
    );
  });
});

describe('completion', () => {
  it('knows the commands for jobs and the flags of detached work', { timeout: LONG }, async () => {
    const ask = (line: string) =>
      shell(
        `source <(hono-ai completion bash); COMP_WORDS=(${line}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _hono_ai; printf '%s\\n' "\${COMPREPLY[@]}"`,
      ).done;
    expect((await ask("hono-ai jobs ''")).stdout.split('\n')).toEqual(expect.arrayContaining(['wait', 'download']));
    expect((await ask('hono-ai text gen --prio')).stdout).toBe('--priority\n');
    expect((await ask('hono-ai text gen --priority b')).stdout).toBe('background\n');
  });
});
