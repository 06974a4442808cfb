// Files that requests bring, over the whole gateway in process: every way in, every refusal, and nothing left behind by any of them.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { openGateway } from '../../adapters/index.ts';
import { openMediaTools } from '../../adapters/media/index.ts';
import type { Input } from '../../src/capabilities/index.ts';
import type { InputFile, RuntimeAdapter } from '../../src/runtime.ts';
import { eventually } from '../support/eventually.ts';
import { post } from '../support/gateway.ts';
import * as media from '../support/media/index.ts';

const tools = openMediaTools({ maxPixels: 64_000_000 });

interface Seen {
  input: Input<'image.edit'>;
  files: (Pick<InputFile, 'media_type' | 'media'> & { bytes: Uint8Array })[];
}

let folder: string;
let seen: Seen[];
let gate: Promise<void>;
let picture: Uint8Array;
let other: Uint8Array;
let mask: Uint8Array;
let gateway: Awaited<ReturnType<typeof openGateway>>;

beforeAll(async () => {
  picture = await media.makePicture({ width: 32, height: 24 });
  other = await media.makePicture({ width: 32, height: 24, colour: [9, 200, 9] });
  mask = await media.makePicture({ width: 32, height: 24, colour: [255, 255, 255] });
  folder = mkdtempSync(join(tmpdir(), 'hono-ai-inputs-'));
  gateway = await start({});
});
afterAll(async () => {
  await gateway.close();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  seen = [];
  gate = Promise.resolve();
  const { data } = (await (await request('/artifacts?limit=100')).json()) as { data: { id: string }[] };
  for (const { id } of data) await request(`/artifacts/${id}`, { method: 'DELETE' });
  expect(kept()).toEqual([]);
});

function start(more: Record<string, string>): ReturnType<typeof openGateway> {
  const env = { HONO_AI_CONFIG: '/dev/null', HONO_AI_STATE_DIR: folder, HONO_AI_LOG_LEVEL: 'silent', ...more };
  return openGateway({ env, runtimes: [painter()] });
}

/** Other settings for the rest of the test. */
async function restart(more: Record<string, string>): Promise<void> {
  await gateway.close();
  gateway = await start(more);
  onTestFinished(async () => {
    await gateway.close();
    gateway = await start({});
  });
}

/** Looks at the files of a request, as runtimes do, and gives the first one back. */
function painter(): RuntimeAdapter {
  return {
    name: 'painter',
    priority: 1,
    models: async () => [
      { id: 'brush', capabilities: ['image.edit', 'image.vary'], state: 'ready', mask: true },
      { id: 'eye', capabilities: ['text.chat'], state: 'ready', vision: true },
    ],
    health: async () => {},
    handles: {
      async *'image.edit'(input, call) {
        await gate;
        const references = [...input.image, ...(input.mask === undefined ? [] : [input.mask])];
        const found = await Promise.all(references.map(call.file));
        const files = [];
        for (const { media_type, media: measures, bytes } of found)
          files.push({ media_type, media: measures, bytes: await bytes() });
        seen.push({ input, files });
        await tools.toPng(files[0]!.bytes);
        yield { type: 'result', result: {}, files: [{ bytes: other }] };
      },
      async *'image.vary'() {
        yield { type: 'result', result: {}, files: [{ bytes: picture }] };
      },
      async *'text.chat'(input) {
        const [message] = input.messages;
        const content = JSON.stringify(message!.content);
        if (/fail/.test(content)) throw new Error('the eye is shut');
        yield { type: 'chunk', chunk: { text: 'a picture' } };
        const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
        yield {
          type: 'result',
          result: { message: { role: 'assistant', content: `${content.length > 100}` }, finish_reason: 'stop', usage },
        };
      },
    },
  };
}

const request = async (path: string, init?: RequestInit) =>
  gateway.app.fetch(new Request(`http://127.0.0.1${path}`, init));
const edit = (body: object, init: RequestInit = {}) => request('/image/edit', post({ prompt: 'a fox', ...body }, init));
const toBase64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
const toDataUrl = (bytes: Uint8Array, type = 'image/png') => `data:${type};base64,${toBase64(bytes)}`;

type Part = [name: string, value: Uint8Array | string, filename?: string];

function toForm(parts: Part[]): FormData {
  const form = new FormData();
  for (const [name, value, filename = 'x.png'] of parts) {
    if (typeof value === 'string') form.append(name, value);
    else form.append(name, new File([value as Uint8Array<ArrayBuffer>], filename, { type: 'image/png' }));
  }
  return form;
}

const send = (parts: Part[], headers: Record<string, string> = {}, path = '/image/edit') =>
  request(path, { method: 'POST', body: toForm([['prompt', 'a fox'], ...parts]), headers });

interface Failure {
  status: number;
  code: string;
  message: string;
  param: string | null;
}

async function refusal(asked: Response | Promise<Response>): Promise<Failure> {
  const response = await asked;
  const { error } = (await response.json()) as { error: Omit<Failure, 'status'> };
  return { ...error, status: response.status };
}

/** Ids of what is kept of requests. */
async function brought(): Promise<string[]> {
  const { data } = (await (await request('/artifacts?purpose=input&limit=100')).json()) as { data: { id: string }[] };
  return data.map(({ id }) => id);
}

/** Files on the disk, whatever the records say. */
function kept(): string[] {
  return readdirSync(join(folder, 'artifacts'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name);
}

/** A job or a batch, when it has ended. */
async function ended(path: string): Promise<object> {
  for (;;) {
    const view = (await (await request(path)).json()) as { state?: string };
    if (/^(done|failed|cancelled)$/.test(view.state ?? '')) return view;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function upload(bytes: Uint8Array): Promise<string> {
  const response = await request('/artifacts', { method: 'POST', body: bytes as Uint8Array<ArrayBuffer> });
  const { id } = (await response.json()) as { id: string };
  expect(id).toMatch(/^art_/);
  return id;
}

describe('a file', () => {
  it.each([
    ['a data: URL', () => toDataUrl(picture)],
    ['a data: URL of a wrong type', () => toDataUrl(picture, 'text/html;charset=x')],
    ['base64', () => toBase64(picture)],
    ['base64 in lines', () => toBase64(picture).replace(/.{60}/g, '$&\r\n')],
    ['base64 as URLs have it', () => Buffer.from(picture).toString('base64url')],
  ])('comes as %s', async (_, give) => {
    const response = await edit({ image: give() });
    expect(response.status, await response.clone().text()).toBe(200);
    expect(seen[0]!.files[0]).toEqual({
      media_type: 'image/png',
      media: { width: 32, height: 24, frames: 1 },
      bytes: picture,
    });
    expect(seen[0]!.input.image).toEqual(await brought());
  });

  it('comes as what the caller has here, by its id or its link, and stays the caller’s', async () => {
    const id = await upload(picture);
    const { url } = (await (await request(`/artifacts/${id}`)).json()) as { url: string };
    for (const image of [id, [id], url, `http://127.0.0.1${url}`]) {
      const response = await edit({ image });
      expect(response.status, await response.text()).toBe(200);
      expect(seen.at(-1)!.input.image).toEqual([id]);
    }
    const form: Part[] = [['image', id]];
    expect((await send(form)).status).toBe(200);
    await refusal(edit({ image: [id, 'rubbish!'] }));
    expect((await request(`/artifacts/${id}`)).status).toBe(200);
    expect(await brought()).toEqual([]);
  });

  it('is kept once, however often it comes', async () => {
    for (let times = 0; times < 3; times++) await edit({ image: toDataUrl(picture), seed: times });
    expect(await brought()).toHaveLength(3);
    // The picture that came, and the one that was made of it.
    expect(kept()).toHaveLength(2);
  });
});

describe('a form', () => {
  it('brings files one by one, in lists and under one name, in their order', async () => {
    for (const names of [
      ['image', 'image'],
      ['image[]', 'image[]'],
    ]) {
      const response = await send([
        [names[0]!, picture],
        [names[1]!, other],
        ['mask', mask],
      ]);
      expect(response.status, await response.clone().text()).toBe(200);
      expect(seen.at(-1)!.files.map(({ bytes }) => bytes)).toEqual([picture, other, mask]);
    }
    expect(await brought()).toHaveLength(6);
  });

  it('has numbers, lists and words as they are meant', async () => {
    const response = await send([
      ['image', picture],
      ['n', '2'],
      ['strength', '0.25'],
      ['seed', '7'],
      ['num_inference_steps', '4'],
      ['stream', 'false'],
      ['negative_prompt', ''],
      ['guidance_scale', ''],
      ['output_format', ''],
      ['size', ''],
      ['loras', 'detail'],
      ['loras', '{"name":"style","strength":0.5}'],
      ['__proto__', '{"strength":1}'],
      ['unknown', 'is fine'],
    ]);
    expect(response.status, await response.clone().text()).toBe(200);
    expect(seen[0]!.input).toMatchObject({
      prompt: 'a fox',
      n: 2,
      strength: 0.25,
      seed: 7,
      num_inference_steps: 4,
      negative_prompt: '',
      loras: ['detail', { name: 'style', strength: 0.5 }],
    });
    for (const name of ['guidance_scale', 'output_format', 'size']) expect(seen[0]!.input).not.toHaveProperty(name);
  });

  it.each<[string, Part[], Partial<Failure>, RegExp]>([
    ['a number that is none', [['n', 'two']], { code: 'invalid_request', param: 'n' }, /n:/],
    ['a word for a number', [['strength', 'Infinity']], { param: 'strength' }, /strength/],
    ['a file that has no field', [['control', new Uint8Array(4)]], { param: 'control' }, /image, mask can be/],
    [
      'one mask too many',
      [
        ['mask[]', 'x'],
        ['mask', 'y'],
      ],
      { param: 'mask' },
      /twice/,
    ],
    [
      'a field that is too large',
      [['prompt[]', 'x'.repeat(300_000)]],
      { status: 413, code: 'body_too_large' },
      /field/,
    ],
    ['a prompt that is too long', [['negative_prompt', 'x'.repeat(40_000)]], { param: 'negative_prompt' }, /negative/],
  ])('with %s is refused, and its files are gone', async (_, parts, want, message) => {
    const failure = await refusal(send([['image', picture], ...parts]));
    expect(failure).toMatchObject({ status: 400, ...want });
    expect(failure.message).toMatch(message);
    expect(await brought()).toEqual([]);
    expect(kept()).toEqual([]);
  });

  it('without what must be there is refused', async () => {
    expect(await refusal(send([]))).toMatchObject({ status: 400, param: 'image' });
    expect(await refusal(request('/image/edit', { method: 'POST', body: toForm([['image', picture]]) }))).toMatchObject(
      {
        param: 'prompt',
      },
    );
    expect(await brought()).toEqual([]);
  });

  it('holds a long prompt in any script', async () => {
    const prompt = '\u72d0'.repeat(31_000);
    const body = toForm([
      ['prompt', prompt],
      ['image', picture],
    ]);
    expect((await request('/image/edit', { method: 'POST', body })).status).toBe(200);
    expect(seen[0]!.input.prompt).toBe(prompt);
  });
});

describe('what is no picture', () => {
  const cases: [string, () => Uint8Array | Promise<Uint8Array>, RegExp][] = [
    ['text that is called a PNG', media.plainText, /^image: this is text\/plain, not a picture that can be used\.$/],
    ['a drawing with a script', media.activeSvg, /^image: this is image\/svg\+xml, not a picture/],
    ['a page', () => new TextEncoder().encode('<!doctype html><script>1</script>'), /^image: this is text\/html/],
    ['nothing', () => new Uint8Array(), /^image: the file is empty\.$/],
    ['noise', () => new Uint8Array(500).fill(0xee), /^image: this is application\/octet-stream/],
    ['a sound', () => media.makeWav({ seconds: 0.1 }), /^image: this is audio\/wav, not a picture/],
    ['fifty thousand by fifty thousand', () => media.pixelBomb(), /^image: 50000x50000 is more than 64 megapixels\.$/],
    ['a PNG cut off in its header', async () => picture.slice(0, 20), /^image: the picture is damaged/],
    ['one pixel', media.onePixel, /^image: 1x1 is too small; a side has at least 16 pixels here\.$/],
    ['a strip', () => media.makePicture({ width: 300, height: 9 }), /^image: 300x9 is too small/],
  ];

  it.each(cases)('is refused: %s', async (_, make, message) => {
    const bytes = await make();
    const asked = [() => send([['image', bytes]])];
    // Nothing at all is no base64.
    if (bytes.length > 0) {
      asked.push(() => edit({ image: toDataUrl(bytes) }));
      asked.push(() => edit({ image: [toDataUrl(picture), toBase64(bytes)] }));
    }
    for (const ask of asked) {
      const failure = await refusal(ask());
      expect(failure).toMatchObject({ status: 400, code: 'invalid_request', param: 'image' });
      expect(failure.message).toMatch(message);
    }
    expect(seen).toEqual([]);
    expect(await brought()).toEqual([]);
    expect(kept()).toEqual([]);
  });

  it.each([
    ['what is no base64', 'neither!', 'invalid_request', /neither an artifact’?'?s id nor a data: URL nor base64/],
    // Long enough that a look at it for each of its letters would never end.
    ['a sea of blanks', `${' '.repeat(2_000_000)}!`, 'invalid_request', /neither/],
    ['padding in the middle', 'AAAA=AAA', 'invalid_request', /neither/],
    ['an address', 'https://example.com/cat.png', 'invalid_request', /does not fetch/],
    ['a file here', 'file:///etc/hostname', 'invalid_request', /does not fetch/],
    ['a path', '../../etc/hostname', 'invalid_request', /neither/],
    ['a data: URL without base64', 'data:image/png,hello', 'invalid_request', /neither/],
    ['an id of nothing', `art_${'0'.repeat(32)}`, 'not_found', /no such artifact/],
  ] as const)('is refused: %s', async (_, image, code, message) => {
    const failure = await refusal(edit({ image: [toDataUrl(picture), image] }));
    expect(failure).toMatchObject({ code, param: 'image' });
    expect(failure.message).toMatch(message);
    expect(await brought()).toEqual([]);
    expect(kept()).toEqual([]);
  });

  it('that looks right until it is decoded fails its job in the same words', async () => {
    const failure = await refusal(edit({ image: toDataUrl(await media.truncatedPng()) }));
    expect(failure).toMatchObject({ status: 400, code: 'invalid_request' });
    expect(failure.message).toMatch(/damaged/);
  });

  it('is looked at only where it begins, however many pictures move in it', async () => {
    const bomb = await media.frameBomb('webp');
    expect(await refusal(send([['image', bomb]]))).toMatchObject({ code: 'invalid_request', param: 'image' });
    const moving = await media.makeAnimation('gif', {
      width: 20,
      height: 20,
      fps: 5,
      frames: [
        [1, 2, 3],
        [200, 2, 3],
      ],
    });
    expect((await send([['image', moving]])).status).toBe(200);
    expect(seen[0]!.files[0]!.media).toEqual({ width: 20, height: 20, frames: 2 });
  });

  it('is refused where it is larger than allowed, before it has come', async () => {
    await restart({ HONO_AI_MAX_IMAGE: '100KB', HONO_AI_MAX_PIXELS: '1000000' });
    const noise = randomBytes(300_000);
    const large = await sharp(noise, { raw: { width: 400, height: 250, channels: 3 } })
      .png()
      .toBuffer();
    let failure = await refusal(send([['image', new Uint8Array(large)]]));
    expect(failure).toMatchObject({ status: 413, code: 'body_too_large', param: 'image' });
    failure = await refusal(edit({ image: toBase64(large) }));
    expect(failure).toMatchObject({ status: 413, code: 'body_too_large', param: 'image' });
    const wide = await media.makePicture({ width: 2000, height: 1000 });
    expect((await refusal(send([['image', wide]]))).message).toBe('image: 2000x1000 is more than 1 megapixels.');
    expect(await brought()).toEqual([]);
    expect(kept()).toEqual([]);
  });
});

describe('a mask', () => {
  it('is as large as the first picture, or refused with both sizes', async () => {
    const small = await media.makePicture({ width: 16, height: 24, colour: [255, 255, 255] });
    const failure = await refusal(
      send([
        ['image', picture],
        ['image', small],
        ['mask', small],
      ]),
    );
    expect(failure).toMatchObject({ status: 400, code: 'invalid_request', param: 'mask' });
    expect(failure.message).toBe('mask: it is 16x24, but the picture it belongs to is 32x24.');
    expect(await brought()).toEqual([]);
  });

  it('fits a photograph as it is seen, not as it lies', async () => {
    const photo = sharp({ create: { width: 24, height: 32, channels: 3, background: '#345' } });
    const lying = new Uint8Array(await photo.withMetadata({ orientation: 6 }).jpeg().toBuffer());
    expect(
      (
        await send([
          ['image', lying],
          ['mask', mask],
        ])
      ).status,
    ).toBe(200);
    const failure = await refusal(
      send([
        ['image', lying],
        ['mask', lying],
        ['mask[]', mask],
      ]),
    );
    expect(failure.message).toMatch(/twice/);
  });
});

describe('what a request brought', () => {
  it('is forgotten when the job is not taken', async () => {
    expect(
      await refusal(
        send([
          ['image', picture],
          ['model', 'no-such-model'],
        ]),
      ),
    ).toMatchObject({ status: 404 });
    const before = (await brought()).length;
    expect(await refusal(edit({ image: toDataUrl(picture), n: 99 }))).toMatchObject({ param: 'n' });
    expect(
      await refusal(
        send([
          ['image', picture],
          ['job', '{"priority":"none"}'],
        ]),
      ),
    ).toMatchObject({ status: 400 });
    expect(await brought()).toHaveLength(before);
  });

  it('stays with a job that is taken, also where it fails', async () => {
    const response = await send([['image', await media.truncatedPng()]]);
    expect(response.status).toBe(400);
    expect(response.headers.get('x-job-id')).toMatch(/^job_/);
    expect(await brought()).toHaveLength(1);
  });

  it('is forgotten when an answer that is no job’s is given', async () => {
    const ask = (stream: boolean) => request('/image/describe', post({ image: toDataUrl(picture), stream }));
    expect(((await (await ask(false)).json()) as { text: string }).text).toBe('true');
    await (await ask(true)).text();
    const failed = await request('/image/describe', post({ image: toDataUrl(picture), prompt: 'fail' }));
    expect(failed.status).toBeGreaterThan(499);
    await eventually('it is forgotten', () => kept().length === 0);
    expect(await brought()).toEqual([]);
  });

  it('is gone by the time its job runs: that is said', async () => {
    const id = await upload(picture);
    const held = Promise.withResolvers<void>();
    gate = held.promise;
    const asked = await edit({ image: id }, { headers: { prefer: 'respond-async' } });
    const text = await asked.text();
    expect(asked.status, text).toBe(202);
    const { id: job } = JSON.parse(text) as { id: string };
    await request(`/artifacts/${id}`, { method: 'DELETE' });
    held.resolve();
    const last = (await ended(`/jobs/${job}`)) as { error: { message: string } };
    expect(last).toMatchObject({ state: 'failed', error: { code: 'expired' } });
    expect(last.error.message).toMatch(/file that this request brought is gone/);
  });
});

describe('with an Idempotency-Key', () => {
  let headers: Record<string, string>;
  beforeEach(() => {
    headers = { 'idempotency-key': crypto.randomUUID() };
  });

  it('the same form is answered again, and its files are not kept again', async () => {
    const parts: Part[] = [
      ['image', picture],
      ['mask', mask],
      ['seed', '1'],
    ];
    const first = await send(parts, headers);
    expect(first.status).toBe(200);
    const text = await first.text();
    const before = await brought();
    const again = await send([parts[2]!, parts[0]!, parts[1]!], headers);
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect(await again.text()).toBe(text);
    expect(seen).toHaveLength(1);
    expect(await brought()).toEqual(before);
  });

  it('another file, another field or another order is another request', async () => {
    await send([['image', picture]], headers);
    const before = await brought();
    for (const parts of [
      [['image', other]],
      [
        ['image', picture],
        ['seed', '2'],
      ],
      [
        ['image', picture],
        ['image', other],
      ],
    ] as Part[][])
      expect(await refusal(send(parts, headers))).toMatchObject({ status: 422, code: 'idempotency_mismatch' });
    expect(await brought()).toEqual(before);
  });

  it('a request that was refused leaves the key and no file', async () => {
    expect(await refusal(send([['image', media.plainText()]], headers))).toMatchObject({ status: 400 });
    expect(
      await refusal(
        send(
          [
            ['image', picture],
            ['n', '0'],
          ],
          headers,
        ),
      ),
    ).toMatchObject({ status: 400 });
    expect(await brought()).toEqual([]);
    expect((await send([['image', picture]], headers)).status).toBe(200);
  });
});

describe('a batch', () => {
  const batch = (inputs: object[], defaults: object = { prompt: 'a fox' }) =>
    request('/jobs/batch', post({ capability: 'image.edit', inputs, defaults }));

  it('brings files like single requests do', async () => {
    const response = await batch([{ image: toDataUrl(picture) }, { image: [toDataUrl(other)] }]);
    expect(response.status, await response.clone().text()).toBe(202);
    const { id } = JSON.parse(await response.text()) as { id: string };
    await ended(`/jobs/batches/${id}`);
    expect(seen.map(({ files }) => files[0]!.bytes.length).toSorted()).toEqual(
      [picture.length, other.length].toSorted(),
    );
    expect(await brought()).toHaveLength(2);
  });

  it('with one wrong file is refused whole, and names it', async () => {
    const failure = await refusal(batch([{ image: toDataUrl(picture) }, { image: toDataUrl(media.plainText()) }]));
    expect(failure).toMatchObject({ status: 400, code: 'invalid_request', param: 'inputs.1.image' });
    expect(await brought()).toEqual([]);
    expect(kept()).toEqual([]);
  });
});

it('files of hundreds of megabytes pass through without being held', { timeout: 60_000 }, async () => {
  await restart({ HONO_AI_MAX_IMAGE: '60MB' });
  const boundary = 'x1';
  const head = `--${boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n`;
  const before = process.memoryUsage().rss;
  let highest = before;
  const ask = (_: unknown, index: number) => {
    const block = new Uint8Array(1_000_000).fill(index);
    let sent = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        highest = Math.max(highest, process.memoryUsage().rss);
        if (sent === 0) controller.enqueue(new Uint8Array([...new TextEncoder().encode(head), ...picture]));
        if (sent++ < 50) controller.enqueue(block);
        else {
          controller.enqueue(new TextEncoder().encode(`\r\n--${boundary}--\r\n`));
          controller.close();
        }
      },
    });
    const headers = { 'content-type': `multipart/form-data; boundary=${boundary}` };
    return refusal(request('/image/edit', { method: 'POST', body, headers, duplex: 'half' } as RequestInit));
  };
  const failures = await Promise.all(Array.from({ length: 4 }, ask));
  for (const failure of failures) expect(failure).toMatchObject({ status: 400, param: 'prompt' });
  expect((highest - before) / 1e6).toBeLessThan(150);
  expect(await brought()).toEqual([]);
  expect(kept()).toEqual([]);
});
