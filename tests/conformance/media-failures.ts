// What every host must keep where pictures, films and music cannot be made: a clear error, nothing lost, the card free.
import { expect, it } from 'vitest';
import { eventually, refusal } from '../support/media-gateway.ts';
import {
  activeSvg,
  makeAnimation,
  makePicture,
  onePixel,
  pixelBomb,
  plainText,
  truncatedPng,
} from '../support/media/index.ts';
import type { Get } from './media.ts';

const SDXL = { model: 'sdxl', prompt: 'a red fox', size: '256x256' };

/** Two colours by turns, many times. */
const FRAMES = Array.from({ length: 600 }, (_, index): [number, number, number] => [index % 2 ? 250 : 10, 10, 250]);

export function testMediaFailures(get: Get): void {
  it.each([
    ['a size that is none', '/image/gen', { size: '0x0' }, 'invalid_request', /size/],
    ['half a size', '/image/gen', { size: undefined, width: 512 }, 'invalid_request', /height/],
    ['a size beyond the model', '/image/gen', { size: '16000x16000' }, 'invalid_request', /size|width/],
    ['an unknown sampler', '/image/gen', { sampler: 'eulr' }, 'invalid_request', /sampler.*euler/s],
    ['a LoRA that climbs', '/image/gen', { loras: ['../../etc/passwd'] }, 'invalid_request', /loras/],
    ['an unknown LoRA', '/image/gen', { loras: ['no-such.safetensors'] }, 'invalid_request', /no-such\.safetensors/],
    ['a steps of none', '/image/gen', { steps: 0 }, 'invalid_request', /steps/],
    ['an unknown model', '/image/gen', { model: 'sdxk' }, 'model_not_found', /sdxl/],
    ['a model that makes no music', '/music/gen', {}, 'not_supported', /ace-step/],
    [
      'a model that takes no mask',
      '/image/edit',
      { model: 'qwen-image-edit', image: 'PIC', mask: 'PIC' },
      'not_supported',
      /mask.*sdxl/s,
    ],
    ['a picture that is SVG', '/image/edit', { image: 'SVG' }, 'invalid_request', /svg/],
    ['a picture that is text', '/image/edit', { image: 'TEXT' }, 'invalid_request', /text/],
    ['a picture of 50,000 by 50,000', '/image/edit', { image: 'HUGE' }, 'invalid_request', /50000x50000/],
    ['a picture cut off', '/image/edit', { image: 'CUT' }, 'invalid_request', /damaged/],
    ['a picture of one pixel', '/image/edit', { image: 'DOT' }, 'invalid_request', /1x1/],
    ['a mask of another size', '/image/edit', { image: 'PIC', mask: 'WIDE' }, 'invalid_request', /mask/],
    ['a picture from elsewhere', '/image/edit', { image: 'http://127.0.0.1:1/a.png' }, 'invalid_request', /fetch/],
    ['a file of somebody else', '/image/edit', { image: `art_${'0'.repeat(32)}` }, 'not_found', /no such/i],
  ] as const)('refuses %s', async (_, path, body, code, text) => {
    const { ask, comfyui } = get();
    const before = comfyui.executions();
    const filled = Object.entries(body as Record<string, unknown>).map(async ([name, value]) => [
      name,
      typeof value === 'string' && /^[A-Z]+$/.test(value) ? await picture(value) : value,
    ]);
    const response = await ask(path, { ...SDXL, ...Object.fromEntries(await Promise.all(filled)) });
    const refused = await refusal(response);
    expect(refused).toMatchObject({ code });
    expect(refused.text).toMatch(text);
    expect(comfyui.executions()).toBe(before);
  });

  it('takes the first picture of one that moves, however long it is', async () => {
    const answer = await get().make('/image/edit', { ...SDXL, image: await picture('MOVES') });
    expect(answer.artifacts).toHaveLength(1);
  });

  it('says which file is missing, and how to get it', async () => {
    const { ask, comfyui } = get();
    comfyui.removeModelFile('sd_xl_base_1.0.safetensors');
    try {
      const refused = await refusal(await ask('/image/gen', { ...SDXL, seed: 5001 }));
      expect(['model_not_found', 'model_unavailable']).toContain(refused.code);
      expect(refused.text).toContain('sd_xl_base_1.0.safetensors');
    } finally {
      comfyui.addModelFile('checkpoints', 'sd_xl_base_1.0.safetensors');
    }
  });

  it('tries once more where the card had no room, and then says so', async () => {
    const { ask, make, comfyui } = get();
    comfyui.failNext('oom');
    const frees = comfyui.frees().length;
    expect((await make('/image/gen', SDXL)).artifacts).toHaveLength(1);
    expect(comfyui.frees().length).toBeGreaterThan(frees);
    comfyui.failNext('oom-twice');
    const refused = await refusal(await ask('/image/gen', { ...SDXL, job: { max_attempts: 1 } }));
    expect(refused).toMatchObject({ status: 503, code: 'insufficient_vram' });
    await eventually(() => expect(comfyui.running()).toBeUndefined());
  });

  it('says what a node says where it fails', async () => {
    const { ask, comfyui } = get();
    comfyui.failNext('error');
    const refused = await refusal(await ask('/image/gen', SDXL));
    expect(refused.code).toBe('upstream_error');
    expect(refused.text).not.toMatch(/Traceback|\/[a-z]+\/.*\.py/);
  });

  it('finishes in a second attempt what a restart of ComfyUI took away', async () => {
    const { ask, gateway, comfyui } = get();
    comfyui.hold('sampling');
    const response = await ask('/image/gen', { ...SDXL, seed: 5002 }, { prefer: 'respond-async' });
    const { id } = (await response.json()) as { id: string };
    await comfyui.held();
    const prompts = comfyui.prompts().length;
    const restarted = comfyui.restart();
    comfyui.release();
    await restarted;
    const job = await eventually(async () => {
      const view = (await (await gateway.request(`/jobs/${id}`)).json()) as {
        state: string;
        attempts: number;
        artifacts: unknown[];
      };
      expect(view.state).toBe('done');
      return view;
    }, 20_000);
    expect(job).toMatchObject({ attempts: 2 });
    expect(job.artifacts).toHaveLength(1);
    expect(comfyui.prompts().length).toBe(prompts + 1);
  });

  it('goes on where only the socket is lost', async () => {
    const { ask, comfyui } = get();
    comfyui.hold('sampling');
    const asked = ask('/image/gen', { ...SDXL, seed: 5003 });
    await comfyui.held();
    const prompts = comfyui.prompts().length;
    comfyui.dropSockets();
    comfyui.release();
    const response = await asked;
    expect(response.status, await response.text()).toBe(200);
    expect(comfyui.prompts().length).toBe(prompts);
  });

  it('says at once that ComfyUI is down to whoever waits, and how to start it', async () => {
    const { ask, comfyui } = get();
    const restarted = comfyui.restart({ downMs: 2500 });
    const refused = await refusal(await ask('/image/gen', { ...SDXL, seed: 5004 }));
    expect(refused).toMatchObject({ status: 502, code: 'upstream_unavailable' });
    await restarted;
    await eventually(async () => expect((await ask('/image/gen', { ...SDXL, seed: 5005 })).status).toBe(200), 15_000);
  });
}

async function picture(kind: string): Promise<string> {
  const bytes = await toBytes(kind);
  return `data:image/png;base64,${Buffer.from(bytes).toString('base64')}`;
}

async function toBytes(kind: string): Promise<Uint8Array> {
  if (kind === 'PIC') return makePicture({ width: 256, height: 256, colour: [20, 40, 200] });
  if (kind === 'WIDE') return makePicture({ width: 256, height: 128, colour: [255, 255, 255] });
  if (kind === 'DOT') return onePixel();
  if (kind === 'SVG') return activeSvg();
  if (kind === 'TEXT') return plainText();
  if (kind === 'HUGE') return pixelBomb();
  if (kind === 'MOVES') return makeAnimation('gif', { width: 64, height: 64, fps: 10, frames: FRAMES });
  return truncatedPng();
}
