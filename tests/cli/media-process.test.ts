// Pictures, films and music on the command line as a process, on Node, Bun and Deno, over a ComfyUI: made, watched, saved, measured.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFakeComfyUI, type FakeComfyUI } from '../support/fake-comfyui/index.ts';
import { engines, root, type Engine } from '../support/gateway.ts';
import { makePicture, probe } from '../support/media/index.ts';

const folder = mkdtempSync(join(tmpdir(), 'hono-ai-media-cli-'));
const at = (name: string) => join(folder, name);
let comfyui: FakeComfyUI;

beforeAll(async () => {
  comfyui = await openFakeComfyUI({ stepMs: 5, previews: 'jpeg' });
  writeFileSync(
    at('hono-ai.yaml'),
    JSON.stringify({ runtimes: [{ name: 'comfyui', kind: 'comfyui', url: comfyui.url }] }),
  );
  writeFileSync(at('photo.png'), await makePicture({ width: 384, height: 256, colour: [20, 40, 200] }));
  const hole = { left: 96, top: 64, width: 192, height: 128 };
  writeFileSync(at('mask.png'), await makePicture({ width: 384, height: 256, alpha: 0, hole }));
});
afterAll(async () => {
  await comfyui?.close();
  rmSync(folder, { recursive: true, force: true });
});

function run(engine: Engine, args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const { command, args: first } = engines[engine];
  const { PATH, HOME } = process.env;
  const env = {
    PATH,
    HOME,
    HONO_AI_CONFIG: at('hono-ai.yaml'),
    HONO_AI_STATE_DIR: at(`state-${engine}`),
    HONO_AI_DISCOVER: 'false',
    HONO_AI_EMBEDDED: 'false',
  } as NodeJS.ProcessEnv;
  return new Promise((resolve) => {
    execFile(
      command,
      [...first, 'cli/main.ts', ...args],
      { cwd: root, env, timeout: 50_000 },
      (error, stdout, stderr) => resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
    );
  });
}

describe.each(['node', 'bun', 'deno'] as const)('on %s', { timeout: 60_000 }, (engine) => {
  const measure = (name: string) => probe(readFileSync(at(name)));

  it('makes a picture, and tells how far it is', async () => {
    const out = `${engine}.webp`;
    const ran = await run(engine, ['image', 'gen', 'a red fox', '-m', 'sdxl', '--size', '384x256', '-o', at(out)]);
    expect(ran.code, ran.stderr).toBe(0);
    expect(ran.stdout.trim()).toBe(at(out));
    expect(ran.stderr).toMatch(/\d+ %/);
    expect(await measure(out)).toMatchObject({ type: 'image/webp', width: 384, height: 256 });
  });

  it('edits one with a mask', async () => {
    const out = `${engine}-edit.png`;
    const args = ['image', 'edit', at('photo.png'), 'a hole', '--mask', at('mask.png'), '-m', 'sdxl', '-o', at(out)];
    const ran = await run(engine, args);
    expect(ran.code, ran.stderr).toBe(0);
    expect(await measure(out)).toMatchObject({ type: 'image/png', width: 384, height: 256 });
  });

  it('makes a film and a piece of music', async () => {
    const [film, song] = [`${engine}.mp4`, `${engine}.flac`];
    const size = ['--size', '256x256', '--frames', '16', '--fps', '8'];
    const [first, second] = await Promise.all([
      run(engine, ['video', 'gen', 'waves', '-m', 'animatediff', ...size, '-o', at(film)]),
      run(engine, ['music', 'gen', 'lo-fi, piano', '-m', 'ace-step-1.5', '--seconds', '11', '-o', at(song)]),
    ]);
    expect(first.code, first.stderr).toBe(0);
    expect(second.code, second.stderr).toBe(0);
    expect(await measure(film)).toMatchObject({ type: 'video/mp4', width: 256, frames: 16, duration_s: 2 });
    const sound = await measure(song);
    expect(sound.type).toBe('audio/flac');
    expect(sound.duration_s).toBeCloseTo(11, 0);
  });

  it('stops on the card when it is interrupted', async () => {
    comfyui.hold('sampling');
    const { command, args: first } = engines[engine];
    const env = { ...process.env, HONO_AI_CONFIG: at('hono-ai.yaml'), HONO_AI_STATE_DIR: at(`state-${engine}`) };
    const args = [...first, 'cli/main.ts', 'image', 'gen', 'a fox', '-m', 'sdxl', '-o', at(`${engine}-never.png`)];
    const child = execFile(command, args, { cwd: root, env: { ...env, HONO_AI_DISCOVER: 'false' }, timeout: 50_000 });
    const ended = new Promise<number | null>((resolve) => void child.once('exit', resolve));
    const id = await comfyui.held();
    child.kill('SIGINT');
    expect(await ended).not.toBe(0);
    await expect.poll(() => comfyui.running()).not.toBe(id);
    comfyui.release();
  });
});
