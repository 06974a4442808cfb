// The commands for webhooks and files in this process, asking a gateway that really listens, calls and keeps.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { call, createHome, type CallOptions } from '../support/command-line.ts';
import { eventually } from '../support/eventually.ts';
import { openFakeReceiver, type FakeReceiver } from '../support/fake-receiver.ts';
import { createStudio, serveHere, type ServedHere } from './serve-here.ts';

let home: ReturnType<typeof createHome>;
let gateway: ServedHere;
let receiver: FakeReceiver;
let address: string;

beforeEach(async () => {
  home = createHome();
  Object.assign(home.env, { HONO_AI_WEBHOOK_ALLOW: '127.0.0.1' });
  receiver = await openFakeReceiver();
  address = `${receiver.url}/ok`;
  gateway = await serveHere(home.env, createStudio().runtime);
});
afterEach(async () => {
  await gateway.close();
  await receiver.close();
  home.remove();
});

const run = (argv: string[], options: CallOptions = {}) => call(argv, { ...options, env: home.env });

const hookId = async () => (await run(['hooks', 'ls', '--ids'])).stdout.trim();

describe('hooks', () => {
  it('are added and given a new secret, which is all that is printed, once', async () => {
    const added = await run(['hooks', 'add', address]);
    expect(added.stdout).toMatch(/^whsec_\S+\n$/);
    const id = await hookId();
    expect(added.stderr).toContain(id);
    const rotated = await run(['hooks', 'rotate', id]);
    expect(rotated.stdout).toMatch(/^whsec_\S+\n$/);
    expect(rotated.stdout).not.toBe(added.stdout);
    expect((await run(['hooks', 'ls', '--json'])).stdout).not.toContain('whsec_');
    expect((await run(['hooks', 'secret'])).stdout).toMatch(/^whsec_\S+\n$/);
  });

  it('are called for the events that were asked for', async () => {
    await run(['hooks', 'add', address, '--event', 'job.failed']);
    const [good, bad] = (await run(['text', 'gen', 'a word', '--detach'])).stdout
      .concat((await run(['text', 'gen', 'fail', '--detach'])).stdout)
      .trim()
      .split('\n') as [string, string];
    await run(['jobs', 'wait', good, bad]);
    await eventually('the receiver was called', () => receiver.received.length > 0);
    expect(receiver.received.map(({ body }) => (JSON.parse(body) as { type: string }).type)).toEqual(['job.failed']);
    expect((await run(['hooks', 'add', address, '--event', 'job.fail'])).stderr).toContain('Did you mean job.failed?');
  });

  it('are tried, and a failure ends with 1', async () => {
    await run(['hooks', 'add', address]);
    const id = await hookId();
    expect((await run(['hooks', 'test', id])).code).toBe(0);
    receiver.answer('/ok', (response) => response.writeHead(500).end());
    const { code, stderr } = await run(['hooks', 'test', id]);
    expect(code).toBe(1);
    expect(stderr).toContain('Not delivered');
  });

  it('list what became of their calls, which can be made again under the same id', async () => {
    await run(['hooks', 'add', address]);
    await run(['jobs', 'wait', '-'], { stdin: (await run(['text', 'gen', 'a word', '--detach'])).stdout });
    await eventually('the receiver was called', () => receiver.received.length === 1);
    const row = async () => (await run(['hooks', 'deliveries'])).stdout.trim().split('\t');
    const end = performance.now() + 5000;
    while ((await row())[1] !== 'delivered' && performance.now() < end);
    expect((await row()).slice(0, 3)).toEqual([receiver.received[0]!.headers['webhook-id'], 'delivered', 'job.done']);
    expect((await run(['hooks', 'replay', '-'], { stdin: receiver.received[0]!.headers['webhook-id'] })).code).toBe(0);
    await eventually('the receiver was called again', () => receiver.received.length === 2);
    expect(receiver.received[1]!.headers['webhook-id']).toBe(receiver.received[0]!.headers['webhook-id']);
    expect((await run(['hooks', 'deliveries', '--state', 'dead', '--ids'])).stdout).toBe('');
  });

  it('are disabled, enabled and removed', async () => {
    await run(['hooks', 'add', address]);
    const id = await hookId();
    const state = async () => (await run(['hooks', 'ls'])).stdout.split('\t')[1];
    await run(['hooks', 'disable', id]);
    expect(await state()).toBe('disabled');
    await run(['hooks', 'enable', id]);
    expect(await state()).toBe('enabled');
    expect((await run(['hooks', 'rm', id])).stdout).toBe(`${id}\n`);
    expect((await run(['hooks', 'ls'])).stdout).toBe('');
    expect((await run(['hooks', 'rm', id])).code).toBe(3);
  });
});

describe('artifacts', () => {
  it('come and go byte for byte', async () => {
    const file = join(home.folder, 'noise.bin');
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 7919) % 251));
    writeFileSync(file, bytes);
    const uploaded = await run(['artifacts', 'upload', file]);
    expect(uploaded.code, uploaded.stderr).toBe(0);
    const id = uploaded.stdout.trim();
    const shown = JSON.parse((await run(['artifacts', 'show', id, '--json'])).stdout) as unknown;
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    expect(shown).toMatchObject({ id, name: 'noise.bin', size: 300_000, sha256 });
    const copy = join(home.folder, 'copy.bin');
    expect((await run(['artifacts', 'download', id, '-o', copy])).stdout).toBe(`${copy}\n`);
    expect(readFileSync(copy).equals(bytes)).toBe(true);
    expect((await run(['artifacts', 'download', '-', '-o', copy], { stdin: id })).code).toBe(1);
    expect((await run(['artifacts', 'rm', id])).stdout).toBe(`${id}\n`);
    expect((await run(['artifacts', 'show', id])).code).toBe(3);
  });

  it('come from standard input too, under a name', async () => {
    const { stdout } = await run(['artifacts', 'upload', '-', '--name', 'note.txt', '--type', 'text/plain'], {
      stdin: 'a note',
    });
    const [id, type, size, , , name] = (await run(['artifacts', 'ls'])).stdout.trim().split('\t');
    expect([id, type, size, name]).toEqual([stdout.trim(), 'text/plain', '6', 'note.txt']);
    expect((await run(['artifacts', 'download', id!, '-o', '-'])).stdout).toBe('a note');
  });

  it('of a job are listed by it', async () => {
    const job = (await run(['text', 'gen', 'file:one.txt', '--detach'])).stdout.trim();
    await run(['jobs', 'wait', job]);
    await run(['artifacts', 'upload', '-'], { stdin: 'another' });
    const rows = (await run(['artifacts', 'ls', '--job', job])).stdout.trim().split('\n');
    expect(rows).toHaveLength(1);
    expect(rows[0]!.split('\t').slice(4)).toEqual([job, 'one.txt']);
  });

  it('that cannot be read are refused in a line', async () => {
    const { code, stderr } = await run(['artifacts', 'upload', '/no/such/file']);
    expect(code).toBe(2);
    expect(stderr).toBe('hono-ai: /no/such/file cannot be read: ENOENT.\n');
  });
});
