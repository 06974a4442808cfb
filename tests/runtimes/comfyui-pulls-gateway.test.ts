// A model of ComfyUI through a whole gateway: asked for, fetched as a job, and making pictures right after.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPullWorld, type PullWorld } from '../support/comfyui-pulls.ts';
import { openInProcess, post, type TestGateway } from '../support/gateway.ts';

/** Its file is small enough for the hub itself. */
const MODEL = 'sdxl-lightning';

let world: PullWorld;
let gateway: TestGateway;

beforeAll(async () => {
  world = await openPullWorld();
  gateway = await openInProcess({
    runtimes: [{ name: 'comfyui', kind: 'comfyui', url: world.fake.url }],
    env: {
      HONO_AI_EMBEDDED: 'false',
      HONO_AI_FIRST_BYTE_MS: '10000',
      HONO_AI_IDLE_MS: '10000',
      HONO_AI_MODEL_DIRS: `comfyui:${world.models}`,
      HF_ENDPOINT: world.hub.url,
    },
  });
});
afterAll(async () => {
  await gateway.close();
  await world.close();
});

const waiting = { prefer: 'wait=20' };
const ask = async (path: string, body: object) => {
  const response = await gateway.request(path, post(body, { headers: waiting }));
  return { status: response.status, body: await response.json() };
};

describe('a model of ComfyUI', () => {
  it('is fetched once for all who ask, and makes pictures then', async () => {
    const early = await ask('/image/gen', { prompt: 'a boat', model: MODEL });
    expect(early).toMatchObject({ status: 404, body: { error: { code: 'model_not_found' } } });
    const pulled = await Promise.all(Array.from({ length: 20 }, () => ask('/models/pull', { model: MODEL })));
    expect(new Set(pulled.map(({ status }) => status))).toEqual(new Set([200]));
    expect(pulled[0]!.body).toMatchObject({ model: MODEL, runtime: 'comfyui', files: [{ folder: 'checkpoints' }] });
    expect(world.fetched('sdxl_lightning_4step.safetensors')).toBe(1);
    const made = await ask('/image/gen', { prompt: 'a boat', model: MODEL });
    expect(made).toMatchObject({ status: 200, body: { model: MODEL, runtime: 'comfyui' } });
    expect(world.fake.executions()).toBe(1);
  });

  it('is told with its size, its licence and its memory', async () => {
    const response = await gateway.request(`/models/comfyui/${MODEL}`);
    expect(await response.json()).toMatchObject({
      size: expect.any(Number),
      license: 'OpenRAIL++-M',
      vram: { bytes: expect.any(Number) },
    });
  });

  it('leaves memory before it is deleted', async () => {
    const response = await gateway.request(`/models/comfyui/${MODEL}`, { method: 'DELETE' });
    expect(response.status).toBe(200);
    expect(world.fake.frees()).toHaveLength(1);
    expect(world.files()).toEqual([]);
  });
});
