// The shipped ComfyUI workflows: they fit a real server, every parameter lands in its node, and what cannot be is told.
import { readdirSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { extentOf } from '../../src/models/extent.ts';
import { openWorkflows } from '../../adapters/runtimes/comfyui/shelf.ts';
import type { Graph, ObjectInfo } from '../../adapters/runtimes/comfyui/workflow.ts';
import { validateGraph } from '../../adapters/runtimes/comfyui/validate.ts';
import type { CapabilityId } from '../../src/capabilities/index.ts';
import type { Model } from '../../src/runtime.ts';
import { bind, MORE, SHIPPED, toInfo } from '../support/comfyui-workflows.ts';

const picture = 'a.png';
const at = (graph: Graph, place: string): unknown => {
  const [node, input] = place.split('.') as [string, string];
  return graph[node]?.inputs[input];
};

describe('the shipped workflows', () => {
  let models: Model[];
  const find = (id: string) => models.find((model) => model.id === id)!;
  beforeAll(async () => {
    models = await openWorkflows({ source: 'comfyui' }).models(toInfo());
  });

  it('all fit the recorded server, with nothing to be said about them', async () => {
    const desk = openWorkflows({ source: 'comfyui' }).desk(async () => toInfo());
    const listed = await desk.list(AbortSignal.timeout(5000));
    const files = readdirSync(SHIPPED).filter((name) => !name.endsWith('.binding.json'));
    expect(listed.map(({ id }) => `${id}.json`)).toEqual(files.toSorted());
    expect(listed.filter(({ state }) => state !== 'ready')).toEqual([]);
    for (const { id } of listed) {
      const { graph, binding } = await desk.get(id, AbortSignal.timeout(5000));
      const check = await desk.check({ graph: graph!, binding: binding! }, AbortSignal.timeout(5000));
      expect({ id, ...check }).toMatchObject({ id, ok: true, problems: [] });
    }
  });

  it('are models, with abilities that are known', () => {
    const told = Object.fromEntries(models.map(({ id, capabilities }) => [id, capabilities.toSorted()]));
    expect(told).toEqual({
      sdxl: ['image.edit', 'image.generate', 'image.vary'],
      'sdxl-lightning': ['image.generate'],
      'sdxl-lightning-lora': ['image.generate'],
      'qwen-image-edit': ['image.edit'],
      upscale: ['image.upscale'],
      animatediff: ['video.generate'],
      ltxv: ['video.generate'],
      'wan22-5b': ['video.generate'],
      'ace-step': ['music.generate'],
      'ace-step-1.5': ['music.generate'],
    });
    expect(models.every(({ state, vision }) => state === 'ready' && vision === false)).toBe(true);
    expect(models.filter(({ mask }) => mask).map(({ id }) => id)).toEqual(['sdxl']);
    expect(models.filter(({ animate }) => animate).map(({ id }) => id)).toEqual(['wan22-5b']);
    expect(find('sdxl').aliases).toContain('sdxl-inpaint');
  });

  it.each([
    ['image.generate', 'sdxl-lightning'],
    ['image.edit', 'sdxl'],
    ['image.vary', 'sdxl'],
    ['video.generate', 'animatediff'],
    ['music.generate', 'ace-step-1.5'],
  ] as [CapabilityId, string][])('are ranked: %s is %s by default', (capability, id) => {
    const able = models.filter((model) => model.capabilities.includes(capability));
    expect(able.toSorted((a, b) => b.rank! - a.rank!)[0]!.id).toBe(id);
  });

  it('are only available where the server lacks a file or a class, with the command that gets it', async () => {
    const info = toInfo();
    info['CheckpointLoaderSimple']!.input!.required!['ckpt_name'] = [['other.safetensors'], {}];
    delete info['VHS_VideoCombine'];
    const workflows = openWorkflows({ source: 'comfyui' });
    models = await workflows.models(info);
    expect([find('sdxl').state, find('animatediff').state, find('wan22-5b').state]).toEqual([
      'available',
      'available',
      'ready',
    ]);
    expect(workflows.pullHint('sdxl')).toMatch(
      /^To get it: comfy model download --url https:\S+ --relative-path models\/checkpoints --filename sd_xl_base_1.0.safetensors$/,
    );
    expect(workflows.pullHint('animatediff')).toContain('comfy node install comfyui-videohelpersuite');
    expect(workflows.pullHint('wan22-5b')).toBeUndefined();
  });

  it('tell what they make where a request does not say', async () => {
    models = await openWorkflows({ source: 'comfyui' }).models(toInfo());
    const { usual } = find('sdxl');
    expect(usual).toMatchObject({
      'image.generate': { width: 1024, height: 1024, steps: expect.any(Number) },
      'image.edit': { steps: expect.any(Number) },
    });
    // As large as the picture that it is made from.
    expect(usual!['image.edit']).not.toHaveProperty('width');
    expect(find('animatediff').usual!['video.generate']).toMatchObject({
      frames: 16,
      fps: expect.any(Number),
      batch: 1,
    });
    expect(extentOf('image.generate', { n: 2 }, find('sdxl'))).toBe(2 * 1024 ** 2);
    expect(find('ace-step').usual!['music.generate']!.seconds).toBeGreaterThan(1);
  });

  it('estimate the memory they need', () => {
    const workflows = openWorkflows({ source: 'comfyui' });
    expect(workflows.footprint('sdxl')).toBe(9 * 1024 ** 3);
    expect(workflows.footprint('nobody')).toBeGreaterThan(0);
  });
});

describe('every parameter lands in its node', () => {
  const prompt = 'a red door';
  const video = { prompt };
  it.each<[string, CapabilityId, Record<string, unknown>, Record<string, unknown>]>([
    [
      'sdxl',
      'image.generate',
      {
        prompt,
        negative_prompt: 'blue',
        size: '1152x896',
        n: 3,
        num_inference_steps: 12,
        guidance_scale: 4.5,
        seed: 42,
        sampler: 'euler',
        scheduler: 'normal',
      },
      {
        'pos.text': prompt,
        'neg.text': 'blue',
        'latent.width': 1152,
        'latent.height': 896,
        'latent.batch_size': 3,
        'sample.steps': 12,
        'sample.cfg': 4.5,
        'sample.seed': 42,
        'sample.sampler_name': 'euler',
        'sample.scheduler': 'normal',
        'save.filename_prefix': 'hono-ai/test',
      },
    ],
    [
      'sdxl',
      'image.generate',
      { prompt },
      {
        'neg.text': 'blurry, low quality, watermark',
        'latent.width': 1024,
        'sample.steps': 25,
        'latent.batch_size': 1,
      },
    ],
    [
      'sdxl',
      'image.edit',
      { prompt, image: [picture], strength: 0.3, size: '768x512', n: 2 },
      {
        'image.image': 'hono-ai/image0.png',
        'sample.denoise': 0.3,
        'fit.width': 768,
        'fit.height': 512,
        'repeat.amount': 2,
        'sample.latent_image': ['repeat', 0],
        'fit.megapixels': undefined,
      },
    ],
    ['sdxl', 'image.edit', { prompt, image: [picture] }, { 'sample.denoise': 0.6, 'fit.megapixels': 1 }],
    [
      'sdxl',
      'image.edit',
      { prompt, image: [picture], mask: picture, n: 2 },
      {
        'mask.image': 'hono-ai/mask0.png',
        'mask.channel': 'red',
        'sample.denoise': 0.9,
        'repeat.amount': 2,
        'copies.amount': 2,
        'blend.destination': ['copies', 0],
      },
    ],
    ['sdxl', 'image.vary', { image: picture }, { 'sample.denoise': 0.75, 'pos.text': '' }],
    [
      'sdxl-lightning',
      'image.generate',
      { prompt, width: 832, height: 1216 },
      { 'latent.width': 832, 'latent.height': 1216, 'sample.steps': 4, 'sample.cfg': 1 },
    ],
    [
      'qwen-image-edit',
      'image.edit',
      { prompt, image: [picture, picture, picture] },
      {
        'pos.prompt': prompt,
        'image2.image': 'hono-ai/image1.png',
        'image3.image': 'hono-ai/image2.png',
        'pos.image3': ['image3', 0],
        'neg.image2': ['image2', 0],
        'sample.steps': 4,
        'sample.cfg': 1,
        'fast.strength_model': 1,
      },
    ],
    [
      'qwen-image-edit',
      'image.edit',
      { prompt, image: [picture], num_inference_steps: 20, negative_prompt: 'x' },
      { 'sample.steps': 20, 'sample.cfg': 4, 'fast.strength_model': 0, 'neg.prompt': 'x', 'pos.image2': undefined },
    ],
    [
      'qwen-image-edit',
      'image.edit',
      { prompt, image: [picture], num_inference_steps: 20, true_cfg_scale: 2.5, guidance_scale: 9 },
      { 'sample.cfg': 2.5 },
    ],
    [
      'animatediff',
      'video.generate',
      { ...video, frames: 24, fps: 12, motion: 1.3, format: 'gif', size: '512x768' },
      {
        'latent.batch_size': 24,
        'latent.height': 768,
        'video.frame_rate': 12,
        'video.format': 'image/gif',
        'amount.float_val': 1.3,
        'apply.scale_multival': ['amount', 0],
      },
    ],
    ['animatediff', 'video.generate', { ...video, seconds: 3 }, { 'latent.batch_size': 24, 'video.frame_rate': 8 }],
    ['animatediff', 'video.generate', { ...video, format: 'webm' }, { 'video.format': 'video/webm' }],
    [
      'ltxv',
      'video.generate',
      { ...video, seconds: 2, steps: 6, seed: 7 },
      { 'latent.length': 49, 'sig.steps': 6, 'sample.noise_seed': 7, 'cond.frame_rate': 25 },
    ],
    ['ltxv', 'video.generate', { ...video, fps: 30 }, { 'cond.frame_rate': 30, 'clipv.fps': 30 }],
    [
      'wan22-5b',
      'video.generate',
      { ...video, image: picture, frames: 81 },
      { 'start.image': 'hono-ai/image0.png', 'latent.start_image': ['start', 0], 'latent.length': 81 },
    ],
    [
      'wan22-5b',
      'video.generate',
      { ...video, format: 'webm' },
      { 'latent.start_image': undefined, 'save.codec': 'vp9', 'save.images': ['decode', 0] },
    ],
    [
      'ace-step',
      'music.generate',
      { prompt: 'jazz', seconds: 30, bpm: 90, key: 'E minor', lyrics: 'la la', seed: 5 },
      { 'text.tags': 'jazz, 90 bpm, E minor', 'text.lyrics': 'la la', 'latent.seconds': 30, 'sample.seed': 5 },
    ],
    [
      'ace-step-1.5',
      'music.generate',
      { prompt: 'jazz', seconds: 45, bpm: 90, key: 'e MINOR', time_signature: '3', language: 'de', seed: 5 },
      {
        'text.tags': 'jazz',
        'text.bpm': 90,
        'text.keyscale': 'E minor',
        'text.timesignature': '3',
        'text.language': 'de',
        'text.duration': 45,
        'latent.seconds': 45,
        'text.seed': 5,
        'sample.seed': 5,
        'text.lyrics': '[instrumental]',
        'save.quality': 'V0',
      },
    ],
    [
      'upscale',
      'image.upscale',
      { image: picture, scale: 2 },
      { 'resize.scale_by': 0.5, 'save.images': ['resize', 0] },
    ],
    ['upscale', 'image.upscale', { image: picture }, { 'save.images': ['up', 0], 'resize.scale_by': undefined }],
  ])('%s %s %j', async (model, capability, input, expected) => {
    const info = toInfo(MORE);
    const { graph, warnings } = await bind(model, capability, input, { info });
    const found = Object.fromEntries(Object.keys(expected).map((place) => [place, at(graph, place)]));
    expect(found).toEqual(expected);
    expect(warnings).toEqual([]);
    const uploaded = new Set(['image', 'image2', 'image3', 'start', 'mask'].map((node) => `${node}.image`));
    expect(validateGraph(graph, info, { bound: uploaded })).toEqual([]);
  });

  it.each([
    ['mp3', 'SaveAudioMP3'],
    ['flac', 'SaveAudio'],
    ['wav', 'SaveAudio'],
    ['ogg', 'SaveAudioOpus'],
  ])('music as %s is saved by %s', async (format, saver) => {
    const { graph, warnings } = await bind('ace-step-1.5', 'music.generate', { prompt: 'jazz', format });
    expect(graph['save']).toMatchObject({ class_type: saver, inputs: { filename_prefix: 'hono-ai/test' } });
    expect(warnings).toEqual([]);
    const older = await bind('ace-step-1.5', 'music.generate', { prompt: 'jazz', format }, { info: toInfo() });
    expect(older.graph['save']!.class_type).toBe(format === 'ogg' ? 'SaveAudio' : saver);
  });

  it('gives every request a seed of its own, tells it, and changes no shipped graph', async () => {
    const first = await bind('sdxl', 'image.generate', { prompt });
    const second = await bind('sdxl', 'image.generate', { prompt });
    expect(first.seed).toBe(at(first.graph, 'sample.seed'));
    expect(Number.isSafeInteger(first.seed)).toBe(true);
    expect(first.seed).not.toBe(second.seed);
    expect((await bind('sdxl', 'image.generate', { prompt, seed: 0 })).seed).toBe(0);
  });
});

describe('what cannot be done is told', () => {
  const prompt = 'x';
  it.each<[string, CapabilityId, Record<string, unknown>, RegExp]>([
    [
      'sdxl-lightning',
      'image.generate',
      { prompt, steps: 30 },
      /^sdxl-lightning-txt2img has no steps: it was left out\.$/,
    ],
    ['sdxl-lightning', 'image.generate', { prompt, guidance_scale: 3 }, /no guidance_scale/],
    ['sdxl-lightning', 'image.generate', { prompt, negative_prompt: 'y' }, /no negative_prompt/],
    ['sdxl', 'image.generate', { prompt, size: '1001x1000' }, /size in multiples of 8: 1001 became 1000/],
    ['sdxl', 'image.edit', { prompt, image: [picture], mask: picture, size: '512x512' }, /no size/],
    ['sdxl', 'image.edit', { prompt, image: [picture, picture] }, /takes 1 of 2 files in image/],
    ['wan22-5b', 'video.generate', { prompt, frames: 50 }, /multiples of 4 and 1 more: 50 became 49/],
    ['wan22-5b', 'video.generate', { prompt, motion: 1.2 }, /no motion/],
    ['animatediff', 'video.generate', { prompt, frames: 16, seconds: 9 }, /frames and seconds; frames counted/],
    ['ace-step', 'music.generate', { prompt, language: 'de' }, /no language/],
    ['animatediff', 'video.generate', { prompt, size: '720x1280', fit: true }, /720x1280: 576x1024 instead/],
    ['animatediff', 'video.generate', { prompt, size: '1792x1024', fit: true }, /1792x1024: 1024x585 instead/],
    ['sdxl', 'image.generate', { prompt, size: '128x96', fit: true }, /128x96: 341x256 instead/],
    ['wan22-5b', 'video.generate', { prompt, seconds: 60, fit: true }, /1440 frames: 241 instead/],
  ])('%s %s %j as a warning', async (model, capability, input, warning) => {
    const { warnings } = await bind(model, capability, input);
    // What was brought to the nearest may still have to be rounded.
    expect(warnings.filter((told) => !input['fit'] || !told.includes('became'))).toHaveLength(1);
    expect(warnings[0]).toMatch(warning);
  });

  it('takes what fits as it is, although anything near would do', async () => {
    const { warnings, graph } = await bind('sdxl', 'image.generate', { prompt, size: '1216x832', fit: true });
    expect(warnings).toEqual([]);
    expect(graph['latent']!.inputs).toMatchObject({ width: 1216, height: 832 });
  });

  it('warns where the server lacks the class that a parameter needs', async () => {
    const input = { prompt, motion: 1.5 };
    const { graph, warnings } = await bind('animatediff', 'video.generate', input, { info: toInfo() });
    expect(warnings).toEqual([
      'animatediff-txt2video has no motion here: the server has no node class ADE_MultivalDynamic, which comfyui-animatediff-evolved brings.',
    ]);
    expect(at(graph, 'apply.scale_multival')).toBeUndefined();
  });

  it.each<[string, CapabilityId, Record<string, unknown>, string, RegExp]>([
    ['sdxl', 'image.generate', { prompt, sampler: 'dpm_2m' }, 'sampler', /Near it: .*dpmpp_2m/],
    ['sdxl', 'image.generate', { prompt, scheduler: 'zzzzzzzzz' }, 'scheduler', /There are: simple/],
    ['sdxl', 'image.generate', { prompt, num_inference_steps: 101 }, 'num_inference_steps', /steps from 1 to 100/],
    ['sdxl', 'image.generate', { prompt, guidance_scale: 31 }, 'guidance_scale', /from 0 to 30/],
    ['sdxl', 'image.generate', { prompt, size: '4096x64' }, 'size', /sides from 256 to 2048/],
    ['sdxl', 'image.generate', { prompt, width: 64, height: 512 }, 'width', /sides from 256 to 2048/],
    ['animatediff', 'video.generate', { prompt, seconds: 600 }, 'seconds', /frames from 8 to 256/],
    ['ace-step-1.5', 'music.generate', { prompt, bpm: 400 }, 'bpm', /bpm from 10 to 300/],
    ['ace-step-1.5', 'music.generate', { prompt, key: 'H minor' }, 'key', /Near it: .*minor/],
    ['sdxl', 'image.generate', { prompt, loras: ['nope'] }, 'loras.0', /no LoRA “nope”/],
  ])('%s %s %j as invalid_request', async (model, capability, input, param, told) => {
    const failure = await bind(model, capability, input).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'invalid_request', param, source: 'comfyui' });
    const { message, hint = '' } = failure as { message: string; hint?: string };
    expect(`${message} ${hint}`).toMatch(told);
  });

  it('a missing checkpoint as model_not_found with the command, a missing class as not_supported', async () => {
    const info = toInfo();
    info['CheckpointLoaderSimple']!.input!.required!['ckpt_name'] = [[], {}];
    await expect(bind('sdxl', 'image.generate', { prompt }, { info })).rejects.toMatchObject({
      code: 'model_not_found',
      message: 'ComfyUI lacks files of sdxl: “sd_xl_base_1.0.safetensors”.',
      hint: 'To get it: hono-ai models pull sdxl (POST /models/pull)',
    });
    const { ADE_UseEvolvedSampling: _, ...without } = toInfo();
    await expect(bind('animatediff', 'video.generate', { prompt }, { info: without })).rejects.toMatchObject({
      code: 'not_supported',
      message: expect.stringContaining('ADE_UseEvolvedSampling') as string,
      hint: expect.stringContaining('comfyui-animatediff-evolved') as string,
    });
  });

  it('what no workflow of the model does, with what does it', async () => {
    const masked = bind('qwen-image-edit', 'image.edit', { prompt, image: [picture], mask: picture });
    await expect(masked).rejects.toMatchObject({
      code: 'not_supported',
      message: 'qwen-image-edit does not offer image.edit with a mask.',
      hint: 'Models that do: sdxl.',
    });
    const still = bind('animatediff', 'video.generate', { prompt, image: picture });
    await expect(still).rejects.toMatchObject({ hint: 'Models that do: wan22-5b.' });
  });
});

describe('choosing', () => {
  const choose = async (model: string, capability: CapabilityId, input: object) =>
    (await openWorkflows({ source: 'comfyui' }).choose(model, capability, input)).id;

  it('takes the workflow that the request is for', async () => {
    expect(await choose('sdxl', 'image.edit', { image: ['a'] })).toBe('sdxl-img2img');
    expect(await choose('sdxl', 'image.edit', { image: ['a'], mask: 'b' })).toBe('sdxl-inpaint');
    expect(await choose('sdxl', 'image.generate', {})).toBe('sdxl-txt2img');
  });

  it('takes exactly the one that the caller named as a model', async () => {
    const masked = { model: 'comfyui/sdxl-img2img', image: ['a'], mask: 'b' };
    await expect(choose('sdxl', 'image.edit', masked)).rejects.toMatchObject({
      code: 'not_supported',
      message: 'sdxl-img2img does not offer image.edit with a mask.',
    });
    expect(await choose('sdxl', 'image.edit', { model: 'sdxl-inpaint', image: ['a'], mask: 'b' })).toBe('sdxl-inpaint');
  });
});

describe('LoRAs', () => {
  const [one, two] = ['sdxl_lightning_4step_lora', 'Qwen-Image-Edit-2509-Lightning-4steps-V1.0-bf16.safetensors'];

  it('are loaded one after the other between the model and whatever takes it', async () => {
    const input = { prompt: 'x', loras: [one, { name: two, strength: 0.5 }] };
    const { graph } = await bind('sdxl', 'image.generate', input);
    expect(graph['lora-1']).toEqual({
      class_type: 'LoraLoader',
      inputs: {
        model: ['ckpt', 0],
        clip: ['ckpt', 1],
        lora_name: `${one}.safetensors`,
        strength_model: 1,
        strength_clip: 1,
      },
    });
    expect(graph['lora-2']!.inputs).toMatchObject({ model: ['lora-1', 0], clip: ['lora-1', 1], strength_clip: 0.5 });
    expect(graph['sample']!.inputs['model']).toEqual(['lora-2', 0]);
    expect(graph['pos']!.inputs['clip']).toEqual(['lora-2', 1]);
    expect(graph['decode']!.inputs['vae']).toEqual(['ckpt', 2]);
    expect(validateGraph(graph, toInfo())).toEqual([]);
  });

  it('follow the LoRA of the graph itself, and change only the model where there is no CLIP', async () => {
    const lightning = await bind('sdxl-lightning-lora', 'image.generate', { prompt: 'x', loras: [one] });
    expect(lightning.graph['lora-1']!.inputs['model']).toEqual(['lora', 0]);
    expect(lightning.graph['sample']!.inputs['model']).toEqual(['lora-1', 0]);
    expect(lightning.graph['lora']!.inputs['model']).toEqual(['ckpt', 0]);
    const qwen = await bind('qwen-image-edit', 'image.edit', { prompt: 'x', image: [picture], loras: [two] });
    expect(qwen.graph['lora-1']!.class_type).toBe('LoraLoaderModelOnly');
    expect(qwen.graph['shift']!.inputs['model']).toEqual(['lora-1', 0]);
  });

  const climbing = ['../x', '..\\x', '/etc/passwd', 'C:\\x', 'a/../../x', '\\\\host\\x', 'x\0y', 'x'.repeat(256), ''];
  it.each(climbing)('never name a place: %j', async (name) => {
    await expect(bind('sdxl', 'image.generate', { prompt: 'x', loras: [name] })).rejects.toThrow();
  });
});

describe('servers', () => {
  it('that keep files in folders of their own are understood', async () => {
    const info = toInfo();
    const listed = ['SDXL\\sd_xl_base_1.0.safetensors', 'sd15/v1-5-pruned-emaonly.safetensors'];
    info['CheckpointLoaderSimple']!.input!.required!['ckpt_name'] = [listed, {}];
    const { graph } = await bind('sdxl', 'image.generate', { prompt: 'x' }, { info });
    expect(graph['ckpt']!.inputs['ckpt_name']).toBe('SDXL\\sd_xl_base_1.0.safetensors');
  });

  it('that need more inputs than the graph has get their own defaults', async () => {
    const info: ObjectInfo = toInfo();
    info['VAEDecode']!.input!.required!['tiled'] = ['BOOLEAN', { default: false }];
    const { graph } = await bind('sdxl', 'image.generate', { prompt: 'x' }, { info });
    expect(graph['decode']!.inputs['tiled']).toBe(false);
  });
});
