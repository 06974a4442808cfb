// ComfyUI's wire against the traffic of a real server: what was recorded is read, and whatever else comes breaks nothing.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import { toEndFailure, toExecutionFailure, toRefusal } from '../../adapters/runtimes/comfyui/failure.ts';
import { pickFiles } from '../../adapters/runtimes/comfyui/outputs.ts';
import { createProgress } from '../../adapters/runtimes/comfyui/progress.ts';
import { parseBinary, parseText, toQueue } from '../../adapters/runtimes/comfyui/wire.ts';
import type { HistoryEntry, Message } from '../../adapters/runtimes/comfyui/wire.ts';
import type { Graph, ObjectInfo } from '../../adapters/runtimes/comfyui/workflow.ts';
import type { FileKind } from '../../src/capabilities/file.ts';
import { GatewayError } from '../../src/error.ts';
import { createUpstream, fetchTransport } from '../../src/upstream.ts';
import { root } from '../support/gateway.ts';

interface Line {
  http?: string;
  request?: { prompt: Graph; prompt_id: string } | null;
  status?: number;
  response?: Record<string, unknown> & { base64?: string };
  ws?: { type: string; data: Record<string, unknown> };
}

const limits = { firstByteMs: 1000, idleMs: 1000, controlMs: 1000, maxReplyBytes: 1_000_000 };
const upstream = createUpstream({ name: 'comfyui', baseUrl: 'http://127.0.0.1:9', transport: fetchTransport, limits });
const asked = { source: 'comfyui', model: 'sdxl', pullHint: undefined };
const read = (file: string) => readFileSync(join(root, 'tests/recordings', file), 'utf8');
const recorded = (name: string): Line[] =>
  read(`comfyui-${name}.jsonl`)
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Line);
const heard = (lines: Line[]): Message[] =>
  lines.flatMap(({ ws }) => (ws ? (parseText(JSON.stringify(ws)) ?? []) : []));
const posts = (lines: Line[]) => lines.filter(({ http }) => http === 'POST /prompt');
const history = (lines: Line[], id: string): HistoryEntry =>
  lines.find(({ http }) => http === `GET /history/${id}`)!.response![id] as HistoryEntry;
const info = JSON.parse(read('comfyui-object_info.json')) as ObjectInfo;

describe('messages of a real server', () => {
  it('are all understood, but the one that answers our own', () => {
    for (const name of ['success', 'same-graph-twice', 'video-webp', 'execution-error', 'interrupt-and-delete']) {
      for (const { ws } of recorded(name)) {
        if (!ws) continue;
        const message = parseText(JSON.stringify(ws));
        if (ws.type === 'feature_flags') expect(message).toBeUndefined();
        else expect(message, JSON.stringify(ws).slice(0, 200)).toBeDefined();
        const id = ws.data['prompt_id'];
        if (id !== undefined) expect(message).toMatchObject({ id });
      }
    }
  });

  it('tell the life of a prompt in order', () => {
    const types = heard(recorded('success')).map((message) =>
      message.type === 'node' ? `node ${message.node}` : message.type,
    );
    expect(types.join(', ')).toBe(
      'status, status, status, start, cached, state, node 1, state, state, node 2, executed, state, success, status, node null',
    );
  });

  it('lead to progress that never goes back and ends whole', () => {
    for (const name of ['success', 'video-webp']) {
      const lines = recorded(name);
      const progress = createProgress(posts(lines)[0]!.request!.prompt, info);
      const told = heard(lines).flatMap((message) => progress.hear(message) ?? []);
      expect(told.length, name).toBeGreaterThan(1);
      expect(told.map(({ done }) => done)).toEqual(told.map(({ done }) => done).toSorted((a, b) => a - b));
      expect(told.at(-1)).toMatchObject({ done: 2, total: 2 });
    }
  });

  it('count what was remembered as done', () => {
    const lines = recorded('same-graph-twice');
    const [, second] = posts(lines);
    const { prompt, prompt_id } = second!.request!;
    const progress = createProgress(prompt, info);
    const told = heard(lines)
      .filter((message) => 'id' in message && message.id === prompt_id)
      .flatMap((message) => progress.hear(message) ?? []);
    expect(told).toEqual([{ type: 'progress', done: 2, total: 2, unit: 'steps' }]);
  });
});

describe('progress', () => {
  const graph: Graph = {
    ckpt: { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'a.safetensors' } },
    pos: { class_type: 'CLIPTextEncode', inputs: { text: 'x', clip: ['ckpt', 1] } },
    latent: { class_type: 'EmptyLatentImage', inputs: { width: 64, height: 64, batch_size: 1 } },
    sample: { class_type: 'KSampler', inputs: { steps: 20, positive: ['pos', 0], latent_image: ['latent', 0] } },
    save: { class_type: 'SaveImage', inputs: { images: ['sample', 0], filename_prefix: 'x' } },
    unused: { class_type: 'CLIPTextEncode', inputs: { text: 'y', clip: ['ckpt', 1] } },
  };

  it('gives samplers their steps and leaves out what nothing needs', () => {
    const progress = createProgress(graph, info);
    expect(progress.hear({ type: 'node', id: 'p', node: 'sample' })).toMatchObject({ done: 3, total: 24 });
    expect(progress.hear({ type: 'step', id: 'p', node: 'sample', value: 5, max: 20 })).toMatchObject({ done: 8 });
    expect(progress.hear({ type: 'step', id: 'p', node: 'sample', value: 4, max: 20 })).toBeUndefined();
    expect(progress.hear({ type: 'node', id: 'p', node: 'save' })).toMatchObject({ done: 23 });
    expect(progress.end()).toEqual({ type: 'progress', done: 24, total: 24, unit: 'steps' });
  });

  it('bears nodes that it does not know and numbers that make no sense', () => {
    const progress = createProgress(graph, info);
    const nodes = {
      '9:1': { value: 1, max: 1, state: 'running' as const },
      sample: { value: 9, max: 0, state: 'running' as const },
    };
    expect(progress.hear({ type: 'state', id: 'p', nodes })).toMatchObject({ done: 3 });
    expect(progress.hear({ type: 'step', id: 'p', node: 'sample', value: 99, max: 20 })).toMatchObject({ done: 23 });
  });

  it('takes the steps of a sampler from its schedule', () => {
    const custom: Graph = {
      sigmas: { class_type: 'LTXVScheduler', inputs: { steps: 30 } },
      pick: { class_type: 'KSamplerSelect', inputs: { sampler_name: 'euler' } },
      sample: { class_type: 'SamplerCustom', inputs: { sigmas: ['sigmas', 0], sampler: ['pick', 0] } },
    };
    expect(createProgress(custom, {}).end().total).toBe(32);
  });
});

describe('binary frames', () => {
  const frame = (type: number, ...parts: (number | string | number[])[]) => {
    const bytes = parts.flatMap((part) =>
      typeof part === 'number' ? uint32(part) : typeof part === 'string' ? [...new TextEncoder().encode(part)] : part,
    );
    return new Uint8Array([...uint32(type), ...bytes]);
  };
  const jpeg = [0xff, 0xd8, 0xff, 0xe0, 1, 2, 3];
  const png = [0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10];
  const about = JSON.stringify({ node_id: '5', prompt_id: 'p-1', image_type: 'image/jpeg' });

  it('of type 1 are previews of whatever runs', () => {
    expect(parseBinary(frame(1, 1, jpeg))).toMatchObject({ type: 'preview', id: undefined, media_type: 'image/jpeg' });
    expect(parseBinary(frame(1, 2, png))).toMatchObject({ media_type: 'image/png', bytes: new Uint8Array(png) });
  });

  it('of type 4 say whose preview it is', () => {
    const message = parseBinary(frame(4, about.length, about, jpeg));
    expect(message).toEqual({ type: 'preview', id: 'p-1', media_type: 'image/jpeg', bytes: new Uint8Array(jpeg) });
  });

  it('of type 3 are text', () => {
    expect(parseBinary(frame(3, 2, '12', 'so far'))).toEqual({ type: 'text', text: 'so far' });
  });

  it('of other layouts are passed over', () => {
    expect(parseBinary(frame(1, 1, [0, 0, 0, 7, ...jpeg]))).toBeUndefined();
    expect(parseBinary(frame(2, 1, jpeg))).toBeUndefined();
    expect(parseBinary(frame(4, 4_000_000_000, about, jpeg))).toBeUndefined();
    expect(parseBinary(frame(4, 4, 'nope', jpeg))).toBeUndefined();
  });

  it('and texts of any kind never throw', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 5 }), fc.uint8Array({ maxLength: 64 }), (type, bytes) => {
        parseBinary(frame(type, [...bytes]));
        parseBinary(new Uint8Array(bytes));
      }),
    );
    fc.assert(fc.property(fc.string(), (text) => void parseText(text)));
    const types = [
      'status',
      'executing',
      'progress',
      'progress_state',
      'executed',
      'execution_error',
      'execution_cached',
    ];
    const odd = fc.record({ type: fc.constantFrom(...types), data: fc.anything() });
    fc.assert(fc.property(odd, (message) => void parseText(JSON.stringify(message))));
    fc.assert(fc.property(fc.anything(), (reply) => void toQueue(reply)));
  });
});

describe('what a real server refuses', () => {
  const [inputs, file, node, empty, none, notJson] = posts(recorded('validation-errors')).map(
    ({ status, response }) => ({
      status: status!,
      body: typeof response === 'string' ? response : JSON.stringify(response),
    }),
  );

  it('names nodes and inputs', () => {
    const error = toRefusal(upstream, inputs!, asked);
    expect(error.code).toBe('invalid_request');
    expect(error.message).toContain('node 1 (EmptyImage), input color: Required input is missing');
    expect(error.message).toContain('node 2 (SaveImage), input filename_prefix');
  });

  it('tells a missing model file from a wrong value, with what gets it', () => {
    const error = toRefusal(upstream, file!, { ...asked, pullHint: 'hono-ai pull sdxl' });
    expect(error).toMatchObject({ code: 'model_not_found', hint: 'hono-ai pull sdxl' });
    expect(error.message).toContain('missing.safetensors');
    expect(error.message).not.toContain('ace_step');
  });

  it('names the extension that is missing', () => {
    const error = toRefusal(upstream, node!, asked);
    expect(error.code).toBe('not_supported');
    expect(error.message).toContain('NoSuchNode');
    const old = {
      error: { type: 'invalid_prompt', message: 'Cannot execute because node VHS_X does not exist.', details: '' },
    };
    expect(
      toRefusal(upstream, { status: 400, body: JSON.stringify({ ...old, node_errors: [] }) }, asked).message,
    ).toContain('VHS_X');
  });

  it('says the rest in its words', () => {
    expect(toRefusal(upstream, empty!, asked).message).toContain('Prompt has no outputs');
    expect(toRefusal(upstream, none!, asked)).toMatchObject({ code: 'invalid_request' });
    expect(toRefusal(upstream, notJson!, asked)).toMatchObject({ code: 'upstream_error', retry: false });
  });
});

describe('what fails while it runs', () => {
  const lines = recorded('execution-error');
  const { prompt_id: id } = posts(lines)[0]!.request!;

  it('is told the same by the socket and by history: the node and why, no path, no traceback', () => {
    const message = heard(lines).find(({ type }) => type === 'error') as Extract<Message, { type: 'error' }>;
    const told = toExecutionFailure(message.error, asked);
    expect(told).toMatchObject({ code: 'upstream_error', retry: false });
    expect(told.message).toBe(
      'comfyui failed in CheckpointLoaderSimple (node 4): Error while deserializing header: header too small',
    );
    expect(told.hint).toContain('damaged');
    expect(toEndFailure(history(lines, id), asked)?.message).toBe(told.message);
  });

  it.each([
    ['torch.OutOfMemoryError', 'Allocation on device'],
    ['torch.cuda.OutOfMemoryError', 'CUDA out of memory. Tried to allocate 2.00 GiB'],
    ['RuntimeError', 'HIP out of memory. Tried to allocate 20.00 MiB'],
  ])('is lack of memory: %s', (exception_type, exception_message) => {
    const error = toExecutionFailure({ node_type: 'KSampler', exception_type, exception_message }, asked);
    expect(error).toMatchObject({ code: 'insufficient_vram', retryAfter: 10 });
  });

  it('holds no place of the machine', () => {
    const exception_message =
      "[Errno 2] No such file: '/srv/ann/ComfyUI/models/x.pt' at http://10.0.0.2:8188/view\nmore";
    const { message } = toExecutionFailure({ node_id: '7', node_type: 'X', exception_message }, asked);
    expect(message).not.toMatch(/ann|10\.0|more/);
  });

  it('is an interruption where somebody pressed stop', () => {
    const status = {
      status_str: 'error',
      completed: false,
      messages: [['execution_interrupted', {}]] as [string, object][],
    };
    const error = toEndFailure({ status: { ...status, messages: status.messages as never } }, asked);
    expect(error).toMatchObject({ code: 'cancelled' });
    expect(error?.message).toContain('someone else');
  });
});

describe('files of a prompt', () => {
  const wanted = (lines: Line[], index: number, makes: FileKind, prefix: string) => {
    const { prompt: graph, prompt_id } = posts(lines)[index]!.request!;
    return { entry: history(lines, prompt_id), about: { source: 'comfyui', makes, graph, nodes: [], prefix } };
  };

  it('are found under images and under gifs, and nothing else of them is told', () => {
    const picture = wanted(recorded('success'), 0, 'image', 'rec/pic');
    expect(pickFiles(picture.entry, picture.about)).toEqual([
      { filename: 'pic_00001_.png', subfolder: 'rec', type: 'output' },
    ]);
    const film = wanted(recorded('video-webp'), 0, 'video', 'rec/vid');
    expect(pickFiles(film.entry, film.about)).toEqual([
      { filename: 'vid_00001.webp', subfolder: 'rec', type: 'output' },
    ]);
  });

  it('are never those of an earlier prompt', () => {
    const second = wanted(recorded('same-graph-twice'), 1, 'image', 'rec/other');
    expect(() => pickFiles(second.entry, second.about)).toThrow(GatewayError);
    const named = wanted(recorded('same-graph-twice'), 1, 'image', 'rec/mine');
    named.about.graph = {
      ...named.about.graph,
      2: { class_type: 'SaveImage', inputs: { filename_prefix: 'rec/mine' } },
    };
    expect(() => pickFiles(named.entry, named.about)).toThrow('no file of this request');
  });

  it('are of the nodes that are asked for, kept rather than temporary, and of the right kind', () => {
    const file = (filename: string, type = 'output') => ({ filename, subfolder: '', type });
    const outputs = {
      b: { audio: [file('song.mp3')], text: ['hello'] },
      a: { images: [file('look.png', 'temp'), file('one.png')], animated: [false] },
      c: { images: [file('film.mp4')], animated: [true] },
      d: { images: [file('two.png')] },
      e: null,
    };
    const graph = Object.fromEntries(['a', 'b', 'c', 'd'].map((id) => [id, { class_type: 'Save', inputs: {} }]));
    const pick = (makes: FileKind, nodes: string[] = []) =>
      pickFiles({ outputs }, { source: 'comfyui', makes, graph, nodes, prefix: 'x/y' }).map(({ filename }) => filename);
    expect(pick('image')).toEqual(['one.png', 'two.png']);
    expect(pick('image', ['d'])).toEqual(['two.png']);
    expect(pick('video')).toEqual(['film.mp4']);
    expect(pick('audio')).toEqual(['song.mp3']);
    expect(() => pick('video', ['a'])).toThrow('no file');
    const only = pickFiles(
      { outputs: { a: { images: [file('look.png', 'temp')] } } },
      { source: 'comfyui', makes: 'image', graph, nodes: [], prefix: 'x/y' },
    );
    expect(only).toEqual([file('look.png', 'temp')]);
  });
});

it('the queue is read in the order in which it runs', () => {
  const reply = {
    queue_running: [[7, 'r', {}, {}, []]],
    queue_pending: [
      [9, 'c'],
      [-1, 'a'],
      [8, 'b'],
    ],
  };
  expect(toQueue(reply)).toEqual({ running: ['r'], pending: ['a', 'b', 'c'] });
});

function uint32(value: number): number[] {
  return [(value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}
