// Workflows of the user's own: bindings that are found in the graph, and a folder that is read again when it changes.
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Binding } from '../../adapters/runtimes/comfyui/binding.ts';
import { inferBinding } from '../../adapters/runtimes/comfyui/infer.ts';
import { openWorkflows } from '../../adapters/runtimes/comfyui/shelf.ts';
import { GatewayError } from '../../src/error.ts';
import { workflowInput, type WorkflowDesk } from '../../src/workflows.ts';
import { bind, readGraph, SHIPPED, toInfo } from '../support/comfyui-workflows.ts';

const { signal } = new AbortController();

describe('a graph without a binding', () => {
  const places = (binding: Binding) =>
    Object.fromEntries(
      Object.entries(binding.params).map(([name, list]) => [
        name,
        list.map(({ node, input }) => `${node}.${input}`).toSorted(),
      ]),
    );
  /** Places that stand in the graph as it is, and are no more than a value. */
  const plain = (shipped: Binding, graph: object): Binding => ({
    ...shipped,
    params: Object.fromEntries(
      Object.entries(shipped.params).flatMap(([name, list]) => {
        const own = list.filter((each) => !each.with && !each.append && each.value === undefined && each.node in graph);
        return own.length > 0 ? [[name, own]] : [];
      }),
    ),
  });
  /** Kept fixed on purpose in what is shipped, though the graph has them. */
  const fixed: Record<string, string[]> = {
    'sdxl-lightning-txt2img': ['steps', 'guidance', 'negative_prompt'],
    'sdxl-lightning-lora-txt2img': ['steps', 'guidance', 'negative_prompt'],
    'ltxv-video': ['guidance', 'negative_prompt'],
    'qwen-image-edit': ['strength'],
    'ace-step-music': ['sampler', 'scheduler'],
    'ace-step-1.5-music': ['sampler', 'scheduler'],
  };
  const ids = readdirSync(SHIPPED)
    .filter((name) => !name.endsWith('.binding.json'))
    .map((name) => name.slice(0, -'.json'.length));

  it.each(ids)('%s: the same is found as the shipped binding says', async (id) => {
    const graph = readGraph(id);
    const desk = openWorkflows({ source: 'comfyui' }).desk(async () => toInfo());
    const { binding: shipped } = (await desk.get(id, signal)) as unknown as { binding: Binding };
    const capability = id === 'sdxl-vary' ? 'image.vary' : undefined;
    const { binding: found } = inferBinding(graph, capability);
    expect(found).toMatchObject({ capability: shipped.capability, outputs: shipped.outputs });
    const own = places(found!);
    for (const name of fixed[id] ?? []) delete own[name];
    expect(own).toEqual(places(plain({ ...shipped, params: shipped.params ?? {} }, graph)));
    const files = (binding: Binding) =>
      Object.entries(binding.files ?? {}).flatMap(([name, list]) =>
        list.filter((place) => !place.with).map(({ node, input }) => `${name} ${node}.${input}`),
      );
    expect(files(found!)).toEqual(files(shipped));
    if (shipped.params?.frames && found!.params.frames) {
      const step = ({ params }: Binding) => [params.frames![0]!.step, params.frames![0]!.offset];
      expect(step(found!)).toEqual(step(shipped));
    }
  });

  it('is followed through guiders, and through nodes that only pass a text on', () => {
    const graph = {
      1: { class_type: 'PrimitiveStringMultiline', inputs: { value: 'a cat' } },
      2: { class_type: 'CLIPTextEncode', inputs: { text: ['1', 0], clip: ['9', 0] } },
      3: { class_type: 'FluxGuidance', inputs: { conditioning: ['2', 0], guidance: 3.5 } },
      4: { class_type: 'BasicGuider', inputs: { model: ['8', 0], conditioning: ['3', 0] } },
      5: { class_type: 'RandomNoise', inputs: { noise_seed: 1 } },
      6: { class_type: 'SamplerCustomAdvanced', inputs: { noise: ['5', 0], guider: ['4', 0], latent_image: ['7', 0] } },
      7: { class_type: 'EmptySD3LatentImage', inputs: { width: 1024, height: 1024, batch_size: 1 } },
      8: { class_type: 'UNETLoader', inputs: { unet_name: 'flux1-dev.safetensors', weight_dtype: 'default' } },
      10: { class_type: 'SaveImage', inputs: { images: ['11', 0], filename_prefix: 'x' } },
    };
    const { binding } = inferBinding(graph);
    expect(places(binding!)).toMatchObject({ prompt: ['1.value'], seed: ['5.noise_seed'], width: ['7.width'] });
    expect(binding!.params).not.toHaveProperty('negative_prompt');
    expect(binding!.loras).toEqual({ model: { node: '8', output: 0 } });
  });

  it('says what is not to be seen in it', () => {
    const noResult = inferBinding({ 1: { class_type: 'CLIPTextEncode', inputs: { text: 'x' } } });
    expect(noResult.problems[0]!.message).toContain('what comes out');
    const noText = inferBinding({ 1: { class_type: 'SaveImage', inputs: {} } });
    expect(noText.problems[0]!.message).toContain('No text was found');
  });
});

describe('the folder', () => {
  let dir: string;
  let desk: WorkflowDesk;
  let workflows: ReturnType<typeof openWorkflows>;
  beforeEach(() => {
    dir = join(mkdtempSync(join(tmpdir(), 'hono-ai-workflows-')), 'own');
    workflows = openWorkflows({ source: 'comfyui', dir });
    desk = workflows.desk(async () => toInfo());
  });
  afterEach(() => rmSync(join(dir, '..'), { recursive: true, force: true }));

  const graph = readGraph('sdxl-txt2img');
  const put = (name: string, value: unknown) => {
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, name), typeof value === 'string' ? value : JSON.stringify(value));
  };
  const modelIds = async () => (await workflows.models(toInfo())).map(({ id }) => id);
  const own = async () => (await desk.list(signal)).filter(({ origin }) => origin === 'user');
  const code = (work: Promise<unknown>) =>
    work.then(
      () => undefined,
      (error: GatewayError) => error.code,
    );

  it('may not be there', async () => {
    expect(await own()).toEqual([]);
    expect(await modelIds()).toContain('sdxl');
  });

  it('is read when a file comes, changes and goes', async () => {
    put('mine.json', graph);
    expect(await modelIds()).toContain('mine');
    expect(await desk.get('mine', signal)).toMatchObject({
      model: 'mine',
      capability: 'image.generate',
      state: 'ready',
    });
    put('mine.binding.json', { capability: 'image.generate', model: 'house-style', vram: '12GB', rank: 99 });
    expect(await modelIds()).toContain('house-style');
    expect(workflows.footprint('house-style')).toBe(12 * 1024 ** 3);
    const same = statSync(join(dir, 'mine.json')).size;
    put('mine.json', JSON.stringify(graph).replace('watermark', 'waterfall'));
    expect(statSync(join(dir, 'mine.json')).size).toBe(same);
    utimesSync(join(dir, 'mine.json'), new Date(), new Date(Date.now() + 5000));
    expect(JSON.stringify((await desk.get('mine', signal)).graph)).toContain('waterfall');
    rmSync(join(dir, 'mine.json'));
    rmSync(join(dir, 'mine.binding.json'));
    expect(await modelIds()).not.toContain('mine');
  });

  it('tells what is wrong with each file, and the others go on', async () => {
    put('good.json', graph);
    put('half.json', '{"1":');
    put('editor.json', { nodes: [], links: [] });
    put('lone.binding.json', { capability: 'image.generate' });
    put('typo.json', graph);
    put('typo.binding.json', { capability: 'image.generate', params: { prompt: { node: 'nope', input: 'text' } } });
    put('Bad Name.json', graph);
    put('shell.json', { ...graph, x: { class_type: 'RunShellCommand', inputs: { command: 'rm' } } });
    put('huge.json', `{"a":"${'x'.repeat(2_100_000)}"}`);
    put('notes.txt', 'no workflow');
    const told = Object.fromEntries(
      (await own()).map(({ id, state, problems }) => [id, [state, problems[0]?.message]]),
    );
    expect(told).toEqual({
      good: ['ready', undefined],
      half: ['broken', 'half.json is not valid JSON.'],
      editor: ['broken', expect.stringContaining('editor.json: This is what') as string],
      lone: ['broken', 'There is a binding but no lone.json.'],
      typo: ['broken', 'typo.binding.json: params.prompt: there is no node nope in the graph'],
      'Bad Name': ['broken', expect.stringContaining('is no id') as string],
      shell: ['broken', expect.stringContaining('may run programs') as string],
      huge: ['broken', expect.stringContaining('larger than') as string],
    });
    const ids = await modelIds();
    expect(ids).toContain('good');
    expect(ids).not.toContain('shell');
  });

  it('takes a graph, shows what was bound, and runs it', async () => {
    const added = await desk.add({ id: 'mine', graph, replace: false }, signal);
    expect(added).toMatchObject({ id: 'mine', state: 'ready', origin: 'user', problems: [] });
    expect(added.bound).toContain('prompt → pos.text');
    expect(readdirSync(dir).toSorted()).toEqual(['mine.binding.json', 'mine.json']);
    expect(JSON.parse(readFileSync(join(dir, 'mine.json'), 'utf8'))).toEqual(graph);
    const { graph: ready } = await bind('mine', 'image.generate', { prompt: 'a cat', seed: 3 }, { dir });
    expect([ready['pos']!.inputs['text'], ready['sample']!.inputs['seed']]).toEqual(['a cat', 3]);
  });

  it('refuses what is there, unless it is told to replace it', async () => {
    await desk.add({ id: 'mine', graph, replace: false }, signal);
    expect(await code(desk.add({ id: 'mine', graph, replace: false }, signal))).toBe('conflict');
    const binding = { capability: 'image.generate', title: 'Second' };
    expect(await desk.add({ id: 'mine', graph, binding, replace: true }, signal)).toMatchObject({ title: 'Second' });
  });

  it('refuses a graph that is wrong, with all of it, and writes nothing', async () => {
    const bad = structuredClone(graph);
    bad['sample']!.inputs['sampler_name'] = 'euler_a';
    bad['sample']!.inputs['model'] = ['gone', 0];
    const failure = await desk.add({ id: 'mine', graph: bad, replace: false }, signal).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'invalid_request', param: 'graph', source: 'comfyui' });
    expect((failure as Error).message).toMatch(/sample \(KSampler\) model: .*sample \(KSampler\) sampler_name: /);
    expect(await own()).toEqual([]);
  });

  it('keeps what the server cannot run yet, and what it could not be asked about', async () => {
    const other = structuredClone(graph);
    other['ckpt']!.inputs['ckpt_name'] = 'mine.safetensors';
    const added = await desk.add({ id: 'mine', graph: other, replace: false }, signal);
    expect(added).toMatchObject({ state: 'available', problems: [{ kind: 'file', node: 'ckpt' }] });
    expect(added.problems[0]!.hint).toBe('Put mine.safetensors into models/checkpoints of ComfyUI.');
    const alone = workflows.desk(async () => {
      throw new GatewayError('upstream_unavailable', 'down');
    });
    expect(await alone.check({ graph }, signal)).toMatchObject({ ok: true, checked: false });
    expect(await alone.add({ id: 'later', graph, replace: false }, signal)).toMatchObject({ state: 'unknown' });
  });

  it('may hide a shipped workflow, which comes back', async () => {
    const binding = { capability: 'image.generate', model: 'sdxl', title: 'My SDXL' };
    await desk.add({ id: 'sdxl-txt2img', graph, binding, replace: false }, signal);
    expect((await desk.get('sdxl-txt2img', signal)).title).toBe('My SDXL');
    await desk.remove('sdxl-txt2img');
    expect((await desk.get('sdxl-txt2img', signal)).title).toBe('SDXL');
    expect(await code(desk.remove('sdxl-txt2img'))).toBe('conflict');
  });

  it('never runs what a binding would put in', async () => {
    const evil = { x: { class_type: 'ExecutePython', inputs: { text: 'boom' } } };
    for (const binding of [
      { capability: 'image.generate', formats: { png: evil } },
      { capability: 'image.generate', params: { prompt: { node: 'x', input: 'text', with: evil } } },
    ]) {
      const check = await desk.check({ graph, binding }, signal);
      expect(check).toMatchObject({ ok: false, problems: [{ kind: 'denied', class_type: 'ExecutePython' }] });
    }
  });

  it('adds and reads at the same time without half a workflow', async () => {
    const work = Array.from({ length: 20 }, (_, index) => [
      desk.add({ id: `w${index}`, graph, replace: false }, signal),
      own().then((list) => expect(list.every(({ state }) => state === 'ready')).toBe(true)),
    ]);
    await Promise.all(work.flat());
    expect(await own()).toHaveLength(20);
    expect(readdirSync(dir).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it.each([
    '../x',
    '..',
    '.',
    '.x',
    '/etc/passwd',
    'a/b',
    'a\\b',
    'C:x',
    'x\0',
    'con/..',
    'A',
    'x'.repeat(65),
    '',
    'sha256:../../x',
    '‮x',
    '%2e%2e',
    'x ',
    '-x',
  ])('%j is no id', async (id) => {
    expect(workflowInput.safeParse({ id, graph }).success).toBe(false);
    expect(await code(desk.remove(id))).toBe('not_found');
    expect(await code(desk.get(id, signal))).toBe('not_found');
  });
});
