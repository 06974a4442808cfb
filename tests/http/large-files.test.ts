// Answers that hold whole files: however large, they come whole, and a key does not make them twice.
import { createHash, randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { serveHere, type ServedHere } from '../cli/serve-here.ts';
import { readEventStream } from '../support/event-stream.ts';
import { post } from '../support/gateway.ts';

/** In base64 more than may wait for a reader, and more than is kept with a key. */
const SIZE = 6_300_000;
const bytes = randomFillSync(new Uint8Array(SIZE));
const sha256 = createHash('sha256').update(bytes).digest('hex');

let runs = 0;
const press: RuntimeAdapter = {
  name: 'press',
  priority: 1,
  models: async () => [{ id: 'press', capabilities: ['image.generate'], state: 'ready' }],
  health: async () => {},
  handles: {
    async *'image.generate'() {
      runs++;
      yield { type: 'result', result: {}, files: [{ bytes }] };
    },
  },
};

const folder = mkdtempSync(join(tmpdir(), 'hono-ai-large-'));
let served: ServedHere;
beforeAll(async () => {
  const env = { HONO_AI_STATE_DIR: folder, HONO_AI_DISCOVER: 'false', HONO_AI_LOG_LEVEL: 'silent' };
  served = await serveHere(env, press);
});
afterAll(async () => {
  await served?.close();
  rmSync(folder, { recursive: true, force: true });
});

const ask = (more: object, headers: Record<string, string> = {}) =>
  fetch(
    `${served.url}/image/gen`,
    post({ prompt: 'noise', job: { response_format: 'b64_json' }, ...more }, { headers }),
  );

function hashOf(answer: unknown): string {
  const [{ b64_json }] = (answer as { artifacts: [{ b64_json: string }] }).artifacts;
  return createHash('sha256').update(Buffer.from(b64_json, 'base64')).digest('hex');
}

it('come whole in an event, although it is more than may wait for a reader otherwise', async () => {
  const events = await readEventStream(await ask({ stream: true }));
  expect(events.at(-1)?.event).toBe('result');
  expect(hashOf(JSON.parse(events.at(-1)!.data))).toBe(sha256);
});

it('are given again for the same Idempotency-Key, without being made again', async () => {
  const before = runs;
  for (let times = 0; times < 2; times++) {
    const response = await ask({}, { 'idempotency-key': 'large' });
    expect(response.status).toBe(200);
    expect(hashOf(await response.json())).toBe(sha256);
  }
  expect(runs).toBe(before + 1);
});
