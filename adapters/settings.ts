// Reads what the configuration is made of: the environment, .env and the YAML file.
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { parseDocument } from 'yaml';
import { ConfigError, resolveConfig, type Resolved } from '../src/config.ts';

export type Env = Record<string, string | undefined>;

/** flags > environment > .env > file > defaults. Throws a ConfigError that names the setting and the place. */
export function loadConfig(env: Env, flags: Record<string, unknown> = {}): Resolved {
  const file = loadFile(env);
  return resolveConfig({ env: { ...loadDotEnv(), ...env }, flags, ...(file ? { file } : {}) });
}

function loadDotEnv(): Env {
  return existsSync('.env') ? parseEnv(readFileSync('.env', 'utf8')) : {};
}

function loadFile(env: Env): { name: string; content: unknown } | undefined {
  const named = env['HONO_AI_CONFIG'];
  const usual = ['hono-ai.yaml', join(env['XDG_CONFIG_HOME'] || join(homedir(), '.config'), 'hono-ai', 'hono-ai.yaml')];
  const name = named || usual.find((path) => existsSync(path));
  if (!name) return undefined;
  let text: string;
  try {
    text = readFileSync(name, 'utf8');
  } catch {
    throw new ConfigError(`${name} (HONO_AI_CONFIG) cannot be read.`);
  }
  // YAML's own rules would take the last of two equal keys in silence.
  const document = parseDocument(text, { uniqueKeys: true });
  const [problem] = document.errors;
  if (problem) throw new ConfigError(`${name}: ${problem.message.split('\n')[0]}`);
  return { name, content: document.toJS() };
}
