// The suite that every runtime adapter must pass: what the gateway relies on, checked over a real or a fake runtime.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GatewayError } from '../../src/error.ts';
import type { Call, Model, RuntimeAdapter } from '../../src/runtime.ts';
import { noFiles } from '../support/no-files.ts';

export interface RuntimeUnderTest {
  runtime: RuntimeAdapter;
  /** Which model to ask for what; a kind left out is not tested. `long`: one whose answer takes seconds, if those do not. */
  models: { generate?: string; chat?: string; embed?: string; long?: string };
  /** Executions the runtime really started, where a fake counts them. */
  executions?(): number;
  /** Executions stopped because the caller left, where a fake counts them. */
  aborts?(): number;
  close(): Promise<void>;
}

/** The common ground of text.generate and text.chat, so that one body tests both. */
interface Knobs {
  max_tokens?: number;
  seed?: number;
  temperature?: number;
  stop?: string | string[];
}
interface Answer {
  text: string;
  chunks: string;
  completionTokens: number;
  finish: string;
}
type TextKind = 'generate' | 'chat';

const PROMPT = 'Write a short story about a lighthouse keeper and a storm.';
const GREEDY: Knobs = { seed: 7, temperature: 0, max_tokens: 24 };
const LONG_RUN = 120_000;

/** `kinds`: what of text it is to be asked for; a runtime that makes other things has suites of its own for those. */
export function testRuntime(
  name: string,
  open: () => Promise<RuntimeUnderTest>,
  kinds: readonly (TextKind | 'embed')[] = ['generate', 'chat', 'embed'],
): void {
  describe(`runtime ${name}`, { timeout: LONG_RUN }, () => {
    let subject: RuntimeUnderTest;
    let listed: Model[];
    beforeAll(async () => {
      subject = await open();
      listed = await subject.runtime.models(AbortSignal.timeout(LONG_RUN));
    }, LONG_RUN);
    afterAll(() => subject?.close());
    const get = () => ({ subject, listed });

    it('answers its health check', async () => {
      const told: unknown = await subject.runtime.health(AbortSignal.timeout(10_000));
      expect(told === undefined || typeof told === 'object').toBe(true);
    });

    it('lists models with ids and capabilities that it handles', () => {
      expect(listed.length).toBeGreaterThan(0);
      expect(new Set(listed.map((model) => model.id)).size).toBe(listed.length);
      for (const model of listed) {
        expect(model.id).not.toBe('');
        expect(model.capabilities, model.id).toBeInstanceOf(Array);
        for (const id of model.capabilities)
          expect(subject.runtime.handles[id], `${model.id}: ${id}`).toBeTypeOf('function');
      }
    });

    it('lists the models under test for what they are asked', () => {
      const { generate, chat, embed } = subject.models;
      if (generate) expect(find(get(), generate).capabilities).toContain('text.generate');
      if (chat) expect(find(get(), chat).capabilities).toContain('text.chat');
      if (embed) expect(find(get(), embed).capabilities).toContain('text.embed');
    });

    for (const kind of kinds) {
      if (kind === 'embed') testEmbed(get);
      else testText(kind, get);
    }
  });
}

type Get = () => { subject: RuntimeUnderTest; listed: Model[] };

function testText(kind: TextKind, get: Get): void {
  describe(`text.${kind}`, () => {
    const it = offered(kind, get);
    const answer = (knobs: Knobs, model?: Model, signal?: AbortSignal) =>
      collect(start(kind, get(), knobs, model, signal ?? new AbortController().signal));

    it('ends with exactly one result, whose text is that of its chunks', async () => {
      const { text, chunks, finish } = await answer(GREEDY);
      expect(text.length).toBeGreaterThan(0);
      expect(chunks).toBe(text);
      expect(text).not.toContain('\uFFFD');
      expect(['stop', 'length']).toContain(finish);
    });

    it('gives the same answer for the same seed', async () => {
      expect((await answer(GREEDY)).text).toBe((await answer(GREEDY)).text);
    });

    it('keeps to max_tokens', async () => {
      const { completionTokens, finish } = await answer({ ...GREEDY, max_tokens: 4 });
      expect(completionTokens).toBeGreaterThan(0);
      expect(completionTokens).toBeLessThanOrEqual(4);
      expect(finish).toBe('length');
    });

    it('ends at a stop text and leaves it out', async () => {
      const whole = await answer(GREEDY);
      const stop = /\S{2}/.exec(whole.text.slice(Math.floor(whole.text.length / 3)))?.[0];
      expect(stop, whole.text).toBeDefined();
      for (const form of [stop!, [stop!, 'never in any answer']]) {
        const cut = await answer({ ...GREEDY, stop: form });
        expect(cut.text).not.toContain(stop);
        expect(cut.text.length).toBeLessThan(whole.text.length);
        expect(cut.chunks).toBe(cut.text);
        expect(cut.finish).toBe('stop');
      }
    });

    it('refuses a model it does not have', async () => {
      const model: Model = { id: 'no-such-model-7f3a', capabilities: [`text.${kind}`], state: 'ready' };
      const error = await failure(answer(GREEDY, model));
      expect(['model_not_found', 'model_unavailable']).toContain(error.code);
    });

    testLeaving(kind, get);
  });
}

/** What happens when the caller leaves: before, in the middle by signal, in the middle by no longer reading. */
function testLeaving(kind: TextKind, get: Get): void {
  const it = offered(kind, get);
  const long = () => {
    const { subject } = get();
    return find(get(), subject.models.long ?? subject.models[kind]!);
  };
  const knobs: Knobs = { seed: 7, temperature: 0, max_tokens: 2000 };

  it('never starts work for a caller who has already left', async () => {
    const { subject } = get();
    const before = subject.executions?.();
    const error = await failure(collect(start(kind, get(), GREEDY, undefined, AbortSignal.abort())));
    expect(error.code).toBe('client_closed');
    await pause(50);
    expect(subject.executions?.()).toBe(before);
  });

  it('stops at once when the signal aborts, and so does the runtime', async () => {
    const { subject } = get();
    const before = subject.aborts?.() ?? 0;
    const abort = new AbortController();
    let abortedAt = 0;
    const error = await failure(
      (async () => {
        for await (const event of start(kind, get(), knobs, long(), abort.signal)) {
          if (event.type === 'chunk' && !abortedAt) {
            abortedAt = Date.now();
            abort.abort();
          }
        }
      })(),
    );
    expect(error.code).toBe('client_closed');
    expect(Date.now() - abortedAt).toBeLessThan(10_000);
    if (subject.aborts) await until(() => subject.aborts!() === before + 1);
  });

  it('stops the runtime when its reader stops reading', async () => {
    const { subject } = get();
    const before = subject.aborts?.() ?? 0;
    for await (const event of start(kind, get(), knobs, long(), new AbortController().signal)) {
      if (event.type === 'chunk') break;
    }
    if (subject.aborts) await until(() => subject.aborts!() === before + 1);
  });
}

function testEmbed(get: Get): void {
  describe('text.embed', () => {
    const it = offered('embed', get);
    const texts = ['The cat sat on the mat.', 'Quarterly revenue rose.', 'Ein Leuchtturm im Sturm 🌊', 'x'];
    const embed = async (input: string | string[], model?: Model, signal?: AbortSignal) => {
      const { subject } = get();
      const handler = subject.runtime.handles['text.embed']!;
      const used = model ?? find(get(), subject.models.embed!);
      const results = [];
      for await (const event of handler({ input }, toCall(used, signal ?? new AbortController().signal))) {
        expect(results, 'nothing may follow the result').toEqual([]);
        expect(event.type).not.toBe('chunk');
        if (event.type === 'result') results.push(event.result);
      }
      expect(results).toHaveLength(1);
      return results[0]!;
    };

    it('gives one unit vector per text', async () => {
      const result = await embed(texts);
      expect(result.embeddings).toHaveLength(texts.length);
      for (const vector of result.embeddings) {
        expect(vector).toHaveLength(result.dimensions);
        expect(Math.hypot(...vector)).toBeCloseTo(1, 2);
      }
      expectCount(result.usage.prompt_tokens);
      expect(result.usage.total_tokens).toBe(result.usage.prompt_tokens);
    });

    it('keeps the order, and gives a lone text the vector it has among others', async () => {
      const all = (await embed(texts)).embeddings;
      for (const [index, text] of texts.entries()) {
        const alone = (await embed(text)).embeddings;
        expect(alone).toHaveLength(1);
        const nearest = all.map((vector) => dot(vector, alone[0]!));
        expect(nearest[index]).toBeGreaterThan(0.98);
        expect(nearest.indexOf(Math.max(...nearest))).toBe(index);
      }
    });

    it('refuses a model it does not have', async () => {
      const model: Model = { id: 'no-such-model-7f3a', capabilities: ['text.embed'], state: 'ready' };
      const error = await failure(embed('x', model));
      expect(['model_not_found', 'model_unavailable']).toContain(error.code);
    });

    it('never starts work for a caller who has already left', async () => {
      const { subject } = get();
      const before = subject.executions?.();
      expect((await failure(embed('x', undefined, AbortSignal.abort()))).code).toBe('client_closed');
      await pause(50);
      expect(subject.executions?.()).toBe(before);
    });
  });
}

/** `it` that skips what the subject brought no model for, and fails where it brought one without a handler. */
function offered(kind: TextKind | 'embed', get: Get) {
  return (title: string, body: () => Promise<void>) =>
    it(title, async (context) => {
      const { subject } = get();
      if (subject.models[kind] === undefined) return context.skip();
      expect(subject.runtime.handles[`text.${kind}`]).toBeTypeOf('function');
      await body();
    });
}

function start(
  kind: TextKind,
  { subject, listed }: ReturnType<Get>,
  knobs: Knobs,
  model: Model | undefined,
  signal: AbortSignal,
) {
  const { handles } = subject.runtime;
  const call = toCall(model ?? find({ subject, listed }, subject.models[kind]!), signal);
  if (kind === 'generate') return handles['text.generate']!({ prompt: PROMPT, stream: true, ...knobs }, call);
  return handles['text.chat']!({ messages: [{ role: 'user', content: PROMPT }], stream: true, ...knobs }, call);
}

async function collect(events: ReturnType<typeof start>): Promise<Answer> {
  const answers: Omit<Answer, 'chunks'>[] = [];
  let chunks = '';
  for await (const event of events) {
    expect(answers, 'nothing may follow the result').toEqual([]);
    if (event.type === 'chunk') chunks += event.chunk.text ?? '';
    if (event.type !== 'result') continue;
    const { usage, finish_reason: finish } = event.result;
    expectCount(usage.prompt_tokens);
    expectCount(usage.completion_tokens);
    expect(usage.total_tokens).toBe(usage.prompt_tokens + usage.completion_tokens);
    const text = 'text' in event.result ? event.result.text : event.result.message.content;
    answers.push({ text, completionTokens: usage.completion_tokens, finish });
  }
  expect(answers, 'one result').toHaveLength(1);
  return { ...answers[0]!, chunks };
}

function find({ listed }: ReturnType<Get>, id: string): Model {
  const model = listed.find((each) => each.id === id || each.aliases?.includes(id));
  expect(model, `${id} among ${listed.map((each) => each.id).join(', ')}`).toBeDefined();
  return model!;
}

function toCall(model: Model, signal: AbortSignal): Call {
  return { model, signal, requestId: 'req_conformance', file: noFiles };
}

async function failure(work: Promise<unknown>): Promise<GatewayError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(GatewayError);
  return error as GatewayError;
}

function expectCount(value: number): void {
  expect(Number.isInteger(value) && value >= 0, `${value} is a count`).toBe(true);
}

async function until(happened: () => boolean): Promise<void> {
  const deadline = Date.now() + 1000;
  while (!happened() && Date.now() < deadline) await pause(5);
  expect(happened(), 'within a second').toBe(true);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function dot(a: number[], b: number[]): number {
  return a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0);
}
