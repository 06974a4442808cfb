// `config`: what is set, where that came from, and what could be.
import { z } from 'zod';
import { loadConfig } from '../../adapters/settings.ts';
import { toEnvExample } from '../../src/config.ts';
import { aliasMap } from '../../src/models/views.ts';
import { runtimeEntry, settings } from '../../src/settings.ts';
import { defineGroup, defineLeaf, toEnv } from '../command.ts';

const MASK = '********';

const explain = defineLeaf({
  path: 'config explain',
  summary: 'Show every setting, its value and where it came from',
  details: 'Secrets are masked. Flags come first, then the environment, .env, the file and the default.',
  flags: {},
  async run(invocation) {
    const { out, flags } = invocation;
    const { config, origins } = loadConfig(toEnv(invocation));
    const rows = Object.entries(origins).map(([name, origin]) => ({
      name,
      value: mask(name, (config as Record<string, unknown>)[name]),
      origin,
    }));
    if (flags.json) {
      return out.json(
        Object.fromEntries(rows.map(({ name, value, origin }) => [name, { value: value ?? null, origin }])),
      );
    }
    out.table(
      ['SETTING', 'VALUE', 'ORIGIN'],
      rows.map(({ name, value, origin }) => [name, toText(value), origin]),
    );
  },
});

const env = defineLeaf({
  path: 'config env',
  summary: 'Print a .env with every setting',
  flags: {},
  run: async ({ out }) => out.line(toEnvExample().trimEnd()),
});

const schema = defineLeaf({
  path: 'config schema',
  summary: 'Print the JSON Schema of hono-ai.yaml',
  flags: {},
  async run({ out }) {
    const fields = Object.entries(settings).map(([name, { schema, about }]) => [
      name,
      schema.optional().describe(about),
    ]);
    const file = z.strictObject({
      ...(Object.fromEntries(fields) as Record<string, z.ZodType>),
      runtimes: z.array(runtimeEntry).optional().describe('Runtimes beside those that are found or set above.'),
      aliases: aliasMap.optional().describe('Alias → a model, or several in order.'),
      defaults: aliasMap.optional().describe('Capability → its default model, or several in order.'),
    });
    out.json(z.toJSONSchema(file, { io: 'input', unrepresentable: 'any' }));
  },
});

export const config = defineGroup('config', 'Configuration: explain, env, schema', { explain, env, schema });

/** Secrets are shown as set or not; an address may carry a password, an entry of a list a key. */
function mask(name: string, value: unknown): unknown {
  if (value === undefined) return undefined;
  if (name === 'api_key' || (name in settings && 'secret' in settings[name as keyof typeof settings])) return MASK;
  if (typeof value === 'string') return value.replace(/(\/\/)[^/@\s]+@/, `$1${MASK}@`);
  if (Array.isArray(value)) return value.map((item) => mask('', item));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mask(key, item)]));
}

function toText(value: unknown): string {
  if (value === undefined) return '';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
