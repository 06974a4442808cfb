// Getting models for Ollama, against a registry, a hub and content networks that behave as badly as real ones: plans, pulls, files, removal.
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile, mkdir, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createDownloads } from '../../adapters/downloads/index.ts';
import { createOllama } from '../../adapters/runtimes/ollama/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { PullEvent, Puller, PullWant } from '../../src/puller.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { fetchTransport } from '../../src/upstream.ts';
import { openFakeFiles, type FakeFiles } from '../support/fake-files.ts';
import { makeGguf } from '../support/fake-gguf.ts';
import { openFakeHub, type FakeHub, type FakeRepo } from '../support/fake-hub.ts';
import { openFakeOllama, type FakeOllama } from '../support/fake-ollama.ts';
import { openFakeOllamaRegistry, type FakeLayer, type FakeOllamaRegistry } from '../support/fake-ollama-registry.ts';

const limits = { firstByteMs: 3000, idleMs: 2000, controlMs: 1500, maxReplyBytes: 1_000_000 };
const MB = 1024 ** 2;
const WEIGHTS = makeGguf({ words: 200, weights: 1.5 * MB });
const DIGEST = createHash('sha256').update(WEIGHTS).digest('hex');
const LICENSE = '\n   Apache License\n   Version 2.0, January 2004\n';
const never = () => new AbortController().signal;

describe('pulls of ollama', () => {
  let registry: FakeOllamaRegistry;
  let fake: FakeOllama;
  let hub: FakeHub;
  let files: FakeFiles;
  let folder: string;
  let layers: FakeLayer[];
  let ollama: RuntimeAdapter;
  let puller: Puller;
  const repos: Record<string, FakeRepo> = {
    'org/small-GGUF': {
      'small-Q4_K_M.gguf': WEIGHTS,
      'small-Q8_0.gguf': makeGguf({ weights: MB }),
      'README.md': Buffer.from('#'),
    },
  };

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ollama-pulls-'));
    registry = await openFakeOllamaRegistry();
    layers = registry.publish('small:1b', {
      weights: WEIGHTS,
      license: LICENSE,
      config: { model_type: '1.2B', file_type: 'Q4_K_M' },
    });
    fake = await openFakeOllama({ registry: registry.url });
    hub = await openFakeHub(repos);
    files = await openFakeFiles({ 'small.gguf': WEIGHTS, 'bad.gguf': Buffer.from('MZ'.padEnd(5000)) });
    ollama = adapt();
    puller = ollama.puller!;
  });
  afterEach(async () => {
    await Promise.all([registry.close(), fake.close(), hub.close(), files.close()]);
    await rm(folder, { recursive: true, force: true });
  });

  function adapt(options: { stallMs?: number; registry?: string; modelsDir?: string; token?: string } = {}) {
    const downloads = createDownloads({
      tokens: options.token ? { [hub.url]: options.token } : {},
      trusted: [...registry.origins, ...hub.origins, files.url],
      allow: [],
      stallMs: 500,
      tries: 3,
      backoffMs: 10,
    });
    return createOllama({
      baseUrl: fake.url,
      transport: fetchTransport,
      limits,
      pulls: {
        downloads,
        hubUrl: hub.url,
        registry: options.registry ?? registry.url,
        tempDir: join(folder, 'pulls'),
        stallMs: options.stallMs ?? 2000,
        modelsDir: options.modelsDir,
      },
    });
  }

  const pull = (want: PullWant | string, signal = never(), by = puller) =>
    collect(by.pull(typeof want === 'string' ? { model: want } : want, signal));
  const plan = (want: PullWant | string) => puller.plan(typeof want === 'string' ? { model: want } : want, never());
  const names = async () => (await ollama.models(never())).map(({ id }) => id);

  describe('plan', () => {
    it('tells what a name of the library takes, from its manifest, its configuration and the header of its weights', async () => {
      const found = await plan('small:1b');
      const bytes = layers.reduce((sum, { size }) => sum + size, 0);
      expect(found).toMatchObject({
        model: 'small:1b',
        bytes,
        license: 'apache-2.0',
        source: 'https://ollama.com/library/small',
        facts: { size: bytes, parameters: 1.2e9, quantization: 'Q4_K_M', contextWindow: 4096, kvPerToken: 128 },
        warnings: [],
      });
      expect(found.files.map(({ present, sha256 }) => [present, `sha256:${sha256}`])).toEqual(
        layers.map(({ digest }) => [false, digest]),
      );
      expect(registry.cdn.served.reduce((sum, [from, to]) => sum + to - from, 0)).toBeLessThan(200_000);
      expect(fake.library.blobs.size).toBe(0);
    });

    it('knows what is here', async () => {
      await pull('small:1b');
      const found = await plan('small:1b');
      expect(found.bytes).toBe(0);
      expect(found.files.every(({ present }) => present)).toBe(true);
    });

    it('says how much is free where the models lie on this machine', async () => {
      puller = adapt({ modelsDir: folder }).puller!;
      expect((await plan('small:1b')).free).toBeGreaterThan(0);
    });

    it('is without sizes, and says so, where the registry does not answer', async () => {
      puller = adapt({ registry: 'http://127.0.0.1:9' }).puller!;
      const found = await plan('small:1b');
      expect(found).toMatchObject({ model: 'small:1b', files: [], warnings: [expect.stringContaining('how large')] });
      expect(found).not.toHaveProperty('bytes');
      registry.status = 500;
      puller = adapt().puller!;
      expect((await plan('small:1b')).warnings).toHaveLength(1);
    });

    it('says that Ollama is down, and plans all the same', async () => {
      await fake.close();
      const found = await plan('small:1b');
      expect(found.warnings).toEqual([expect.stringContaining('start it')]);
      expect(found.bytes).toBeGreaterThan(1.5 * MB);
      fake = await openFakeOllama();
    });

    it('knows names that are in no registry', async () => {
      for (const model of ['nothing:1b', 'small:7b', 'somebody/small']) {
        await expect(plan(model)).rejects.toMatchObject({ code: 'model_not_found', hint: expect.any(String) });
      }
    });

    const image = 'application/vnd.ollama.image.model';
    it.each<[what: string, layer: object]>([
      ['leads elsewhere', { digest: 'sha256:../../../../etc/passwd', size: 1, mediaType: image }],
      ['is short', { digest: 'sha256:abc', size: 1, mediaType: image }],
      ['is in capitals', { digest: `sha256:${'A'.repeat(64)}`, size: 1, mediaType: image }],
      ['is of another kind', { digest: `md5:${'a'.repeat(64)}`, size: 1, mediaType: image }],
      ['has a tail', { digest: `sha256:${'a'.repeat(64)}/../x`, size: 1, mediaType: image }],
      ['is of negative size', { digest: `sha256:${'a'.repeat(64)}`, size: -1, mediaType: image }],
      ['is of absurd size', { digest: `sha256:${'a'.repeat(64)}`, size: 2 ** 60, mediaType: image }],
      ['has no size', { digest: `sha256:${'a'.repeat(64)}`, size: '1', mediaType: image }],
    ])('refuses, and never has Ollama pull, a manifest with a digest that %s', async (_, layer) => {
      registry.publishManifest('evil:1b', { schemaVersion: 2, layers: [layer] });
      await expect(plan('evil:1b')).rejects.toMatchObject({ code: 'upstream_invalid' });
      await expect(pull('evil:1b')).rejects.toMatchObject({ code: 'upstream_invalid' });
      expect(fake.requests.some(({ path }) => path === '/api/pull')).toBe(false);
    });

    it.each([null, [], 'x', {}, { layers: [] }, { layers: 7 }, { layers: [null] }])('refuses %j', async (manifest) => {
      registry.publishManifest('evil:1b', manifest);
      await expect(plan('evil:1b')).rejects.toMatchObject({ code: 'upstream_invalid' });
    });
  });

  describe('pull', () => {
    it('follows the bytes of all layers, and ends when the model is there', async () => {
      registry.cdn.trouble = { kind: 'slow', bytesPerSecond: 10 * MB };
      const events = await pull('small:1b');
      const progress = events.flatMap((event) => (event.type === 'progress' ? [event] : []));
      expect(progress.length).toBeGreaterThan(2);
      expect(
        progress.every(({ done, unit }, index) => unit === 'bytes' && done >= (progress[index - 1]?.done ?? 0)),
      ).toBe(true);
      expect(progress.at(-1)!.done).toBe(progress.at(-1)!.total);
      expect(events.at(-1)).toMatchObject({ type: 'pulled', model: 'small:1b' });
      expect(events.at(-1)).toHaveProperty('files.0', {
        name: `sha256-${DIGEST}`,
        folder: 'blobs',
        size: WEIGHTS.length,
        sha256: DIGEST,
      });
      expect(await names()).toContain('small:1b');
      expect(fake.requests.find(({ path }) => path === '/api/pull')!.body).toMatchObject({
        model: 'small:1b',
        name: 'small:1b',
      });
    });

    it('is done at once where nothing is missing, and with a version that knows `name` only', async () => {
      await pull('small:1b');
      const begun = fake.library.downloads.length;
      expect((await pull('small:1b')).at(-1)).toMatchObject({ type: 'pulled' });
      expect(fake.library.downloads).toHaveLength(begun);
      await fake.close();
      fake = await openFakeOllama({ registry: registry.url, old: true });
      expect((await pull('small:1b', never(), adapt().puller!)).at(-1)).toMatchObject({ type: 'pulled' });
    });

    it('says whether it was there before, also where all of it comes too fast to be told', async () => {
      registry.publish('tiny:1b', { weights: new Uint8Array(10) });
      expect((await pull('tiny:1b')).at(-1)).toMatchObject({ type: 'pulled', already: false });
      expect((await pull('tiny:1b')).at(-1)).toMatchObject({ type: 'pulled', already: true });
      registry.publish('tiny:1b', { weights: new Uint8Array(11) });
      expect((await pull('tiny:1b')).at(-1)).toMatchObject({ type: 'pulled', already: false });
    });

    it('shares one download among twenty, and goes on for those who stay', async () => {
      registry.cdn.trouble = { kind: 'slow', bytesPerSecond: 8 * MB };
      const leaver = new AbortController();
      const all = Array.from({ length: 20 }, (_, index) => pull('small:1b', index === 7 ? leaver.signal : never()));
      const left = expect(all[7]).rejects.toMatchObject({ code: 'client_closed' });
      setTimeout(() => leaver.abort(), 60);
      await left;
      await Promise.all(all.filter((_, index) => index !== 7));
      expect(fake.library.downloads.filter((digest) => digest === `sha256:${DIGEST}`)).toHaveLength(1);
    });

    it('is left at once; what has come is used by the next', async () => {
      registry.cdn.trouble = { kind: 'slow', bytesPerSecond: 4 * MB };
      const leaver = new AbortController();
      const pulling = pull('small:1b', leaver.signal);
      const failed = expect(pulling).rejects.toMatchObject({ code: 'client_closed' });
      await come(MB / 2);
      const at = performance.now();
      leaver.abort();
      await failed;
      expect(performance.now() - at).toBeLessThan(10_000);
      await expect.poll(() => registry.cdn.open()).toBe(0);
      expect(await names()).not.toContain('small:1b');
      registry.cdn.trouble = undefined;
      registry.cdn.served.length = 0;
      await pull('small:1b');
      const [from] = registry.cdn.served[0]!;
      expect(from).toBeGreaterThan(0.4 * MB);
    });

    it.each([
      ['nothing more comes', 'silent', 'upstream_idle'],
      ['lines come without bytes', 'stall', 'upstream_idle'],
      ['the connection breaks', 'cut', 'upstream_terminated'],
      ['it ends without a word', 'short', 'upstream_terminated'],
      ['its disk is full', 'full', 'storage_full'],
      ['it is too old', 'requires', 'model_unavailable'],
    ] as const)('says so when %s', async (_, trouble, code) => {
      registry.cdn.trouble = { kind: 'slow', bytesPerSecond: 8 * MB };
      fake.library.trouble = trouble;
      const error = await failure(pull('small:1b', never(), adapt({ stallMs: 200 }).puller!));
      expect(error).toMatchObject({ code, source: 'ollama', hint: expect.any(String) });
      expect(error.message).not.toMatch(/\/root|blobs/);
    });

    it('says that what came is wrong, and keeps none of it', async () => {
      registry.cdn.trouble = { kind: 'corrupt' };
      expect(await failure(pull('small:1b'))).toMatchObject({ code: 'digest_mismatch' });
      expect(await names()).not.toContain('small:1b');
      registry.cdn.trouble = undefined;
      expect((await pull('small:1b')).at(-1)).toMatchObject({ type: 'pulled' });
    });

    it('goes on through cuts of the content network', async () => {
      registry.cdn.trouble = { kind: 'cut', times: 2 };
      expect((await pull('small:1b')).at(-1)).toMatchObject({ type: 'pulled' });
    });

    it('lets Ollama try where only the gateway cannot reach the registry', async () => {
      const offline = adapt({ registry: 'http://127.0.0.1:9' }).puller!;
      expect((await pull('small:1b', never(), offline)).at(-1)).toMatchObject({ type: 'pulled' });
      expect(await failure(pull('nothing:1b', never(), offline))).toMatchObject({ code: 'model_not_found' });
      await fake.close();
      fake = await openFakeOllama();
      const without = await failure(pull('small:1b', never(), adapt({ registry: 'http://127.0.0.1:9' }).puller!));
      expect(without).toMatchObject({ code: 'upstream_terminated', hint: expect.stringContaining('internet') });
    });

    it('says that Ollama is down', async () => {
      await fake.close();
      expect(await failure(pull('small:1b'))).toMatchObject({ code: 'upstream_unavailable' });
      fake = await openFakeOllama();
    });

    it('is refused before the first byte where there is no room', async () => {
      const { bavail, bsize } = await statfs(folder);
      const huge = {
        digest: `sha256:${'a'.repeat(64)}`,
        size: bavail * bsize + 1e12,
        mediaType: 'application/vnd.ollama.image.model',
      };
      registry.publishManifest('huge:1b', { schemaVersion: 2, layers: [huge] });
      const error = await failure(pull('huge:1b', never(), adapt({ modelsDir: folder }).puller!));
      expect(error).toMatchObject({ code: 'storage_full', message: expect.stringMatching(/GB are free/) });
      expect(fake.requests.some(({ path }) => path === '/api/pull')).toBe(false);
      await mkdir(join(folder, 'blobs'));
      await writeFile(join(folder, 'blobs', `sha256-${DIGEST}-partial`), Buffer.alloc(MB));
      expect((await pull('small:1b', never(), adapt({ modelsDir: folder }).puller!)).at(-1)).toMatchObject({
        type: 'pulled',
      });
    });

    it('pulls from the registry of the configuration under its own name, without TLS where that has none', async () => {
      const events = await pull(`${registry.host}/library/small:1b`);
      expect(events.at(-1)).toMatchObject({ model: `${registry.host}/library/small:1b` });
      expect(fake.requests.find(({ path }) => path === '/api/pull')!.body).toMatchObject({ insecure: true });
      expect(await failure(pull('registry.example.com/library/small:1b'))).toMatchObject({ code: 'not_supported' });
      expect(await failure(pull('169.254.169.254/latest/meta-data'))).toMatchObject({ code: 'not_supported' });
    });
  });

  describe('files', () => {
    const source = () => `${files.url}/small.gguf`;

    it('come by the gateway and are handed over, then nothing is left of them here', async () => {
      const found = await plan({ model: 'mine:1b', source: source() });
      expect(found).toMatchObject({ model: 'mine:1b', bytes: WEIGHTS.length, facts: { kvPerToken: 128 } });
      const events = await pull({ model: 'mine:1b', source: source(), sha256: DIGEST });
      expect(events.at(-1)).toMatchObject({ type: 'pulled', model: 'mine:1b', files: [{ sha256: DIGEST }] });
      expect(await names()).toContain('mine:1b');
      expect(fake.library.brought()).toBe(WEIGHTS.length);
      expect(await readdir(join(folder, 'pulls'))).toEqual([]);
      expect(await plan({ model: 'mine:1b', source: source(), sha256: DIGEST })).toMatchObject({ bytes: 0 });
    });

    it('are named by their address where nobody names them', async () => {
      const events = await pull({ model: source() });
      expect(events.at(-1)).toMatchObject({ model: 'small:latest' });
    });

    it('are not fetched where Ollama has their bytes', async () => {
      await pull('small:1b');
      files.served.length = 0;
      await pull({ model: 'mine:1b', source: source(), sha256: DIGEST });
      expect(files.served).toEqual([]);
      expect(fake.library.brought()).toBe(0);
    });

    it('are kept when the hand-over fails, and not fetched again', async () => {
      fake.library.trouble = 'full';
      expect(await failure(pull({ model: 'mine:1b', source: source() }))).toMatchObject({ code: 'storage_full' });
      fake.library.trouble = undefined;
      files.served.length = 0;
      expect((await pull({ model: 'mine:1b', source: source() })).at(-1)).toMatchObject({ type: 'pulled' });
      expect(files.served).toEqual([]);
    });

    it('are refused where they are others, or nothing that Ollama runs', async () => {
      const wrong = { model: 'mine:1b', source: source(), sha256: '0'.repeat(64) };
      expect(await failure(pull(wrong))).toMatchObject({ code: 'digest_mismatch' });
      const bad = { model: 'mine:1b', source: `${files.url}/bad.gguf` };
      expect(await failure(pull(bad))).toMatchObject({ code: 'not_supported', hint: expect.stringContaining('GGUF') });
      expect(await failure(pull({ model: 'mine:1b', source: `${files.url}/none.gguf` }))).toMatchObject({
        code: 'model_not_found',
      });
      expect(await names()).not.toContain('mine:1b');
    });

    it('are left at once while they go over', async () => {
      files.trouble = { kind: 'slow', bytesPerSecond: 2 * MB };
      const leaver = new AbortController();
      const failed = failure(pull({ model: 'mine:1b', source: source() }, leaver.signal));
      setTimeout(() => leaver.abort(), 200);
      expect((await failed).code).toBe('client_closed');
    });
  });

  describe('the hub', () => {
    it('gives the quantization that is asked for, or the usual one, through the gateway where Ollama does not know the hub', async () => {
      const usual = await plan('hf.co/org/small-GGUF');
      expect(usual).toMatchObject({
        model: 'hf.co/org/small-GGUF:latest',
        bytes: WEIGHTS.length,
        facts: { contextWindow: 4096 },
      });
      expect((await plan('hf.co/org/small-GGUF:Q8_0')).bytes).toBeLessThan(WEIGHTS.length);
      await expect(plan('hf.co/org/small-GGUF:Q2_K')).rejects.toMatchObject({
        code: 'model_not_found',
        hint: expect.stringContaining('Q4_K_M, Q8_0'),
      });
      expect((await pull('hf.co/org/small-GGUF')).at(-1)).toMatchObject({ model: 'hf.co/org/small-GGUF:latest' });
      expect(await names()).toContain('hf.co/org/small-GGUF:latest');
    });

    it('takes a name of the caller’s own', async () => {
      const want = { model: 'mine', source: 'hf:org/small-GGUF' };
      expect((await pull(want)).at(-1)).toMatchObject({ model: 'mine:latest' });
      expect(await names()).toContain('mine:latest');
    });

    it('gives one file of a repository', async () => {
      const want = { model: 'eight:1b', source: 'hf:org/small-GGUF/small-Q8_0.gguf' };
      expect((await pull(want)).at(-1)).toMatchObject({ model: 'eight:1b' });
    });

    it('says what a repository lacks', async () => {
      await expect(plan('hf.co/org/none-GGUF')).rejects.toMatchObject({ name: 'GatewayError' });
      await expect(plan('hf:org/../x')).rejects.toMatchObject({ code: 'invalid_request' });
    });

    it('gives what is gated with the gateway’s token', async () => {
      hub.gated.set('org/small-GGUF', 'hf_secret');
      expect(await failure(pull('hf.co/org/small-GGUF'))).toMatchObject({ code: 'model_unavailable' });
      const events = await pull('hf.co/org/small-GGUF', never(), adapt({ token: 'hf_secret' }).puller!);
      expect(events.at(-1)).toMatchObject({ type: 'pulled' });
      expect(hub.cdn.headers.every(({ authorization }) => authorization === undefined)).toBe(true);
    });
  });

  describe('remove', () => {
    it('deletes a model, and sends it out of memory before', async () => {
      await pull('small:1b');
      fake.loaded.add('small:1b');
      const size = layers.reduce((sum, each) => sum + each.size, 0);
      expect(await puller.remove!('small:1b', never())).toEqual({ freed: size, files: [{ name: 'small:1b', size }] });
      expect(fake.loaded.has('small:1b')).toBe(false);
      expect(await names()).not.toContain('small:1b');
      expect(fake.library.blobs.size).toBe(0);
    });

    it('knows what is not there, and takes names without their tag', async () => {
      expect(await failure(puller.remove!('nothing:1b', never()))).toMatchObject({ code: 'model_not_found' });
      await puller.remove!('echo', never());
      expect(await names()).not.toContain('echo:latest');
      expect(await failure(puller.remove!('echo', never()))).toMatchObject({ code: 'model_not_found' });
    });
  });

  describe('search', () => {
    it('offers what is not here, of a list of ours and of the hub', async () => {
      registry.publish('qwen3:8b', { weights: WEIGHTS });
      const before = await puller.search!('qwen3', never());
      expect(before.map(({ model }) => model)).toContain('qwen3:8b');
      await pull('qwen3:8b');
      const after = await puller.search!('qwen3', never());
      expect(after.map(({ model }) => model)).not.toContain('qwen3:8b');
      expect(after.every(({ present }) => !present)).toBe(true);
      const found = await puller.search!('small', never());
      expect(found).toContainEqual(expect.objectContaining({ model: 'hf.co/org/small-GGUF' }));
    });

    it('tells what it knows by itself where neither Ollama nor the hub answer', async () => {
      await Promise.all([fake.close(), hub.close()]);
      const found = await puller.search!('embed', never());
      expect(found).toContainEqual(
        expect.objectContaining({ model: 'nomic-embed-text', capabilities: ['text.embed'], present: false }),
      );
      expect((await puller.search!('', never())).length).toBeGreaterThan(20);
      [fake, hub] = [await openFakeOllama(), await openFakeHub(repos)];
    });
  });

  /** Until so many bytes of the weights have come to Ollama. */
  async function come(bytes: number): Promise<void> {
    const here = () =>
      (fake.library.partial.get(`sha256:${DIGEST}`) ?? []).reduce((sum, { length }) => sum + length, 0);
    await expect.poll(here, { interval: 10 }).toBeGreaterThan(bytes);
  }
});

async function collect(events: AsyncIterable<PullEvent>): Promise<PullEvent[]> {
  const all: PullEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

async function failure(work: Promise<unknown>): Promise<GatewayError> {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(GatewayError);
  return error as GatewayError;
}
