// Forms: read right however the network cuts them, refused early where they are hostile, and never held whole.
import { describe, expect, it } from 'vitest';
import { GatewayError } from '../../src/error.ts';
import { parseForm, type FormFile, type FormOptions } from '../../src/http/multipart.ts';
import { toFileName } from '../../src/http/part-head.ts';

const encoder = new TextEncoder();
const TYPE = 'multipart/form-data; boundary=xYz';
/** Holds what looks like the boundary, and dashes at its end. */
const CONTENT = 'line one\r\n--xY\r\n--\r\r\n-\n\u{1f600}\r\n---';
const BODY = [
  '--xYz\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch',
  '--xYz\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n' +
    CONTENT,
  '--xYz\r\nContent-Disposition: form-data; name="empty"\r\n\r\n',
  '--xYz--\r\n',
].join('\r\n');

const field = (name: string, value: string) =>
  `--xYz\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
const file = (disposition: string, value = 'bytes') =>
  `--xYz\r\nContent-Disposition: form-data; ${disposition}\r\n\r\n${value}\r\n`;

function streamOf(pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  const iterator = (async function* () {
    yield* pieces;
  })();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await iterator.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
}

async function text({ bytes }: FormFile): Promise<string> {
  const decoder = new TextDecoder();
  let all = '';
  for await (const piece of bytes) all += decoder.decode(piece, { stream: true });
  return all;
}

type Options = Partial<FormOptions<unknown>>;

async function parse(body: string | Uint8Array[], options: Options = {}, type: string | undefined = TYPE) {
  const pieces = typeof body === 'string' ? [encoder.encode(body)] : body;
  const form = await parseForm(type, streamOf(pieces), { fileLimit: 1_000_000, onFile: text, ...options });
  return { fields: Object.fromEntries(form.fields), files: form.files };
}

async function refusal(...call: Parameters<typeof parse>): Promise<GatewayError> {
  const error = await parse(...call).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(GatewayError);
  return error as GatewayError;
}

describe('a form', () => {
  const whole = { fields: { purpose: ['batch'], empty: [''] }, files: [{ name: 'file', value: CONTENT }] };

  it('gives its fields and its files', async () => {
    expect(await parse(BODY)).toEqual(whole);
  });

  it('is the same wherever it is cut in two', async () => {
    const bytes = encoder.encode(BODY);
    for (let at = 1; at < bytes.length; at++) {
      expect(await parse([bytes.subarray(0, at), bytes.subarray(at)]), `cut at ${at}`).toEqual(whole);
    }
  });

  it('is the same in pieces of any size', async () => {
    const bytes = encoder.encode(BODY);
    for (let size = 1; size < 40; size++) {
      const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
        bytes.subarray(index * size, (index + 1) * size),
      );
      expect(await parse(pieces), `pieces of ${size}`).toEqual(whole);
    }
  });

  it('that breaks off anywhere is refused, and its file is not taken for whole', async () => {
    const bytes = encoder.encode(BODY);
    const end = BODY.indexOf('--xYz--') + '--xYz--'.length;
    for (let at = 0; at < encoder.encode(BODY.slice(0, end)).length; at++) {
      let taken: string | undefined;
      const error = await refusal([bytes.subarray(0, at)], {
        onFile: async (one) => (taken = await text(one)),
      });
      expect(error.code, `broken off at ${at}`).toBe('invalid_request');
      if (taken !== undefined) expect(taken).toBe(CONTENT);
    }
  });

  it('is read with a boundary that ends with dashes, quoted or not', async () => {
    for (const boundary of ['--', 'a--', '-----WebKitFormBoundaryX-']) {
      const bytes = encoder.encode(BODY.replaceAll('--xYz', `--${boundary}`));
      const type = `multipart/form-data; charset=utf-8; boundary="${boundary}"`;
      const want = { ...whole, files: [{ name: 'file', value: CONTENT }] };
      for (let at = 1; at < bytes.length; at++) {
        expect(await parse([bytes.subarray(0, at), bytes.subarray(at)], {}, type), `${boundary} at ${at}`).toEqual(
          want,
        );
      }
    }
  });

  it('is what FormData of this engine sends, with names in any script', async () => {
    const form = new FormData();
    form.set('purpose', 'ba\r\ntch →');
    form.set('file', new File([CONTENT], 'Über "日本".jsonl', { type: 'application/jsonl' }));
    const { headers, body } = new Response(form);
    const seen: Partial<FormFile>[] = [];
    const parsed = await parseForm(headers.get('content-type')!, body, {
      fileLimit: 1000,
      onFile: async (one) => {
        seen.push({ ...one, bytes: undefined } as never);
        return text(one);
      },
    });
    expect(parsed.fields.get('purpose')).toEqual(['ba\r\ntch →']);
    expect(parsed.files).toEqual([{ name: 'file', value: CONTENT }]);
    expect(seen).toMatchObject([{ filename: 'Über "日本".jsonl', mediaType: 'application/jsonl' }]);
  });

  it('gives several files and repeated names where they may repeat', async () => {
    const body = `${file('name="image[]"; filename="1"', 'one')}${file('name="image[]"; filename="2"', 'two')}${field('tag', 'x')}${field('tag', 'y')}--xYz--`;
    expect(await parse(body, { repeatable: ['tag'] })).toEqual({
      fields: { tag: ['x', 'y'] },
      files: [
        { name: 'image[]', value: 'one' },
        { name: 'image[]', value: 'two' },
      ],
    });
  });
});

describe('a hostile form', () => {
  const close = '--xYz--\r\n';
  const cases: [string, () => string, number][] = [
    ['100 000 parts', () => field('x[]', '').repeat(100_000) + close, 413],
    [
      '10 000 fields of different names',
      () => Array.from({ length: 10_000 }, (_, n) => field(`f${n}`, 'v')).join('') + close,
      413,
    ],
    ['a part header of 10 MB', () => `--xYz\r\nX-Long: ${'a'.repeat(10_000_000)}\r\n\r\nx\r\n${close}`, 413],
    [
      'a part header of 9 KB',
      () => `--xYz\r\nContent-Disposition: form-data; name="a"\r\nX: ${'a'.repeat(9000)}\r\n\r\nx\r\n${close}`,
      413,
    ],
    ['a thousand headers', () => `--xYz\r\n${'A: b\r\n'.repeat(1000)}\r\nx\r\n${close}`, 413],
    ['a field of 65 KB', () => field('a', 'v'.repeat(65_537)) + close, 413],
    ['a file beyond its limit', () => file('name="f"; filename="f"', 'v'.repeat(1_000_001)) + close, 413],
    ['5 MB before the first boundary', () => 'a'.repeat(5_000_000) + BODY, 400],
    ['much after the last boundary', () => BODY + 'a'.repeat(200_000), 400],
    ['no closing boundary', () => field('a', 'b'), 400],
    ['no boundary at all', () => 'hello', 400],
    ['nothing', () => '', 400],
    ['the same field twice', () => field('a', '1') + field('a', '2') + close, 400],
    ['a field and a file of one name', () => field('a', '1') + file('name="a"; filename="x"') + close, 400],
    ['two names in one part', () => file('name="a"; name="b"') + close, 400],
    ['two file names in one part', () => file('name="a"; filename="x"; filename="y"') + close, 400],
    ['a part without a name', () => file('filename="x"') + close, 400],
    [
      'a part that is no form-data',
      () => `--xYz\r\nContent-Disposition: attachment; name="a"\r\n\r\nx\r\n${close}`,
      400,
    ],
    ['a part without headers', () => `--xYz\r\n\r\nx\r\n${close}`, 400],
    [
      'a part without a body',
      () => `--xYz\r\nContent-Disposition: form-data; name="a"\r\n${field('b', 'x')}${close}`,
      400,
    ],
    ['a header that is none', () => `--xYz\r\nno header here\r\n\r\nx\r\n${close}`, 400],
    ['a zero byte in a name', () => file('name="a\0b"') + close, 400],
    ['a name of 300 characters', () => field('n'.repeat(300), 'x') + close, 400],
    ['a path out of a folder as file name', () => file('name="f"; filename="../../etc/passwd"') + close, 400],
    ['the same for Windows', () => file('name="f"; filename="..\\..\\boot.ini"') + close, 400],
    [
      'a path hidden in percent signs',
      () => file(`name="f"; filename="ok"; filename*=UTF-8''..%2F..%2Fx`) + close,
      400,
    ],
    ['a file name with broken percent signs', () => file(`name="f"; filename*=UTF-8''%zz`) + close, 400],
    ['a file name in an unknown encoding', () => file(`name="f"; filename*=utf-7''x`) + close, 400],
    ['a file name of 10 000 characters', () => file(`name="f"; filename="${'n'.repeat(5000)}"`) + close, 400],
    ['a file name that turns the writing', () => file('name="f"; filename="exe.\u202egnp"') + close, 400],
    ['a field that is not text', () => field('a', 'PLACEHOLDER') + close, 400],
  ];
  for (const [what, body, status] of cases) {
    it(`with ${what} is refused with ${status}, soon`, async () => {
      const bytes = encoder.encode(body());
      const at = body().indexOf('PLACEHOLDER');
      if (at >= 0) bytes[at] = 0xff;
      const cpu = process.cpuUsage();
      const error = await refusal([bytes]);
      const { user } = process.cpuUsage(cpu);
      expect(error.status).toBe(status);
      expect(user / 1000).toBeLessThan(1000);
    });
  }

  const types: [string, string | undefined, number][] = [
    ['none', undefined, 415],
    ['another', 'application/json', 415],
    ['no boundary', 'multipart/form-data', 400],
    ['an empty boundary', 'multipart/form-data; boundary=', 400],
    ['a boundary of 1 MB', `multipart/form-data; boundary=${'b'.repeat(1_000_000)}`, 400],
    ['a boundary of 71 characters', `multipart/form-data; boundary=${'b'.repeat(71)}`, 400],
    ['a boundary with a line break', 'multipart/form-data; boundary="a\r\nb"', 400],
  ];
  for (const [what, type, status] of types) {
    it(`with a content type of ${what} is refused with ${status}`, async () => {
      const refused = await parseForm(type, streamOf([]), { fileLimit: 1, onFile: text }).catch(
        (error: unknown) => error,
      );
      expect((refused as GatewayError).status).toBe(status);
    });
  }

  it('is stopped at the limit of the whole, however its parts are', async () => {
    let sent = 0;
    async function* endless() {
      yield encoder.encode(file('name="f"; filename="f"', '').slice(0, -2));
      while (sent < 1e8) {
        sent += 65_536;
        yield new Uint8Array(65_536);
      }
    }
    const limits = { total: 1_000_000 };
    const form = parseForm(TYPE, streamOf(endless()), { fileLimit: 1e12, onFile: text, limits });
    await expect(form).rejects.toMatchObject({ code: 'body_too_large' });
    expect(sent).toBeLessThan(1_500_000);
  });

  it('that comes too slowly ends with 408', async () => {
    async function* slow() {
      for (const byte of encoder.encode(BODY)) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        yield new Uint8Array([byte]);
      }
    }
    const limits = { slowMs: 100 };
    let kept: unknown = 'nothing';
    const onFile = async (one: FormFile) => (kept = await text(one));
    const form = parseForm(TYPE, streamOf(slow()), { fileLimit: 1000, onFile, limits });
    await expect(form).rejects.toMatchObject({ code: 'request_timeout', status: 408 });
    expect(kept).toBe('nothing');
  });

  it('whose sender leaves fails as that, for the taker of the file too', async () => {
    async function* leaving() {
      yield encoder.encode(BODY.slice(0, BODY.indexOf('line one') + 10));
      throw new Error('socket hang up');
    }
    let told: unknown;
    const onFile = async (one: FormFile) =>
      text(one).catch((error: unknown) => {
        told = error;
        throw error;
      });
    const form = parseForm(TYPE, streamOf(leaving()), { fileLimit: 1000, onFile });
    await expect(form).rejects.toMatchObject({ code: 'client_closed' });
    expect(told).toMatchObject({ code: 'client_closed' });
  });
});

describe('a large file', () => {
  const head = encoder.encode(file('name="f"; filename="f"', '').slice(0, -2));
  const tail = encoder.encode('\r\n--xYz--\r\n');

  it('is never ahead of who takes it by more than a few pieces', async () => {
    let sent = 0;
    let taken = 0;
    let most = 0;
    async function* pieces() {
      yield head;
      for (let index = 0; index < 200; index++) {
        sent += 65_536;
        yield new Uint8Array(65_536);
      }
      yield tail;
    }
    const onFile = async ({ bytes }: FormFile) => {
      for await (const piece of bytes) {
        taken += piece.byteLength;
        most = Math.max(most, sent - taken);
        if (taken % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
      }
      return taken;
    };
    const form = await parseForm(TYPE, streamOf(pieces()), { fileLimit: 1e9, onFile });
    expect(form.files).toEqual([{ name: 'f', value: 200 * 65_536 }]);
    expect(most).toBeLessThan(5 * 65_536);
  });

  it('may take as long as its taker needs: only waiting for the sender counts', async () => {
    async function* pieces() {
      yield head;
      for (let index = 0; index < 5; index++) yield new Uint8Array(10);
      yield tail;
    }
    const onFile = async ({ bytes }: FormFile) => {
      let size = 0;
      for await (const piece of bytes) {
        await new Promise((resolve) => setTimeout(resolve, 60));
        size += piece.byteLength;
      }
      return size;
    };
    const limits = { slowMs: 100 };
    const form = await parseForm(TYPE, streamOf(pieces()), { fileLimit: 1000, onFile, limits });
    expect(form.files[0]!.value).toBe(50);
  });

  it('ends the reading where its taker fails', async () => {
    let sent = 0;
    async function* endless() {
      yield head;
      for (;;) yield ((sent++, new Uint8Array(65_536)));
    }
    const onFile = async ({ bytes }: FormFile) => {
      for await (const _ of bytes) throw new GatewayError('storage_full', 'No room.');
    };
    const form = parseForm(TYPE, streamOf(endless()), { fileLimit: 1e12, onFile });
    await expect(form).rejects.toMatchObject({ code: 'storage_full' });
    expect(sent).toBeLessThan(20);
  });
});

describe('the name of a file', () => {
  it('is the last segment of a path', () => {
    expect(toFileName('C:\\fakepath\\cat.png')).toBe('cat.png');
    expect(toFileName('/photos/2024/cat.png')).toBe('cat.png');
    expect(toFileName('...')).toBe('...');
    expect(toFileName('folder/')).toBe('file');
    expect(toFileName('')).toBe('file');
  });
});
