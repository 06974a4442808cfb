// The configuration: how the value of each setting is found, and what is refused.
import { z } from 'zod';
import { findCircle } from './models/choices.ts';
import { aliasMap, choice, type Choice } from './models/views.ts';
import { runtimeEntry, settings, type RuntimeEntry, type Setting } from './settings.ts';

type Settings = typeof settings;
export type SettingName = keyof Settings;
type Value<S> = S extends { schema: infer T extends z.ZodType }
  ? S extends { default: unknown }
    ? z.output<T>
    : z.output<T> | undefined
  : never;
type Defaulted = { [Name in SettingName]: Value<Settings[Name]> };

export type Config = Defaulted & {
  runtimes: RuntimeEntry[];
  /** Alias → what it stands for. */
  aliases: Record<string, Choice>;
  /** Capability → what answers where a request names no model. */
  defaults: Record<string, Choice>;
};

/** Where a value came from. */
export type Origin = 'default' | 'flag' | `file: ${string}` | `environment: ${string}`;

export interface Resolved {
  config: Config;
  origins: Record<string, Origin>;
}

/** A setting that cannot be used: names the setting and the place, never the value. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const DEFAULT_PREFIX = 'HONO_AI_DEFAULT_';
const WEAK_KEYS = /^(changeme|change-me|test-token|secret|password|example|your-?key|sk-your.*)/i;

/** flags > environment > file > defaults. Throws a ConfigError for anything unknown or malformed. */
export function resolveConfig(sources: {
  flags?: Record<string, unknown>;
  env: Record<string, string | undefined>;
  file?: { name: string; content: unknown };
}): Resolved {
  const { flags = {}, env, file } = sources;
  const content = toFileContent(file);
  const known = new Set([...Object.keys(settings), 'runtimes', 'aliases', 'defaults']);
  for (const key of Object.keys(content)) {
    if (!known.has(key)) throw new ConfigError(`${file!.name}: unknown setting "${key}"${suggestion(key, known)}`);
  }
  const values: Record<string, unknown> = {};
  const origins: Record<string, Origin> = {};
  for (const [name, { env: variable, schema, ...rest }] of Object.entries(settings) as [string, Setting<z.ZodType>][]) {
    const [origin, raw] = pick(name, variable, rest.default);
    origins[name] = origin;
    if (raw === undefined) continue;
    const parsed = schema.safeParse(raw);
    if (!parsed.success) {
      const place = origin === 'default' || origin === 'flag' ? `${origin} ${name}` : `${name} (${origin})`;
      throw new ConfigError(`${place}: ${parsed.error.issues.map((issue) => issue.message).join('; ')}`);
    }
    values[name] = parsed.data;
  }
  const runtimes = z.array(runtimeEntry).safeParse(content['runtimes'] ?? []);
  if (!runtimes.success) throw new ConfigError(`${file!.name}: runtimes: ${z.prettifyError(runtimes.error)}`);
  const aliases = toMap('aliases');
  const defaults = { ...toMap('defaults'), ...defaultsOf(env) };
  const config = { ...values, runtimes: runtimes.data, aliases, defaults } as Config;
  check(config);
  for (const name of ['runtimes', 'aliases', 'defaults'])
    origins[name] = name in content ? `file: ${file!.name}` : 'default';
  for (const id of Object.keys(defaultsOf(env))) origins['defaults'] = `environment: ${toDefaultVariable(id)}`;
  return { config, origins };

  function toMap(name: string): Record<string, Choice> {
    const parsed = aliasMap.safeParse(content[name] ?? {});
    if (!parsed.success) throw new ConfigError(`${file!.name}: ${name}: ${z.prettifyError(parsed.error)}`);
    return parsed.data;
  }

  function pick(name: string, variable: string, fallback: unknown): [Origin, unknown] {
    if (flags[name] !== undefined) return ['flag', flags[name]];
    // An empty variable is an unset one: compose files pass `VAR=` for what nobody set.
    const value = env[variable];
    if (value !== undefined && value !== '') return [`environment: ${variable}`, value];
    if (content[name] !== undefined) return [`file: ${file!.name}`, content[name]];
    return ['default', fallback];
  }
}

/** The text of `.env.example`. */
export function toEnvExample(): string {
  const lines = ['# Settings of hono-ai. Copy to .env, or put the same names in lower case into hono-ai.yaml.', ''];
  for (const { env, about, ...rest } of Object.values(settings) as Setting<z.ZodType>[]) {
    lines.push(`# ${about}`, `# ${env}=${rest.default === undefined ? '' : String(rest.default)}`, '');
  }
  lines.push(
    '# Default model of a capability, text.chat for instance: HONO_AI_DEFAULT_ and its name. Several: a,b,c, tried in turn.',
  );
  lines.push(`# ${toDefaultVariable('text.chat')}=`, '');
  return lines.join('\n');
}

/** `text.chat` → `HONO_AI_DEFAULT_TEXT_CHAT`. */
function toDefaultVariable(id: string): string {
  return DEFAULT_PREFIX + id.toUpperCase().replace('.', '_');
}

function defaultsOf(env: Record<string, string | undefined>): Record<string, Choice> {
  const defaults: Record<string, Choice> = {};
  for (const [variable, line] of Object.entries(env)) {
    if (!variable.startsWith(DEFAULT_PREFIX) || !line) continue;
    const models = line
      .split(',')
      .map((name) => name.trim())
      .filter(Boolean);
    const parsed = choice.safeParse(models.length === 1 ? models[0] : models);
    if (!parsed.success) throw new ConfigError(`${variable}: a model, or up to 16 of them separated by commas`);
    defaults[variable.slice(DEFAULT_PREFIX.length).toLowerCase().replace('_', '.')] = parsed.data;
  }
  return defaults;
}

export function isLoopback(host: string): boolean {
  const name = host.replace(/^\[|\]$/g, '').toLowerCase();
  return name === 'localhost' || name === '::1' || /^127(?:\.\d{1,3}){3}$/.test(name);
}

function check(config: Config): void {
  if (config.api_key !== undefined && WEAK_KEYS.test(config.api_key)) {
    throw new ConfigError('api_key (HONO_AI_API_KEY): a placeholder; make one with: openssl rand -hex 32');
  }
  for (const [name, key] of Object.entries(config.callers ?? {})) {
    if (name === 'owner') throw new ConfigError('callers (HONO_AI_CALLERS): owner is the one with HONO_AI_API_KEY');
    if (WEAK_KEYS.test(key)) {
      throw new ConfigError(
        `callers (HONO_AI_CALLERS): the key of ${name} is a placeholder; make one with: openssl rand -hex 32`,
      );
    }
  }
  if (
    !isLoopback(config.host) &&
    config.api_key === undefined &&
    config.callers === undefined &&
    !config.allow_public
  ) {
    throw new ConfigError(
      `host (HOST): ${config.host} is reachable from other machines; set HONO_AI_API_KEY, or HONO_AI_ALLOW_PUBLIC=true if that is meant.`,
    );
  }
  const names = config.runtimes.map((runtime) => runtime.name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new ConfigError(`runtimes: the name "${twice}" stands twice`);
  const circle = findCircle(new Map(Object.entries(config.aliases)));
  if (circle) throw new ConfigError(`aliases: ${circle.join(' → ')} leads back to where it came from`);
  for (const { name, kind, url } of config.runtimes) {
    if (kind !== 'xai' && url === undefined) throw new ConfigError(`runtimes: ${name} needs a url`);
  }
}

function toFileContent(file: { name: string; content: unknown } | undefined): Record<string, unknown> {
  if (file === undefined || file.content === null || file.content === undefined) return {};
  if (typeof file.content !== 'object' || Array.isArray(file.content))
    throw new ConfigError(`${file.name}: must be a map of settings`);
  return file.content as Record<string, unknown>;
}

function suggestion(key: string, known: Set<string>): string {
  const near = [...known].find((name) => name.replaceAll('_', '') === key.toLowerCase().replaceAll(/[-_]/g, ''));
  return near ? `; did you mean "${near}"?` : '';
}
