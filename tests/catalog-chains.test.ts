// Aliases, defaults and chains: who answers, for what reason, and when the next one does.
import fc from './support/property.ts';
import { describe, expect, it } from 'vitest';
import type { Ability } from '../src/capabilities/define.ts';
import { capabilityIds, type CapabilityId } from '../src/capabilities/index.ts';
import { GatewayError, errorTable, type ErrorCode } from '../src/error.ts';
import type { Choice } from '../src/models/views.ts';
import { mayOffer, needsOf } from '../src/offers.ts';
import type { Model, RuntimeAdapter } from '../src/runtime.ts';
import { openScripted } from './support/open-scripted.ts';
import { createScripted } from './support/scripted-runtime.ts';

const model = (id: string, more: Partial<Model> = {}): Model => ({
  id,
  capabilities: ['text.chat'],
  state: 'ready',
  ...more,
});
const messages = [{ role: 'user', content: 'x' }];

/** Three runtimes: one at home with several models, another at home, and a remote one. */
function open(
  options: Parameters<typeof openScripted>[1] = {},
  fail: (name: string) => ErrorCode | undefined = () => undefined,
) {
  const down = new Set<string>();
  const chat = (name: string) => () => {
    const code = fail(name);
    if (code) throw new GatewayError(code, `${name} says ${code}.`, { source: name });
    return { text: 'ok' };
  };
  const make = (name: string, priority: number, models: Model[]) =>
    createScripted({ name, priority, models, chat: chat(name), down: () => down.has(name) });
  const runtimes = [
    make('ollama', 100, [
      model('qwen3:8b', { contextWindow: 8000 }),
      model('llama3.2', { contextWindow: 4000 }),
      model('warm', { state: 'loaded' }),
      model('embedder', { capabilities: ['text.embed'] }),
    ]),
    make('vllm', 50, [model('big', { contextWindow: 100_000, rank: 1 }), model('shared')]),
    make('xai', 10, [model('grok-4'), model('shared')]),
  ];
  const scripted = openScripted(runtimes, options);
  const ask = async (name?: string) => {
    const run = scripted.start('text.chat', { messages, ...(name === undefined ? {} : { model: name }) });
    const { model: ran, warnings } = await run.result;
    return { ran, reason: run.target!.reason, warnings };
  };
  return { ...scripted, ask, down, runtimes };
}

describe('reasons', () => {
  it('are told of every answer', async () => {
    const { ask } = open({
      aliases: { 'gpt-4o': 'qwen3:8b', 'gpt-4': 'gpt-4o', mini: ['llama3.2', 'grok-4'] },
      defaults: { 'text.embed': 'embedder' },
    });
    expect(await ask('qwen3:8b')).toMatchObject({ ran: 'qwen3:8b', reason: 'asked for' });
    expect(await ask('ollama/qwen3:8b')).toMatchObject({ ran: 'qwen3:8b', reason: 'asked for' });
    expect(await ask()).toMatchObject({ ran: 'warm', reason: 'default of text.chat' });
    expect(await ask('auto')).toMatchObject({ ran: 'warm', reason: 'default of text.chat' });
    expect(await ask('gpt-4o')).toEqual({ ran: 'qwen3:8b', reason: 'alias gpt-4o', warnings: [] });
    expect(await ask('gpt-4')).toMatchObject({ ran: 'qwen3:8b', reason: 'alias gpt-4' });
    expect(await ask('mini')).toEqual({ ran: 'llama3.2', reason: 'alias mini', warnings: [] });
  });

  it('say what was passed over, and so does a warning', async () => {
    const { ask, down, gateway } = open({
      aliases: { best: ['gone', 'embedder', 'qwen3:8b', 'big', 'grok-4'] },
      defaults: { 'text.chat': ['qwen3:8b', 'grok-4'] },
    });
    expect(await ask('best')).toEqual({
      ran: 'qwen3:8b',
      reason: 'alias best, because gone is not here and embedder does not offer text.chat',
      warnings: ['gone is not here; embedder does not offer text.chat. qwen3:8b on ollama answers instead.'],
    });
    down.add('ollama');
    // Found out by asking, and then known.
    expect(await ask()).toMatchObject({ reason: 'default of text.chat, because qwen3:8b cannot be reached' });
    expect(await ask()).toEqual({
      ran: 'grok-4',
      reason: 'default of text.chat, because qwen3:8b cannot be reached',
      warnings: ['qwen3:8b cannot be reached. grok-4 on xai answers instead.'],
    });
    expect(await ask('best')).toMatchObject({ ran: 'big' });
    down.delete('ollama');
    await gateway.catalog.refresh();
    expect(await ask()).toMatchObject({ ran: 'qwen3:8b', warnings: [] });
  });
});

describe('choices', () => {
  it('may prefer what is in memory, and `warm` always does', async () => {
    const { ask, down, gateway } = open({
      aliases: { any: { models: ['qwen3:8b', 'warm', 'grok-4'], prefer: 'warm' }, nested: ['gone', 'any'] },
    });
    expect(await ask('any')).toEqual({ ran: 'warm', reason: 'alias any, in memory', warnings: [] });
    expect(await ask('nested')).toMatchObject({ ran: 'warm' });
    expect(await ask('warm')).toMatchObject({ ran: 'warm', reason: 'in memory' });
    down.add('ollama');
    await gateway.catalog.refresh();
    expect(await ask('warm')).toMatchObject({
      ran: 'big',
      reason: 'default of text.chat, as nothing that can is in memory',
    });
  });

  it('never hide a model’s own id', async () => {
    const { ask } = open({ aliases: { 'qwen3:8b': 'grok-4', 'xai/shared': 'big' } });
    expect(await ask('qwen3:8b')).toMatchObject({ ran: 'qwen3:8b', reason: 'asked for' });
    expect(await ask('xai/shared')).toMatchObject({ ran: 'shared' });
  });

  it('end where they lead in a circle', async () => {
    const circles: Record<string, Choice>[] = [
      { a: 'b', b: 'a' },
      { a: ['a', 'b'], b: ['b'] },
      { a: 'default', b: 'warm' },
    ];
    for (const aliases of circles) {
      const { gateway } = open({ aliases, defaults: { 'text.chat': 'a' } });
      const asked = ['a', 'b', undefined, 'warm'].map(async (name) => gateway.catalog.resolve('text.chat', name));
      for (const outcome of await Promise.allSettled(asked)) {
        if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'model_not_found' });
        else expect(outcome.value[0]!.model.capabilities).toContain('text.chat');
      }
    }
    const { ask } = open({ aliases: { a: ['b', 'grok-4'], b: ['a', 'big'] } });
    expect(await ask('a')).toMatchObject({ ran: 'big', warnings: [] });
  });

  it('that nobody can serve say why, of the one that is missing', async () => {
    const { gateway } = open({ aliases: { best: ['embedder', 'gone:8b'], embeds: ['embedder'] } });
    const ask = async (name: string) => gateway.catalog.resolve('text.chat', name);
    await expect(ask('best')).rejects.toMatchObject({
      code: 'model_not_found',
      message: expect.stringContaining('gone:8b'),
      hint: expect.stringContaining('“best” stands for it'),
    });
    await expect(ask('embeds')).rejects.toMatchObject({
      code: 'not_supported',
      hint: expect.stringContaining('qwen3:8b'),
    });
  });
});

describe('the next of a chain', () => {
  const chain = { aliases: { best: ['qwen3:8b', 'grok-4'] } };
  const faults = new Set<ErrorCode>(['invalid_request', 'unsupported_parameter', 'unusable_output', 'internal']);
  const helped: ErrorCode[] = [
    'upstream_unavailable',
    'upstream_timeout',
    'overloaded',
    'insufficient_vram',
    'model_unavailable',
    'model_not_found',
    'rate_limited',
    'provider_auth',
    'upstream_error',
  ];

  it.each(helped)('answers after %s', async (code) => {
    const { ask } = open(chain, (name) => (name === 'ollama' ? code : undefined));
    const { ran, reason, warnings } = await ask('best');
    expect(ran).toBe('grok-4');
    expect(reason).toMatch(/^alias best, because qwen3:8b \w/);
    expect(warnings).toEqual([`ollama says ${code}. grok-4 on xai answers instead.`]);
  });

  it.each([...faults])('does not answer after %s, which would happen again', async (code) => {
    const { ask, runtimes } = open(chain, (name) => (name === 'ollama' ? code : undefined));
    await expect(ask('best')).rejects.toMatchObject({ code });
    expect(runtimes[2]!.chats).toHaveLength(0);
  });

  it('is never asked where one model was named, whatever goes wrong', async () => {
    for (const code of Object.keys(errorTable) as ErrorCode[]) {
      const { ask, runtimes } = open({ aliases: { one: 'qwen3:8b' } }, (name) =>
        name === 'ollama' ? code : undefined,
      );
      await expect(ask('qwen3:8b')).rejects.toMatchObject({ code });
      await expect(ask('one')).rejects.toMatchObject({ code });
      expect(runtimes.slice(1).flatMap(({ chats }) => chats)).toEqual([]);
    }
  });

  it('must have a longer context where that of the first was too short', async () => {
    const aliases = { best: ['qwen3:8b', 'llama3.2', 'grok-4', 'big'], short: ['qwen3:8b', 'llama3.2'] };
    const { ask } = open({ aliases }, (name) => (name === 'ollama' ? 'context_length_exceeded' : undefined));
    expect(await ask('best')).toMatchObject({ ran: 'big' });
    await expect(ask('short')).rejects.toMatchObject({ code: 'context_length_exceeded' });
  });

  it('takes over only before anything came out', async () => {
    const broken: RuntimeAdapter = {
      ...createScripted({ name: 'broken', priority: 200, models: [model('half')] }),
      handles: {
        async *'text.chat'() {
          yield { type: 'chunk' as const, chunk: { text: 'so far' } };
          throw new GatewayError('upstream_terminated', 'broken broke off.', { source: 'broken' });
        },
      },
    };
    const other = createScripted({ name: 'other', models: [model('whole')], chat: () => ({ text: 'ok' }) });
    const { run } = openScripted([broken, other], { aliases: { best: ['half', 'whole'] } });
    await expect(run('text.chat', { messages, model: 'best' })).rejects.toMatchObject({ code: 'upstream_terminated' });
    expect(other.chats).toHaveLength(0);
  });

  it('goes on to the last, whose failure is told when all have failed', async () => {
    const { ask, runtimes } = open({ aliases: { best: ['qwen3:8b', 'big', 'grok-4'] } }, (name) =>
      name === 'xai' ? 'rate_limited' : 'upstream_error',
    );
    await expect(ask('best')).rejects.toMatchObject({ code: 'rate_limited', source: 'xai' });
    expect(runtimes.map(({ chats }) => chats.length)).toEqual([1, 1, 1]);
  });
});

it('never gives a request to a model that is known not to be able to do it', async () => {
  const abilities: Ability[] = ['vision', 'mask', 'animate'];
  const ids = ['a', 'b', 'c', 'd/e:f'];
  const names = fc.constantFrom(...ids, 'r1/a', 'gpt', 'best', 'default', 'warm', 'nope');
  const aModel = fc.record(
    {
      id: fc.constantFrom(...ids),
      capabilities: fc.subarray<CapabilityId>([
        'text.chat',
        'text.generate',
        'text.embed',
        'image.edit',
        'video.generate',
      ]),
      state: fc.constantFrom<Model['state']>('available', 'ready', 'loaded'),
      rank: fc.integer({ min: 0, max: 3 }),
      ...Object.fromEntries(abilities.map((ability) => [ability, fc.boolean()])),
    },
    { requiredKeys: ['id', 'capabilities', 'state'] },
  ) as fc.Arbitrary<Model>;
  const aRuntime = fc.record({
    models: fc.uniqueArray(aModel, { selector: ({ id }) => id, maxLength: 4 }),
    down: fc.boolean(),
  });
  const aChoice: fc.Arbitrary<Choice> = fc.oneof(
    names,
    fc.array(names, { minLength: 1, maxLength: 4 }),
    fc.record({
      models: fc.array(names, { minLength: 1, maxLength: 4 }),
      prefer: fc.constantFrom('order' as const, 'warm' as const),
    }),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(aRuntime, { minLength: 1, maxLength: 3 }),
      fc.dictionary(fc.constantFrom('gpt', 'best', 'a', 'claude'), aChoice),
      fc.option(aChoice, { nil: undefined }),
      fc.constantFrom(...capabilityIds),
      fc.option(names, { nil: undefined }),
      fc.constantFrom({}, { mask: 'art_1' }, { image: 'art_1' }),
      async (made, aliases, choice, id, name, input) => {
        const down = made.map((each) => each.down);
        const runtimes = made.map(({ models }, index) =>
          createScripted({ name: `r${index}`, priority: 9 - index, models, down: () => down[index]! }),
        );
        down.fill(false);
        const { catalog } = openScripted(runtimes, { aliases, defaults: choice ? { [id]: choice } : {} }).gateway;
        await catalog.refresh();
        made.forEach((each, index) => (down[index] = each.down));
        await catalog.refresh();
        const needs = needsOf(id, input);
        try {
          const routes = await catalog.resolve(id, name, input);
          expect(routes.length).toBeGreaterThan(0);
          for (const route of routes) {
            expect(mayOffer(route.model, id, needs)).toBe(true);
            expect(route.reason).not.toBe('');
          }
          expect(new Set(routes.map(({ model: one }) => one)).size).toBe(routes.length);
        } catch (error) {
          if (!(error instanceof GatewayError)) throw error;
          expect(['model_not_found', 'not_supported', 'upstream_unavailable']).toContain(error.code);
        }
      },
    ),
    { numRuns: 300 },
  );
});
