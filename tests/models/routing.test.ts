// Aliases and defaults that are set while the gateway runs: kept over restarts, seen by other gateways, and never a circle.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSqliteStore } from '../../adapters/stores/sqlite/index.ts';
import { resolveConfig } from '../../src/config.ts';
import { createRouting, type Routing, type RoutingOptions } from '../../src/models/routing.ts';
import type { Store } from '../../src/store.ts';

let dir: string;
let stores: Store[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'hono-ai-routing-'));
  stores = [];
});
afterEach(async () => {
  for (const store of stores) await store.close();
  rmSync(dir, { recursive: true, force: true });
});

async function open(options: Partial<RoutingOptions> = {}): Promise<Routing> {
  const store = await openSqliteStore({ path: join(dir, 'store.db'), now: Date.now });
  stores.push(store);
  const routing = createRouting({ documents: store.documents, aliases: {}, defaults: {}, ...options });
  await routing.load();
  return routing;
}

const configured = {
  aliases: { 'gpt-4o': 'qwen3:8b', mini: 'llama3.2' },
  defaults: { 'text.chat': 'qwen3:8b' },
} as const;

describe('what is set', () => {
  it('goes before the configuration, and the configuration counts again when it is removed', async () => {
    const routing = await open(configured);
    const before = routing.version();
    await routing.setAliases(
      { 'gpt-4o': ['big', 'xai/grok-4'], best: { models: ['a', 'b'], prefer: 'warm' } },
      'merge',
    );
    expect(Object.fromEntries(routing.aliases())).toEqual({
      'gpt-4o': ['big', 'xai/grok-4'],
      mini: 'llama3.2',
      best: { models: ['a', 'b'], prefer: 'warm' },
    });
    expect(routing.version()).toBeGreaterThan(before);
    await routing.setAliases({ 'gpt-4o': null, nothing: null }, 'merge');
    expect(routing.aliases().get('gpt-4o')).toBe('qwen3:8b');
    expect(routing.aliases().has('best')).toBe(true);
    await routing.setAliases({ other: 'x' }, 'replace');
    expect([...routing.aliases().keys()]).toEqual(['gpt-4o', 'mini', 'other']);
    await routing.setDefaults({ 'text.chat': 'big', 'image.generate': ['sdxl', 'flux'] }, 'merge');
    expect(Object.fromEntries(routing.defaults())).toEqual({ 'text.chat': 'big', 'image.generate': ['sdxl', 'flux'] });
  });

  it('is still there when its store hangs: nobody waits for that', async () => {
    const store = await openSqliteStore({ path: join(dir, 'store.db'), now: Date.now });
    stores.push(store);
    let hangs = false;
    const get: typeof store.documents.get = (...args) => (hangs ? new Promise(() => {}) : store.documents.get(...args));
    const routing = createRouting({ documents: { ...store.documents, get }, ...configured });
    hangs = true;
    const begun = performance.now();
    await routing.fresh();
    expect(performance.now() - begun).toBeLessThan(10_000);
    expect(routing.aliases().get('mini')).toBe('llama3.2');
    expect(routing.fresh()).toBeUndefined();
  });

  it('lasts over a restart', async () => {
    const first = await open(configured);
    await first.setAliases({ best: ['a', 'b'] }, 'merge');
    await first.setDefaults({ 'text.embed': 'nomic' }, 'replace');
    for (const store of stores.splice(0)) await store.close();
    const second = await open(configured);
    expect(second.aliases().get('best')).toEqual(['a', 'b']);
    expect(second.aliases().get('mini')).toBe('llama3.2');
    expect(second.defaults().get('text.embed')).toBe('nomic');
  });

  it('is seen by other gateways on the store within seconds, and lost by none when they change it at once', async () => {
    const gateways = await Promise.all([open(), open(), open()]);
    await Promise.all(
      gateways.flatMap((routing, index) =>
        [0, 1, 2].map((n) => routing.setAliases({ [`name-${index}-${n}`]: 'x' }, 'merge')),
      ),
    );
    for (const routing of gateways) {
      await expect
        .poll(
          async () => {
            await routing.fresh();
            return routing.aliases().size;
          },
          { timeout: 20_000 },
        )
        .toBe(9);
    }
    const [one] = gateways;
    const version = one!.version();
    await one!.load();
    // Nothing was different: nothing made of it is thrown away.
    expect(one!.version()).toBe(version);
  });

  it('does not wait for a store that is away', async () => {
    const away = { get: () => Promise.reject(new Error('away')) };
    const routing = createRouting({ documents: away as never, aliases: { a: 'b' }, defaults: {} });
    await routing.fresh();
    expect(routing.fresh()).toBeUndefined();
    expect(routing.aliases().get('a')).toBe('b');
  });
});

describe('what is refused', () => {
  it.each([
    [{ a: 'a' }, 'a → a'],
    [{ a: ['x', 'b'], b: { models: ['c'], prefer: 'warm' as const }, c: 'a' }, 'a → b → c → a'],
    [{ 'gpt-5': 'mini', 'llama3.2': 'gpt-5' }, 'mini → llama3.2 → gpt-5 → mini'],
  ])('a circle, with its path: %j', async (aliases, path) => {
    const routing = await open(configured);
    await expect(routing.setAliases(aliases, 'merge')).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining(path),
    });
    expect([...routing.aliases().keys()]).toEqual(['gpt-4o', 'mini']);
  });

  it('names that mean something already, and capabilities that no model has', async () => {
    const routing = await open();
    for (const name of ['default', 'auto', 'warm']) {
      await expect(routing.setAliases({ [name]: 'x' }, 'merge')).rejects.toMatchObject({ param: name });
    }
    for (const id of ['text.fly', 'model.pull', 'toString', '__proto__']) {
      const defaults = JSON.parse(`{${JSON.stringify(id)}: "x"}`) as Record<string, string>;
      await expect(routing.setDefaults(defaults, 'replace')).rejects.toMatchObject({
        code: 'invalid_request',
        param: id,
      });
    }
    const many = Object.fromEntries(Array.from({ length: 1001 }, (_, index) => [`a${index}`, 'x']));
    await expect(routing.setAliases(many, 'replace')).rejects.toMatchObject({ code: 'invalid_request' });
  });
});

describe('the configuration', () => {
  const read = (content: object, env = {}) => resolveConfig({ env, file: { name: 'hono-ai.yaml', content } }).config;

  it('takes lists and preferences, and lists in the environment', () => {
    const { aliases, defaults } = read(
      { aliases: { best: ['a', 'b'], any: { models: ['a', 'b'], prefer: 'warm' } }, defaults: { 'text.chat': ['c'] } },
      { HONO_AI_DEFAULT_TEXT_EMBED: 'nomic', HONO_AI_DEFAULT_IMAGE_GENERATE: 'sdxl, flux,' },
    );
    expect(aliases).toEqual({ best: ['a', 'b'], any: { models: ['a', 'b'], prefer: 'warm' } });
    expect(defaults).toEqual({ 'text.chat': ['c'], 'text.embed': 'nomic', 'image.generate': ['sdxl', 'flux'] });
  });

  it('refuses circles and choices that are none', () => {
    expect(() => read({ aliases: { a: 'b', b: ['c', 'a'] } })).toThrow('a → b → a');
    expect(() => read({ aliases: { a: [] } })).toThrow('aliases');
    expect(() => read({ aliases: { a: { models: ['x'], prefer: 'luck' } } })).toThrow('aliases');
    expect(() => read({}, { HONO_AI_DEFAULT_TEXT_CHAT: ',' })).toThrow('HONO_AI_DEFAULT_TEXT_CHAT');
  });
});
