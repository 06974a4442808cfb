// Models from the hub: download, cache and every way in which the hub can fail, against a server with its URL layout.
import { cp, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createDownloads, type DownloadsOptions } from '../../adapters/downloads/index.ts';
import { openMediaTools } from '../../adapters/media/index.ts';
import { createEmbedded, type EmbeddedOptions } from '../../adapters/runtimes/embedded/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { ProgressEvent } from '../../src/event.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import '../support/warm-onnx.ts';
import { type FakeHub, openFakeHub, type Trouble } from '../support/fake-hub.ts';
import { writeTinyEncoder } from '../support/tiny-encoder.ts';
import { noFiles } from '../support/no-files.ts';

const SMOLLM = 'HuggingFaceTB/SmolLM2-135M-Instruct';
const MINILM = 'Xenova/all-MiniLM-L6-v2';
const WHO = 'I am a tiny model with a few million parameters.';
const tools = openMediaTools({ maxPixels: 1e6 });
const tinyStory = fileURLToPath(new URL('../../models/tiny-story', import.meta.url));
const scratch = await mkdtemp(join(tmpdir(), 'embedded-hub-'));

let hub: FakeHub;
let cacheDir: string;
let opened: RuntimeAdapter[] = [];
let tests = 0;
const open = (options: Partial<EmbeddedOptions> & Partial<DownloadsOptions> = {}) => {
  const { tokens = {}, tries = 1, stallMs = 30_000, ...rest } = options;
  const hubUrl = hub.url;
  const trusted = [...hub.origins, 'http://no-such-host.invalid'];
  const downloads = createDownloads({ tokens, trusted, allow: [], stallMs, tries, backoffMs: 20 });
  const own = { tools, cacheDir, hubUrl, downloads, download: true, idleMs: 60_000, queue: 4 };
  const runtime = createEmbedded({ ...own, ...rest });
  opened.push(runtime);
  return runtime;
};

beforeEach(async () => {
  cacheDir = join(scratch, `cache-${tests++}`);
  hub = await openFakeHub({ [SMOLLM]: tinyStory });
});
afterEach(async () => {
  for (const runtime of opened) await runtime.close!();
  opened = [];
  await hub.close();
});
afterAll(() => rm(scratch, { recursive: true }));

describe('a model of the hub', { timeout: 60_000 }, () => {
  it('is listed, fetched on first use with its progress, and then answers without the hub', async () => {
    const runtime = open({ tokens: { [hub.url]: 'hf_secret' } });
    expect(await stateOf(runtime)).toBe('available');
    const { text, progress } = await ask(runtime);
    expect(text).toContain(WHO);
    expect(progress.length).toBeGreaterThan(0);
    const last = progress.at(-1)!;
    expect(last).toMatchObject({ unit: 'bytes', done: last.total });
    expect(last.total).toBeGreaterThan(3_094_400);
    for (const [at, { done }] of progress.entries()) expect(done).toBeGreaterThanOrEqual(progress[at - 1]?.done ?? 0);
    expect(await stateOf(runtime)).toBe('loaded');
    expect(new Set(hub.tokens)).toEqual(new Set(['Bearer hf_secret']));
    expect(hub.cdn.headers.map(({ authorization }) => authorization)).toEqual([undefined]);
    expect(await leftovers()).toEqual([]);

    const count = hub.requests.length;
    await hub.close();
    const later = open();
    expect(await stateOf(later)).toBe('ready');
    const second = await ask(later);
    expect(second.text).toBe(text);
    expect(second.progress).toEqual([]);
    expect(hub.requests).toHaveLength(count);
  });

  it('is downloaded once for all who wait for it', async () => {
    const runtime = open();
    const answers = await Promise.all([ask(runtime), ask(runtime), ask(runtime)]);
    for (const { text } of answers) expect(text).toContain(WHO);
    expect(gets('/cdn/')).toHaveLength(1);
  });

  it('is no longer downloaded when all who waited have left', async () => {
    hub.trouble = { kind: 'stall' };
    const runtime = open();
    const leavers = [new AbortController(), new AbortController()];
    const runs = leavers.map(({ signal }) => failure(ask(runtime, signal)));
    const part = join(cacheDir, ...SMOLLM.split('/'), 'onnx', 'model_quantized.onnx.part');
    await vi.waitFor(async () => expect((await stat(part)).size).toBeGreaterThan(1_000_000), 20_000);
    leavers[0]!.abort();
    expect((await runs[0]!).code).toBe('client_closed');
    expect(hub.aborts()).toBe(0);
    leavers[1]!.abort();
    expect((await runs[1]!).code).toBe('client_closed');
    await vi.waitFor(() => expect(hub.aborts()).toBe(1), 20_000);
    hub.trouble = undefined;
    expect((await ask(runtime)).text).toContain(WHO);
    // It goes on where it was, give or take what had not reached the disk.
    expect(hub.cdn.served.at(-1)![0]).toBeGreaterThan(0);
    expect(await leftovers()).toEqual([]);
  });

  it('takes the next best weights where the best are not offered', async () => {
    const folder = join(scratch, 'int8');
    await cp(tinyStory, folder, { recursive: true });
    await cp(join(folder, 'onnx', 'model_quantized.onnx'), join(folder, 'onnx', 'model_int8.onnx'));
    await rm(join(folder, 'onnx', 'model_quantized.onnx'));
    await hub.close();
    hub = await openFakeHub({ [SMOLLM]: folder });
    expect((await ask(open())).text).toContain(WHO);
    expect(gets('/cdn/')).toEqual([expect.stringContaining('model_int8')]);
  });

  it('serves embeddings from a worker of its own', async () => {
    const folder = join(scratch, 'encoder');
    await writeTinyEncoder(folder);
    await hub.close();
    hub = await openFakeHub({ [MINILM]: folder });
    const runtime = open();
    const model = (await runtime.models(new AbortController().signal)).find(({ aliases }) =>
      aliases?.includes('minilm'),
    )!;
    expect(model).toMatchObject({ id: MINILM, state: 'available', capabilities: ['text.embed'] });
    const call = { model, signal: new AbortController().signal, requestId: 'req_hub', file: noFiles };
    for await (const event of runtime.handles['text.embed']!({ input: ['dog', 'car'] }, call)) {
      if (event.type === 'result') expect(event.result.embeddings).toHaveLength(2);
    }
    expect(hub.requests).toContain(`GET /${MINILM}/resolve/main/onnx/model_quantized.onnx`);
  });

  it('may be copied to the user’s folder instead', async () => {
    const localDir = join(scratch, 'copied');
    await cp(tinyStory, join(localDir, ...SMOLLM.split('/')), { recursive: true });
    await hub.close();
    const runtime = open({ localDir, download: false });
    expect(await stateOf(runtime)).toBe('ready');
    expect((await ask(runtime)).text).toContain(WHO);
  });
});

describe('a hub that fails', { timeout: 60_000 }, () => {
  it('is not even asked where downloads are switched off', async () => {
    const error = await failure(ask(open({ download: false })));
    expect(error).toMatchObject({ code: 'model_unavailable', status: 503, source: 'embedded' });
    for (const remedy of ['HONO_AI_EMBEDDED_DOWNLOAD=1', 'HF_ENDPOINT', SMOLLM]) expect(error.hint).toContain(remedy);
    expect(hub.requests).toEqual([]);
  });

  const refusals: [trouble: Trouble, expected: object][] = [
    [
      { kind: 'status', status: 401 },
      { code: 'model_unavailable', hint: expect.stringContaining('HF_TOKEN') },
    ],
    [
      { kind: 'status', status: 403 },
      { code: 'model_unavailable', hint: expect.stringContaining('HF_TOKEN') },
    ],
    [{ kind: 'status', status: 401, errorCode: 'RepoNotFound' }, { code: 'model_not_found' }],
    [
      { kind: 'status', status: 404 },
      { code: 'model_not_found', status: 404 },
    ],
    [
      { kind: 'status', status: 500 },
      { code: 'model_unavailable', message: expect.stringContaining('500') },
    ],
    [{ kind: 'cut' }, { code: 'upstream_terminated', message: expect.stringContaining('was cut') }],
    [{ kind: 'corrupt' }, { code: 'digest_mismatch' }],
    [{ kind: 'stall' }, { code: 'upstream_idle', message: expect.stringContaining('stalled') }],
    [{ kind: 'silence' }, { code: 'upstream_idle', message: expect.stringContaining('stalled') }],
  ];
  it.for(refusals)('is told from others: %j', async ([trouble, expected]) => {
    const runtime = open({ stallMs: 300 });
    hub.trouble = trouble;
    const error = await failure(ask(runtime));
    expect(error).toMatchObject({ source: 'embedded', ...expected });
    expect(error.hint).toBeTruthy();
    expect(error.message).not.toMatch(/127\.0\.0\.1|localhost|\/tmp/);
    expect(await leftovers()).toHaveLength(trouble.kind === 'cut' || trouble.kind === 'stall' ? 1 : 0);
    expect(await stateOf(runtime)).toBe('available');

    if (trouble.kind !== 'cut') return;
    // What arrived is kept, and the next try needs no restart.
    hub.trouble = undefined;
    const small = gets('/tokenizer.json').length;
    const had = hub.cdn.served.at(-1)![1];
    expect((await ask(runtime)).text).toContain(WHO);
    expect(gets('/tokenizer.json')).toHaveLength(small);
    expect(hub.cdn.served.at(-1)![0]).toBe(had);
    expect(await leftovers()).toEqual([]);
  });

  it('that cannot be reached is said to be so', async () => {
    await hub.close();
    const refused = await failure(ask(open()));
    expect(refused).toMatchObject({ code: 'model_unavailable', status: 503 });
    expect(refused.message).toContain(`${SMOLLM} could not be downloaded. The server of the files cannot be reached`);
    const nowhere = await failure(ask(open({ hubUrl: 'http://no-such-host.invalid' })));
    expect(nowhere.message).toContain('its name cannot be resolved');
    expect(nowhere.hint).toContain('HF_ENDPOINT');
    expect(nowhere.message).not.toContain('invalid');
  });

  it('does not hold up the built-in models', async () => {
    hub.trouble = { kind: 'stall' };
    const runtime = open();
    const abort = new AbortController();
    const waiting = failure(ask(runtime, abort.signal));
    await vi.waitFor(() => expect(gets('/cdn/')).toHaveLength(1), 20_000);
    expect((await ask(runtime, undefined, 'tiny-story')).text).toContain(WHO);
    abort.abort();
    await waiting;
  });

  it('or a disk that is closed, has its own words', async () => {
    // A file where the folder should be: a cache that cannot be written, for any user that runs this test.
    await writeFile(cacheDir, '');
    expect((await failure(ask(open()))).message).toContain('cannot be written');
  });
});

function gets(part: string): string[] {
  return hub.requests.filter((request) => request.startsWith('GET ') && request.includes(part));
}

async function leftovers(): Promise<string[]> {
  const names = await readdir(cacheDir, { recursive: true }).catch(() => []);
  return names.filter((name) => name.endsWith('.part'));
}

async function stateOf(runtime: RuntimeAdapter): Promise<string> {
  return (await runtime.models(new AbortController().signal)).find(({ id }) => id === SMOLLM)!.state;
}

async function ask(runtime: RuntimeAdapter, signal = new AbortController().signal, id = SMOLLM) {
  const model = (await runtime.models(signal)).find((each) => each.id === id)!;
  const messages = [{ role: 'user' as const, content: 'Who are you?' }];
  const progress: ProgressEvent[] = [];
  const input = { messages, stream: false, temperature: 0, repeat_penalty: 1, max_tokens: 21 };
  for await (const event of runtime.handles['text.chat']!(input, {
    model,
    signal,
    requestId: 'req_hub',
    file: noFiles,
  })) {
    if (event.type === 'progress') progress.push(event);
    if (event.type === 'result') return { text: event.result.message.content, progress };
  }
  throw new Error('no result');
}

async function failure(work: Promise<unknown>): Promise<GatewayError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(GatewayError);
  return error as GatewayError;
}
