// Who answers: names, aliases, defaults, runtimes that are down, and what is said when nobody can.
import { describe, expect, it } from 'vitest';
import { GatewayError } from '../src/error.ts';
import type { Model } from '../src/runtime.ts';
import { openScripted } from './support/open-scripted.ts';
import { createScripted } from './support/scripted-runtime.ts';

const model = (id: string, more: Partial<Model> = {}): Model => ({
  id,
  capabilities: ['text.chat'],
  state: 'ready',
  ...more,
});
const chat = () => ({ text: 'ok' });
const messages = [{ role: 'user', content: 'x' }];

describe('catalog', () => {
  const big = createScripted({
    name: 'big',
    priority: 100,
    chat,
    models: [model('llama', { aliases: ['l'] }), model('shared'), model('warm', { state: 'loaded' })],
  });
  const small = createScripted({
    name: 'small',
    priority: 0,
    chat,
    models: [model('tiny'), model('shared'), model('remote', { state: 'available', rank: 99 })],
  });
  const open = (options = {}) => openScripted([small, big], { aliases: { 'gpt-4o': 'llama' }, ...options });
  const ran = async (name: string | undefined, options = {}) => {
    const { model, runtime } = await open(options).run('text.chat', { messages, ...(name ? { model: name } : {}) });
    return `${runtime}/${model}`;
  };

  it('finds models by id, alias, the runtime’s own alias and runtime/id', async () => {
    expect(await ran('llama')).toBe('big/llama');
    expect(await ran('gpt-4o')).toBe('big/llama');
    expect(await ran('l')).toBe('big/llama');
    expect(await ran('shared')).toBe('big/shared');
    expect(await ran('small/shared')).toBe('small/shared');
  });

  it('takes the configured default, else what is warm on the first runtime', async () => {
    expect(await ran(undefined)).toBe('big/warm');
    expect(await ran('default')).toBe('big/warm');
    expect(await ran(undefined, { defaults: { 'text.chat': 'gpt-4o' } })).toBe('big/llama');
  });

  it('lists every model once under a name that works', async () => {
    const listings = await open().gateway.catalog.list();
    expect(listings.map(({ id }) => id)).toEqual(['llama', 'shared', 'warm', 'tiny', 'small/shared', 'remote']);
    expect(listings[0]!.capabilities).toEqual(['text.chat', 'text.edit', 'text.evaluate', 'text.story']);
  });

  it('names the nearest for an unknown model, and says which default is wrong', async () => {
    await expect(open().run('text.chat', { messages, model: 'lama' })).rejects.toMatchObject({
      code: 'model_not_found',
      hint: expect.stringContaining('llama'),
    });
    await expect(open({ defaults: { 'text.chat': 'gone' } }).run('text.chat', { messages })).rejects.toMatchObject({
      hint: expect.stringContaining('default of text.chat'),
    });
  });

  it('says which models can, when this one cannot', async () => {
    const error = await open()
      .run('text.embed', { input: 'x', model: 'llama' })
      .catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'not_supported', status: 501, message: expect.stringContaining('text.embed') });
    const none = await open()
      .run('text.embed', { input: 'x' })
      .catch((thrown) => thrown);
    expect(none).toMatchObject({ code: 'not_supported', hint: expect.any(String) });
  });

  it('reads lists again for a name it does not know', async () => {
    const models = [model('old')];
    const runtime = createScripted({ chat, models });
    const { run, gateway } = openScripted([runtime]);
    await run('text.chat', { messages, model: 'old' });
    models.push(model('new'));
    await gateway.catalog.refresh();
    expect((await run('text.chat', { messages, model: 'new' })).model).toBe('new');
  });

  it('lets the next runtime answer for a default that is down, and says so', async () => {
    let down = false;
    const first = createScripted({ name: 'first', priority: 9, chat, down: () => down, model: { id: 'a' } });
    const second = createScripted({ name: 'second', priority: 1, chat, model: { id: 'b' } });
    const { run, gateway } = openScripted([first, second]);
    expect(await run('text.chat', { messages })).toMatchObject({ runtime: 'first', warnings: [] });
    down = true;
    expect(await run('text.chat', { messages })).toMatchObject({
      runtime: 'second',
      warnings: [expect.stringContaining('first cannot be reached')],
    });
    // It is known to be down now: nobody waits for it again, and nothing needs to be said.
    expect(await run('text.chat', { messages })).toMatchObject({ runtime: 'second', warnings: [] });
    await expect(run('text.chat', { messages, model: 'a' })).rejects.toMatchObject({ code: 'upstream_unavailable' });
    expect(await gateway.catalog.runtimes()).toMatchObject([
      { name: 'first', ok: false, hint: 'Start first.' },
      { name: 'second', ok: true },
    ]);
    down = false;
    await gateway.catalog.refresh();
    expect(await run('text.chat', { messages })).toMatchObject({ runtime: 'first' });
  });

  it('never moves on from a failure of the work itself', async () => {
    const failing = createScripted({
      name: 'failing',
      priority: 9,
      chat: () => {
        throw new GatewayError('upstream_error', 'No.');
      },
    });
    await expect(openScripted([failing, small]).run('text.chat', { messages })).rejects.toMatchObject({
      code: 'upstream_error',
    });
  });

  it('keeps a list of 10 000 models quick to use', async () => {
    const many = Array.from({ length: 10_000 }, (_, index) => model(`model-${index}`));
    const { run, gateway } = openScripted([createScripted({ chat, models: many })]);
    expect((await run('text.chat', { messages, model: 'model-9999' })).model).toBe('model-9999');
    expect(await gateway.catalog.list()).toHaveLength(10_000);
  });

  describe('what a request needs', () => {
    const makers = [
      model('plain', { capabilities: ['image.edit'], mask: false, rank: 9 }),
      model('masks', { capabilities: ['image.edit'], mask: true }),
      model('unsaid', { capabilities: ['image.edit'] }),
      model('blind', { vision: false }),
      model('maybe'),
    ];
    const { catalog } = openScripted([createScripted({ name: 'studio', priority: 1, chat, models: makers })]).gateway;
    const find = async (name: string | undefined, input: object) =>
      (await catalog.resolve('image.edit', name, input)).map(({ model: { id } }) => id);

    it('decides which model answers where none is named', async () => {
      expect(await find(undefined, {})).toEqual(['plain']);
      expect(await find(undefined, { mask: 'art_1' })).toEqual(['masks']);
    });

    it('refuses a named model that cannot, and names those that can', async () => {
      await expect(find('plain', { mask: 'art_1' })).rejects.toMatchObject({
        code: 'not_supported',
        message: 'plain on studio does not offer image.edit with a mask.',
        hint: 'Models that do: masks.',
      });
    });

    it('is left to a named model of which nobody knows', async () => {
      expect(await find('unsaid', { mask: 'art_1' })).toEqual(['unsaid']);
      expect((await catalog.resolve('image.describe', 'maybe', {}))[0]!.model.id).toBe('maybe');
      await expect(Promise.resolve().then(() => catalog.resolve('image.describe', 'blind', {}))).rejects.toMatchObject({
        message: 'blind on studio does not offer image.describe for pictures.',
      });
      await expect(
        Promise.resolve().then(() => catalog.resolve('image.describe', undefined, {})),
      ).rejects.toMatchObject({ code: 'not_supported', hint: expect.stringContaining('Ollama') });
    });

    it('is not claimed in lists by those of which nobody knows', async () => {
      const listed = (await catalog.list()).find(({ id }) => id === 'maybe')!;
      expect(listed.capabilities).not.toContain('image.describe');
    });
  });
});
