// The OpenAI-compatible runtime over a fake program, and what its pulls say.
import { openMediaTools } from '../../adapters/media/index.ts';
import { createOpenAI } from '../../adapters/runtimes/openai/index.ts';
import type { OpenAIOptions } from '../../adapters/runtimes/openai/index.ts';
import { GatewayError } from '../../src/error.ts';
import type { PullEvent, PullWant } from '../../src/puller.ts';
import type { Model, ModelMemory, RuntimeAdapter } from '../../src/runtime.ts';
import { fetchTransport } from '../../src/upstream.ts';

export const limits = { firstByteMs: 5000, idleMs: 2000, controlMs: 2000, maxReplyBytes: 1_000_000 };
const tools = openMediaTools({ maxPixels: 1e6 });

export function overProgram(baseUrl: string, options: Partial<OpenAIOptions> = {}): RuntimeAdapter {
  return createOpenAI({ name: 'box', baseUrl, transport: fetchTransport, limits, tools, lookMs: 20, ...options });
}

/** A runtime that has found out which program it is, and its memory. */
export async function known(runtime: RuntimeAdapter) {
  const models = await list(runtime);
  return { models, memory: runtime.memory as Required<ModelMemory>, puller: runtime.puller! };
}

export const never = () => new AbortController().signal;

export async function list(runtime: RuntimeAdapter): Promise<Record<string, Model>> {
  return Object.fromEntries((await runtime.models(never())).map((model) => [model.id, model]));
}

export async function pull(runtime: RuntimeAdapter, want: PullWant, signal = never()): Promise<PullEvent[]> {
  const events: PullEvent[] = [];
  for await (const event of runtime.puller!.pull(want, signal)) events.push(event);
  return events;
}

export async function fail(work: Promise<unknown>): Promise<GatewayError> {
  const thrown = await work.then(
    () => new Error('it did not fail'),
    (error: unknown) => error,
  );
  if (thrown instanceof GatewayError) return thrown;
  throw thrown;
}
