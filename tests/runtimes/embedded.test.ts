// The embedded runtime with its built-in models: real inference, nothing stands in for anything.
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openMediaTools } from '../../adapters/media/index.ts';
import { loadLibrary } from '../../adapters/runtimes/embedded/engine.ts';
import { createEmbedded, type EmbeddedOptions } from '../../adapters/runtimes/embedded/index.ts';
import { loadOnnx } from '../../adapters/runtimes/embedded/onnx.ts';
import type { ToWorker } from '../../adapters/runtimes/embedded/wire.ts';
import type { CapabilityId, Chunk, Input, Result } from '../../src/capabilities/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { RunEvent } from '../../src/event.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { testRuntime } from '../conformance/runtime.ts';
import '../support/warm-onnx.ts';
import { writeTinyEncoder } from '../support/tiny-encoder.ts';
import { noFiles } from '../support/no-files.ts';

const WHO = 'I am a tiny model with a few million parameters. I run on your CPU, without any service.';
const STORY = 'Tell a story for children about a fox.';
const GREEDY = { stream: true, temperature: 0 } as const;
const tools = openMediaTools({ maxPixels: 1e6 });
const modelsDir = fileURLToPath(new URL('../../models', import.meta.url));

let scratch: string;
let runtime: RuntimeAdapter;
const open = (options: Partial<EmbeddedOptions> = {}) =>
  createEmbedded({ tools, cacheDir: join(scratch, 'cache'), download: false, idleMs: 60_000, queue: 4, ...options });

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'embedded-'));
  runtime = open();
});
afterAll(async () => {
  await runtime.close!();
  await rm(scratch, { recursive: true });
});

testRuntime('embedded', async () => {
  const subject = createEmbedded({
    tools,
    cacheDir: join(tmpdir(), 'no-cache'),
    download: false,
    idleMs: 60_000,
    queue: 4,
  });
  return {
    runtime: subject,
    models: { generate: 'tiny-story', chat: 'tiny-story', embed: 'tiny-embed' },
    close: async () => subject.close!(),
  };
});

describe('tiny-story', { timeout: 60_000 }, () => {
  it('says who it is', async () => {
    const { result, chunks } = await chat(runtime, 'Who are you?', GREEDY);
    expect(result.message).toEqual({ role: 'assistant', content: WHO });
    expect(result.finish_reason).toBe('stop');
    expect(result.usage).toEqual({ prompt_tokens: 7, completion_tokens: 21, total_tokens: 28 });
    expect(chunks.length).toBeGreaterThan(5);
  });

  it('tells the same story for the same seed, and another for another', async () => {
    const tell = async (seed?: number) =>
      (await chat(runtime, STORY, { stream: true, ...(seed !== undefined && { seed }) })).result;
    const [first, again, other, large] = [await tell(1), await tell(1), await tell(2), await tell(2 ** 40 + 1)];
    expect(again).toEqual(first);
    expect(other.message.content).not.toBe(first.message.content);
    expect(large.message.content).not.toBe(first.message.content);
    const free = await tell();
    expect((await tell(free.seed)).message.content).toBe(free.message.content);
  });

  it('continues a raw prompt, and puts it first where echo asks for it', async () => {
    const prompt = 'Once upon a time, there was a little fox named Mia.';
    const plain = await generate(runtime, { ...GREEDY, prompt, raw: true, max_tokens: 12 });
    const echoed = await generate(runtime, { ...GREEDY, prompt, echo: true, raw: true, max_tokens: 12 });
    expect(plain.result.text).toMatch(/^ Mia /);
    expect(plain.result.finish_reason).toBe('length');
    expect(echoed.result.text).toBe(prompt + plain.result.text);
    expect(echoed.chunks.map(({ text }) => text).join('')).toBe(echoed.result.text);
  });

  it('stops at a stop text of several tokens without showing any of it', async () => {
    const { result, chunks } = await chat(runtime, 'Who are you?', { ...GREEDY, stop: ['parameters. I run', 'never'] });
    expect(result.message.content).toBe('I am a tiny model with a few million ');
    expect(chunks.map(({ text }) => text).join('')).toBe(result.message.content);
    expect(result.finish_reason).toBe('stop');
  });

  it('penalises repetition', async () => {
    const repeats = async (knobs: object) => {
      const { result } = await generate(runtime, { ...GREEDY, prompt: 'Mia', raw: true, max_tokens: 80, ...knobs });
      const words = result.text.split(' ');
      return words.length - new Set(words).size;
    };
    expect(await repeats({ repeat_penalty: 1.5 })).toBeLessThan(await repeats({}));
    expect(await repeats({ frequency_penalty: 2 })).toBeLessThan(await repeats({}));
  });

  it('refuses a prompt that does not fit its context, and fills what is left otherwise', async () => {
    for (const length of [300, 100_000]) {
      const error = await failure(chat(runtime, 'Tell a story. '.repeat(length), GREEDY));
      expect(error).toMatchObject({ code: 'context_length_exceeded', status: 400 });
    }
    const { result } = await generate(runtime, { ...GREEDY, prompt: 'Mia '.repeat(240), raw: true, max_tokens: 4000 });
    expect(result.usage.total_tokens).toBeLessThanOrEqual(512);
  });

  it('reports what it cannot honour, and refuses pictures', async () => {
    const { warnings } = await collect(
      runtime,
      'text.chat',
      {
        ...GREEDY,
        messages: [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: 'Who are you?' },
        ],
        tools: [{ type: 'function', function: { name: 'now' } }],
        response_format: { type: 'json_object' },
        reasoning_effort: 'high',
        context: 4096,
        keep_alive: 60,
      },
      'tiny-story',
    );
    for (const knob of ['system', 'tools', 'response_format', 'reasoning_effort', 'context', 'keep_alive'])
      expect(warnings.join('\n')).toContain(knob);
    const content = [{ type: 'image_url' as const, image_url: { url: 'data:image/png;base64,AA==' } }];
    const picture = collect(runtime, 'text.chat', { ...GREEDY, messages: [{ role: 'user', content }] }, 'tiny-story');
    expect(await failure(picture)).toMatchObject({ code: 'not_supported', hint: expect.stringContaining('Ollama') });
  });
});

describe('log-probabilities', { timeout: 60_000 }, () => {
  it('come with every token, from a distribution that sums to at most one', async () => {
    const { result, chunks } = await chat(runtime, STORY, {
      ...GREEDY,
      max_tokens: 30,
      logprobs: true,
      top_logprobs: 5,
    });
    const logprobs = result.logprobs!;
    expect(logprobs).toHaveLength(30);
    expect(logprobs.map(({ token }) => token).join('')).toBe(result.message.content);
    expect(chunks.flatMap((chunk) => chunk.logprobs ?? [])).toEqual(logprobs);
    for (const { token, logprob, top_logprobs: top } of logprobs) {
      expect(top).toHaveLength(5);
      expect(top[0]).toMatchObject({ token, logprob });
      expect(top.reduce((sum, each) => sum + Math.exp(each.logprob), 0)).toBeLessThanOrEqual(1 + 1e-6);
    }
  });

  it('are those of the model, whatever the sampling', async () => {
    const first = async (knobs: object) =>
      (await chat(runtime, STORY, { stream: true, max_tokens: 1, logprobs: true, top_logprobs: 3, ...knobs })).result
        .logprobs![0]!.top_logprobs;
    expect(await first({ temperature: 2, repeat_penalty: 2, seed: 3 })).toEqual(await first({ temperature: 0 }));
  });

  it('of a prompt tell a story from a heap of words', async () => {
    const perplexity = async (prompt: string) => {
      const { result } = await generate(runtime, {
        ...GREEDY,
        prompt,
        echo: true,
        raw: true,
        max_tokens: 0,
        logprobs: true,
      });
      expect(result.text).toBe(prompt);
      expect(result.usage.completion_tokens).toBe(0);
      expect(result.logprobs).toHaveLength(result.usage.prompt_tokens - 1);
      return Math.exp(-result.logprobs!.reduce((sum, { logprob }) => sum + logprob, 0) / result.logprobs!.length);
    };
    const story = await perplexity('Once upon a time, there was a little fox named Mia. Mia lived near the forest.');
    const salad = await perplexity('Mia the near, forest. upon named little was Once lived a time a fox there Mia.');
    expect(story).toBeGreaterThan(1);
    expect(story).toBeLessThan(salad / 5);
  });
});

describe('a worker', { timeout: 60_000 }, () => {
  it('leaves the event loop free while it generates', async () => {
    await chat(runtime, 'Who are you?', GREEDY);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    const done = Promise.all([1, 2, 3].map((seed) => chat(runtime, STORY, { stream: false, seed, max_tokens: 150 })));
    await done;
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(10);
  });

  it('is told to stop when the caller leaves, and answers the next one', async () => {
    const workers = watchWorkers();
    const abort = new AbortController();
    let chunks = 0;
    const run = chat(runtime, STORY, GREEDY, abort.signal, () => {
      if (++chunks === 3) abort.abort();
    });
    expect((await failure(run)).code).toBe('client_closed');
    expect(chunks).toBe(3);
    expect(Atomics.load(new Int32Array(workers.tasks.at(-1)!.cancel), 0)).toBe(1);
    expect((await chat(runtime, 'Who are you?', GREEDY)).result.message.content).toBe(WHO);
    expect(workers.count()).toBe(1);
    workers.restore();
  });

  it('looks after each token whether it was told to stop', async () => {
    const workers = watchWorkers();
    const whole = await chat(runtime, STORY, GREEDY);
    const [task] = workers.tasks.map((message) => message.task);
    workers.restore();
    if (task?.kind !== 'generate' || task.model.format !== 'onnx') throw new Error('another task was expected');
    const { library } = await loadLibrary({ engine: 'wasm', threads: 1 });
    const model = await loadOnnx(library, task.model, 'generate');
    const shown: string[] = [];
    const { completionTokens } = await model.generate(task, {
      cancelled: () => shown.length >= 3,
      chunk: (text) => shown.push(text),
      warn: () => {},
    });
    expect(completionTokens).toBe(3);
    expect(shown).toEqual(whole.chunks.slice(0, 3).map(({ text }) => text));
    await model.dispose();
  });

  it('takes one task at a time, queues a few and refuses more', async () => {
    const busy = open({ queue: 1 });
    const runs = await Promise.allSettled([1, 2, 3].map(() => chat(busy, 'Who are you?', GREEDY)));
    const done = runs.flatMap((run) => (run.status === 'fulfilled' ? [run.value] : []));
    const refused = runs.flatMap((run) => (run.status === 'rejected' ? [run.reason] : []));
    expect(done.map(({ result }) => result.message.content)).toEqual([WHO, WHO]);
    expect(refused).toEqual([
      expect.objectContaining({ code: 'overloaded', status: 503, retryAfter: expect.any(Number) }),
    ]);
    const waited = { type: 'status', state: 'queued', position: 1 };
    expect(done.flatMap(({ events }) => events)).toContainEqual(waited);
    await busy.close!();
  });

  it('frees the place of a caller who leaves the queue', async () => {
    const busy = open({ queue: 1 });
    const task = toChat('Who are you?', GREEDY);
    const states: string[] = [];
    const follow = async (abort: AbortController, leaveAt?: string) => {
      for await (const event of start(busy, 'text.chat', task, 'tiny-story', abort.signal)) {
        if (event.type !== 'status') continue;
        states.push(event.state);
        if (event.state === leaveAt) abort.abort();
      }
    };
    const first = follow(new AbortController());
    await vi.waitFor(() => expect(states).toContain('loading'), 20_000);
    expect((await failure(follow(new AbortController(), 'queued'))).code).toBe('client_closed');
    expect((await chat(busy, 'Who are you?', GREEDY)).result.message.content).toBe(WHO);
    await first;
    await busy.close!();
  });

  it('that dies fails its run, and the next request starts another', async () => {
    const victim = open();
    const workers = watchWorkers();
    const run = chat(victim, STORY, { ...GREEDY, max_tokens: 400 }, undefined, () => void workers.last().terminate());
    expect(await failure(run)).toMatchObject({ code: 'upstream_terminated', status: 502 });
    expect((await chat(victim, 'Who are you?', GREEDY)).result.message.content).toBe(WHO);
    expect(workers.count()).toBe(2);
    await victim.close!();
    workers.restore();
  });

  it('is ended when idle, and the model is unloaded with it', async () => {
    const brief = open({ idleMs: 50 });
    const state = async () => (await brief.models(new AbortController().signal))[0]!.state;
    await chat(brief, 'Who are you?', GREEDY);
    await vi.waitFor(async () => expect(await state()).toBe('ready'), 20_000);
    expect((await chat(brief, 'Who are you?', GREEDY)).result.message.content).toBe(WHO);
    await brief.close!();
  });

  it('fails what runs and waits when the runtime closes', async () => {
    const closing = open();
    const runs = [chat(closing, STORY, GREEDY), chat(closing, STORY, GREEDY)].map(failure);
    await closing.close!();
    for (const run of runs) expect((await run).code).toBe('draining');
  });
});

describe('tiny-embed', { timeout: 60_000 }, () => {
  it('puts related words nearer than unrelated ones', async () => {
    const pairs: [near: [string, string], far: [string, string]][] = [
      [
        ['dog', 'puppy'],
        ['dog', 'car'],
      ],
      [
        ['car', 'automobile'],
        ['car', 'flower'],
      ],
      [
        ['doctor', 'hospital'],
        ['doctor', 'guitar'],
      ],
      [
        ['my computer has a virus', 'malicious software infected the machine'],
        ['my computer has a virus', 'the flowers bloom in spring'],
      ],
    ];
    for (const [near, far] of pairs)
      expect(await likeness(...near), near.join(' – ')).toBeGreaterThan(await likeness(...far));
    expect(await likeness('The DOG!', 'dog')).toBeCloseTo(1, 6);
  });

  it('agrees with the numbers it was trained to', async () => {
    expect(await likeness('dog', 'puppy')).toBeCloseTo(0.31, 1);
    expect(await likeness('dog', 'car')).toBeCloseTo(0.11, 1);
  });

  it('gives unit vectors even for text it knows nothing of, says what it cut and refuses other lengths', async () => {
    const { result, warnings } = await embed(runtime, ['', '猫', 'word '.repeat(100)]);
    for (const vector of result.embeddings) expect(Math.hypot(...vector)).toBeCloseTo(1, 6);
    expect(warnings.join()).toContain('40 words');
    const error = await failure(collect(runtime, 'text.embed', { input: 'x', dimensions: 32 }, 'tiny-embed'));
    expect(error).toMatchObject({ code: 'unsupported_parameter', param: 'dimensions' });
  });

  async function likeness(a: string, b: string): Promise<number> {
    const [x, y] = (await embed(runtime, [a, b])).result.embeddings as [number[], number[]];
    return x.reduce((sum, value, at) => sum + value * y[at]!, 0);
  }
});

describe('the files of the models', { timeout: 60_000 }, () => {
  it('are checked, and a damaged or missing one is named', async () => {
    const copy = join(scratch, 'models');
    for (const part of ['SHA256SUMS', 'tiny-story', 'tiny-embed'])
      await cp(join(modelsDir, part), join(copy, part), { recursive: true });
    const damaged = open({ modelsDir: copy });
    const file = join(copy, 'tiny-story', 'tokenizer.json');
    const good = await readFile(file);
    await writeFile(file, Buffer.concat([good, Buffer.from(' ')]));
    expect(await failure(chat(damaged, 'Who are you?', GREEDY))).toMatchObject({
      code: 'model_unavailable',
      message: expect.stringContaining('tiny-story/tokenizer.json'),
      hint: expect.stringContaining('git checkout'),
    });
    await writeFile(file, good);
    expect((await chat(damaged, 'Who are you?', GREEDY)).result.message.content).toBe(WHO);
    await rm(join(copy, 'tiny-embed', 'emb.i8'));
    expect((await failure(embed(damaged, ['x']))).message).toContain('emb.i8 is missing');
    await rm(join(copy, 'SHA256SUMS'));
    expect((await failure(damaged.health(new AbortController().signal))).code).toBe('model_unavailable');
    await damaged.close!();
  });

  it('may be the user’s own: text models, encoders and GGUF files by their path', async () => {
    const localDir = join(scratch, 'local');
    await cp(join(modelsDir, 'tiny-story'), join(localDir, 'mine', 'story'), { recursive: true });
    await rm(join(localDir, 'mine', 'story', 'tiny-story-q8_0.gguf'));
    await cp(join(modelsDir, 'tiny-story', 'tiny-story-q8_0.gguf'), join(localDir, 'toy.gguf'));
    await writeTinyEncoder(join(localDir, 'encoder'), 6);
    const own = open({ localDir });
    const models = await own.models(new AbortController().signal);
    const mine = Object.fromEntries(
      models.map(({ id, capabilities, state }) => [id, `${capabilities.join()} ${state}`]),
    );
    expect(mine).toMatchObject({
      'mine/story': 'text.generate,text.chat ready',
      'toy.gguf': 'text.generate,text.chat ready',
      encoder: 'text.embed ready',
    });
    const { result } = await collect(own, 'text.chat', toChat('Who are you?', GREEDY), 'mine/story');
    expect(result.message.content).toBe(WHO);
    // node-llama-cpp is not among the dependencies of this project, but a user may have added it.
    const gguf = collect(own, 'text.chat', toChat('Who are you?', GREEDY), 'toy.gguf');
    if (existsSync(new URL('../../node_modules/node-llama-cpp', import.meta.url))) {
      expect((await gguf).result.message.content).toBe(WHO);
    } else {
      expect(await failure(gguf)).toMatchObject({ code: 'model_unavailable', hint: 'npm i node-llama-cpp' });
      expect(models.find(({ id }) => id === 'toy.gguf')!.rank).toBeLessThan(models[0]!.rank!);
    }
    const vectors = await collect(
      own,
      'text.embed',
      { input: ['dog', 'puppy', 'car', 'the dog sleeps a dog a dog'] },
      'encoder',
    );
    const [dog, puppy, car] = vectors.result.embeddings as number[][];
    const dot = (a: number[], b: number[]) => a.reduce((sum, value, at) => sum + value * b[at]!, 0);
    expect(vectors.result.dimensions).toBe(8);
    expect(dot(dog!, dog!)).toBeCloseTo(1, 5);
    expect(dot(dog!, puppy!)).toBeGreaterThan(0.9);
    expect(dot(dog!, car!)).toBeCloseTo(0, 5);
    expect(vectors.warnings).toEqual(['Text 4 was cut to the 6 tokens that encoder reads.']);
    expect(await failure(collect(own, 'text.chat', toChat('x', GREEDY), 'encoder'))).toMatchObject({
      code: 'not_supported',
    });
    await own.close!();
  });
});

/** Every worker that is sent a task from here on, and its tasks. */
function watchWorkers() {
  const seen = new Set<Worker>();
  const tasks: ToWorker[] = [];
  const original = Object.getOwnPropertyDescriptor(Worker.prototype, 'postMessage')!.value as Worker['postMessage'];
  const spy = vi.spyOn(Worker.prototype, 'postMessage').mockImplementation(function (this: Worker, ...args) {
    seen.add(this);
    tasks.push(args[0] as ToWorker);
    return original.apply(this, args);
  });
  return { tasks, count: () => seen.size, last: () => [...seen].at(-1)!, restore: () => spy.mockRestore() };
}

function chat(on: RuntimeAdapter, content: string, knobs: object, signal?: AbortSignal, onChunk?: () => void) {
  return collect(on, 'text.chat', toChat(content, knobs), 'tiny-story', signal, onChunk);
}

function generate(on: RuntimeAdapter, input: Input<'text.generate'>) {
  return collect(on, 'text.generate', input, 'tiny-story');
}

function embed(on: RuntimeAdapter, input: string[]) {
  return collect(on, 'text.embed', { input }, 'tiny-embed');
}

function toChat(content: string, knobs: object): Input<'text.chat'> {
  return { messages: [{ role: 'user', content }], stream: true, ...knobs };
}

async function* start<Id extends CapabilityId>(
  on: RuntimeAdapter,
  id: Id,
  input: Input<Id>,
  model: string,
  signal = new AbortController().signal,
): AsyncGenerator<RunEvent<Chunk<Id>, Result<Id>>> {
  const found = (await on.models(signal)).find((each) => each.id === model)!;
  yield* on.handles[id]!(input, { model: found, signal, requestId: 'req_test', file: noFiles });
}

async function collect<Id extends CapabilityId>(
  on: RuntimeAdapter,
  id: Id,
  input: Input<Id>,
  model: string,
  signal?: AbortSignal,
  onChunk?: () => void,
) {
  const events: RunEvent<Chunk<Id>, Result<Id>>[] = [];
  for await (const event of start(on, id, input, model, signal)) {
    events.push(event);
    if (event.type === 'chunk') onChunk?.();
  }
  const result = events.flatMap((event) => (event.type === 'result' ? [event.result] : []));
  expect(result).toHaveLength(1);
  return {
    events,
    result: result[0]!,
    chunks: events.flatMap((event) => (event.type === 'chunk' ? [event.chunk] : [])),
    warnings: events.flatMap((event) => (event.type === 'warning' ? [event.warning] : [])),
  };
}

async function failure(work: Promise<unknown>): Promise<GatewayError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(GatewayError);
  return error as GatewayError;
}
