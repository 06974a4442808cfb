// A runtime in process that repeats what it is told, word by word; one model never ends by itself, and aborts are counted.
import { toUsage } from '../../src/capabilities/text/fields.ts';
import type { CapabilityId, Input } from '../../src/capabilities/index.ts';
import { textOf } from '../../src/capabilities/text/chat.ts';
import { GatewayError } from '../../src/error.ts';
import type { Call, Model, RuntimeAdapter } from '../../src/runtime.ts';

export interface FakeRuntime extends RuntimeAdapter {
  chats: Input<'text.chat'>[];
  generations: Input<'text.generate'>[];
  /** Runs of `slow` that were stopped from outside. */
  aborts: number;
}

const CAN: CapabilityId[] = ['text.generate', 'text.chat', 'text.embed'];

/** Models: `echo`, `slow` (one word, then nothing until it is aborted), `broken` (one word, then a failure), `busy`. */
export function createFakeRuntime(): FakeRuntime {
  const model = (id: string, rank: number): Model => ({
    id,
    capabilities: CAN,
    state: 'ready',
    rank,
    contextWindow: 4096,
  });

  async function* speak(text: string, { model, signal }: Call) {
    if (model.id === 'busy')
      throw new GatewayError('overloaded', 'The fake is busy.', { source: 'fake', retryAfter: 1 });
    yield { type: 'status' as const, state: 'loading' as const, message: `Loading ${model.id}` };
    for (const word of text.split(/(?<= )/)) {
      yield { type: 'chunk' as const, chunk: { text: word } };
      if (model.id === 'broken')
        throw new GatewayError('upstream_terminated', 'The fake broke off.', { source: 'fake' });
      if (model.id === 'slow') await untilAborted(signal);
    }
  }

  function untilAborted(signal: AbortSignal): Promise<never> {
    return new Promise((_, reject) => {
      const stop = () => {
        runtime.aborts++;
        reject(new GatewayError('client_closed', 'The request was cancelled.', { source: 'fake' }));
      };
      if (signal.aborted) stop();
      else signal.addEventListener('abort', stop, { once: true });
    });
  }

  const finish = (text: string) => ({ finish_reason: 'stop' as const, usage: toUsage(1, text.split(' ').length) });

  const runtime: FakeRuntime = {
    name: 'fake',
    priority: 50,
    chats: [],
    generations: [],
    aborts: 0,
    models: async () => [model('echo', 9), model('slow', 1), model('broken', 1), model('busy', 1)],
    health: async () => {},
    handles: {
      async *'text.generate'(input, call) {
        runtime.generations.push(input);
        yield* speak(input.prompt, call);
        if (input.seed !== undefined) yield { type: 'warning', warning: 'The fake has no seed.' };
        yield { type: 'result', result: { text: input.prompt, ...finish(input.prompt) } };
      },
      async *'text.chat'(input, call) {
        runtime.chats.push(input);
        const text = textOf(input.messages.at(-1)!.content);
        yield* speak(text, call);
        yield { type: 'result', result: { message: { role: 'assistant', content: text }, ...finish(text) } };
      },
      async *'text.embed'(input) {
        const embeddings = [input.input].flat().map((text) => [text.length, 1]);
        yield { type: 'result', result: { embeddings, dimensions: 2, usage: { prompt_tokens: 1, total_tokens: 1 } } };
      },
    },
  };
  return runtime;
}
