// The suite that every runtime that makes files must pass: what the gateway relies on, checked over a real or a fake runtime.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { capabilities, type CapabilityId } from '../../src/capabilities/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { MadeFile, RunEvent } from '../../src/event.ts';
import type { Model, RuntimeAdapter } from '../../src/runtime.ts';
import { noFiles } from '../support/no-files.ts';
import { probe } from '../support/media/index.ts';

export interface MakerUnderTest {
  runtime: RuntimeAdapter;
  /** What to ask of which model; nothing in it names a file. */
  capability: CapabilityId;
  model: string;
  input: object;
  /** Executions that really began, where a fake counts them. */
  executions?(): number;
  close(): Promise<void>;
}

type Events = RunEvent<unknown, { seed?: number }>[];

export function testMaker(name: string, open: () => Promise<MakerUnderTest>): void {
  describe(`files of ${name}`, { timeout: 60_000 }, () => {
    let subject: MakerUnderTest;
    let model: Model | undefined;
    beforeAll(async () => {
      subject = await open();
      const listed = await subject.runtime.models(AbortSignal.timeout(10_000));
      model = listed.find(({ id }) => id === subject.model);
    }, 60_000);
    afterAll(() => subject?.close());

    async function* start(signal: AbortSignal, more: object = {}): AsyncGenerator<Events[number]> {
      const { runtime, capability, input } = subject;
      const call = { model: model!, signal, requestId: 'job_conformance', file: noFiles };
      const parsed = capabilities[capability].input.parse({ ...input, ...more });
      yield* runtime.handles[capability]!(parsed as never, call) as AsyncIterable<Events[number]>;
    }
    async function run(more: object = {}): Promise<Events> {
      const events: Events = [];
      for await (const event of start(new AbortController().signal, more)) events.push(event);
      return events;
    }

    it('are made by a model that it lists, of which it says what it can', async () => {
      await subject.runtime.health(AbortSignal.timeout(10_000));
      expect(model?.capabilities).toContain(subject.capability);
      expect(subject.runtime.handles[subject.capability]).toBeTypeOf('function');
    });

    it('come with exactly one result, which is last, and can be opened', async () => {
      const events = await run();
      expect(events.filter(({ type }) => type === 'result')).toHaveLength(1);
      const last = events.at(-1)!;
      expect(last.type).toBe('result');
      const { files = [] } = last as { files?: MadeFile[] };
      expect(files.length).toBeGreaterThan(0);
      const { makes } = capabilities[subject.capability];
      for (const file of files) expect((await probe(await collect(file))).type).toMatch(`${makes}/`);
    });

    it('are made while it is told how far they are: never backwards, never beyond the end', async () => {
      const shares = (await run()).flatMap((event) => (event.type === 'progress' ? [event.done / event.total] : []));
      expect(shares).toEqual(shares.toSorted((a, b) => a - b));
      for (const share of shares) expect(share).toBeLessThanOrEqual(1);
    });

    it('are not begun for a caller who has left already', async () => {
      const before = subject.executions?.();
      expect(await failure(drain(start(AbortSignal.abort())))).toMatchObject({ code: 'client_closed' });
      expect(subject.executions?.()).toBe(before);
    });

    it('are given up within a second when the caller leaves', async () => {
      const abort = new AbortController();
      const running = failure(drain(start(abort.signal, { seed: 77 }), () => abort.abort()));
      // A runtime that says nothing on the way may be done before anybody can leave.
      const early = setTimeout(() => abort.abort(), 50);
      const error = await running.finally(() => clearTimeout(early));
      if (error) expect(error.code).toBe('client_closed');
    });
  });
}

async function drain(events: AsyncIterable<unknown>, onFirst?: () => void): Promise<void> {
  for await (const _ of events) onFirst?.();
}

/** Undefined where it did not fail. */
async function failure(work: Promise<unknown>): Promise<GatewayError | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(GatewayError);
    return error as GatewayError;
  }
}

async function collect({ bytes }: MadeFile): Promise<Uint8Array> {
  if (bytes instanceof Uint8Array) return bytes;
  const pieces: Uint8Array[] = [];
  for await (const piece of bytes) pieces.push(piece);
  return Buffer.concat(pieces);
}
