// The suite for whoever moves models in and out of memory: what is said to be there is there, and nothing hangs.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GatewayError } from '../../src/error.ts';
import { memoryOf } from '../../src/runtime.ts';
import type { Model, ModelMemory, RuntimeAdapter } from '../../src/runtime.ts';
import { noFiles } from '../support/no-files.ts';

export interface MemoryUnderTest {
  runtime: RuntimeAdapter;
  /** On disk and not in memory; loading it takes a moment. */
  model: string;
  /** Loads that the runtime really began, where a fake counts them. */
  loads?(): number;
  /** Ends the server, where there is one. */
  down?(): Promise<void>;
  close(): Promise<void>;
}

export interface MemoryTraits {
  /** It cannot be asked for text, so nothing can be under way in it. */
  mute?: boolean;
  /** What is given up goes on there, and may be in memory later. */
  goesOn?: boolean;
}

const LONG = 60_000;

export function testMemory(name: string, open: () => Promise<MemoryUnderTest>, traits: MemoryTraits = {}): void {
  describe(`memory of ${name}`, { timeout: LONG }, () => {
    let subject: MemoryUnderTest;
    let model: Model;
    let memory: ModelMemory;
    beforeEach(async () => {
      subject = await open();
      const listed = await subject.runtime.models(AbortSignal.timeout(LONG));
      model = listed.find(({ id }) => id === subject.model)!;
      expect(model, subject.model).toBeDefined();
      memory = memoryOf(subject.runtime)!;
    }, LONG);
    afterEach(() => subject.close());

    const never = () => new AbortController().signal;
    const load = (one = model, signal = never()) => memory.load!(one, { signal });
    const evict = (id = model.id) => memory.evict!(id, never());
    const residents = async () => (await memory.residents(never())).map((one) => one.model);
    const state = async () => (await subject.runtime.models(never())).find(({ id }) => id === model.id)?.state;

    it('names what was loaded, with sizes that are none but sizes, and not what was sent away', async () => {
      expect(await residents()).not.toContain(model.id);
      expect(await state()).not.toBe('loaded');
      await load();
      expect(await state()).toBe('loaded');
      const resident = (await memory.residents(never())).find((one) => one.model === model.id);
      expect(resident).toBeDefined();
      for (const bytes of [resident!.vram, resident!.ram ?? 0]) {
        expect(Number.isSafeInteger(bytes) && bytes >= 0).toBe(true);
      }
      await evict();
      expect(await residents()).not.toContain(model.id);
      expect(await state()).not.toBe('loaded');
    });

    it('loads once what is asked for twice, at once or later', async () => {
      const before = subject.loads?.();
      await Promise.all([load(), load()]);
      await load();
      expect((await residents()).filter((id) => id === model.id)).toHaveLength(1);
      if (before !== undefined) expect(subject.loads!() - before).toBe(1);
    });

    it('has nothing against sending away what is not there', async () => {
      await expect(evict()).resolves.toBeUndefined();
      await expect(evict('no-such-model')).resolves.toBeUndefined();
    });

    it('knows no model that it does not have', async () => {
      const error = await failure(load({ ...model, id: 'no-such-model' }));
      expect(error.code).toBe('model_not_found');
      expect(await residents()).not.toContain('no-such-model');
    });

    it('is left at once, and loads anew afterwards', async () => {
      const leaver = new AbortController();
      const loading = failure(load(model, leaver.signal));
      setTimeout(() => leaver.abort(), 40);
      const error = await loading;
      const left = performance.now();
      expect(error.code).toBe('client_closed');
      const gone = await failure(load(model, AbortSignal.abort()));
      expect(gone.code).toBe('client_closed');
      expect(performance.now() - left).toBeLessThan(10_000);
      await load();
      expect(await residents()).toContain(model.id);
      if (!traits.goesOn) {
        await evict();
        expect(await residents()).not.toContain(model.id);
      }
    });

    it('goes on for the one who stays when another leaves', async () => {
      const leaver = new AbortController();
      const staying = load();
      const leaving = failure(load(model, leaver.signal));
      setTimeout(() => leaver.abort(), 40);
      expect((await leaving).code).toBe('client_closed');
      await staying;
      expect(await residents()).toContain(model.id);
    });

    it.skipIf(traits.mute)('never cuts what is under way when it is told to send a model away', async () => {
      await load();
      const run = start(subject.runtime, model);
      await run.begun;
      const told = await evict().then(
        () => 'gone' as const,
        (error: unknown) => error,
      );
      if (told !== 'gone') expect(told).toMatchObject({ code: 'conflict' });
      expect(await run.ended).toBe('result');
      await evict();
      expect(await residents()).not.toContain(model.id);
    });

    it('says so where the server is down', async () => {
      if (!subject.down) return;
      await subject.down();
      for (const ask of [residents, load, evict]) {
        expect((await failure(ask())).code).toBe('upstream_unavailable');
      }
    });
  });
}

/** A run that takes a while. */
function start(runtime: RuntimeAdapter, model: Model): { begun: Promise<void>; ended: Promise<string> } {
  const begun = Promise.withResolvers<void>();
  const ended = (async () => {
    const call = { model, signal: new AbortController().signal, requestId: 'req_memory', file: noFiles };
    const messages = [{ role: 'user' as const, content: 'Tell a story for children about a fox.' }];
    let last = '';
    for await (const event of runtime.handles['text.chat']!({ messages, stream: true, max_tokens: 60 }, call)) {
      last = event.type;
      if (event.type === 'chunk') begun.resolve();
    }
    return last;
  })();
  ended.catch((error: unknown) => begun.reject(error));
  return { begun: begun.promise, ended };
}

async function failure(promise: Promise<unknown>): Promise<GatewayError> {
  const thrown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(thrown).toBeInstanceOf(GatewayError);
  return thrown as GatewayError;
}
