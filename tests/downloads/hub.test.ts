// The Hugging Face hub: its words for files, listings in pages, what it tells of a repository, and listings that lie.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createHub } from '../../adapters/downloads/hub.ts';
import { openFakeHub, type FakeHub } from '../support/fake-hub.ts';
import { failure, makeBytes, MB, open, sha256 } from './bench.ts';

const never = new AbortController().signal;
const WEIGHTS = makeBytes(1.2 * MB);
const small = new TextEncoder().encode('{}');

let fake: FakeHub;
beforeAll(async () => {
  const many = Object.fromEntries(Array.from({ length: 7 }, (_, at) => [`dir/file-${at}.json`, small]));
  fake = await openFakeHub({ 'org/repo-GGUF': { 'a b.gguf': WEIGHTS, ...many }, 'org/gated': { 'x.json': small } });
  fake.gated.set('org/gated', 'hf_right');
});
afterAll(() => fake.close());

const hub = (tokens: Record<string, string> = {}) =>
  createHub(open({ trusted: fake.origins, tokens }), { url: `${fake.url}/` });

describe('what people call a file of the hub', () => {
  const place = (repo: string, more: object = {}) => ({
    repo,
    revision: 'main',
    path: undefined,
    quant: undefined,
    ...more,
  });
  it.each([
    ['hf:org/repo', place('org/repo')],
    ['hf:org/repo@v1.0', place('org/repo', { revision: 'v1.0' })],
    ['hf:org/repo@refs%2Fpr%2F3/a/b.bin', place('org/repo', { revision: 'refs/pr/3', path: 'a/b.bin' })],
    ['hf:org/repo/onnx/model.onnx', place('org/repo', { path: 'onnx/model.onnx' })],
    ['hf:org/repo/x@y.bin', place('org/repo', { path: 'x@y.bin' })],
    ['hf.co/org/repo:Q4_K_M', place('org/repo', { quant: 'Q4_K_M' })],
    ['hf.co/org/repo', place('org/repo')],
    ['huggingface.co/org/repo:Q8_0', place('org/repo', { quant: 'Q8_0' })],
    ['https://huggingface.co/org/repo', place('org/repo')],
    [
      'https://huggingface.co/org/repo/resolve/main/a%20b/c.bin?download=true',
      place('org/repo', { path: 'a b/c.bin' }),
    ],
    ['https://hf.co/org/repo/blob/abc123/c.bin', place('org/repo', { revision: 'abc123', path: 'c.bin' })],
    ['huggingface.co/org/repo/resolve/refs%2Fpr%2F1/c', place('org/repo', { revision: 'refs/pr/1', path: 'c' })],
    ['https://huggingface.co/org/repo/tree/main', place('org/repo')],
  ])('is understood: %s', (source, expected) => {
    expect(hub().parse(source)).toEqual(expected);
  });

  it.each([
    '',
    'hf:',
    'hf:org',
    'hf://org/repo',
    'hf:org/repo/../x',
    'hf:org/repo@../x',
    'hf:org/repo@%2e%2e',
    'hf:../repo',
    'hf:org/re po',
    'hf:o%72g/%2e%2e',
    'https://huggingface.co/',
    'https://huggingface.co/models',
    'https://huggingface.co/datasets/org/repo',
    'https://huggingface.co/org/repo/resolve/main/..%2f..%2fx',
    'https://huggingface.co/org/repo/resolve/%zz/x',
    'https://user@huggingface.co/org/repo',
    'https://huggingface.co.evil.test/org/repo',
    'https://example.com/org/repo',
    'qwen3:8b',
    `hf:${'a'.repeat(3000)}/b`,
  ])('is none of the hub: %j', (source) => {
    expect(hub().parse(source)).toBeUndefined();
  });

  it('is told from other hosts by the address of the mirror too', () => {
    expect(hub().parse(`${fake.url}/org/repo/resolve/main/x`)).toMatchObject({ repo: 'org/repo', path: 'x' });
  });
});

describe('a repository', () => {
  it('is listed over all pages, with the hashes of large files', async () => {
    fake.pageSize = 3;
    const files = await hub().files('org/repo-GGUF', 'main', never);
    expect(files).toHaveLength(8);
    expect(files[0]).toEqual({ path: 'a b.gguf', size: WEIGHTS.length, sha256: sha256(WEIGHTS) });
    expect(files[1]).toEqual({ path: 'dir/file-0.json', size: 2, sha256: undefined });
    expect(fake.requests.filter((line) => line.includes('/tree/'))).toHaveLength(3);
    const url = hub().urlOf('org/repo-GGUF', 'main', 'a b.gguf');
    const told = { size: WEIGHTS.length, sha256: sha256(WEIGHTS), ranges: true };
    expect(await open({ trusted: fake.origins }).look(url, never)).toMatchObject(told);
  });

  it('is listed over all pages by a mirror too, whose links name the hub itself', async () => {
    fake.pageSize = 3;
    fake.spoken = 'https://huggingface.co';
    expect(await hub().files('org/repo-GGUF', 'main', never)).toHaveLength(8);
    fake.spoken = 'https://huggingface.co/elsewhere';
    expect(await hub().files('org/repo-GGUF', 'main', never)).toHaveLength(3);
    fake.spoken = undefined;
  });

  it('is listed without what cannot be a file', async () => {
    fake.pageSize = 1000;
    fake.extra = [
      ...['../../x', '/etc/passwd', 'a\\b', 'con', 'a\0b', 'x.part', '..', 5, null].map((path) => ({
        type: 'file',
        path,
        size: 1,
      })),
      { type: 'file', path: 'negative', size: -1 },
      { type: 'file', path: 'vague', size: 'large' },
      { type: 'file', path: 'odd.bin', size: 3, lfs: { oid: '../../x', size: 9 } },
      { type: 'directory', path: 'dir', size: 0 },
      null,
      'x',
      [],
    ];
    const files = await hub().files('org/repo-GGUF', 'main', never);
    expect(files[0]).toEqual({ path: 'odd.bin', size: 9, sha256: undefined });
    expect(files).toHaveLength(9);
    fake.extra = [];
  });

  it('is described and found', async () => {
    expect(await hub().info('org/repo-GGUF', never)).toEqual({
      id: 'org/repo-GGUF',
      license: 'apache-2.0',
      gated: false,
      tags: ['gguf', 'license:apache-2.0', 'region:us'],
      downloads: 1300,
      task: 'text-generation',
    });
    const found = await hub().search('gguf', { filter: 'gguf', limit: 5 }, never);
    expect(found.map(({ id }) => id)).toEqual(['org/repo-GGUF']);
    expect(fake.requests.at(-1)).toMatch(/search=gguf.*sort=downloads.*limit=5.*filter=gguf/);
  });

  it('whose terms are not accepted, or that is not there, is said to be so', async () => {
    const gated = await failure(hub().files('org/gated', 'main', never));
    expect(gated).toMatchObject({ code: 'model_unavailable', retry: false });
    expect(gated.hint).toMatch(/Accept the terms.*HF_TOKEN/);
    expect((await hub().info('org/gated', never)).gated).toBe(true);
    expect(await hub({ [fake.url]: 'hf_right' }).files('org/gated', 'main', never)).toHaveLength(1);
    for (const repo of ['org/none', 'org/repo-GGUF']) {
      const url = hub().urlOf(repo, 'main', 'none.bin');
      expect((await failure(open({ trusted: fake.origins }).look(url, never))).code).toBe('model_not_found');
    }
    for (const repo of ['../x', 'a', 'a/b/c', 'a/..']) {
      expect((await failure(hub().files(repo, 'main', never))).code).toBe('invalid_request');
    }
  });
});
