// The guarded transport on all three engines: it dials exactly what was checked, and nothing else on the caller's word.
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAddresses } from '../../adapters/transports/addresses.ts';
import { createGuardedSend } from '../../adapters/transports/guarded.ts';
import { openFakeReceiver, type FakeReceiver } from '../support/fake-receiver.ts';
import { engines, root, type Engine } from '../support/gateway.ts';

interface Outcome {
  status?: number;
  retryAfter?: string;
  reason?: string;
  message?: string;
  ms: number;
}

let folder: string;
let receiver: FakeReceiver;
let other: FakeReceiver;
let secure: FakeReceiver;
let foreign: FakeReceiver;
let proxy: Server;
let proxied = 0;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hono-ai-tls-'));
  receiver = await openFakeReceiver();
  other = await openFakeReceiver({ host: '127.0.0.2', port: receiver.port });
  secure = await openFakeReceiver({ tls: makeCertificate('secure', 'DNS:receiver.test') });
  // It is right for the address that is dialled, and for another name.
  foreign = await openFakeReceiver({ tls: makeCertificate('foreign', 'DNS:other.test,IP:127.0.0.1') });
  proxy = createServer((socket) => {
    proxied++;
    socket.destroy();
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
});
afterAll(async () => {
  await Promise.all([receiver, other, secure, foreign].map((one) => one.close()));
  proxy.close();
  rmSync(folder, { recursive: true, force: true });
});

function makeCertificate(name: string, subjects: string): { key: string; cert: string } {
  const [key, cert] = [join(folder, `${name}.key`), join(folder, `${name}.pem`)];
  const line = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test -addext';
  execFileSync('openssl', [...line.split(' '), `subjectAltName=${subjects}`, '-keyout', key, '-out', cert], {
    stdio: 'ignore',
  });
  return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
}

async function sendOn(
  engine: Engine,
  options: {
    urls: string[];
    allow?: string[];
    names?: Record<string, string[][]>;
    ca?: string;
    timeoutMs?: number;
    env?: Record<string, string>;
  },
): Promise<{ results: Outcome[]; asked: string[] }> {
  const { command, args } = engines[engine];
  const { env, ...given } = { allow: ['127.0.0.1'], names: {}, timeoutMs: 3000, ...options };
  const { PATH, HOME } = process.env;
  return new Promise((resolve, reject) => {
    execFile(
      command,
      [...args, 'tests/webhooks/guarded-child.ts', JSON.stringify(given)],
      { cwd: root, env: { PATH, HOME, DENO_NO_UPDATE_CHECK: '1', ...env } as NodeJS.ProcessEnv },
      (error, out, err) => (error ? reject(new Error(err)) : resolve(JSON.parse(out))),
    );
  });
}

describe.each(['node', 'bun', 'deno'] as const)('on %s', { timeout: 60_000 }, (engine) => {
  it('the name is resolved once, its address dialled, and its name told to the receiver', async () => {
    const [before, beforeOther] = [receiver.received.length, other.received.length];
    const { results, asked } = await sendOn(engine, {
      urls: [`http://Receiver.TEST.:${receiver.port}/busy?a=b`],
      names: { 'receiver.test': [['127.0.0.1'], ['127.0.0.2']] },
      allow: ['127.0.0.0/8'],
    });
    expect(results[0]).toMatchObject({ status: 429, retryAfter: '120' });
    expect(asked).toEqual(['receiver.test']);
    const [request] = receiver.received.slice(before);
    expect(request).toMatchObject({ path: '/busy?a=b', body: '{"größe":1}' });
    expect(request!.headers).toMatchObject({ host: `receiver.test.:${receiver.port}`, 'webhook-id': 'msg_1' });
    expect(Object.keys(request!.headers).toSorted()).toEqual([
      'connection',
      'content-length',
      'content-type',
      'host',
      'webhook-id',
    ]);
    expect(other.received).toHaveLength(beforeOther);
  });

  it('a name that answers otherwise the second time gains nothing', async () => {
    const before = receiver.received.length + other.received.length;
    const { results } = await sendOn(engine, {
      urls: [1, 2, 3].map((count) => `http://rebind.test:${receiver.port}/ok/${count}`),
      names: { 'rebind.test': [['127.0.0.2'], ['127.0.0.1', '127.0.0.2'], ['127.0.0.1']] },
    });
    expect(results.map(({ reason, status }) => reason ?? status)).toEqual(['blocked', 'blocked', 200]);
    expect(receiver.received.length + other.received.length).toBe(before + 1);
  });

  it('nothing follows a redirect, keeps a cookie or refreshes', async () => {
    const before = receiver.received.length;
    const paths = ['/redirect', '/permanent', '/refresh', '/ok'];
    const { results } = await sendOn(engine, { urls: paths.map((path) => receiver.url + path) });
    expect(results.map(({ status }) => status)).toEqual([302, 308, 200, 200]);
    const seen = receiver.received.slice(before);
    expect(seen.map(({ path }) => path)).toEqual(paths);
    expect(seen.at(-1)!.headers['cookie']).toBeUndefined();
  });

  it('TLS is checked against the name, not against the address', async () => {
    const ca = readFileSync(join(folder, 'secure.pem'), 'utf8') + readFileSync(join(folder, 'foreign.pem'), 'utf8');
    const names = { 'receiver.test': [['127.0.0.1']] };
    const urls = [
      `https://receiver.test:${secure.port}/ok`,
      `https://receiver.test.:${secure.port}/ok`,
      `https://receiver.test:${foreign.port}/ok`,
      `https://127.0.0.1:${foreign.port}/ok`,
      `https://receiver.test:${receiver.port}/ok`,
    ];
    const trusted = await sendOn(engine, { urls, names, ca });
    expect(trusted.results.map(({ reason, status }) => reason ?? status)).toEqual([200, 200, 'tls', 200, 'tls']);
    const stranger = await sendOn(engine, {
      urls: urls.slice(0, 1),
      names,
      env: { NODE_TLS_REJECT_UNAUTHORIZED: '0' },
    });
    expect(stranger.results[0]).toMatchObject({ reason: 'tls' });
  });

  it('no proxy of the environment is asked', async () => {
    const before = proxied;
    const address = `http://127.0.0.1:${(proxy.address() as { port: number }).port}`;
    const names = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'http_proxy', 'https_proxy', 'all_proxy'];
    const env = { ...Object.fromEntries(names.map((name) => [name, address])), NODE_USE_ENV_PROXY: '1' };
    const { results } = await sendOn(engine, { urls: [`${receiver.url}/ok`, `${secure.url}/ok`], env });
    expect(results.map(({ reason, status }) => reason ?? status)).toEqual([200, 'tls']);
    expect(proxied).toBe(before);
  });

  it('every failure is told in the same words, in its time', async () => {
    const names = { 'closed.test': [['127.0.0.1']], 'second.test': [['127.0.0.1', '::1']], 'empty.test': [[]] };
    const urls = [
      'http://closed.test:1/',
      `${receiver.url}/reset`,
      `${receiver.url}/hang`,
      'http://unknown.test/',
      'http://empty.test/',
      `http://127.0.0.2:${receiver.port}/ok`,
      'http://second.test:1/',
    ];
    const { results } = await sendOn(engine, { urls, names, timeoutMs: 500 });
    expect(results.map(({ reason }) => reason)).toEqual([
      'refused',
      'broken',
      'timeout',
      'dns',
      'dns',
      'blocked',
      'blocked',
    ]);
    expect(new Set(results.map(({ message }) => message))).toEqual(new Set(['The receiver could not be reached.']));
    for (const { ms } of results) expect(ms).toBeLessThan(10_000);
  });

  it('an answer without end is a status, and no more is read of it', async () => {
    const { results } = await sendOn(engine, { urls: [`${receiver.url}/big`, `${receiver.url}/half`] });
    expect(results.map(({ status }) => status)).toEqual([200, 200]);
  });
});

describe('an address', () => {
  const open = createAddresses([]);
  const inside = [
    [
      '127.0.0.1',
      '127.1',
      '2130706433',
      '0x7f000001',
      '0177.0.0.1',
      '0x7f.1',
      '127.0.0.1.',
      '①②⑦.0.0.1',
      '127。0。0。1',
    ],
    ['0.0.0.0', '0', '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '169.254.169.254', '100.64.0.1'],
    [
      '192.0.0.1',
      '192.0.2.1',
      '198.18.0.1',
      '198.51.100.1',
      '203.0.113.1',
      '224.0.0.1',
      '240.0.0.1',
      '255.255.255.255',
    ],
    ['[::1]', '[::]', '[::ffff:127.0.0.1]', '[::ffff:10.0.0.1]', '[::127.0.0.1]', '[::ffff:0:127.0.0.1]'],
    ['[64:ff9b::127.0.0.1]', '[64:ff9b:1::1]', '[2002:7f00:1::]', '[2001::1]', '[fe80::1]', '[fec0::1]', '[fc00::1]'],
    ['[fd00:ec2::254]', '[ff02::1]', '[2001:db8::1]', '[100::1]', '[3fff::1]', '[5f00::1]', '[4000::1]'],
    ['localhost', 'LOCALHOST.', 'a.localhost', 'a.b.localhost.', 'ⓛocalhost', '%6cocalhost', '%31%32%37.0.0.1'],
  ].flat();

  it.each(inside)('%s is not dialled', (host) => {
    expect(open.permitsHost(new URL(`http://${host}/`).hostname)).toBe(false);
  });

  it.each(['8.8.8.8', '1.1.1.1', '[2606:4700:4700::1111]', '[2a00:1450:4001::1]', 'example.com', 'localhost.example'])(
    '%s is',
    (host) => {
      expect(open.permitsHost(new URL(`http://${host}/`).hostname)).toBe(true);
    },
  );

  it.each(['', 'fe80::1%eth0', '::1%lo', '10.0.0.1', 'rubbish', '1.1.1.1 ', '0x08080808junk'])(
    '%j out of a lookup is not',
    (address) => {
      expect(open.permitsAddress(address, 'example.com')).toBe(false);
    },
  );
});

describe('what the operator allows', () => {
  const allowed = createAddresses(['192.168.1.0/24', '10.0.0.5', 'fd00::/8', '[::1]', 'NAS.Home.', 'bücher.local']);

  it.each([
    ['192.168.1.77', true],
    ['::ffff:192.168.1.77', true],
    ['192.168.2.77', false],
    ['10.0.0.5', true],
    ['10.0.0.6', false],
    ['fd12::1', true],
    ['::1', true],
    ['169.254.169.254', false],
  ])('%s: %s', (address, permitted) => {
    expect(allowed.permitsAddress(address, 'example.com')).toBe(permitted);
  });

  it('may be a name, wherever it leads', () => {
    expect(allowed.permitsAddress('192.168.2.2', 'nas.home')).toBe(true);
    expect(allowed.permitsAddress('192.168.2.2', 'evil.nas.home')).toBe(false);
    expect(allowed.isNamed(new URL('http://bücher.local/').hostname)).toBe(true);
  });

  it('lets localhost in where its address is', () => {
    expect(createAddresses(['127.0.0.0/8']).permitsHost('localhost')).toBe(true);
    expect(createAddresses(['localhost']).permitsHost('localhost.')).toBe(true);
    expect(createAddresses(['10.0.0.0/8']).permitsHost('localhost')).toBe(false);
  });

  it.each(['http://nas', 'nas:8080', 'a b', '10.0.0.0/33', 'nas/24', 'user@nas', '*'])('is not %j', (entry) => {
    expect(() => createGuardedSend({ allow: [entry] })).toThrow('HONO_AI_WEBHOOK_ALLOW');
  });
});
