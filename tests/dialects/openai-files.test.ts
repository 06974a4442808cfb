// OpenAI's files, asked with its own SDK: what goes in comes out, to its owner only.
import OpenAI, { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openOpenAIGateway, type OpenAIGateway } from '../support/openai-gateway.ts';

let gateway: OpenAIGateway;
let alice: OpenAI;
let bob: OpenAI;

beforeAll(async () => {
  gateway = await openOpenAIGateway({ env: { HONO_AI_MAX_UPLOAD: '2MB' } });
  alice = gateway.sdk('alice');
  bob = gateway.sdk('bob');
});
afterAll(() => gateway?.close());

const upload = async (client: OpenAI, text: string, name = 'lines.jsonl', purpose: OpenAI.FilePurpose = 'batch') =>
  client.files.create({ file: await toFile(Buffer.from(text), name), purpose });

describe('a file', () => {
  it('is told in OpenAI’s shape', async () => {
    const before = Math.floor(Date.now() / 1000);
    const file = await upload(alice, '{"a":1}\n');
    expect(file).toEqual({
      id: expect.stringMatching(/^file-[0-9a-f]{32}$/),
      object: 'file',
      bytes: 8,
      created_at: expect.any(Number),
      expires_at: expect.any(Number),
      filename: 'lines.jsonl',
      purpose: 'batch',
      status: 'processed',
      status_details: null,
    });
    expect(file.created_at).toBeGreaterThanOrEqual(before);
    expect(file.created_at).toBeLessThanOrEqual(Math.ceil(Date.now() / 1000));
    expect(await alice.files.retrieve(file.id)).toEqual(file);
  });

  it('comes out as it went in, byte by byte', async () => {
    const bytes = crypto.getRandomValues(new Uint8Array(60_000));
    const file = await alice.files.create({ file: await toFile(bytes, 'noise.bin'), purpose: 'user_data' });
    const content = await alice.files.content(file.id);
    expect(new Uint8Array(await content.arrayBuffer())).toEqual(bytes);
    expect(content.headers.get('content-length')).toBe('60000');
    expect(content.headers.get('content-type')).toBe('application/octet-stream');
  });

  it('is one of the native artifacts', async () => {
    const file = await upload(alice, 'same bytes');
    const native = await gateway.request(`/artifacts/${file.id.replace('file-', 'art_')}`);
    expect(await native.json()).toMatchObject({ purpose: 'batch', size: 10, name: 'lines.jsonl' });
  });

  it('may come with fields in any order, and with fields nobody knows', async () => {
    const form = new FormData();
    form.set('expires_after[anchor]', 'created_at');
    form.set('expires_after[seconds]', '3600');
    form.set('purpose', 'assistants');
    form.set('file', new File(['x'], 'x.txt'));
    const answer = await gateway.request('/v1/files', { method: 'POST', body: form });
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({ purpose: 'assistants', bytes: 1 });
  });

  it('is gone when it was deleted', async () => {
    const file = await upload(alice, 'short life');
    expect(await alice.files.delete(file.id)).toEqual({ id: file.id, object: 'file', deleted: true });
    await expect(alice.files.retrieve(file.id)).rejects.toMatchObject({ status: 404 });
    await expect(alice.files.content(file.id)).rejects.toMatchObject({ status: 404 });
    await expect(alice.files.delete(file.id)).rejects.toMatchObject({ status: 404 });
  });

  it('of another caller is answered like one that is not there', async () => {
    const file = await upload(alice, 'private');
    const strip = (text: string) => text.replace(/"request_id":"[^"]*"/, '');
    const ask = async (id: string, path = '', method = 'GET') => {
      const answer = await gateway.request(`/v1/files/${id}${path}`, { method }, 'bob');
      return { status: answer.status, body: strip(await answer.text()) };
    };
    const unknown = `file-${'0'.repeat(32)}`;
    for (const [path, method] of [
      ['', 'GET'],
      ['/content', 'GET'],
      ['', 'DELETE'],
    ] as const) {
      const foreign = await ask(file.id, path, method);
      expect(foreign.status).toBe(404);
      expect(foreign).toEqual(await ask(unknown, path, method));
      expect(foreign).toEqual(await ask('nonsense', path, method));
    }
    expect((await bob.files.list()).data).toEqual([]);
    expect(await (await alice.files.content(file.id)).text()).toBe('private');
  });
});

describe('the list of files', () => {
  it('pages through all in either order, by purpose', async () => {
    const carol = await openOpenAIGateway();
    try {
      const client = carol.sdk();
      const made: string[] = [];
      for (let n = 0; n < 7; n++) {
        made.push((await upload(client, `file ${n}`, `${n}.txt`, n % 2 ? 'vision' : 'batch')).id);
        await new Promise((resolve) => setTimeout(resolve, 3));
      }
      const ids = async (query: OpenAI.FileListParams) => {
        const all: string[] = [];
        for await (const file of client.files.list(query)) all.push(file.id);
        return all;
      };
      expect(await ids({})).toEqual(made.toReversed());
      expect(await ids({ limit: 2 })).toEqual(made.toReversed());
      expect(await ids({ limit: 3, order: 'asc' })).toEqual(made);
      expect(await ids({ limit: 1, order: 'asc' })).toEqual(made);
      expect(await ids({ limit: 2, purpose: 'vision' })).toEqual([made[5], made[3], made[1]]);
      const page = await (await carol.request('/v1/files?limit=2')).json();
      expect(page).toMatchObject({ object: 'list', has_more: true, first_id: made[6], last_id: made[5] });
      await expect(client.files.list({ after: 'file-none' })).rejects.toMatchObject({ status: 400, param: 'after' });
    } finally {
      await carol.close();
    }
  });
});

describe('an upload that is refused', () => {
  const post = async (form: FormData | string, headers: Record<string, string> = {}) => {
    const before = (await alice.files.list()).data.length;
    const answer = await gateway.request('/v1/files', { method: 'POST', body: form, headers });
    const { error } = (await answer.json()) as { error: { code: string; param: string | null } };
    expect((await alice.files.list()).data).toHaveLength(before);
    return { status: answer.status, code: error.code, param: error.param };
  };
  const formOf = (fields: Record<string, string | File>) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.set(name, value);
    return form;
  };
  const file = new File(['x'], 'x.txt');

  it('without a purpose leaves nothing behind', async () => {
    expect(await post(formOf({ file }))).toEqual({ status: 400, code: 'invalid_request', param: 'purpose' });
  });

  it('for a purpose that is none says so', async () => {
    expect(await post(formOf({ file, purpose: 'world peace' }))).toMatchObject({ status: 400, param: 'purpose' });
  });

  it('without a file says so', async () => {
    expect(await post(formOf({ purpose: 'batch' }))).toMatchObject({ status: 400, param: 'file' });
  });

  it('with a second file says so', async () => {
    const form = formOf({ purpose: 'batch', file, other: file });
    expect(await post(form)).toMatchObject({ status: 400, param: 'other' });
  });

  it('that is too large gets 413', async () => {
    const large = new File([new Uint8Array(2 * 1024 * 1024 + 1)], 'large.bin');
    expect(await post(formOf({ purpose: 'batch', file: large }))).toMatchObject({ status: 413 });
  });

  it('that is no form gets 415', async () => {
    const headers = { 'content-type': 'application/json' };
    expect(await post('{}', headers)).toMatchObject({ status: 415, code: 'unsupported_media_type' });
  });

  it('that breaks off leaves nothing behind', async () => {
    const headers = { 'content-type': 'multipart/form-data; boundary=b' };
    const body = `--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nhalf of`;
    expect(await post(body, headers)).toMatchObject({ status: 400, code: 'invalid_request' });
  });
});
