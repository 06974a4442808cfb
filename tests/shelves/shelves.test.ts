// Folders of models that are known beforehand: Whisper's, Kokoro's and ACE-Step's.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createDownloads } from '../../adapters/downloads/index.ts';
import { toShelf } from '../../adapters/runtimes/acestep/models.ts';
import { openShelves } from '../../adapters/shelves/index.ts';
import { createShelf } from '../../adapters/shelves/shelf.ts';
import type { Puller } from '../../src/puller.ts';
import { pull, signal } from '../support/comfyui-pulls.ts';
import { openFakeHub, type FakeHub, type FakeRepo } from '../support/fake-hub.ts';

const bytes = (size: number) => new Uint8Array(size).fill(9);
const MAIN = {
  'README.md': bytes(3),
  'acestep-v15-turbo/model.safetensors': bytes(500),
  'acestep-v15-turbo/modeling.py': bytes(50),
  'acestep-5Hz-lm-1.7B/model.safetensors': bytes(400),
  'vae/diffusion_pytorch_model.safetensors': bytes(30),
  'Qwen3-Embedding-0.6B/model.safetensors': bytes(60),
};
const REPOS: Record<string, FakeRepo> = {
  'ggerganov/whisper.cpp': {
    'ggml-small.bin': bytes(300),
    'ggml-tiny.en.bin': bytes(100),
    'ggml-base.bin': bytes(200),
  },
  'hexgrad/Kokoro-82M': {
    'README.md': bytes(3),
    'config.json': bytes(20),
    'kokoro-v1_0.pth': bytes(900),
    'voices/af_heart.pt': bytes(30),
    'voices/bm_george.pt': bytes(30),
    'samples/HEARME.wav': bytes(9),
  },
  'ACE-Step/Ace-Step1.5': MAIN,
  'ACE-Step/acestep-v15-sft': { 'README.md': bytes(3), 'model.safetensors': bytes(700), 'config.json': bytes(4) },
};

let root: string;
let hub: FakeHub;
const dirOf = (name: string) => join(root, name);

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'hono-ai-shelves-'));
  for (const name of ['whisper', 'kokoro', 'acestep']) mkdirSync(dirOf(name));
  writeFileSync(join(root, 'canary'), 'alive');
  hub = await openFakeHub(REPOS);
});
afterEach(async () => {
  expect(readdirSync(root)).toEqual(['acestep', 'canary', 'kokoro', 'whisper']);
  await hub.close();
  rmSync(root, { recursive: true, force: true });
});

const downloads = () =>
  createDownloads({ tokens: {}, trusted: hub.origins, allow: [], stallMs: 1000, tries: 2, backoffMs: 10 });

function open(name: 'whisper' | 'kokoro' | 'acestep', dir: string | undefined = dirOf(name)): Puller {
  const options = { downloads: downloads(), hubUrl: hub.url };
  if (name === 'acestep') return createShelf(toShelf('acestep'), { ...options, dir });
  const dirs = dir === '' ? {} : { [name]: dir };
  return openShelves({ ...options, dirs }).find(({ runtime }) => runtime === name)!;
}

const list = (name: string) =>
  readdirSync(dirOf(name), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(dirOf(name).length + 1))
    .toSorted();

describe('whisper', () => {
  it.each(['whisper-small', 'ggml-small.bin', 'ggml-small'])('is got as %s', async (model) => {
    const puller = open('whisper');
    expect(puller.claims({ model })).toBe(100);
    expect(await puller.plan({ model }, signal)).toMatchObject({ model: 'whisper-small', bytes: 300, license: 'MIT' });
    await pull(puller, { model });
    expect(list('whisper')).toEqual(['ggml-small.bin']);
    expect(await puller.plan({ model }, signal)).toMatchObject({ bytes: 0, files: [{ present: true }] });
  });

  it('is found with its size while nobody answers, and removed alone', async () => {
    const puller = open('whisper');
    await pull(puller, { model: 'whisper-small' });
    await pull(puller, { model: 'x', source: 'hf:ggerganov/whisper.cpp/ggml-base.bin' });
    hub.trouble = { kind: 'silence' };
    const found = await puller.search!('whisper small', signal);
    expect(found.find(({ model }) => model === 'whisper-small')).toMatchObject({ present: true, size: 487_601_967 });
    expect(found.find(({ model }) => model === 'whisper-small.en')).toMatchObject({ present: false });
    expect(await puller.remove!('whisper-small', signal)).toMatchObject({ freed: 300 });
    expect(list('whisper')).toEqual(['ggml-base.bin']);
    await expect(puller.remove!('whisper-small', signal)).rejects.toMatchObject({ code: 'model_not_found' });
  });

  it('cannot be got without its folder, and a search says how it could', async () => {
    const puller = open('whisper', '');
    // More than who knows the name by chance, less than who has it.
    expect(puller.claims({ model: 'whisper-small' })).toBe(40);
    expect(puller.claims({ model: 'no-whisper' })).toBeUndefined();
    const [first] = await puller.search!('whisper tiny', signal);
    expect(first).toMatchObject({ present: false, title: expect.stringContaining('HONO_AI_MODEL_DIRS=whisper:') });
    await expect(puller.plan({ model: 'whisper-small' }, signal)).rejects.toMatchObject({ code: 'not_supported' });
    await expect(pull(puller, { model: 'whisper-small' })).rejects.toMatchObject({ code: 'not_supported' });
  });

  it('with a wrong hash is not kept', async () => {
    const puller = open('whisper');
    const wrong = pull(puller, { model: 'whisper-small', sha256: 'a'.repeat(64) });
    await expect(wrong).rejects.toMatchObject({ code: 'digest_mismatch' });
    expect(list('whisper')).not.toContain('ggml-small.bin');
  });

  it.each(['../canary', 'ggml-../../canary.bin', 'small', 'whisper-', 'constructor'])(
    'does not know %s',
    async (model) => {
      const puller = open('whisper');
      expect(puller.claims({ model })).toBeUndefined();
      await expect(puller.remove!(model, signal)).rejects.toMatchObject({ code: 'model_not_found' });
    },
  );
});

describe('kokoro', () => {
  it('comes with its voices and without what is for people', async () => {
    const puller = open('kokoro');
    expect(puller.claims({ model: 'x', source: 'hf:hexgrad/Kokoro-82M' })).toBe(100);
    const { warnings } = await pull(puller, { model: 'kokoro' });
    expect(warnings).toEqual([expect.stringContaining('pickles')]);
    expect(list('kokoro')).toEqual(['config.json', 'kokoro-v1_0.pth', 'voices/af_heart.pt', 'voices/bm_george.pt']);
    writeFileSync(join(dirOf('kokoro'), 'mine.txt'), 'mine');
    symlinkSync(join(root, 'canary'), join(dirOf('kokoro'), 'voices', 'af_link.pt'));
    expect(await puller.remove!('kokoro', signal)).toMatchObject({ freed: 980 });
    expect(list('kokoro')).toEqual(['mine.txt']);
    expect(readdirSync(join(dirOf('kokoro'), 'voices'))).toEqual(['af_link.pt']);
  });
});

describe('ace-step', () => {
  it('comes whole, with a word on its code', async () => {
    const puller = open('acestep');
    expect(puller.claims({ model: 'ace-step-1.5' })).toBe(90);
    const { model, warnings } = await pull(puller, { model: 'ace-step-1.5' });
    expect(model).toBe('acestep-v15-turbo');
    expect(warnings).toEqual([expect.stringContaining('code of its own')]);
    expect(list('acestep')).toEqual(
      Object.keys(MAIN)
        .filter((path) => path !== 'README.md')
        .toSorted(),
    );
  });

  it('is not held to the hash of one file where it has several', async () => {
    const want = { model: 'acestep-v15-turbo', sha256: 'a'.repeat(64) };
    await expect(pull(open('acestep'), want)).rejects.toMatchObject({ code: 'invalid_request', param: 'sha256' });
  });

  it('keeps what its other models need', async () => {
    const puller = open('acestep');
    await pull(puller, { model: 'acestep-v15-turbo' });
    const { warnings } = await pull(puller, { model: 'acestep-v15-sft' });
    expect(warnings).toEqual([expect.stringContaining('ACESTEP_CONFIG_PATH=acestep-v15-sft')]);
    const { files } = await puller.remove!('acestep-v15-turbo', signal);
    expect(files.every(({ name }) => /^acestep-(v15-turbo|5Hz)/.test(name))).toBe(true);
    expect(list('acestep')).toEqual([
      'Qwen3-Embedding-0.6B/model.safetensors',
      'acestep-v15-sft/config.json',
      'acestep-v15-sft/model.safetensors',
      'vae/diffusion_pytorch_model.safetensors',
    ]);
    const found = await puller.search!('music', signal);
    expect(found.filter(({ present }) => present).map((offer) => offer.model)).toEqual(['acestep-v15-sft']);
  });
});
