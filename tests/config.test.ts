// Settings: where each value comes from, and what is refused.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openGateway } from '../adapters/index.ts';
import { isLoopback, resolveConfig, toEnvExample } from '../src/config.ts';
import { settings } from '../src/settings.ts';

const KEY = 'k'.repeat(32);
const file = (content: unknown) => ({ name: 'hono-ai.yaml', content });

describe('configuration', () => {
  it('works with nothing set', () => {
    const { config, origins } = resolveConfig({ env: {} });
    expect(config).toMatchObject({
      host: '127.0.0.1',
      port: 8787,
      discover: true,
      runtimes: [],
      aliases: {},
      max_body: 32 * 1024 ** 2,
    });
    expect(origins['port']).toBe('default');
  });

  it('prefers flags to the environment, that to the file, that to defaults, and says so', () => {
    const { config, origins } = resolveConfig({
      flags: { port: 1 },
      env: { PORT: '2', HONO_AI_QUEUE_MS: '5000' },
      file: file({ port: 3, queue_ms: 6000, heartbeat_ms: 7000 }),
    });
    expect([config.port, config.queue_ms, config.heartbeat_ms]).toEqual([1, 5000, 7000]);
    expect(origins).toMatchObject({
      port: 'flag',
      queue_ms: 'environment: HONO_AI_QUEUE_MS',
      heartbeat_ms: 'file: hono-ai.yaml',
      idle_ms: 'default',
    });
  });

  it('takes an empty variable for an unset one', () => {
    expect(resolveConfig({ env: { HONO_AI_API_KEY: '', PORT: '' } }).config).toMatchObject({ port: 8787 });
  });

  it('takes a default for each capability, from the file and the environment', () => {
    const { config, origins } = resolveConfig({
      env: { HONO_AI_DEFAULT_TEXT_CHAT: 'b', HONO_AI_DEFAULT_TEXT_EDIT: '' },
      file: file({ defaults: { 'text.chat': 'a', 'text.story': 'c' } }),
    });
    expect(config.defaults).toEqual({ 'text.chat': 'b', 'text.story': 'c' });
    expect(origins['defaults']).toBe('environment: HONO_AI_DEFAULT_TEXT_CHAT');
  });

  it('reads sizes, lists and flags', () => {
    const { config } = resolveConfig({
      env: { HONO_AI_VRAM: '11.5GB', HONO_AI_ALLOWED_HOSTS: 'a.example, b.example', HONO_AI_DISCOVER: 'no' },
    });
    expect(config).toMatchObject({
      vram: 11.5 * 1024 ** 3,
      allowed_hosts: ['a.example', 'b.example'],
      discover: false,
    });
  });

  it.each([
    ['an unknown setting', { file: file({ prot: 1 }) }, 'unknown setting "prot"'],
    ['a misspelt one', { file: file({ 'max-body': 1 }) }, 'did you mean "max_body"?'],
    ['a wrong value', { env: { PORT: 'http' } }, 'port (environment: PORT)'],
    ['a port out of range', { env: { PORT: '70000' } }, 'PORT'],
    ['an unknown runtime kind', { file: file({ runtimes: [{ name: 'x', kind: 'magic' }] }) }, 'runtimes'],
    ['a runtime without address', { file: file({ runtimes: [{ name: 'x', kind: 'ollama' }] }) }, 'needs a url'],
    [
      'two runtimes of one name',
      {
        file: file({
          runtimes: [
            { name: 'x', kind: 'xai' },
            { name: 'x', kind: 'xai' },
          ],
        }),
      },
      'stands twice',
    ],
    [
      'an unknown field of a runtime',
      { file: file({ runtimes: [{ name: 'x', kind: 'xai', command: 'rm' }] }) },
      'command',
    ],
    ['a list for a file', { file: file([1]) }, 'map of settings'],
    ['a placeholder key', { env: { HONO_AI_API_KEY: 'changeme-changeme' } }, 'HONO_AI_API_KEY'],
    ['a share without a number', { env: { HONO_AI_SHARES: 'owner' } }, 'such as owner:2,guest:0.5'],
    ['a share of nothing', { file: file({ shares: { owner: 0 } }) }, 'such as owner:2,guest:0.5'],
    ['a command without a runtime', { env: { HONO_AI_RESTART: 'ollama' } }, 'name:command'],
    ['quiet hours that last no time', { env: { HONO_AI_QUIET_HOURS: '07:00-07:00' } }, 'such as 23:00-07:00'],
    ['a short key', { env: { HONO_AI_API_KEY: 'short' } }, '16 characters'],
  ])('refuses %s', (_, sources, message) => {
    expect(() => resolveConfig({ env: {}, ...sources })).toThrow(message);
  });

  it('refuses a default of what cannot be asked', async () => {
    const env = { HONO_AI_DEFAULT_TEXT_SING: 'x', HONO_AI_STATE_DIR: '/tmp' };
    await expect(openGateway({ env, runtimes: [] })).rejects.toThrow(
      'no capability "text.sing"; there are text.generate',
    );
  });

  it('never repeats a refused secret', () => {
    expect(() => resolveConfig({ env: { HONO_AI_API_KEY: 'hunter2' } })).toThrow(
      expect.not.stringContaining('hunter2'),
    );
  });

  it('binds beyond loopback only with a key, or by an explicit flag', () => {
    for (const host of [
      '0.0.0.0',
      '::',
      '192.168.1.2',
      '100.64.0.1',
      '8.8.8.8',
      'box.local',
      '127.0.0.1.example.com',
    ]) {
      expect(() => resolveConfig({ env: { HOST: host } })).toThrow('HONO_AI_API_KEY');
      expect(resolveConfig({ env: { HOST: host, HONO_AI_API_KEY: KEY } }).config.host).toBe(host);
      expect(resolveConfig({ env: { HOST: host, HONO_AI_ALLOW_PUBLIC: 'true' } }).config.host).toBe(host);
    }
    for (const host of ['127.0.0.1', 'localhost', '::1', '[::1]', '127.1.2.3']) expect(isLoopback(host)).toBe(true);
  });

  it('is documented in .env.example, setting by setting', () => {
    const example = readFileSync(new URL('../.env.example', import.meta.url), 'utf8');
    expect(example).toBe(toEnvExample());
    for (const { env } of Object.values(settings)) expect(example).toContain(`# ${env}=`);
  });
});
