// The ACE-Step runtime: pieces that are opened and measured, and every way in which a task ends otherwise.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openMediaTools } from '../../adapters/media/index.ts';
import { type AceStepOptions, createAceStep } from '../../adapters/runtimes/acestep/index.ts';
import { createArbiter } from '../../src/arbiter/arbiter.ts';
import type { Input } from '../../src/capabilities/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { RunEvent } from '../../src/event.ts';
import type { GpuTenant, Model, RuntimeAdapter } from '../../src/runtime.ts';
import { fetchTransport } from '../../src/upstream.ts';
import { type FakeAceStepOptions, openFakeAceStep } from '../support/fake-acestep.ts';
import { eventually } from '../support/eventually.ts';
import { noFiles } from '../support/no-files.ts';

type MusicEvent = RunEvent<never, { seed?: number | undefined; revised_prompt?: string | undefined }>;

const TURBO = 'acestep-v15-turbo';
const limits = { firstByteMs: 3000, idleMs: 2000, controlMs: 3000, maxReplyBytes: 1_000_000 };
const tools = openMediaTools({ maxPixels: 1e6 });
const opened: { close(): unknown }[] = [];
afterEach(async () => {
  for (const each of opened.splice(0)) await each.close();
});

function adapt(url: string, options: Partial<AceStepOptions> = {}): RuntimeAdapter {
  const runtime = createAceStep({ name: 'acestep', baseUrl: url, transport: fetchTransport, limits, ...options });
  opened.push({ close: () => runtime.close!() });
  return runtime;
}

async function open(options: FakeAceStepOptions = {}, own: Partial<AceStepOptions> = {}) {
  const fake = await openFakeAceStep(options);
  opened.push(fake);
  return { fake, runtime: adapt(fake.url, own) };
}

describe('a piece', () => {
  it.each(['mp3', 'wav', 'flac'] as const)('comes as %s, as long as it was asked for', async (format) => {
    const { fake, runtime } = await open();
    const { result, files, events } = await make(runtime, { format, seconds: 12, seed: 7 });
    expect(result.seed).toBe(7);
    expect(files).toHaveLength(1);
    const { bytes, name } = files[0]!;
    expect(name).toBe(`${TURBO}.${format}`);
    const head = Buffer.from(bytes.subarray(0, 4)).toString('latin1');
    expect(head).toMatch({ mp3: /^(ID3|\xff[\xe2-\xff])/, wav: /^RIFF/, flac: /^fLaC/ }[format]);
    expect((await measure(bytes)).duration_s).toBeCloseTo(12, 0);
    const done = events.flatMap((event) => (event.type === 'progress' ? [event.done] : []));
    expect(done).toEqual(done.toSorted((a, b) => a - b));
    expect(done.at(-1)).toBe(100);
    expect(fake.executions()).toBe(1);
  });

  it('is asked for once, with a seed of its own, instrumental unless something is sung', async () => {
    const { fake, runtime } = await open();
    const { result, warnings } = await make(runtime, {});
    expect(warnings).toEqual([]);
    expect(fake.tasks()[0]).toMatchObject({
      model: TURBO,
      lyrics: '[instrumental]',
      audio_format: 'mp3',
      batch_size: 1,
      use_random_seed: false,
      seed: result.seed,
    });
    await make(runtime, {
      prompt: 'slow waltz',
      lyrics: '[verse]\nla la',
      bpm: 90,
      key: 'E minor',
      time_signature: '3',
      language: 'de',
      num_inference_steps: 12,
      format: 'ogg',
      seconds: 10,
    });
    expect(fake.tasks()[1]).toMatchObject({
      prompt: 'slow waltz',
      lyrics: '[verse]\nla la',
      bpm: 90,
      key_scale: 'E minor',
      time_signature: '3',
      vocal_language: 'de',
      inference_steps: 12,
      audio_format: 'flac',
      audio_duration: 10,
    });
  });

  it('stays within what the server takes, and says so', async () => {
    const { fake, runtime } = await open();
    const { warnings } = await make(runtime, { seconds: 3, bpm: 400, steps: 50, guidance_scale: 7 });
    expect(warnings.join('\n')).toMatch(
      /steps of 1 to 20: 20[^]*guidance_scale was ignored[^]*seconds of 10 to 600: 10 instead of 3[^]*bpm/,
    );
    expect(fake.tasks()[0]).toMatchObject({ audio_duration: 10, bpm: 300, inference_steps: 20 });
    expect(fake.tasks()[0]).not.toHaveProperty('guidance_scale');
  });

  it('tells where it stands while it is made', async () => {
    const { fake, runtime } = await open({ stepMs: 60 });
    fake.hold();
    const first = make(runtime, {});
    await fake.held();
    const states: string[] = [];
    const second = make(runtime, {}, undefined, (event) => {
      if (event.type === 'status') states.push(`${event.state} ${event.position ?? ''}`.trim());
    });
    await eventually('the second is queued', () => states.length > 0);
    fake.release();
    await Promise.all([first, second]);
    expect(states[0]).toBe('queued 1');
    expect(states.some((state) => state.startsWith('running'))).toBe(true);
    const { events } = await first;
    const done = events.flatMap((event) => (event.type === 'progress' ? [event.done] : []));
    expect(done.length).toBeGreaterThan(2);
  });
});

describe('its models', () => {
  it('are listed in either shape, the default first', async () => {
    for (const openRouterModels of [false, true]) {
      const { runtime } = await open({ models: [TURBO, 'acestep-v15-base'], openRouterModels });
      const models = await runtime.models(AbortSignal.timeout(5000));
      expect(models.map(({ id, state }) => `${id} ${state}`)).toEqual([`${TURBO} loaded`, 'acestep-v15-base loaded']);
      expect(models[0]!.rank).toBeGreaterThan(models[1]!.rank!);
      expect(models[0]!.capabilities).toEqual(['music.generate']);
    }
  });

  it('are one where the server names none', async () => {
    const runtime = adapt(await script({ '/v1/models': () => wrap({ models: [], default_model: null }) }));
    expect(await runtime.models(AbortSignal.timeout(5000))).toMatchObject([{ id: TURBO, state: 'ready' }]);
    const old = adapt(await script({}));
    expect(await old.models(AbortSignal.timeout(5000))).toMatchObject([{ id: TURBO }]);
  });
});

describe('a task that ends otherwise', () => {
  it('fails with what the server says of it', async () => {
    const { fake, runtime } = await open();
    // It says that memory ran out, once in the result and once in an answer with HTTP 200.
    for (const kind of ['task', 'submit'] as const) {
      fake.failNext(kind);
      const error = await failure(make(runtime, {}));
      expect(error).toMatchObject({ code: 'insufficient_vram', source: 'acestep', retry: false });
    }
    fake.failNext('http');
    expect((await failure(make(runtime, {}))).code).toBe('upstream_error');
    expect((await make(runtime, {})).files).toHaveLength(1);
  });

  it('is not waited for when the server has forgotten it', async () => {
    const { fake, runtime } = await open();
    fake.failNext('lost');
    expect(await failure(make(runtime, {}))).toMatchObject({
      code: 'upstream_terminated',
      message: expect.stringContaining('forgotten'),
    });
  });

  it('is not waited for when the server was restarted', async () => {
    const { fake, runtime } = await open();
    fake.hold();
    const run = failure(make(runtime, {}));
    await fake.held();
    await fake.restart();
    expect((await run).code).toBe('upstream_terminated');
    expect((await make(runtime, {})).files).toHaveLength(1);
  });

  it('is given up when the server stays away', async () => {
    const { fake, runtime } = await open({}, { silenceMs: 300 });
    fake.hold();
    const run = failure(make(runtime, {}));
    await fake.held();
    await fake.close();
    expect(await run).toMatchObject({ code: 'upstream_terminated', message: expect.stringContaining('answer') });
    expect((await failure(make(runtime, {}))).code).toBe('upstream_unavailable');
  });

  it('is refused without the right key, and while the queue is full', async () => {
    const { fake } = await open({ key: 'secret' });
    for (const apiKey of [undefined, 'wrong']) {
      const runtime = adapt(fake.url, apiKey === undefined ? {} : { apiKey });
      expect(await failure(make(runtime, {}))).toMatchObject({ code: 'provider_auth', retry: false });
    }
    const allowed = adapt(fake.url, { apiKey: 'secret' });
    expect((await make(allowed, {})).files).toHaveLength(1);
    await allowed.health(AbortSignal.timeout(5000));
    const full = await open({ queueMax: 1 });
    full.fake.hold();
    const first = make(full.runtime, {});
    await full.fake.held();
    const second = make(full.runtime, {});
    await eventually('the second waits', () => full.fake.tasks().length === 2);
    expect(await failure(make(full.runtime, {}))).toMatchObject({ code: 'overloaded', retryAfter: expect.any(Number) });
    full.fake.release();
    await Promise.all([first, second]);
    expect(full.fake.executions()).toBe(2);
  });
});

describe('a caller who leaves', () => {
  it('is let go within a second, and the card stays taken until the server is done', async () => {
    const { fake, runtime } = await open();
    fake.hold();
    const abort = new AbortController();
    const run = failure(make(runtime, {}, abort.signal));
    await fake.held();
    const left = performance.now();
    abort.abort();
    expect((await run).code).toBe('client_closed');
    expect(performance.now() - left).toBeLessThan(10_000);
    expect(await runtime.gpu!.residents(AbortSignal.timeout(1000))).toMatchObject([{ model: TURBO }]);
    const swap = acquireBeside(runtime);
    await eventually('the other waits for the card', () => swap.states.includes('swapping'));
    expect(swap.granted()).toBe(false);
    fake.release();
    await eventually('the other has the card', swap.granted);
    expect(await runtime.gpu!.residents(AbortSignal.timeout(1000))).toEqual([]);
  });

  it('leaves no task behind that nobody knows of, though the server had not answered yet', async () => {
    const answer = Promise.withResolvers<void>();
    const asked: string[] = [];
    const url = await script({
      '/release_task': async () => {
        asked.push('task');
        await answer.promise;
        return wrap({ task_id: 't1', status: 'queued', queue_position: 1 });
      },
      '/query_result': () => wrap([{ task_id: 't1', status: 1, result: '[{"file":"/v1/audio?path=x"}]' }]),
    });
    const runtime = adapt(url);
    const abort = new AbortController();
    const run = failure(make(runtime, {}, abort.signal));
    await eventually('it is asked', () => asked.length === 1);
    abort.abort();
    expect((await run).code).toBe('client_closed');
    answer.resolve();
    const residents = () => runtime.gpu!.residents(AbortSignal.timeout(1000));
    await vi.waitFor(async () => expect(await residents()).toHaveLength(1), 20_000);
    await runtime.gpu!.evict(TURBO, AbortSignal.timeout(5000));
    expect(await residents()).toEqual([]);
  });

  it('is no reason to believe that the card is free while the piece goes on', async () => {
    const { fake, runtime } = await open();
    fake.hold();
    const abort = new AbortController();
    const run = failure(make(runtime, {}, abort.signal));
    await fake.held();
    abort.abort();
    await run;
    const evict = runtime.gpu!.evict(TURBO, AbortSignal.timeout(200));
    expect(await failure(evict)).toMatchObject({ code: 'insufficient_vram', retryAfter: expect.any(Number) });
    fake.release();
  });
});

it('an idle server does not keep others off the card', async () => {
  const { runtime } = await open();
  await make(runtime, {});
  expect(await runtime.gpu!.residents(AbortSignal.timeout(1000))).toEqual([]);
  await runtime.gpu!.evict(TURBO, AbortSignal.timeout(1000));
});

describe('answers of other versions', () => {
  const submitted = () => wrap({ task_id: 't1', status: 'queued' });
  const answers = (status: number, item: object | undefined, more: Script = {}) =>
    script({
      '/release_task': submitted,
      '/query_result': () => wrap([{ task_id: 't1', status, result: JSON.stringify(item ? [item] : []) }]),
      '/v1/audio': () => 'bytes',
      ...more,
    });

  it('a traceback tells its last line only, and memory that ran out is named', async () => {
    const trace = (last: string) => `Traceback (most recent call last):\n  File "/srv/x.py", line 1\n${last}\n`;
    const bad = adapt(await answers(2, { error: trace('ValueError: cannot read /srv/models/x.safetensors') }));
    const { message } = await failure(make(bad, {}));
    expect(message).toMatch(/acestep failed: ValueError: cannot read …/);
    expect(message).not.toContain('/srv');
    const full = adapt(await answers(2, { error: trace('torch.OutOfMemoryError: HIP out of memory. Tried…') }));
    expect(await failure(make(full, {}))).toMatchObject({
      code: 'insufficient_vram',
      hint: expect.stringContaining('ACESTEP_OFFLOAD_TO_CPU'),
    });
    const silent = adapt(await answers(2, { stage: 'failed' }));
    expect((await failure(make(silent, {}))).message).toBe('acestep failed to make this piece.');
  });

  it('what was done otherwise than asked is told', async () => {
    const item = {
      file: '/v1/audio?path=%2Ftmp%2Fa%20b.mp3',
      prompt: 'A lo-fi piece.',
      dit_model: 'other',
      metas: { duration: 30 },
    };
    const paths: string[] = [];
    const url = await answers(1, item, {
      '/v1/audio': (path) => {
        paths.push(path);
        return 'bytes';
      },
    });
    const { result, warnings, files } = await make(adapt(url), { seconds: 60 });
    expect(result.revised_prompt).toBe('A lo-fi piece.');
    expect(warnings.join('\n')).toMatch(/other made this piece[^]*30 seconds instead of 60/);
    expect(Buffer.from(files[0]!.bytes).toString()).toBe('bytes');
    expect(paths).toEqual(['/v1/audio?path=%2Ftmp%2Fa%20b.mp3']);
  });

  it('a link to elsewhere is not followed', async () => {
    let visits = 0;
    const elsewhere = await script({ '/v1/audio': () => `${visits++}` });
    for (const file of [
      `${elsewhere}/v1/audio?path=x`,
      `//${new URL(elsewhere).host}/v1/audio?path=x`,
      '/etc/passwd',
      'http://',
      '/v1/audio',
    ]) {
      expect((await failure(make(adapt(await answers(1, { file })), {}))).code, file).toBe('upstream_invalid');
    }
    expect(visits).toBe(0);
  });

  it('a file that is gone, or none at all, is an error', async () => {
    const gone = adapt(await answers(1, { file: '/v1/audio?path=x' }, { '/v1/audio': () => undefined }));
    expect(await failure(make(gone, {}))).toMatchObject({ code: 'upstream_error', retry: false });
    const none = adapt(await answers(1, { file: '' }));
    expect((await failure(make(none, {}))).code).toBe('upstream_error');
  });

  it('a task that stands still on an idle server has been lost', async () => {
    const stats = (running: number) => ({ '/v1/stats': () => wrap({ jobs: { queued: 0, running } }) });
    const still = { progress: 0.01, stage: 'running' };
    const lost = adapt(await answers(0, still, stats(0)), { stallMs: 150 });
    expect((await failure(make(lost, {}))).code).toBe('upstream_terminated');
    const busy = adapt(await answers(0, still, stats(1)), { stallMs: 150 });
    const waiting = await failure(make(busy, {}, AbortSignal.timeout(2500)));
    expect(waiting.code).toBe('client_closed');
  });

  it('another kind of server is recognised', async () => {
    const web = adapt(await script({ '/health': () => '<html>' }));
    expect((await failure(web.health(AbortSignal.timeout(5000)))).code).toBe('upstream_invalid');
    expect((await failure(make(web, {}))).code).toBe('upstream_invalid');
    const json = adapt(await script({ '/release_task': () => '{"ok":true}' }));
    expect((await failure(make(json, {}))).code).toBe('upstream_invalid');
  });
});

type Script = Record<string, (path: string) => string | undefined | Promise<string>>;

/** A server that says what a test tells it to; 404 for the rest. */
async function script(answers: Script): Promise<string> {
  const server = createServer(async (request, response) => {
    request.resume();
    const path = new URL(request.url!, 'http://x').pathname;
    const body = await answers[path]?.(request.url!);
    response.writeHead(body === undefined ? 404 : 200).end(body ?? '{"detail":"Not Found"}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  opened.push({
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function wrap(data: unknown): string {
  return JSON.stringify({ data, code: 200, error: null, timestamp: 0, extra: null });
}

/** Another runtime asks for the card, as the gateway would have it. */
function acquireBeside(runtime: RuntimeAdapter) {
  const other: GpuTenant = { footprint: () => 1, residents: async () => [], evict: async () => {} };
  const tenants = { acestep: runtime.gpu!, other };
  const arbiter = createArbiter({ tenants, budget: () => undefined, queueMs: 20_000 });
  const states: string[] = [];
  let granted = false;
  void (async () => {
    const want = { runtime: 'other', model: 'm', footprint: 1, tenant: other, signal: new AbortController().signal };
    const waiting = arbiter.acquire(want);
    for (;;) {
      const { done, value } = await waiting.next();
      if (done) break;
      states.push(value.state);
    }
    granted = true;
  })();
  return { states, granted: () => granted };
}

interface Made {
  events: MusicEvent[];
  warnings: string[];
  result: { seed?: number | undefined; revised_prompt?: string | undefined };
  files: { name: string | undefined; bytes: Uint8Array }[];
}

async function make(
  runtime: RuntimeAdapter,
  asked: Partial<Input<'music.generate'>>,
  signal = new AbortController().signal,
  onEvent: (event: MusicEvent) => void = () => {},
): Promise<Made> {
  const input = { prompt: 'lo-fi, piano', stream: false, ...asked };
  const call = { model: { id: TURBO } as Model, signal, requestId: 'req_1', file: noFiles };
  const made: Made = { events: [], warnings: [], result: {}, files: [] };
  for await (const event of runtime.handles['music.generate']!(input, call)) {
    made.events.push(event);
    onEvent(event);
    if (event.type === 'warning') made.warnings.push(event.warning);
    if (event.type !== 'result') continue;
    made.result = event.result;
    for (const { name, bytes } of event.files!) {
      const pieces: Uint8Array[] = [];
      for await (const piece of bytes as AsyncIterable<Uint8Array>) pieces.push(piece);
      made.files.push({ name, bytes: Buffer.concat(pieces) });
    }
  }
  return made;
}

async function measure(bytes: Uint8Array): Promise<{ duration_s?: number | undefined }> {
  const file = { size: bytes.byteLength, read: async (start: number, end: number) => bytes.subarray(start, end) };
  return (await tools.measure(file, 'audio/mpeg')) ?? {};
}

async function failure(run: Promise<unknown>): Promise<GatewayError> {
  const error = await run.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof GatewayError)) throw new Error('a GatewayError was expected', { cause: error });
  return error;
}
