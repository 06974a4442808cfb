// Lookups of names that callers chose, against a name server that answers some of them.
import { execFile } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { engines, root } from '../support/gateway.ts';

const ADDRESSES: Record<string, number[][]> = {
  'one.test': [[93, 184, 216, 34]],
  'two.test': [
    [93, 184, 216, 34],
    [10, 0, 0, 1],
  ],
};

let server: Socket;

beforeAll(async () => {
  server = createSocket('udp4', (query, { port, address }) => {
    const answer = toAnswer(query);
    if (answer) server.send(answer, port, address);
  });
  await new Promise<void>((resolve) => server.bind(0, '127.0.0.1', resolve));
});
afterAll(() => void server.close());

/** A DNS message: what is known as A records, nothing for `hang…`, no such name for the rest. */
function toAnswer(query: Buffer): Buffer | undefined {
  const labels: string[] = [];
  let at = 12;
  for (; query[at]! > 0; at += query[at]! + 1) labels.push(query.toString('latin1', at + 1, at + 1 + query[at]!));
  const name = labels.join('.').toLowerCase();
  if (name.startsWith('hang')) return undefined;
  const found = query.readUInt16BE(at + 1) === 1 ? (ADDRESSES[name] ?? []) : [];
  const header = Buffer.from(query.subarray(0, 12));
  header[2] = 0x81;
  header[3] = ADDRESSES[name] ? 0x80 : 0x83;
  for (const [place, count] of [1, found.length, 0, 0].entries()) header.writeUInt16BE(count, 4 + 2 * place);
  const records = found.map((address) => Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...address]));
  return Buffer.concat([header, query.subarray(12, at + 5), ...records]);
}

describe.each(['node', 'bun', 'deno'] as const)('on %s', { timeout: 60_000 }, (engine) => {
  it('every address is found, and names whose server is silent hold up nobody', async () => {
    const { command, args } = engines[engine];
    const silent = Array.from({ length: 50 }, (_, number) => `hang${number}.test`);
    const names = [...silent, 'one.test', 'two.test', 'unknown.invalid'];
    const given = JSON.stringify({ server: `127.0.0.1:${(server.address() as AddressInfo).port}`, names });
    const out = await new Promise<string>((resolve, reject) => {
      const { PATH, HOME } = process.env;
      const env = { PATH, HOME, DENO_NO_UPDATE_CHECK: '1' } as NodeJS.ProcessEnv;
      execFile(command, [...args, 'tests/webhooks/lookup-child.ts', given], { cwd: root, env }, (error, out, err) =>
        error ? reject(new Error(err)) : resolve(out),
      );
    });
    const { firsts, system } = JSON.parse(out) as {
      firsts: { name: string; found: unknown; ms: number }[];
      system: string[];
    };
    expect(firsts.map(({ found }) => found)).toEqual([
      ['93.184.216.34'],
      expect.arrayContaining(['93.184.216.34', '10.0.0.1']),
      'nothing',
    ]);
    for (const { ms } of firsts.slice(0, 2)) expect(ms).toBeLessThan(10_000);
    expect(system).toContain('127.0.0.1');
  });
});
