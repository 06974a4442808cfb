// A runtime in process whose answers a test writes itself; it records what it was asked.
import type { CapabilityId, Input } from '../../src/capabilities/index.ts';
import { toUsage, type TokenLogprob } from '../../src/capabilities/text/fields.ts';
import { GatewayError } from '../../src/error.ts';
import type { Call, GpuTenant, Model, RuntimeAdapter } from '../../src/runtime.ts';

export interface Answer {
  text: string;
  logprobs?: TokenLogprob[];
  finish?: 'stop' | 'length';
}

export interface Script {
  name?: string;
  priority?: number;
  model?: Partial<Model>;
  models?: Model[];
  chat?: (input: Input<'text.chat'>, call: Call) => Answer | Promise<Answer>;
  generate?: (input: Input<'text.generate'>, call: Call) => Answer | Promise<Answer>;
  gpu?: GpuTenant;
  down?: () => boolean;
}

export interface ScriptedRuntime extends RuntimeAdapter {
  chats: Input<'text.chat'>[];
  generations: Input<'text.generate'>[];
}

export function createScripted(script: Script): ScriptedRuntime {
  const { name = 'scripted', priority = 50, chat, generate } = script;
  const chats: Input<'text.chat'>[] = [];
  const generations: Input<'text.generate'>[] = [];
  const capabilities: CapabilityId[] = [
    ...(chat ? ['text.chat' as const] : []),
    ...(generate ? ['text.generate' as const] : []),
  ];
  const models = script.models ?? [{ id: 'script', capabilities, state: 'ready' as const, ...script.model }];
  const checkUp = () => {
    if (script.down?.())
      throw new GatewayError('upstream_unavailable', `${name} cannot be reached.`, {
        source: name,
        hint: `Start ${name}.`,
      });
  };
  const words = (text: string) => text.split(/(?<= )/).filter(Boolean);
  return {
    name,
    priority,
    chats,
    generations,
    ...(script.gpu ? { gpu: script.gpu } : {}),
    models: async () => (checkUp(), models),
    health: async () => checkUp(),
    handles: {
      ...(chat && {
        async *'text.chat'(input: Input<'text.chat'>, call: Call) {
          checkUp();
          chats.push(input);
          const { text, logprobs, finish = 'stop' } = await chat(input, call);
          for (const word of words(text)) yield { type: 'chunk' as const, chunk: { text: word } };
          const message = { role: 'assistant' as const, content: text };
          const result = {
            message,
            finish_reason: finish,
            usage: toUsage(3, words(text).length),
            ...(logprobs ? { logprobs } : {}),
          };
          yield { type: 'result' as const, result };
        },
      }),
      ...(generate && {
        async *'text.generate'(input: Input<'text.generate'>, call: Call) {
          checkUp();
          generations.push(input);
          const { text, logprobs, finish = 'stop' } = await generate(input, call);
          for (const word of words(text)) yield { type: 'chunk' as const, chunk: { text: word } };
          const result = {
            text,
            finish_reason: finish,
            usage: toUsage(3, words(text).length),
            ...(logprobs ? { logprobs } : {}),
          };
          yield { type: 'result' as const, result };
        },
      }),
    },
  };
}
