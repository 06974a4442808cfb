// The watchdog: commands in place of those that restart runtimes, which do what they should, fail, hang, and leave things running.
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findCommand, runCommand, toWords } from '../../adapters/house/command.ts';
import { createWatchdog, type WatchdogOptions } from '../../adapters/house/watchdog.ts';
import type { LogEntry } from '../../src/http/context.ts';
import { eventually } from '../support/eventually.ts';

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'hono-ai-house-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A program of that name in PATH; `script` runs with its folder as `$HERE`. */
function program(name: string, script: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\nHERE='${folder}'\necho $$ >> "$HERE/pids"\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

const env = () => ({ PATH: `${folder}:${process.env['PATH']}`, HF_TOKEN: 'hf_secret', HOME: '/nowhere' });
const read = (name: string) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name), 'utf8') : '');
const starts = () => read('pids').split('\n').filter(Boolean).length;

function open(restart: Record<string, string>, options: Partial<WatchdogOptions> = {}) {
  const entries: LogEntry[] = [];
  let ahead = 0;
  const restarted: string[] = [];
  const watchdog = createWatchdog({
    restart,
    health: async () => {},
    log: (entry) => void entries.push(entry),
    onRestarted: (runtime) => void restarted.push(runtime),
    now: () => performance.now() + ahead,
    env: env(),
    ...options,
    limits: { command: 5000, health: 300, ask: 10, ...options.limits },
  });
  const told = (level: LogEntry['level']) =>
    entries.filter((entry) => entry.level === level).map(({ message }) => message);
  return { watchdog, entries, told, restarted, wait: (minutes: number) => void (ahead += minutes * 60_000) };
}

describe('a command', () => {
  it.each([
    ['systemctl restart ollama', ['systemctl', 'restart', 'ollama']],
    ['  docker   restart\tcomfyui ', ['docker', 'restart', 'comfyui']],
    [`sh -c 'echo "two words" | cat'`, ['sh', '-c', 'echo "two words" | cat']],
    [`"C:\\Program Files\\x.exe" a'b c'd ""`, ['C:\\Program Files\\x.exe', 'ab cd', '']],
    ['x $HOME `id` ; rm > *', ['x', '$HOME', '`id`', ';', 'rm', '>', '*']],
    ['', []],
    ['say "never ends', undefined],
  ])('%s is split into words and nothing else', (line, words) => {
    expect(toWords(line)).toEqual(words);
  });

  it('is split in time that grows with its length', () => {
    expect(toWords(`${'"a" '.repeat(50_000)}`)).toHaveLength(50_000);
  });

  it('is found in PATH or where its path says, and only where it can be run', async () => {
    const path = program('found', '');
    writeFileSync(join(folder, 'text'), '');
    expect(await findCommand('found', env())).toBe(path);
    expect(await findCommand(path, {})).toBe(path);
    for (const name of ['text', 'nowhere', join(folder, 'nowhere'), '']) {
      expect(await findCommand(name, env()), name).toBeUndefined();
    }
  });

  it('gives the end of what it wrote without what controls terminals, and learns no secret', async () => {
    const path = program('loud', `seq 1 5000; printf '\\033[31m%s %s\\n' "$HF_TOKEN" "$HOME" >&2; exit 3`);
    const { code, late, output } = await runCommand([path], { env: env(), ms: 5000 });
    expect([code, late]).toEqual([3, false]);
    expect(output.split('\n')).toHaveLength(10);
    expect(output).toContain('[31m /nowhere');
    expect(output).not.toContain('hf_secret');
  });

  it('is ended with all that it has started, when it takes too long or is not wanted any more', async () => {
    const path = program('slow', `sleep 600 & echo $! >> "$HERE/pids"; wait`);
    expect(await runCommand([path], { env: env(), ms: 150 })).toMatchObject({ code: undefined, late: true });
    const abort = new AbortController();
    const running = runCommand([path], { env: env(), ms: 60_000, signal: abort.signal });
    await eventually('it has started', () => starts() === 4);
    abort.abort();
    expect(await running).toMatchObject({ code: undefined, late: false });
    await eventually('nothing is left', () => pids().every((pid) => !lives(pid)));
  });

  it('is not waited for by what it leaves running, which goes on and can go on writing', async () => {
    const path = program(
      'starter',
      `(for i in 1 2 3 4 5 6 7 8; do echo alive || exit; sleep 0.05; done; touch "$HERE/lived") &`,
    );
    const began = performance.now();
    expect(await runCommand([path], { env: env(), ms: 60_000 })).toMatchObject({ code: 0 });
    expect(performance.now() - began).toBeLessThan(10_000);
    await eventually('it has lived on', () => existsSync(join(folder, 'lived')));
  });
});

describe('the watchdog', () => {
  it('restarts a runtime by its command, once for all who ask, and waits until it answers', async () => {
    program('restart-it', `echo "restarting $1"; sleep 0.1; touch "$HERE/up"`);
    let asked = 0;
    const health = async () => {
      if (!existsSync(join(folder, 'up')) || ++asked < 3) throw new Error('not yet');
    };
    const { watchdog, told, entries, restarted } = open({ ollama: `restart-it 'the one'` }, { health });
    const both = [watchdog('ollama', 'silent'), watchdog('ollama', 'holds_on')];
    expect(await Promise.all(both)).toEqual([true, true]);
    expect([starts(), asked, restarted]).toEqual([1, 3, ['ollama']]);
    expect(told('warn')).toEqual(['ollama gives no sign of life: it is restarted.']);
    expect(told('info')).toEqual(['ollama was restarted and answers again.']);
    expect(entries.find(({ level }) => level === 'debug')).toMatchObject({ output: 'restarting the one' });
  });

  it('does nothing about others, and leaves alone what is to be left alone', async () => {
    const { watchdog, entries } = open({ slow: 'ignore' });
    expect(await watchdog('other', 'silent')).toBe(false);
    expect(await watchdog('constructor', 'silent')).toBe(false);
    expect(await watchdog('slow', 'silent')).toBe(true);
    expect(await watchdog('slow', 'holds_on')).toBe(false);
    expect(entries).toEqual([]);
  });

  it.each([
    ['is not there', 'nowhere', 'its command is not there.'],
    ['has a quote that does not end', 'fails "', 'its command is not there.'],
    ['fails', 'fails', 'its command ended with 7.'],
    ['takes too long', 'hangs', 'its command did not end within 0 s.'],
  ])('says so where the command %s', async (_, command, message) => {
    program('fails', 'exit 7');
    program('hangs', 'sleep 600');
    const { watchdog, told, restarted } = open(
      { r: command },
      { limits: { command: command === 'hangs' ? 200 : 5000 } },
    );
    expect(await watchdog('r', 'silent')).toBe(false);
    expect(told('error')).toEqual([`r was not restarted: ${message}`]);
    expect(restarted).toEqual([]);
    await eventually('nothing is left', () => pids().every((pid) => !lives(pid)));
  });

  it('does not take the word of a command: the runtime must answer', async () => {
    program('fine', '');
    const { watchdog, told } = open({ r: 'fine' }, { health: () => new Promise(() => {}), limits: { health: 200 } });
    expect(await watchdog('r', 'silent')).toBe(false);
    expect(told('error')).toEqual(['r was not restarted: it does not answer after 0 s.']);
  });

  it('restarts at most once in five minutes and three times in an hour, each runtime by itself', async () => {
    program('fine', '');
    const { watchdog, wait, told } = open({ r: 'fine', other: 'fine' });
    const outcomes: boolean[] = [];
    for (const minutes of [0, 4, 2, 6, 6, 30, 15]) {
      wait(minutes);
      outcomes.push(await watchdog('r', 'silent'));
    }
    // At 0, 4, 6, 12, 18, 48 and 63 minutes.
    expect(outcomes).toEqual([true, false, true, true, false, false, true]);
    expect(await watchdog('other', 'silent')).toBe(true);
    expect(starts()).toBe(5);
    expect(told('error')[0]).toBe('r gives no sign of life, and was restarted not long ago: it is left alone.');
  });

  it('ends what it runs when the gateway closes', async () => {
    program('hangs', 'sleep 600');
    const closing = new AbortController();
    const { watchdog, told } = open({ r: 'hangs' }, { signal: closing.signal });
    const waiting = watchdog('r', 'silent');
    await eventually('it runs', () => starts() === 1);
    closing.abort();
    expect(await waiting).toBe(false);
    expect(await watchdog('r', 'silent')).toBe(false);
    expect([starts(), told('error')]).toEqual([1, []]);
    await eventually('nothing is left', () => pids().every((pid) => !lives(pid)));
  });
});

const pids = () => read('pids').split('\n').filter(Boolean).map(Number);

/** What has ended and waits for a parent that takes no notice does not live. */
function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
