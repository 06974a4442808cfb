// Models from the hub: download, cache and every way in which the hub can fail, against a server with its URL layout.
import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openMediaTools } from '../../adapters/media/index.ts';
import { toDownloadError } from '../../adapters/runtimes/embedded/hub-error.ts';
import { createEmbedded, type EmbeddedOptions } from '../../adapters/runtimes/embedded/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { ProgressEvent } from '../../src/event.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
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
const open = (options: Partial<EmbeddedOptions> = {}) => {
  const hubUrl = hub.url;
  const runtime = createEmbedded({ tools, cacheDir, hubUrl, download: true, idleMs: 60_000, queue: 4, ...options });
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
    const runtime = open({ hubToken: 'hf_secret' });
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
    expect(gets('model_quantized')).toHaveLength(2);
  });

  it('is no longer downloaded when all who waited have left', async () => {
    hub.trouble = { kind: 'stall' };
    const runtime = open();
    const leavers = [new AbortController(), new AbortController()];
    const runs = leavers.map(({ signal }) => failure(ask(runtime, signal)));
    await vi.waitFor(() => expect(gets('/cdn/')).toHaveLength(1), 10_000);
    leavers[0]!.abort();
    expect((await runs[0]!).code).toBe('client_closed');
    expect(hub.aborts()).toBe(0);
    leavers[1]!.abort();
    expect((await runs[1]!).code).toBe('client_closed');
    await vi.waitFor(() => expect(hub.aborts()).toBe(1), 5000);
    await vi.waitFor(async () => expect(await leftovers()).toEqual([]), 5000);
    hub.trouble = undefined;
    expect((await ask(runtime)).text).toContain(WHO);
  });

  it('takes the next best weights where the best are not offered', async () => {
    const folder = join(scratch, 'int8');
    await cp(tinyStory, folder, { recursive: true });
    await cp(join(folder, 'onnx', 'model_quantized.onnx'), join(folder, 'onnx', 'model_int8.onnx'));
    await rm(join(folder, 'onnx', 'model_quantized.onnx'));
    await hub.close();
    hub = await openFakeHub({ [SMOLLM]: folder });
    expect((await ask(open())).text).toContain(WHO);
    expect(gets('model_int8')).toHaveLength(2);
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
    [{ kind: 'cut' }, { code: 'model_unavailable', message: expect.stringContaining('cut off or damaged') }],
    [{ kind: 'corrupt' }, { code: 'model_unavailable', message: expect.stringContaining('cut off or damaged') }],
    [{ kind: 'stall' }, { code: 'model_unavailable', message: expect.stringContaining('stalled') }],
    [{ kind: 'silence' }, { code: 'model_unavailable', message: expect.stringContaining('stalled') }],
  ];
  it.for(refusals)('is told from others: %j', async ([trouble, expected]) => {
    const runtime = open({ stallMs: 300 });
    hub.trouble = trouble;
    const error = await failure(ask(runtime));
    expect(error).toMatchObject({ source: 'embedded', ...expected });
    expect(error.hint).toBeTruthy();
    expect(error.message).not.toMatch(/127\.0\.0\.1|localhost|\/tmp/);
    expect(await leftovers()).toEqual([]);
    expect(await stateOf(runtime)).toBe('available');

    if (trouble.kind !== 'cut') return;
    // What arrived whole is kept, and the next try needs no restart.
    hub.trouble = undefined;
    const small = gets('/tokenizer.json').length;
    expect((await ask(runtime)).text).toContain(WHO);
    expect(gets('/tokenizer.json')).toHaveLength(small);
  });

  it('that cannot be reached is said to be so', async () => {
    await hub.close();
    const refused = await failure(ask(open()));
    expect(refused).toMatchObject({ code: 'model_unavailable', status: 503 });
    expect(refused.message).toContain('The Hugging Face hub cannot be reached');
    const nowhere = await failure(ask(open({ hubUrl: 'http://no-such-host.invalid' })));
    expect(nowhere.message).toContain('The Hugging Face hub cannot be reached');
    expect(nowhere.hint).toContain('HF_ENDPOINT');
    expect(nowhere.message).not.toContain('invalid');
  });

  it('does not hold up the built-in models', async () => {
    hub.trouble = { kind: 'stall' };
    const runtime = open();
    const abort = new AbortController();
    const waiting = failure(ask(runtime, abort.signal));
    await vi.waitFor(() => expect(gets('/cdn/')).toHaveLength(1), 10_000);
    expect((await ask(runtime, undefined, 'tiny-story')).text).toContain(WHO);
    abort.abort();
    await waiting;
  });

  it('or a disk that is full or closed, has its own words', async () => {
    const full = toDownloadError(Object.assign(new Error('write'), { code: 'ENOSPC' }), SMOLLM, cacheDir);
    expect(full).toMatchObject({ code: 'storage_full', status: 507 });
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
