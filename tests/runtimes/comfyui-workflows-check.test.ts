// Graphs from outside: refused before the card is touched, with every problem's node and input at once; bindings of any shape.
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import { bindingSchema, checkBinding, parseBinding, params } from '../../adapters/runtimes/comfyui/binding.ts';
import { climbs, findDenied, parseGraph } from '../../adapters/runtimes/comfyui/graph.ts';
import { inferBinding } from '../../adapters/runtimes/comfyui/infer.ts';
import { complete } from '../../adapters/runtimes/comfyui/needs.ts';
import { validateGraph } from '../../adapters/runtimes/comfyui/validate.ts';
import type { Graph } from '../../adapters/runtimes/comfyui/workflow.ts';
import { readGraph, toInfo } from '../support/comfyui-workflows.ts';

const info = toInfo();
const bound = new Set(['image.image', 'mask.image']);
/** A shipped graph with one thing wrong. */
function broken(id: string, change: (graph: Graph) => void) {
  const graph = readGraph(id);
  change(graph);
  return validateGraph(graph, info, { bound });
}
const sdxl = (change: (graph: Graph) => void) => broken('sdxl-txt2img', change);

describe('a graph against its server', () => {
  it.each<[string, (graph: Graph) => void, object]>([
    [
      'a class that is not there',
      (g) => (g['pos']!.class_type = 'Nope'),
      { kind: 'class', node: 'pos', class_type: 'Nope' },
    ],
    [
      'a needed input that is not there',
      (g) => delete g['pos']!.inputs['text'],
      { kind: 'input', node: 'pos', input: 'text' },
    ],
    [
      'a word that is not on the list',
      (g) => (g['sample']!.inputs['sampler_name'] = 'euler_a'),
      {
        kind: 'value',
        node: 'sample',
        class_type: 'KSampler',
        input: 'sampler_name',
        hint: expect.stringContaining('euler_ancestral') as string,
      },
    ],
    ['a number beyond its range', (g) => (g['sample']!.inputs['cfg'] = 1000), { kind: 'value', input: 'cfg' }],
    ['a broken number', (g) => (g['sample']!.inputs['steps'] = 1.5), { kind: 'value', input: 'steps' }],
    ['text for a number', (g) => (g['sample']!.inputs['steps'] = '20'), { kind: 'value', input: 'steps' }],
    [
      'a flag that is none',
      (g) => (g['clip'] = { class_type: 'GrowMask', inputs: { mask: ['pos', 0], expand: 1, tapered_corners: 1 } }),
      { input: 'mask', kind: 'link' },
    ],
    [
      'a file that is not there',
      (g) => (g['ckpt']!.inputs['ckpt_name'] = 'x.safetensors'),
      { kind: 'file', node: 'ckpt' },
    ],
    ['a link to nowhere', (g) => (g['sample']!.inputs['model'] = ['gone', 0]), { kind: 'link', input: 'model' }],
    ['a link to an output that is not there', (g) => (g['sample']!.inputs['model'] = ['ckpt', 3]), { kind: 'link' }],
    [
      'a link of another type',
      (g) => (g['sample']!.inputs['model'] = ['ckpt', 1]),
      { kind: 'link', message: 'takes MODEL; output 1 of node ckpt is CLIP.' },
    ],
    ['a value in place of a link', (g) => (g['sample']!.inputs['model'] = 'sdxl'), { kind: 'value', input: 'model' }],
    ['no result', (g) => delete g['save'], { kind: 'graph' }],
    [
      'too many pixels',
      (g) => Object.assign(g['latent']!.inputs, { width: 16384, height: 16384 }),
      { kind: 'value', input: 'width' },
    ],
  ])('%s', (_, change, expected) => {
    expect(sdxl(change)).toContainEqual(expect.objectContaining(expected));
  });

  it('tells all at once', () => {
    const problems = sdxl((graph) => {
      graph['sample']!.inputs['sampler_name'] = 'nope';
      graph['sample']!.inputs['cfg'] = -1;
      graph['latent']!.inputs['width'] = 1e6;
      graph['neg']!.inputs['clip'] = ['gone', 0];
    });
    expect(problems.map(({ node, input }) => `${node}.${input}`)).toEqual([
      'neg.clip',
      'latent.width',
      'latent.width',
      'sample.cfg',
      'sample.sampler_name',
    ]);
  });

  it('circles, however long', () => {
    const circle = (length: number): Graph =>
      Object.fromEntries(
        Array.from({ length }, (_, index) => [
          `n${index}`,
          { class_type: 'VAEDecode', inputs: { samples: [`n${(index + 1) % length}`, 0], vae: ['ckpt', 2] } },
        ]),
      );
    for (const length of [1, 2, 2000]) {
      const problems = validateGraph({ ...readGraph('sdxl-txt2img'), ...circle(length) }, info);
      expect(problems.some(({ message }) => message.startsWith('Nodes feed each other in a circle'))).toBe(true);
    }
  });

  it('options that bring inputs of their own, at the top or after a dot', () => {
    const save = (inputs: Record<string, unknown>) =>
      broken('wan22-5b-video', (graph) => {
        graph['save'] = { class_type: 'SaveVideo', inputs: { video: ['clipv', 0], filename_prefix: 'x', ...inputs } };
      });
    expect(save({ format: 'mp4', codec: 'h264' })).toEqual([]);
    expect(save({ format: 'mp4', 'format.codec': 'h264' })).toEqual([]);
    expect(save({ format: 'mp4' })).toMatchObject([{ kind: 'input', node: 'save', input: 'format.codec' }]);
    expect(save({ format: 'avi', codec: 'h264' })).toMatchObject([{ kind: 'value', input: 'format' }]);
    const quality = { 'format.codec.encoding': 're-encode', 'format.codec.encoding.crf': 99 };
    expect(save({ format: 'mp4', 'format.codec': 'h264', ...quality })).toMatchObject([
      { kind: 'value', input: 'format.codec.encoding.crf' },
    ]);
  });

  it('fills in what the server has a default for, and nothing else', () => {
    const graph = readGraph('sdxl-txt2img');
    delete graph['sample']!.inputs['cfg'];
    delete graph['sample']!.inputs['model'];
    const whole = complete(graph, info);
    expect(whole['sample']!.inputs['cfg']).toBe(8);
    expect(graph['sample']!.inputs).not.toHaveProperty('cfg');
    expect(validateGraph(whole, info)).toMatchObject([{ node: 'sample', input: 'model' }]);
  });
});

describe('what is no graph', () => {
  const node = { class_type: 'A', inputs: {} };
  const deep = (levels: number): unknown => (levels === 0 ? 1 : [deep(levels - 1)]);
  it.each<[string, unknown, RegExp]>([
    ['nothing', null, /JSON object/],
    ['a list', [node], /JSON object/],
    ['no node', {}, /no node/],
    ['what the editor saves', { nodes: [], links: [], version: 0.4 }, /editor saves/],
    ['a node without a class', { 1: { inputs: {} } }, /class_type/],
    ['a node without inputs', { 1: { class_type: 'A' } }, /class_type and inputs/],
    ['too many nodes', Object.fromEntries(Array.from({ length: 10_000 }, (_, id) => [id, node])), /10000 nodes/],
    ['too deep', { 1: { class_type: 'A', inputs: { a: deep(40) } } }, /nested/],
    ['too large', { 1: { class_type: 'A', inputs: { a: 'x'.repeat(1_000_001) } } }, /larger than/],
    ['an id that objects have', JSON.parse('{"__proto__":{"class_type":"A","inputs":{}}}'), /id is/],
    ['an id that is a path', { '../x': node }, /id is/],
  ])('%s', (_, value, told) => {
    const { graph, problems } = parseGraph(value);
    expect(graph).toBeUndefined();
    expect(problems[0]!.message).toMatch(told);
  });

  it('the editor’s format is told how to be exported', () => {
    expect(parseGraph({ nodes: [], links: [] }).problems[0]!.hint).toContain('Export (API)');
  });

  it('what was posted to /prompt is unwrapped', () => {
    const graph = readGraph('sdxl-txt2img');
    expect(parseGraph({ prompt: graph, client_id: 'x' }).graph).toEqual(graph);
  });

  it('never throws, whatever comes', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
        const { graph } = parseGraph(value);
        if (!graph) return;
        validateGraph(graph, info);
        findDenied(graph);
        inferBinding(graph);
      }),
      { numRuns: 300 },
    );
  });
});

describe('nodes that a graph from outside may not have', () => {
  const one = (class_type: string, inputs: Record<string, unknown> = {}): Graph => ({ 1: { class_type, inputs } });

  it.each([
    'ExecutePython',
    'PythonScriptNode',
    'EvalNode',
    'easy shell',
    'RunShellCommand',
    'BashNode',
    'EvaluateInts',
    'LoadImageFromUrl',
    'HTTPRequest',
    'SendWebhook',
    'LoadImageFromPath',
    'VHS_LoadVideoPath',
    'Save Text File',
    'LoadImagesFromFolderKJ',
    'WebSocketSend',
    'Image Save To Disk',
    'LoadTextFile',
  ])('%s', (name) => {
    expect(findDenied(one(name))).toMatchObject([{ kind: 'denied', node: '1', class_type: name }]);
  });

  it('are none of those that every workflow is made of', () => {
    const harmless = [
      ...Object.keys(info),
      'VAEDecodeTiled',
      'CLIPTextEncodeSDXL',
      'LoadImageMask',
      'ControlNetLoader',
      'VHS_LoadVideo',
      'SamplerCustomAdvanced',
    ];
    expect(harmless.filter((name) => findDenied(one(name)).length > 0)).toEqual([]);
  });

  it.each([
    { path: '/etc/passwd' },
    { file_path: 'x' },
    { output_dir: 'x' },
    { image_url: 'http://10.0.0.1/' },
    { ckpt_name: '../../secret.ckpt' },
    { image: '/etc/shadow' },
    { lora_name: 'C:\\x.safetensors' },
    { filename_prefix: '../../x' },
  ])('nor inputs that name a place: %j', (inputs) => {
    expect(findDenied(one('Harmless', inputs))).toMatchObject([{ kind: 'denied', input: Object.keys(inputs)[0] }]);
  });

  it('prompts may speak of anything', () => {
    expect(findDenied(one('CLIPTextEncode', { text: '../ /etc/passwd http://x', clip: ['2', 1] }))).toEqual([]);
  });

  it.each(['../x', 'a/../b', '..', '/x', '\\x', '~/x', 'c:\\x', 'C:x', 'http://x', 'file:///x', 'a\0b', 'a\\..\\b'])(
    '%j leads out',
    (name) => expect(climbs(name)).toBe(true),
  );
  it.each(['x', 'a/b.png', 'a..b', '...', 'a\\b', '..x', 'hono-ai/x'])('%j stays', (name) =>
    expect(climbs(name)).toBe(false),
  );
});

describe('bindings', () => {
  const graph = readGraph('sdxl-txt2img');
  const problemsOf = (binding: unknown) => {
    const parsed = parseBinding(binding);
    const found = parsed.binding ? checkBinding(parsed.binding, graph) : parsed.problems;
    return found.map(({ message }) => message);
  };

  it.each<[unknown, RegExp]>([
    [{}, /^capability: /],
    [{ capability: 'text.chat' }, /^capability: /],
    [{ capability: 'image.generate', colour: 'red' }, /colour/],
    [{ capability: 'image.generate', params: { promt: { node: 'pos', input: 'text' } } }, /promt/],
    [{ capability: 'image.generate', params: { prompt: { node: 'pos' } } }, /^params\.prompt.*input/],
    [{ capability: 'image.generate', params: { prompt: { node: 'nope', input: 'text' } } }, /no node nope/],
    [{ capability: 'image.generate', params: { prompt: { node: 'pos', input: 'txt' } } }, /no input txt/],
    [{ capability: 'image.generate', params: { prompt: { node: 'pos', input: 'clip' } } }, /comes from another node/],
    [{ capability: 'image.generate', files: { mask: { node: 'pos', input: 'text' } } }, /image\.generate has no mask/],
    [{ capability: 'image.generate', outputs: ['nope'] }, /^outputs: there is no node nope/],
    [{ capability: 'image.generate', vram: 'much' }, /^vram: a size such as 9GB/],
    [{ capability: 'image.generate', model: '../x' }, /^model: /],
    [{ capability: 'image.generate', formats: { gif: { new: { inputs: {} } } } }, /new node new needs a class_type/],
    [
      { capability: 'image.generate', requires: { files: [{ node: 'ckpt', input: 'ckpt_name', url: 'file:///x' }] } },
      /url/,
    ],
  ])('%j is refused by field', (binding, told) => {
    expect(problemsOf(binding).join(' | ')).toMatch(told);
  });

  it('take one place or several', () => {
    const place = { node: 'pos', input: 'text' };
    for (const prompt of [place, [place], [place, { node: 'neg', input: 'text' }]]) {
      expect(problemsOf({ capability: 'image.generate', params: { prompt } })).toEqual([]);
    }
  });

  it('of any shape are parsed or refused with a field, and never throw', () => {
    const place = fc.record({ node: fc.constantFrom('pos', 'x'), input: fc.constantFrom('text', 'y') });
    const loose = fc.oneof(place, fc.array(place), fc.jsonValue({ maxDepth: 3 }));
    const binding = fc.record(
      {
        capability: fc.constantFrom('image.generate', 'image.edit', 'nope', 7),
        params: fc.dictionary(fc.constantFrom(...params, 'other', '__proto__'), loose),
        files: fc.dictionary(fc.constantFrom('image', 'mask', 'other'), loose),
        loras: fc.jsonValue({ maxDepth: 2 }),
        formats: fc.jsonValue({ maxDepth: 4 }),
        outputs: fc.jsonValue({ maxDepth: 2 }),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.oneof(binding, fc.jsonValue({ maxDepth: 4 })), (value) => {
        const parsed = parseBinding(value);
        if (!parsed.binding) return void expect(parsed.problems.length).toBeGreaterThan(0);
        checkBinding(parsed.binding, graph);
        expect(bindingSchema.parse(JSON.parse(JSON.stringify(parsed.binding)))).toEqual(parsed.binding);
      }),
      { numRuns: 500 },
    );
  });
});
