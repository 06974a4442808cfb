// What names and addresses mean to Ollama: who is asked for them, what the model is called, and which files of a repository it is made of.
import { describe, expect, it } from 'vitest';
import { createHub } from '../../adapters/downloads/hub.ts';
import { chooseFiles, quantOf } from '../../adapters/runtimes/ollama/gguf-files.ts';
import { library, libraryNames } from '../../adapters/runtimes/ollama/library.ts';
import { claimOf, parseName, placeOf, showName } from '../../adapters/runtimes/ollama/names.ts';
import { capabilities } from '../../src/capabilities/index.ts';
import type { PullWant } from '../../src/puller.ts';

const nobody = () => {
  throw new Error('nobody is asked');
};
const hub = createHub({ json: nobody, pages: nobody }, { url: 'https://huggingface.co' });
const naming = { source: 'ollama', hub, hosts: new Set(['models.example.com']) };

describe('names', () => {
  it.each([
    ['qwen3:8b', 'qwen3:8b'],
    ['llama3.2', 'llama3.2:latest'],
    ['somebody/model:tag', 'somebody/model:tag'],
    ['registry.ollama.ai/library/qwen3:8b', 'qwen3:8b'],
    ['models.example.com/team/model', 'models.example.com/team/model:latest'],
    ['127.0.0.1:5000/library/x:y', '127.0.0.1:5000/library/x:y'],
  ])('%s is %s', (text, full) => {
    expect(showName(parseName(text)!)).toBe(full);
  });

  it.each([
    '',
    ':',
    'a:',
    ':b',
    '/a',
    'a/',
    'a//b',
    '../a',
    'a/../b',
    '..',
    '.a',
    'a b',
    'a:b:c',
    'a@sha256:0',
    'a\u0000',
    'a\n:b',
    'a/b/c/d',
    'http://a/b/c',
    `${'a'.repeat(81)}`,
    'a:-b',
    'ä',
    'a\\b',
  ])('%j is none', (text) => {
    expect(parseName(text)).toBeUndefined();
  });
});

describe('claims', () => {
  const claim = (want: PullWant) => claimOf(want, hub, ({ model }) => libraryNames.has(model));

  it('names of the library first, other names as a guess', () => {
    expect(claim({ model: 'qwen3:8b' })).toBe(100);
    expect(claim({ model: 'qwen3:32b-q8_0' })).toBe(100);
    expect(claim({ model: 'unheard-of:7b' })).toBe(50);
    expect(claim({ model: 'sdxl' })).toBe(10);
  });

  it('GGUF files and repositories of them, wherever they are', () => {
    expect(claim({ model: 'hf.co/org/repo:Q4_K_M' })).toBe(80);
    expect(claim({ model: 'x', source: 'hf:org/Qwen3-8B-GGUF' })).toBe(60);
    expect(claim({ model: 'x', source: 'hf:org/repo/a.gguf' })).toBe(60);
    expect(claim({ model: 'x', source: 'https://example.com/a.gguf?key=1' })).toBe(60);
    expect(claim({ model: 'x', source: 'https://example.com/download/7', kind: 'gguf' })).toBe(60);
    expect(claim({ model: 'x', source: 'https://huggingface.co/org/repo', kind: 'gguf' })).toBe(80);
    expect(claim({ model: 'x', source: 'hf:stabilityai/sdxl' })).toBe(5);
  });

  it('nothing that is for others', () => {
    expect(claim({ model: 'a.safetensors' })).toBeUndefined();
    expect(claim({ model: 'x', source: 'https://example.com/a.safetensors' })).toBeUndefined();
    expect(claim({ model: 'x', source: 'https://example.com/' })).toBeUndefined();
    expect(claim({ model: 'x', source: 'hf:org/repo/a.safetensors', kind: 'gguf' })).toBeUndefined();
    expect(claim({ model: 'unet', source: 'https://example.com/a.gguf', kind: 'diffusion_model' })).toBeUndefined();
    expect(claim({ model: 'qwen3:8b', kind: 'lora' })).toBeUndefined();
    expect(claim({ model: '../../etc/passwd' })).toBeUndefined();
    expect(claim({ model: 'x', source: 'file:///etc/passwd' })).toBeUndefined();
  });
});

describe('places', () => {
  const place = (want: PullWant) => placeOf(want, naming);

  it('are a library, a repository, or a file', () => {
    expect(place({ model: 'qwen3' })).toMatchObject({ how: 'library', name: 'qwen3:latest' });
    expect(place({ model: 'hf.co/org/repo:Q8_0' })).toMatchObject({ how: 'repository', name: 'hf.co/org/repo:Q8_0' });
    expect(place({ model: 'mine', source: 'hf:org/repo' })).toMatchObject({ how: 'repository', name: 'mine:latest' });
    expect(place({ model: 'mine:1b', source: 'hf:org/repo/sub/a.gguf' })).toMatchObject({
      how: 'file',
      name: 'mine:1b',
      url: 'https://huggingface.co/org/repo/resolve/main/sub/a.gguf',
    });
    expect(place({ model: 'https://example.com/My%20Model%20(1).Q4_K_M.gguf' })).toMatchObject({
      how: 'file',
      name: 'My-Model-1-.Q4_K_M:latest',
    });
    expect(place({ model: 'a.gguf', source: 'https://example.com/b.gguf' }).name).toBe('a:latest');
  });

  it.each<[PullWant, string]>([
    [{ model: 'a/../b' }, 'invalid_request'],
    [{ model: 'mine', source: 'ftp://example.com/a.gguf' }, 'invalid_request'],
    [{ model: 'qwen3:8b', sha256: '0'.repeat(64) }, 'invalid_request'],
    [{ model: 'mine', source: 'hf:org/repo', sha256: '0'.repeat(64) }, 'invalid_request'],
    [{ model: 'internal.host/library/x' }, 'not_supported'],
  ])('%j is refused', (want, code) => {
    expect(() => place(want)).toThrow(expect.objectContaining({ code, source: 'ollama', hint: expect.any(String) }));
  });
});

describe('files of a repository', () => {
  const file = (path: string, size = 100) => ({ path, size, sha256: undefined });
  const choose = (paths: string[], quant?: string) =>
    chooseFiles(
      paths.map((path, index) => file(path, 1000 - index)),
      'org/repo',
      quant,
      'ollama',
    );
  const all = ['m-Q8_0.gguf', 'm-Q4_K_M.gguf', 'm-Q4_K_S.gguf', 'm-IQ2_XXS.gguf', 'README.md', 'mmproj-m-f16.gguf'];

  it('are the usual quantization, or the one that is asked for however it is spelled', () => {
    expect(choose(all).weights.map(({ path }) => path)).toEqual(['m-Q4_K_M.gguf']);
    expect(choose(all, 'latest').quant).toBe('Q4_K_M');
    expect(choose(all, 'q8_0').weights[0]!.path).toBe('m-Q8_0.gguf');
    expect(choose(['one.gguf']).weights[0]!.path).toBe('one.gguf');
    expect(choose(['large-F16.gguf', 'small-Q2_K.gguf']).weights[0]!.path).toBe('small-Q2_K.gguf');
  });

  it('come with the eyes of the model, at 16 bits, and never are those alone', () => {
    const found = choose([...all, 'mmproj-m-bf16.gguf', 'mmproj-m-q8_0.gguf']);
    expect(found.projector!.path).toBe('mmproj-m-f16.gguf');
    expect(choose(['m-Q4_K_M.gguf']).projector).toBeUndefined();
    expect(() => choose(['mmproj-m-f16.gguf'])).toThrow(expect.objectContaining({ code: 'not_supported' }));
  });

  it('are all parts in their order, or none', () => {
    const parts = ['b/m-Q4_K_M-00002-of-00002.gguf', 'b/m-Q4_K_M-00001-of-00002.gguf'];
    expect(choose(parts).weights.map(({ path }) => path)).toEqual(parts.toReversed());
    expect(() => choose(parts.slice(1))).toThrow(expect.objectContaining({ code: 'model_not_found' }));
  });

  it('are told apart by their names', () => {
    expect(quantOf('a/Qwen3-8B-UD-Q4_K_XL.gguf')).toBe('UD-Q4_K_XL');
    expect(quantOf('Model.IQ3_XXS.gguf')).toBe('IQ3_XXS');
    expect(quantOf('model-BF16.gguf')).toBe('BF16');
    expect(quantOf('Q-model.gguf')).toBeUndefined();
    expect(() => choose(all, 'Q6_K')).toThrow(
      expect.objectContaining({ hint: 'It has Q8_0, Q4_K_M, Q4_K_S, IQ2_XXS.' }),
    );
  });

  it('are named in no more time than their names deserve', () => {
    const long = `${'Q4_'.repeat(200_000)}.gguf`;
    const at = performance.now();
    quantOf(long);
    choose([long, ...all]);
    expect(performance.now() - at).toBeLessThan(10_000);
  });
});

it('the list of well-known models is in order', () => {
  expect(new Set(library.map(({ name }) => name)).size).toBe(library.length);
  for (const { name, size, capabilities: can } of library) {
    expect(parseName(name), name).toBeDefined();
    expect(size).toBeGreaterThan(1e6);
    for (const id of can) expect(Object.hasOwn(capabilities, id), id).toBe(true);
  }
});
