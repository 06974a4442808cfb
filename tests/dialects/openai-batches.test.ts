// OpenAI's batches, asked with its own SDK: a file of requests in, each answered as if it had been sent directly.
import OpenAI, { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { registerBatchEnd } from '../../src/dialects/openai/batch-output.ts';
import { createFakeRuntime } from '../support/fake-runtime.ts';
import { eventually } from '../support/gateway.ts';
import { openOpenAIGateway, type OpenAIGateway } from '../support/openai-gateway.ts';

type Line = Record<string, unknown>;
type Answer = {
  id: string;
  custom_id: string;
  response: { status_code: number; request_id: string; body: Record<string, never> } | null;
  error: { code: string; message: string } | null;
};
const CHAT = '/v1/chat/completions';

const chatLine = (custom_id: string, content: string, body: object = {}): Line => ({
  custom_id,
  method: 'POST',
  url: CHAT,
  body: { model: 'echo', messages: [{ role: 'user', content }], ...body },
});
const toJsonl = (lines: Line[]) => lines.map((line) => JSON.stringify(line)).join('\n');

let gateway: OpenAIGateway;
let alice: OpenAI;
let bob: OpenAI;

beforeAll(async () => {
  gateway = await openOpenAIGateway();
  alice = gateway.sdk('alice');
  bob = gateway.sdk('bob');
});
afterAll(() => gateway?.close());

async function uploadLines(lines: Line[] | string, client = alice): Promise<string> {
  const text = typeof lines === 'string' ? lines : toJsonl(lines);
  return (await client.files.create({ file: await toFile(Buffer.from(text), 'in.jsonl'), purpose: 'batch' })).id;
}

type Endpoint = OpenAI.BatchCreateParams['endpoint'];

async function start(lines: Line[] | string, endpoint: Endpoint = CHAT, client = alice) {
  const input_file_id = await uploadLines(lines, client);
  return client.batches.create({ input_file_id, endpoint, completion_window: '24h' });
}

async function untilStatus(id: string, status: OpenAI.Batch['status'], client = alice): Promise<OpenAI.Batch> {
  const end = performance.now() + 15_000;
  for (;;) {
    const batch = await client.batches.retrieve(id);
    if (batch.status === status) return batch;
    if (performance.now() > end) throw new Error(`the batch stays ${JSON.stringify(batch)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function read(id: string | null | undefined, client = alice): Promise<Answer[]> {
  const text = await (await client.files.content(id!)).text();
  expect(text.endsWith('\n')).toBe(true);
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Answer);
}

describe('a batch', () => {
  it('answers every line in the words of the endpoint', async () => {
    const input_file_id = await uploadLines([chatLine('one', 'Hello there'), chatLine('two', 'Good bye')]);
    const metadata = { night: 'yes' };
    const made = await alice.batches.create({ input_file_id, endpoint: CHAT, completion_window: '24h', metadata });
    expect(made).toEqual({
      id: expect.stringMatching(/^batch_[0-9a-f]{32}$/),
      object: 'batch',
      endpoint: CHAT,
      errors: null,
      input_file_id,
      completion_window: '24h',
      status: 'in_progress',
      output_file_id: null,
      error_file_id: null,
      created_at: expect.any(Number),
      in_progress_at: made.created_at,
      expires_at: made.created_at + 86_400,
      finalizing_at: null,
      completed_at: null,
      failed_at: null,
      expired_at: null,
      cancelling_at: null,
      cancelled_at: null,
      request_counts: { total: 2, completed: 0, failed: 0 },
      usage: null,
      metadata,
    });
    const batch = await untilStatus(made.id, 'completed');
    expect(batch).toEqual({
      ...made,
      status: 'completed',
      output_file_id: expect.stringMatching(/^file-[0-9a-f]{32}$/),
      finalizing_at: expect.any(Number),
      completed_at: expect.any(Number),
      request_counts: { total: 2, completed: 2, failed: 0 },
      usage: {
        input_tokens: 2,
        input_tokens_details: { cached_tokens: 0 },
        output_tokens: 4,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: 6,
      },
    });
    const answers = await read(batch.output_file_id);
    expect(answers.map(({ custom_id }) => custom_id)).toEqual(['one', 'two']);
    expect(answers[0]).toMatchObject({
      id: expect.stringMatching(/^batch_req_/),
      response: { status_code: 200, request_id: expect.stringMatching(/^job_/) },
      error: null,
    });
    expect(await alice.files.retrieve(batch.output_file_id!)).toMatchObject({
      purpose: 'batch_output',
      filename: `${batch.id}_output.jsonl`,
    });
  });

  const requests: [Endpoint, Line][] = [
    [
      CHAT,
      {
        model: 'echo',
        messages: [
          { role: 'developer', content: 'x' },
          { role: 'user', content: 'Say this' },
        ],
      },
    ],
    ['/v1/completions', { model: 'echo', prompt: 'Once upon', max_tokens: 5, seed: 3 }],
    ['/v1/embeddings', { model: 'echo', input: ['a', 'bcd'] }],
    ['/v1/embeddings', { model: 'echo', input: 'abc', encoding_format: 'base64' }],
  ];
  for (const [url, body] of requests) {
    it(`gives the body that ${url} gives for ${JSON.stringify(body)}`, async () => {
      const { id } = await start([{ custom_id: 'x', method: 'POST', url, body }], url);
      const [answer] = await read((await untilStatus(id, 'completed')).output_file_id);
      const headers = { 'content-type': 'application/json' };
      const direct = await gateway.request(url, { method: 'POST', headers, body: JSON.stringify(body) });
      const own = { id: expect.any(String), created: expect.any(Number) };
      const expected = (await direct.json()) as Record<string, unknown>;
      expect(answer!.response!.body).toEqual('created' in expected ? { ...expected, ...own } : expected);
    });
  }

  it('puts lines that fail into a file of their own, with the status they would have had', async () => {
    const { id } = await start([
      chatLine('good', 'fine'),
      chatLine('bad', 'two words', { model: 'broken' }),
      chatLine('also good', 'fine'),
    ]);
    const batch = await untilStatus(id, 'completed');
    expect(batch.request_counts).toEqual({ total: 3, completed: 2, failed: 1 });
    expect((await read(batch.output_file_id)).map(({ custom_id }) => custom_id)).toEqual(['good', 'also good']);
    expect(await read(batch.error_file_id)).toMatchObject([
      {
        custom_id: 'bad',
        error: null,
        response: { status_code: 502, body: { error: { code: 'upstream_terminated', type: 'upstream_error' } } },
      },
    ]);
  });

  it('of which every line failed has no output file', async () => {
    const { id } = await start([chatLine('bad', 'two words', { model: 'broken' })]);
    const batch = await untilStatus(id, 'completed');
    expect(batch.output_file_id).toBeNull();
    expect(await read(batch.error_file_id)).toHaveLength(1);
  });

  it('takes blank lines, a last line without its end, and Windows line ends', async () => {
    const text = `\n${JSON.stringify(chatLine('a', 'x'))}\r\n\r\n   \n${JSON.stringify(chatLine('b', 'y'))}`;
    const batch = await untilStatus((await start(text)).id, 'completed');
    expect((await read(batch.output_file_id)).map(({ custom_id }) => custom_id)).toEqual(['a', 'b']);
  });

  it('of many lines keeps their order', async () => {
    const names = Array.from({ length: 130 }, (_, n) => `line ${n}`);
    const { id } = await start(names.map((name) => chatLine(name, name)));
    const answers = await read((await untilStatus(id, 'completed')).output_file_id);
    expect(answers.map(({ custom_id }) => custom_id)).toEqual(names);
    const said = answers.map(
      ({ response }) => (response!.body as unknown as OpenAI.ChatCompletion).choices[0]!.message,
    );
    expect(said.map(({ content }) => content)).toEqual(names);
  });

  it('of another caller is answered like one that is not there', async () => {
    const { id } = await start([chatLine('a', 'x')]);
    await untilStatus(id, 'completed');
    for (const path of ['', '/cancel']) {
      const ask = async (batch: string) => {
        const answer = await gateway.request(`/v1/batches/${batch}${path}`, { method: path ? 'POST' : 'GET' }, 'bob');
        return [answer.status, (await answer.text()).replace(/"request_id":"[^"]*"/, '')];
      };
      const foreign = await ask(id);
      expect(foreign[0]).toBe(404);
      expect(foreign).toEqual(await ask(`batch_${'0'.repeat(32)}`));
    }
    expect((await bob.batches.list()).data).toEqual([]);
  });

  it('cannot be made of another caller’s file, nor of one with another purpose', async () => {
    const input_file_id = await uploadLines([chatLine('a', 'x')]);
    const create = (client: OpenAI, file: string) =>
      client.batches.create({ input_file_id: file, endpoint: CHAT, completion_window: '24h' });
    await expect(create(bob, input_file_id)).rejects.toMatchObject({ status: 404 });
    const other = await alice.files.create({ file: await toFile(Buffer.from('{}'), 'x'), purpose: 'vision' });
    await expect(create(alice, other.id)).rejects.toMatchObject({ status: 400, param: 'input_file_id' });
  });

  it('made by the native route is none of OpenAI’s', async () => {
    const body = JSON.stringify({ capability: 'text.generate', inputs: [{ prompt: 'x', model: 'echo' }] });
    const headers = { 'content-type': 'application/json' };
    const native = await gateway.request('/jobs/batch', { method: 'POST', headers, body });
    const { id } = (await native.json()) as { id: string };
    await expect(alice.batches.retrieve(id)).rejects.toMatchObject({ status: 404 });
    const listed: string[] = [];
    for await (const batch of alice.batches.list()) listed.push(batch.id);
    expect(listed).not.toContain(id);
  });

  it('is made once for one Idempotency-Key', async () => {
    const input_file_id = await uploadLines([chatLine('a', 'x')]);
    const ask = async (endpoint = CHAT) =>
      gateway.request('/v1/batches', {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': 'once and only once' },
        body: JSON.stringify({ input_file_id, endpoint, completion_window: '24h' }),
      });
    const first = await (await ask()).text();
    const { id } = JSON.parse(first) as { id: string };
    await untilStatus(id, 'completed');
    const second = await ask();
    expect(second.headers.get('idempotent-replayed')).toBe('true');
    expect(await second.text()).toBe(first);
    expect((await ask('/v1/completions')).status).toBe(422);
    const batches = await alice.batches.list();
    expect(batches.data.filter((batch) => batch.input_file_id === input_file_id)).toHaveLength(1);
  });

  it('is found in the list, page by page, newest first', async () => {
    const fresh = await openOpenAIGateway();
    try {
      const client = fresh.sdk();
      const ids: string[] = [];
      for (let n = 0; n < 5; n++) ids.push((await start([chatLine('a', `${n}`)], CHAT, client)).id);
      const listed: string[] = [];
      for await (const batch of client.batches.list({ limit: 2 })) listed.push(batch.id);
      expect(listed).toEqual(ids.toReversed());
    } finally {
      await fresh.close();
    }
  });
});

describe('a file that is no batch', () => {
  const good = chatLine('good', 'x');
  const cases: [string, string, object[]][] = [
    ['is empty', '', [{ code: 'empty_file', line: null, param: null }]],
    ['holds only blank lines', '\n  \n', [{ code: 'empty_file' }]],
    ['holds what is no JSON', `${JSON.stringify(good)}\n{"a":`, [{ code: 'invalid_json_line', line: 2, param: null }]],
    ['holds a list', '[1]', [{ code: 'invalid_json_line', line: 1 }]],
    ['names a line twice', toJsonl([good, good]), [{ code: 'duplicate_custom_id', line: 2, param: 'custom_id' }]],
    [
      'has a line without a name',
      toJsonl([{ ...good, custom_id: undefined }]),
      [{ code: 'invalid_request', line: 1, param: 'custom_id' }],
    ],
    [
      'has a line for another endpoint',
      toJsonl([{ ...good, url: '/v1/embeddings' }]),
      [{ code: 'url_mismatch', line: 1, param: 'url' }],
    ],
    [
      'has a line with another method',
      toJsonl([{ ...good, method: 'GET' }]),
      [{ code: 'invalid_request', line: 1, param: 'method' }],
    ],
    [
      'has a line without a body',
      toJsonl([{ ...good, body: undefined }]),
      [{ code: 'invalid_request', param: 'body' }],
    ],
    [
      'has a body that the route would refuse',
      toJsonl([chatLine('a', 'x', { temperature: 7 })]),
      [{ code: 'invalid_request', line: 1, param: 'body.temperature' }],
    ],
    [
      'asks for a stream',
      toJsonl([chatLine('a', 'x', { stream: true })]),
      [{ code: 'unsupported_parameter', param: 'body.stream' }],
    ],
    [
      'asks for several answers',
      toJsonl([chatLine('a', 'x', { n: 2 })]),
      [{ code: 'unsupported_parameter', param: 'body.n' }],
    ],
    [
      'asks for a model that is not there',
      toJsonl([chatLine('a', 'x', { model: 'nope' })]),
      [{ code: 'model_not_found', line: 1, param: 'body.model' }],
    ],
    [
      'is wrong in several lines',
      toJsonl([chatLine('a', 'x', { n: 2 }), good, chatLine('c', 'x', { model: 'nope' })]),
      [{ line: 1 }, { line: 3 }],
    ],
  ];
  for (const [what, text, errors] of cases) {
    it(`because it ${what} gives a failed batch that says so`, async () => {
      const batch = await start(text);
      expect(batch).toMatchObject({ status: 'failed', failed_at: expect.any(Number), in_progress_at: null });
      expect(batch.errors!.object).toBe('list');
      expect(batch.errors!.data).toHaveLength(errors.length);
      expect(batch.errors!.data).toMatchObject(errors);
      for (const error of batch.errors!.data!) expect(error.message).not.toBe('');
      expect(batch.request_counts).toEqual({ total: 0, completed: 0, failed: 0 });
      expect(await alice.batches.retrieve(batch.id)).toEqual(batch);
    });
  }

  it('because it is no text gives a failed batch that says so', async () => {
    const file = await toFile(new Uint8Array([0xff, 0xfe, 0x00]), 'x.jsonl');
    const { id } = await alice.files.create({ file, purpose: 'batch' });
    const batch = await alice.batches.create({ input_file_id: id, endpoint: CHAT, completion_window: '24h' });
    expect(batch.errors!.data).toMatchObject([{ code: 'invalid_json_line', line: 1 }]);
  });

  it('because it has more than 50 000 lines gives a failed batch that says so', async () => {
    const lines = Array.from({ length: 50_001 }, (_, n) => JSON.stringify(chatLine(`${n}`, 'x'))).join('\n');
    const batch = await start(lines);
    expect(batch.errors!.data).toMatchObject([{ code: 'too_many_tasks', line: null }]);
  });

  it('runs none of its lines', async () => {
    const runtime = createFakeRuntime();
    const fresh = await openOpenAIGateway({ runtimes: [runtime] });
    try {
      const client = fresh.sdk();
      await start([good, chatLine('bad', 'x', { n: 2 })], CHAT, client);
      const after = await start([chatLine('after', 'last')], CHAT, client);
      await untilStatus(after.id, 'completed', client);
      expect(runtime.chats).toHaveLength(1);
    } finally {
      await fresh.close();
    }
  });

  it('can be asked again under the same key, and gives the same failed batch', async () => {
    const input_file_id = await uploadLines('');
    const ask = async () =>
      gateway.request('/v1/batches', {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': 'fails the same' },
        body: JSON.stringify({ input_file_id, endpoint: CHAT, completion_window: '24h' }),
      });
    expect(await (await ask()).text()).toBe(await (await ask()).text());
  });
});

describe('more lines than a caller may have waiting', () => {
  it('are refused together, and nothing is taken', async () => {
    const fresh = await openOpenAIGateway({ env: { HONO_AI_JOB_MAX_QUEUED: '2' } });
    try {
      const client = fresh.sdk();
      const three = ['a', 'b', 'c'].map((name) => chatLine(name, 'x'));
      await expect(start(three, CHAT, client)).rejects.toMatchObject({ status: 429, code: 'rate_limited' });
      expect((await client.batches.list()).data).toEqual([]);
    } finally {
      await fresh.close();
    }
  });
});

describe('a batch that is cancelled', () => {
  it('keeps what was done and says of the rest that it was cancelled', async () => {
    const runtime = createFakeRuntime();
    const fresh = await openOpenAIGateway({ runtimes: [runtime], env: { HONO_AI_JOB_CONCURRENCY: '1' } });
    try {
      const client = fresh.sdk();
      const lines = [
        chatLine('done', 'quick'),
        chatLine('running', 'never ends', { model: 'slow' }),
        chatLine('waiting', 'not begun'),
      ];
      const { id } = await start(lines, CHAT, client);
      await eventually('the second line runs', () => runtime.chats.length === 2);
      const cancelled = await client.batches.cancel(id);
      expect(['cancelling', 'cancelled']).toContain(cancelled.status);
      const batch = await untilStatus(id, 'cancelled', client);
      expect(batch).toMatchObject({ cancelled_at: expect.any(Number), completed_at: null });
      expect(batch.request_counts).toEqual({ total: 3, completed: 1, failed: 0 });
      expect(await read(batch.output_file_id, client)).toMatchObject([{ custom_id: 'done' }]);
      expect(await read(batch.error_file_id, client)).toMatchObject([
        { custom_id: 'running', response: null, error: { code: 'batch_cancelled' } },
        { custom_id: 'waiting', response: null, error: { code: 'batch_cancelled' } },
      ]);
      expect(runtime.aborts).toBe(1);
      expect(runtime.chats).toHaveLength(2);
      await expect(client.batches.cancel(id)).rejects.toMatchObject({ status: 409 });
    } finally {
      await fresh.close();
    }
  });
});

describe('a batch whose lines were not begun in time', () => {
  it('is expired, and says so of each', async () => {
    const env = { HONO_AI_JOB_CONCURRENCY: '0', HONO_AI_JOB_QUEUE_MS: '200' };
    const fresh = await openOpenAIGateway({ env });
    try {
      const client = fresh.sdk();
      const { id } = await start([chatLine('a', 'x'), chatLine('b', 'y')], CHAT, client);
      const batch = await untilStatus(id, 'expired', client);
      expect(batch).toMatchObject({ expired_at: expect.any(Number), output_file_id: null });
      expect(await read(batch.error_file_id, client)).toMatchObject([
        { custom_id: 'a', response: null, error: { code: 'batch_expired' } },
        { custom_id: 'b', response: null, error: { code: 'batch_expired' } },
      ]);
    } finally {
      await fresh.close();
    }
  });
});

describe('a gateway that ends before a batch does', () => {
  it('leaves it to the next, which writes its files once', async () => {
    const first = await openOpenAIGateway({ work: false });
    const { id } = await start([chatLine('a', 'x'), chatLine('b', 'y')], CHAT, first.sdk());
    expect((await first.sdk().batches.retrieve(id)).status).toBe('in_progress');
    await first.stop();
    const second = await openOpenAIGateway({ folder: first.folder });
    try {
      const client = second.sdk();
      const batch = await untilStatus(id, 'completed', client);
      expect(await read(batch.output_file_id, client)).toHaveLength(2);
      expect((await client.files.list({ purpose: 'batch_output' })).data).toHaveLength(1);
    } finally {
      await second.close();
    }
  });

  it('between the last answer and the files leaves them to the next, and nothing is there twice', async () => {
    const first = await openOpenAIGateway();
    // What was staged is on disk, but the end of the batch is not: as where the process dies at that moment.
    let tries = 0;
    first.work.batches.onEnd(async (owner, batch) => {
      tries++;
      let ends: Parameters<typeof first.work.batches.onEnd>[0] | undefined;
      const batches = { ...first.work.batches, onEnd: (listener: NonNullable<typeof ends>) => void (ends = listener) };
      registerBatchEnd({ ...first.work, batches, now: Date.now });
      await ends!(owner, batch);
      throw new Error('the process ends here');
    });
    const { id } = await start([chatLine('a', 'x')], CHAT, first.sdk());
    await eventually('the files are written', () => tries > 0);
    expect((await first.sdk().batches.retrieve(id)).status).toBe('finalizing');
    expect((await first.sdk().files.list({ purpose: 'batch_output' })).data).toEqual([]);
    await first.stop();
    const second = await openOpenAIGateway({ folder: first.folder });
    try {
      const client = second.sdk();
      const batch = await untilStatus(id, 'completed', client);
      expect(await read(batch.output_file_id, client)).toHaveLength(1);
      expect((await client.files.list({ purpose: 'batch_output' })).data).toHaveLength(1);
    } finally {
      await second.close();
    }
  });
});
