// What lists say of models, that they are kept until something changes, and that a runtime which is slow or down costs nobody else.
import { describe, expect, it } from 'vitest';
import type { Listing, Overlay } from '../src/catalog.ts';
import { GatewayError } from '../src/error.ts';
import type { Choice } from '../src/models/views.ts';
import type { Model, RuntimeAdapter } from '../src/runtime.ts';
import { openScripted } from './support/open-scripted.ts';

const model = (id: string, more: Partial<Model> = {}): Model => ({
  id,
  capabilities: ['text.chat'],
  state: 'ready',
  ...more,
});

/** A runtime whose list a test changes, and that counts how often it is asked. */
function createLister(name: string, models: Model[], priority = 50) {
  const lister = {
    models,
    asked: 0,
    /** What it does instead of answering. */
    instead: undefined as ((signal: AbortSignal) => Promise<Model[]>) | undefined,
  };
  const runtime: RuntimeAdapter = {
    name,
    priority,
    handles: { async *'text.chat'() {} },
    health: async () => {},
    async models(signal) {
      lister.asked++;
      if (lister.instead) return lister.instead(signal);
      return structuredClone(lister.models);
    },
  };
  return { lister, runtime };
}

const down = (name: string) => async (): Promise<Model[]> => {
  throw new GatewayError('upstream_unavailable', `${name} cannot be reached.`, {
    source: name,
    hint: `Start ${name}.`,
  });
};

/** An overlay and routing that a test changes. */
function createSettings() {
  const told = {
    version: 0,
    of: new Map<string, ReturnType<Overlay['of']>>(),
    coming: [] as string[],
    aliases: new Map<string, Choice>(),
    routes: 0,
  };
  const overlay: Overlay = {
    version: () => told.version,
    of: (_, { id }) => told.of.get(id) ?? {},
    coming: () => told.coming,
  };
  const routing = {
    aliases: () => told.aliases,
    defaults: () => new Map(),
    version: () => told.routes,
    fresh: () => undefined,
  };
  return Object.assign(told, { options: { overlay, routing } });
}

const named = (listings: readonly Listing[]) => Object.fromEntries(listings.map((each) => [each.id, each.state]));

describe('states', () => {
  it('come from the gateway first, then from whether the runtime is up, then from what it says', async () => {
    const one = createLister('one', [model('a', { state: 'loaded' }), model('b'), model('c')], 90);
    const two = createLister('two', [model('d'), model('e')]);
    const settings = createSettings();
    settings.of.set('b', {
      state: 'loading',
      pinned: true,
      fit: 'fits',
      vram: { bytes: 7, basis: 'told', context: null },
    });
    settings.of.set('e', { state: 'pulling' });
    settings.coming = ['a', 'new'];
    const { catalog } = openScripted([one.runtime, two.runtime], settings.options).gateway;
    const states = { a: 'loaded', b: 'loading', c: 'ready', new: 'pulling', d: 'ready', e: 'pulling' };
    // What comes for the second runtime has names of its own.
    expect(named(await catalog.list())).toEqual({ ...states, 'two/a': 'pulling', 'two/new': 'pulling' });
    expect(await catalog.find('b')).toMatchObject({ pinned: true, fit: 'fits', vram: { bytes: 7 } });
    expect(await catalog.find('new')).toMatchObject({ runtime: 'one', capabilities: [], state: 'pulling' });
    two.lister.instead = down('two');
    await catalog.refreshOf('two');
    expect(named(await catalog.list())).toMatchObject({ ...states, d: 'unavailable', e: 'pulling' });
    expect(await catalog.runtimes()).toMatchObject([
      { ok: true },
      { name: 'two', ok: false, models: 2, hint: 'Start two.' },
    ]);
    two.lister.instead = undefined;
    await catalog.refresh();
    expect(named(await catalog.list())).toMatchObject({ d: 'ready' });
  });

  it('tell of a model that is being fetched where somebody asks for it', async () => {
    const { runtime } = createLister('one', [model('a')]);
    const settings = createSettings();
    settings.coming = ['qwen3:8b'];
    const { catalog } = openScripted([runtime], settings.options).gateway;
    await expect(catalog.resolve('text.chat', 'qwen3:8b')).rejects.toMatchObject({
      code: 'model_not_found',
      hint: expect.stringContaining('being fetched'),
      retryAfter: expect.any(Number),
    });
  });
});

describe('lists', () => {
  it('stay the same array, and listings the same objects, until something changes', async () => {
    const { lister, runtime } = createLister('one', [model('a', { aliases: ['x'] }), model('b')]);
    const settings = createSettings();
    const { catalog } = openScripted([runtime], settings.options).gateway;
    const first = await catalog.list();
    expect(await catalog.list()).toBe(first);
    await catalog.refresh();
    expect(await catalog.list()).toBe(first);
    // The gateway looked again and nothing was different.
    settings.version++;
    expect(await catalog.list()).toBe(first);
    settings.version++;
    settings.of.set('b', { pinned: true });
    const second = await catalog.list();
    expect(second).not.toBe(first);
    expect(second[0]).toBe(first[0]);
    expect(second[1]).toMatchObject({ id: 'b', pinned: true });
    lister.models[0]!.aliases = ['y'];
    await catalog.refresh();
    const third = await catalog.list();
    expect(third).not.toBe(second);
    expect((await catalog.find('y')).id).toBe('a');
    expect(third[1]).toBe(second[1]);
    // What names stand for belongs to it.
    settings.aliases.set('gpt-4o', 'b');
    settings.routes++;
    expect(await catalog.list()).not.toBe(third);
    expect((await catalog.aliases()).get('gpt-4o')).toBe(third[1]);
  });

  it('notice a runtime that changes its own objects in place', async () => {
    const own = [model('a')];
    const runtime: RuntimeAdapter = {
      name: 'one',
      priority: 1,
      handles: {},
      health: async () => {},
      models: async () => own,
    };
    const { catalog } = openScripted([runtime]).gateway;
    expect(named(await catalog.list())).toEqual({ a: 'ready' });
    own[0]!.state = 'loaded';
    own.push(model('b'));
    await catalog.refresh();
    expect(named(await catalog.list())).toEqual({ a: 'loaded', b: 'ready' });
  });

  it('of 10 000 models cost a runtime one request, and nobody any work when nothing changed', async () => {
    const many = Array.from({ length: 10_000 }, (_, index) => model(`org/model-${index}:latest`));
    const { lister, runtime } = createLister('one', many);
    const { catalog } = openScripted([runtime], { aliases: { 'gpt-4o': ['gone', 'org/model-7:latest'] } }).gateway;
    const list = await catalog.list();
    expect(list).toHaveLength(10_000);
    const listing = await catalog.find('org/model-9999:latest');
    const routes = await catalog.resolve('text.chat', undefined);
    for (let round = 0; round < 2000; round++) {
      expect(await catalog.list()).toBe(list);
      expect(await catalog.find('org/model-9999:latest')).toBe(listing);
      expect(await catalog.resolve('text.chat', undefined)).toBe(routes);
      expect((await catalog.resolve('text.chat', 'gpt-4o'))[0]!.model).toBe(list[7]!.model);
    }
    expect(lister.asked).toBe(1);
  });

  it('bound what a name that is none costs, however long it and the list are', async () => {
    const many = Array.from({ length: 10_000 }, (_, index) => model(`${'m'.repeat(60)}-${index}`));
    const { catalog } = openScripted([createLister('one', many).runtime]).gateway;
    await catalog.list();
    const begun = performance.now();
    for (let round = 0; round < 20; round++) {
      await expect(catalog.find(`${'n'.repeat(60)}-${round}`)).rejects.toMatchObject({ code: 'model_not_found' });
    }
    // 20 · 10 000 comparisons of 60 letters with 60 would take half a minute.
    expect(performance.now() - begun).toBeLessThan(10_000);
    await expect(catalog.find('x'.repeat(100_000))).rejects.toMatchObject({
      message: expect.stringMatching(/^.{1,200}$/),
    });
  });
});

describe('a runtime', () => {
  it('that never answers blocks nobody beyond its deadline, whether or not it heeds its signal', async () => {
    const slow = createLister('slow', [], 90);
    slow.lister.instead = () => new Promise(() => {});
    const quick = createLister('quick', [model('a')]);
    const { catalog } = openScripted([slow.runtime, quick.runtime], { deadlineMs: 200 }).gateway;
    expect((await catalog.resolve('text.chat', undefined))[0]!.runtime.name).toBe('quick');
    expect(await catalog.runtimes()).toMatchObject([
      { name: 'slow', ok: false, error: 'slow did not list its models within 0.2 s.' },
      { name: 'quick', ok: true },
    ]);
    // Its answer is not waited for twice.
    const asked = slow.lister.asked;
    expect((await catalog.resolve('text.chat', 'a'))[0]!.model.id).toBe('a');
    expect(slow.lister.asked).toBe(asked);
  });

  it('that has told nothing yet keeps no list and no look at the runtimes waiting', async () => {
    const slow = createLister('slow', [], 90);
    slow.lister.instead = () => new Promise(() => {});
    const { catalog } = openScripted([slow.runtime, createLister('quick', [model('a')]).runtime], {
      deadlineMs: 30_000,
    }).gateway;
    const begun = performance.now();
    const [list, runtimes] = await Promise.all([catalog.list(), catalog.runtimes()]);
    expect(performance.now() - begun).toBeLessThan(10_000);
    expect(named(list)).toEqual({ a: 'ready' });
    expect(runtimes).toEqual([
      { name: 'slow', ok: false, models: 0, error: 'slow has not answered yet.', hint: 'Ask again in a moment.' },
      { name: 'quick', ok: true, models: 1 },
    ]);
  });

  it('that is down is asked again less and less often, and found when it is back', async () => {
    const { lister, runtime } = createLister('one', [model('a')]);
    lister.instead = down('one');
    const { catalog } = openScripted([runtime], { ttlMs: 20 }).gateway;
    const until = performance.now() + 700;
    while (performance.now() < until) {
      await catalog.list();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    // 35 times the age of a list; doubled after each failure that makes six.
    expect(lister.asked).toBeGreaterThan(2);
    expect(lister.asked).toBeLessThan(10);
    lister.instead = undefined;
    await expect.poll(async () => named(await catalog.list())).toEqual({ a: 'ready' });
  });

  it('is asked anew by refreshOf, though an older question is still open', async () => {
    const { lister, runtime } = createLister('one', [model('old')]);
    const { catalog } = openScripted([runtime, createLister('two', []).runtime]).gateway;
    await catalog.list();
    const answer = Promise.withResolvers<Model[]>();
    lister.instead = () => answer.promise;
    const first = catalog.refreshOf('one');
    lister.instead = undefined;
    lister.models.push(model('new'));
    const second = Promise.all([catalog.refreshOf('one'), catalog.refreshOf('one')]);
    answer.resolve([model('old')]);
    await Promise.all([first, second]);
    expect(named(await catalog.list())).toEqual({ old: 'ready', new: 'ready' });
    expect(lister.asked).toBe(3);
  });
});
