// Workflows over HTTP: listed, checked, added, run as models and removed, against a ComfyUI that really listens.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readGraph } from '../support/comfyui-workflows.ts';
import { openFakeComfyUI, type FakeComfyUI } from '../support/fake-comfyui/index.ts';
import { openInProcess, post, type TestGateway } from '../support/gateway.ts';
import { makePicture } from '../support/media/pictures.ts';

const OWNER_KEY = 'the-key-of-the-owner';
const GUEST_KEY = 'the-key-of-a-guest-1';
const graph = readGraph('sdxl-txt2img');

let comfyui: FakeComfyUI;
let gateway: TestGateway;
let dir: string;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'hono-ai-workflows-'));
  comfyui = await openFakeComfyUI();
  gateway = await openInProcess({
    env: { HONO_AI_WORKFLOWS_DIR: dir, HONO_AI_API_KEY: OWNER_KEY, HONO_AI_CALLERS: `guest:${GUEST_KEY}` },
    runtimes: [{ name: 'comfyui', kind: 'comfyui', url: comfyui.url }],
  });
});
afterAll(async () => {
  await gateway.close();
  await comfyui.close();
  rmSync(dir, { recursive: true, force: true });
});

type Json = Record<string, any>;
async function ask(path: string, init: RequestInit = {}, key = OWNER_KEY): Promise<{ status: number; body: Json }> {
  const headers = { ...(init.headers as Record<string, string>), authorization: `Bearer ${key}` };
  const response = await gateway.request(path, { ...init, headers });
  return { status: response.status, body: (await response.json()) as Json };
}
const remove = (id: string, key = OWNER_KEY) => ask(`/workflows/${id}`, { method: 'DELETE' }, key);

describe('GET /workflows', () => {
  it('lists what is shipped, with state and model', async () => {
    const { status, body } = await ask('/workflows');
    expect(status).toBe(200);
    expect(body['data']).toContainEqual(
      expect.objectContaining({
        id: 'sdxl-inpaint',
        model: 'sdxl',
        capability: 'image.edit',
        state: 'ready',
        runtime: 'comfyui',
      }),
    );
    expect(body).toMatchObject({ object: 'list', has_more: false, next_cursor: null });
  });

  it('shows one: graph, binding, what goes where; and a guest may look', async () => {
    const { body } = await ask('/workflows/sdxl-inpaint', {}, GUEST_KEY);
    expect(body['graph']['mask']['inputs']['channel']).toBe('red');
    expect(body['binding']['needs']).toEqual(['mask']);
    expect(body['bound']).toContain('mask (file) → mask.image');
  });

  it.each(['nope', '..%2f..%2fetc%2fpasswd', '..%5cx', 'a%00b', 'x'.repeat(4000)])('%.20s is not there', async (id) => {
    expect((await ask(`/workflows/${id}`)).status).toBe(404);
  });
});

describe('a workflow of one’s own', () => {
  it('is added, is a model, runs, and goes', async () => {
    const added = await ask('/workflows', post({ id: 'mine', graph }));
    expect(added.status).toBe(201);
    expect(added.body).toMatchObject({ id: 'mine', origin: 'user', state: 'ready' });
    const { body: models } = await ask('/v1/models');
    expect((models['data'] as Json[]).map(({ id }) => id)).toContain('mine');
    const input = { prompt: 'a lighthouse', model: 'mine', size: '512x512', seed: 7, steps: 2 };
    const made = await ask('/image/gen', post(input));
    expect(made.status).toBe(200);
    expect(made.body).toMatchObject({ model: 'mine', runtime: 'comfyui', seed: 7, warnings: [] });
    expect(made.body['artifacts']).toMatchObject([{ media_type: 'image/png', media: { width: 512, height: 512 } }]);
    const sent = comfyui.prompts().at(-1)!.graph;
    expect([sent['pos']!.inputs['text'], sent['sample']!.inputs['steps']]).toEqual(['a lighthouse', 2]);
    expect((await remove('mine')).body).toEqual({ id: 'mine', object: 'workflow', deleted: true });
    expect((await ask('/workflows/mine')).status).toBe(404);
    expect((await ask('/image/gen', post({ prompt: 'x', model: 'mine' }))).status).toBe(404);
    expect(readdirSync(dir)).toEqual([]);
  });

  it('is refused with every problem of node and input, before anything is sent', async () => {
    const bad = structuredClone(graph);
    bad['sample']!.inputs['scheduler'] = 'karas';
    bad['latent']!.inputs['width'] = 1e6;
    const before = comfyui.prompts().length;
    const { status, body } = await ask('/workflows', post({ id: 'bad', graph: bad }));
    expect(status).toBe(400);
    expect(body['error']).toMatchObject({ code: 'invalid_request', param: 'graph', source: 'comfyui' });
    expect(body['error']['message']).toMatch(/latent \(EmptyLatentImage\) width: .*sample \(KSampler\) scheduler: /);
    const check = await ask('/workflows/validate', post({ graph: bad }));
    expect(check.body).toMatchObject({ ok: false, checked: true });
    expect(check.body['problems']).toContainEqual(
      expect.objectContaining({
        node: 'sample',
        class_type: 'KSampler',
        input: 'scheduler',
        hint: expect.stringContaining('karras'),
      }),
    );
    expect(comfyui.prompts()).toHaveLength(before);
  });

  it('may not be a program for the machine that runs it', async () => {
    const evil = { ...graph, x: { class_type: 'RunShellCommand', inputs: { command: 'id' } } };
    const { status, body } = await ask('/workflows', post({ id: 'evil', graph: evil }));
    expect([status, body['error']['code']]).toEqual([400, 'invalid_request']);
    expect(body['error']['message']).toContain('x (RunShellCommand)');
  });

  it.each(['../x', 'a/b', '.x', 'A', '', 'x'.repeat(65), 'x\0', 'c:x', '\\\\host\\x'])('%j is no id', async (id) => {
    const { status, body } = await ask('/workflows', post({ id, graph }));
    expect([status, body['error']['param']]).toEqual([400, 'id']);
    expect(readdirSync(dir)).toEqual([]);
  });

  it('is changed by the owner alone', async () => {
    for (const refused of [
      await ask('/workflows', post({ id: 'mine', graph }), GUEST_KEY),
      await remove('sdxl-txt2img', GUEST_KEY),
    ]) {
      expect(refused).toMatchObject({ status: 403, body: { error: { message: expect.stringContaining('owner') } } });
    }
    expect((await ask('/workflows/validate', post({ graph }), GUEST_KEY)).body['ok']).toBe(true);
  });

  it('conflicts with one that is there, and with what is shipped', async () => {
    await ask('/workflows', post({ id: 'twice', graph }));
    expect((await ask('/workflows', post({ id: 'twice', graph }))).body['error']['code']).toBe('conflict');
    expect((await ask('/workflows', post({ id: 'twice', graph, replace: true }))).status).toBe(201);
    await remove('twice');
    expect((await remove('sdxl-txt2img')).body['error']['code']).toBe('conflict');
    expect((await remove('twice')).status).toBe(404);
  });
});

it('the document describes the routes', async () => {
  const { body } = await ask('/openapi.json');
  expect(Object.keys(body['paths'] as object)).toEqual(
    expect.arrayContaining(['/workflows', '/workflows/validate', '/workflows/{id}']),
  );
});

it('a masked edit takes the inpaint graph; a workflow named as a model is the one that runs', async () => {
  const png = await makePicture({ width: 64, height: 64 });
  const image = `data:image/png;base64,${Buffer.from(png).toString('base64')}`;
  const masked = await ask(
    '/image/edit',
    post({ prompt: 'a door', model: 'sdxl', image: [image], mask: image, steps: 2 }),
  );
  expect(masked.body['error']).toBeUndefined();
  expect(comfyui.prompts().at(-1)!.graph).toHaveProperty('blend');
  const named = await ask('/image/edit', post({ prompt: 'a door', model: 'sdxl-img2img', image: [image], steps: 2 }));
  expect(named.status).toBe(200);
  expect(comfyui.prompts().at(-1)!.graph).toHaveProperty('fit');
});

it('says what to start where there is no ComfyUI', async () => {
  const alone = await openInProcess();
  try {
    const response = await alone.request('/workflows/sdxl-txt2img');
    expect(response.status).toBe(501);
    expect(await response.text()).toContain('HONO_AI_COMFYUI_URL');
    expect(await (await alone.request('/workflows')).json()).toMatchObject({ data: [] });
  } finally {
    await alone.close();
  }
});
