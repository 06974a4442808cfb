// The commands for workflows in this process, asking a gateway of their own with a ComfyUI that really listens.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readGraph } from '../support/comfyui-workflows.ts';
import { call, createHome, type CallOptions } from '../support/command-line.ts';
import { openFakeComfyUI, type FakeComfyUI } from '../support/fake-comfyui/index.ts';
import { makePicture } from '../support/media/pictures.ts';

let comfyui: FakeComfyUI;
let home: ReturnType<typeof createHome>;
const graph = readGraph('sdxl-txt2img');
const run = (argv: string[], options: CallOptions = {}) => call(['workflows', ...argv], { ...options, env: home.env });
const file = (name: string) => join(home.folder, name);
const save = (name: string, value: unknown) => {
  writeFileSync(file(name), JSON.stringify(value));
  return file(name);
};

beforeAll(async () => {
  comfyui = await openFakeComfyUI();
  home = createHome();
  Object.assign(home.env, {
    HONO_AI_COMFYUI_URL: comfyui.url,
    HONO_AI_WORKFLOWS_DIR: join(home.folder, 'own'),
    HONO_AI_EMBEDDED: 'false',
  });
});
afterAll(async () => {
  await comfyui.close();
  home.remove();
});

describe('workflows', () => {
  it('are listed, and shown one by one', async () => {
    const ids = (await run(['ls', '--ids'])).stdout.trim().split('\n');
    expect(ids).toEqual(
      expect.arrayContaining(['sdxl-txt2img', 'sdxl-inpaint', 'wan22-5b-video', 'ace-step-1.5-music']),
    );
    expect((await run(['ls'])).stdout).toMatch(/^sdxl-inpaint\tsdxl\timage\.edit\tshipped\tready\t/m);
    const shown = await run(['show', 'qwen-image-edit']);
    expect(shown.stdout).toContain('image (file) → image.image, image2.image, image3.image');
    expect(JSON.parse((await run(['show', 'qwen-image-edit', '--json'])).stdout)).toHaveProperty(
      'graph.fast.class_type',
    );
    expect(await run(['show', 'nope'])).toMatchObject({ code: 3, stderr: expect.stringContaining('no such workflow') });
    expect((await run(['show'])).code).toBe(2);
  });

  it('are added from a file, run by their id, and removed', async () => {
    const added = await run(['add', save('My Graph (2).json', graph)]);
    expect(added).toMatchObject({ code: 0, stdout: 'my-graph-2\n' });
    expect(added.stderr).toContain('prompt → pos.text');
    expect(readdirSync(join(home.folder, 'own'))).toContain('my-graph-2.json');
    const again = await run(['add', file('My Graph (2).json')]);
    expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('--replace') });
    const out = file('made.png');
    const made = await run(['run', 'my-graph-2', 'a', 'lighthouse', '--size', '256x256', '--steps', '2', '-o', out]);
    expect(made).toMatchObject({ code: 0, stdout: `${out}\n` });
    expect(made.stderr).toContain('my-graph-2 on comfyui, 256x256');
    expect(readFileSync(out).subarray(1, 4).toString()).toBe('PNG');
    expect(comfyui.prompts().at(-1)!.graph['pos']!.inputs['text']).toBe('a lighthouse');
    expect(await run(['rm', 'my-graph-2'])).toMatchObject({ code: 0, stdout: 'my-graph-2\n' });
    expect(readdirSync(join(home.folder, 'own'))).toEqual([]);
    expect((await run(['rm', 'my-graph-2'])).code).toBe(3);
  });

  it('may have dots in their ids', async () => {
    await run(['add', save('v.json', graph), '--id', 'my-1.5']);
    expect(await run(['rm', 'my-1.5'])).toMatchObject({ code: 0, stdout: 'my-1.5\n' });
  });

  it('take the binding that lies beside the graph, or the one that is named', async () => {
    const path = save('bound.json', graph);
    save('bound.binding.json', { capability: 'image.generate', params: { prompt: { node: 'neg', input: 'text' } } });
    expect((await run(['validate', path])).stderr).toContain('prompt → neg.text');
    const other = save('other.binding.json', { capability: 'image.generate', params: {}, colour: 1 });
    const refused = await run(['validate', path, '--binding', other]);
    expect(refused).toMatchObject({ code: 1, stdout: expect.stringMatching(/: wrong\n.*colour/) });
  });

  it('are validated with every problem, several at once', async () => {
    const bad = structuredClone(graph);
    bad['sample']!.inputs['sampler_name'] = 'euler_a';
    bad['pos']!.inputs['clip'] = ['ckpt', 7];
    const ran = await run(['validate', save('good.json', graph), save('bad.json', bad)]);
    expect(ran.code).toBe(1);
    expect(ran.stdout).toContain('good.json: ok');
    expect(ran.stdout).toMatch(
      /bad\.json: wrong\npos \(CLIPTextEncode\) clip: .*\nsample \(KSampler\) sampler_name: .*\n {2}Near it: euler/,
    );
    const editor = await run(['validate', save('ui.json', { nodes: [], links: [] })]);
    expect(editor.stdout).toContain('Export (API)');
    expect((await run(['validate', save('no.json', [1])])).code).toBe(2);
    expect((await run(['validate', file('gone.json')])).code).toBe(2);
    expect(await run(['add', '-', '--id', 'bad'], { stdin: JSON.stringify(bad) })).toMatchObject({
      code: 2,
      stdout: '',
    });
    expect((await run(['ls', '--ids'])).stdout).not.toMatch(/^bad$/m);
  });

  it('run with the files and flags of their capability, and no others', async () => {
    writeFileSync(file('in.png'), await makePicture({ width: 64, height: 64 }));
    const out = file('masked.png');
    const masked = await run([
      'run',
      'sdxl-inpaint',
      file('in.png'),
      'a door',
      '--mask',
      file('in.png'),
      '--steps',
      '2',
      '-o',
      out,
    ]);
    expect(masked).toMatchObject({ code: 0, stdout: `${out}\n` });
    expect(comfyui.prompts().at(-1)!.graph).toHaveProperty('blend');
    const odd = await run(['run', 'sdxl-txt2img', 'x', '--bpm', '90']);
    expect(odd).toMatchObject({ code: 2, stderr: expect.stringContaining('it is run like image gen') });
    const film = await run(['run', 'sdxl-txt2img', 'x', '-o', file('x.mp4')]);
    expect(film.code).toBe(2);
    expect(existsSync(file('x.mp4'))).toBe(false);
    expect((await run(['run', 'nope', 'x'])).code).toBe(3);
  });

  it.each(['../x', 'a/b', '.x', 'A b', 'x'.repeat(65)])('%j is no id', async (id) => {
    expect((await run(['add', save('traversal.json', graph), '--id', id])).code).toBe(2);
    expect((await run(['rm', id])).code).not.toBe(0);
    expect(existsSync(join(home.folder, 'own', '..', 'x.json'))).toBe(false);
  });
});
