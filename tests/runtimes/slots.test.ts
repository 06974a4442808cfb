// How many requests a runtime on the card is sent at the same time: what it can work on, or what the configuration says.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openRuntimes } from '../../adapters/runtimes/index.ts';
import { loadConfig } from '../../adapters/settings.ts';
import type { RuntimeEntry } from '../../src/settings.ts';

const stateDir = mkdtempSync(join(tmpdir(), 'hono-ai-slots-'));
afterAll(() => rmSync(stateDir, { recursive: true }));

async function slotsOf(kind: RuntimeEntry['kind'], slots?: number) {
  const { config } = loadConfig({ HONO_AI_DISCOVER: 'false', HONO_AI_EMBEDDED: 'false', HONO_AI_STATE_DIR: stateDir });
  const entry = { name: 'r', kind, url: 'http://127.0.0.1:9', ...(slots === undefined ? {} : { slots }) };
  const parts = { config: { ...config, runtimes: [entry] }, stateDir, cacheDir: stateDir };
  // Nothing of it is used before something is asked.
  const [runtime] = await openRuntimes({ ...parts, downloads: undefined } as never);
  await runtime!.close?.();
  return runtime!.gpu?.slots;
}

describe('slots', () => {
  it.each([
    ['ollama', { model: 4 }, { model: 7 }],
    ['comfyui', { runtime: 1 }, { runtime: 7 }],
    ['a1111', { runtime: 1 }, { runtime: 7 }],
    ['acestep', { runtime: 1 }, { runtime: 7 }],
  ] as const)('of %s', async (kind, usual, asked) => {
    expect(await slotsOf(kind)).toEqual(usual);
    expect(await slotsOf(kind, 7)).toEqual(asked);
  });

  it('are refused for what is not on the card', async () => {
    expect(await slotsOf('openai')).toBeUndefined();
    await expect(slotsOf('openai', 2)).rejects.toThrow('r: slots are for runtimes on the card');
  });
});
