// Where files may be got from: what an address may be, where it may lead, by which redirects, and who is sent a token.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/config.ts';
import { openFakeFiles, type FakeFiles } from '../support/fake-files.ts';
import { failure, makeBytes, open, openFolder, run } from './bench.ts';

const never = new AbortController().signal;
const BYTES = makeBytes(5000);

let home: FakeFiles;
let elsewhere: FakeFiles;
let folder: Awaited<ReturnType<typeof openFolder>>;

beforeAll(async () => {
  home = await openFakeFiles({ 'a.bin': BYTES });
  elsewhere = await openFakeFiles({ 'a.bin': BYTES });
});
afterAll(() => Promise.all([home.close(), elsewhere.close()]));
beforeEach(async () => {
  folder = await openFolder();
});
afterEach(async () => {
  for (const server of [home, elsewhere]) {
    server.trouble = undefined;
    server.requests.length = 0;
    server.headers.length = 0;
  }
  await folder.remove();
});

const wanted = (url: string) => [{ url, root: folder.path, path: 'a.bin' }];

describe('an address that somebody names', () => {
  it.each([
    'http://example.com/a.bin',
    'file:///etc/passwd',
    'ftp://example.com/a',
    'data:text/plain,x',
    'https://user:secret@example.com/a',
    'https://user@example.com/a',
    'https://127.0.0.1/a',
    'https://[::1]/a',
    'https://[::ffff:127.0.0.1]/a',
    'https://0.0.0.0/a',
    'https://2130706433/a',
    'https://0x7f.1/a',
    'https://localhost/a',
    'https://x.localhost./a',
    'https://10.0.0.1/a',
    'https://192.168.1.1/a',
    'https://172.16.0.1/a',
    'https://169.254.169.254/latest/meta-data',
    'https://[fe80::1]/a',
    'https://[fd00::1]/a',
    'https://[::7f00:1]/a',
    'https://100.64.0.1/a',
    'no address',
    '',
    `https://example.com/${'a'.repeat(9000)}`,
  ])('is refused: %s', async (url) => {
    const all = open({ trusted: [home.url] });
    for (const work of [all.look(url, never), all.json(url, never), run(all, wanted(url))]) {
      const error = await failure(work);
      expect(error).toMatchObject({ code: 'invalid_request', hint: expect.stringContaining('HONO_AI_PULL_ALLOW') });
      expect(error.message).not.toContain('secret');
    }
    expect(await folder.files()).toEqual([]);
  });

  it('is refused where its name leads into the own network, whatever it says the next time', async () => {
    const answers = [['8.8.8.8', '127.0.0.1'], ['127.0.0.1'], ['fe80::1'], ['::ffff:10.0.0.1']];
    const asked: string[] = [];
    const all = open({
      lookup: async (name) => {
        asked.push(name);
        return answers.shift() ?? ['127.0.0.1'];
      },
    });
    for (let time = 0; time < 4; time++) {
      const error = await failure(all.look(`https://rebind.test:${new URL(home.url).port}/a.bin`, never));
      expect(error.code).toBe('invalid_request');
    }
    expect(asked).toHaveLength(4);
    expect(home.requests).toEqual([]);
  });

  it('is dialled where it is allowed, by https alone', async () => {
    const { port } = new URL(home.url);
    const all = open({ allow: ['127.0.0.0/8', 'nas.test'], lookup: async () => ['127.0.0.1'] });
    expect((await failure(all.look(`http://127.0.0.1:${port}/a.bin`, never))).code).toBe('invalid_request');
    // Somebody listens there, but it is no TLS: the address was let through and dialled.
    for (const host of ['127.0.0.1', 'nas.test']) {
      expect((await failure(all.look(`https://${host}:${port}/a.bin`, never))).code).not.toBe('invalid_request');
    }
    expect(() => open({ allow: ['10.0.0.0/99'] })).toThrow(ConfigError);
    expect(() => open({ allow: ['10.0.0.0/99'] })).toThrow('HONO_AI_PULL_ALLOW');
  });
});

describe('a redirect', () => {
  const go = (to: string, options = {}) => {
    home.trouble = { kind: 'redirect', to };
    return run(open({ trusted: [home.url], ...options }), wanted(`${home.url}/a.bin`));
  };

  it('is followed to a host that may be reached, which is sent no token', async () => {
    const options = { trusted: [home.url, elsewhere.url], tokens: { [home.url]: 'secret' } };
    const { files } = await go(`${elsewhere.url}/a.bin`, options);
    expect(files[0]!.size).toBe(BYTES.length);
    expect(home.headers.map(({ authorization }) => authorization)).toEqual(['Bearer secret', 'Bearer secret']);
    expect(elsewhere.headers.map(({ authorization }) => authorization)).toEqual([undefined]);
  });

  it.each([
    'http://127.0.0.1:1/',
    'https://127.0.0.1/',
    'https://169.254.169.254/',
    'http://example.com/',
    'file:///etc/passwd',
    '//localhost/x',
    'https://a:b@example.com/',
    'http://[',
  ])('is not followed to %s', async (to) => {
    const error = await failure(go(to));
    expect(error.code).toBe('model_unavailable');
    expect(error.message).toContain('not allowed');
    expect(elsewhere.requests).toEqual([]);
    expect(await folder.files()).toEqual([]);
  });

  it('to another port of the same machine is not followed either', async () => {
    expect((await failure(go(`${elsewhere.url}/a.bin`))).message).toContain('not allowed');
    expect(elsewhere.requests).toEqual([]);
  });

  it('that leads in circles ends', async () => {
    expect((await failure(go('/a.bin'))).message).toContain('without end');
    // A look, and six requests for the bytes.
    expect(home.requests).toHaveLength(7);
  });
});

describe('what is asked beside files', () => {
  const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  const all = () => open({ trusted: [home.url] });

  it('is told: size, version and ranges, also by a server that knows no HEAD', async () => {
    const url = `${home.url}/a.bin`;
    const told = { url, size: BYTES.length, sha256: undefined, ranges: true };
    expect(await all().look(url, never)).toMatchObject(told);
    home.head = false;
    expect(await all().look(url, never)).toMatchObject(told);
    home.head = true;
    expect(await failure(all().look(`${home.url}/none`, never))).toMatchObject({ code: 'model_not_found' });
  });

  it('are parts of files, from servers with and without ranges', async () => {
    const url = `${home.url}/a.bin`;
    expect(await all().range(url, 100, 200, never)).toEqual(Buffer.from(BYTES.subarray(100, 200)));
    expect(await all().range(url, 4900, 6000, never)).toHaveLength(100);
    expect(await all().range(url, 9000, 9010, never)).toHaveLength(0);
    home.ranges = false;
    expect(await all().range(url, 100, 200, never)).toEqual(Buffer.from(BYTES.subarray(100, 200)));
    home.ranges = true;
    home.trouble = { kind: 'lying' };
    expect(await failure(all().range(url, 100, 200, never))).toMatchObject({ code: 'model_unavailable' });
  });

  it('are documents of a limited size, once more where they are cut', async () => {
    home.files.set('d.json', bytes({ a: 1 }));
    expect(await all().json(`${home.url}/d.json`, never)).toEqual({ a: 1 });
    expect((await failure(all().json(`${home.url}/d.json`, never, 3))).code).toBe('upstream_invalid');
    expect((await failure(all().json(`${home.url}/a.bin`, never))).code).toBe('upstream_invalid');
    home.trouble = { kind: 'status', status: 503, times: 1 };
    expect(await all().json(`${home.url}/d.json`, never)).toEqual({ a: 1 });
    home.trouble = { kind: 'status', status: 503 };
    expect(await failure(all().json(`${home.url}/d.json`, never))).toMatchObject({ code: 'model_unavailable' });
  });

  it('ends within a second when it is no longer wanted', async () => {
    home.trouble = { kind: 'silence' };
    const abort = new AbortController();
    const asking = failure(open({ trusted: [home.url], stallMs: 60_000 }).json(`${home.url}/d.json`, abort.signal));
    setTimeout(() => abort.abort(), 50);
    const begun = Date.now();
    expect((await asking).code).toBe('client_closed');
    expect(Date.now() - begun).toBeLessThan(10_000);
  });
});
