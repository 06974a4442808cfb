// The fake ACE-Step 1.5: its queue, its strings of JSON, and the ways in which it says no under HTTP 200.
import { afterEach, expect, it } from 'vitest';
import { openFakeAceStep } from '../support/fake-acestep.ts';
import type { FakeAceStep, FakeAceStepOptions } from '../support/fake-acestep.ts';
import { probe } from '../support/media/index.ts';

const open: FakeAceStep[] = [];
afterEach(async () => {
  for (const fake of open.splice(0)) await fake.close();
});

async function start(options?: FakeAceStepOptions): Promise<FakeAceStep> {
  const fake = await openFakeAceStep(options);
  open.push(fake);
  return fake;
}

interface Wrapped {
  code: number;
  data: { task_id: string; status: number; result: string; progress_text?: string; queue_position?: number };
  error: string | null;
}

const post = (fake: FakeAceStep, path: string, body: object, headers: Record<string, string> = {}) =>
  fetch(fake.url + path, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  });

async function release(fake: FakeAceStep, body: object): Promise<Wrapped> {
  return (await post(fake, '/release_task', body)).json() as Promise<Wrapped>;
}

async function query(fake: FakeAceStep, id: string) {
  const { data } = (await (await post(fake, '/query_result', { task_id_list: [id] })).json()) as {
    data: Wrapped['data'][];
  };
  const items = JSON.parse(data[0]!.result) as {
    file: string;
    status: number;
    progress: number;
    stage: string;
    seed_value: string;
    error: string | null;
  }[];
  return { status: data[0]!.status, items };
}

async function finished(fake: FakeAceStep, id: string) {
  await expect.poll(async () => (await query(fake, id)).status).not.toBe(0);
  return query(fake, id);
}

it('makes two songs unless told how many, of the asked length and format', async () => {
  const fake = await start();
  const { data, code } = await release(fake, {
    prompt: 'lo-fi',
    lyrics: '[instrumental]',
    audio_duration: 12,
    use_random_seed: false,
    seed: 7,
  });
  expect([code, typeof data.task_id, data.queue_position]).toEqual([200, 'string', 1]);
  const two = await finished(fake, data.task_id);
  expect(two.items.map(({ status, stage, seed_value }) => [status, stage, seed_value])).toEqual([
    [1, 'succeeded', '7'],
    [1, 'succeeded', '8'],
  ]);
  const one = await finished(
    fake,
    (await release(fake, { prompt: 'x', audio_duration: 15, batch_size: 1, audio_format: 'flac' })).data.task_id,
  );
  expect(one.items).toHaveLength(1);
  for (const [path, type, seconds] of [
    [two.items[0]!.file, 'audio/mpeg', 12],
    [one.items[0]!.file, 'audio/flac', 15],
  ] as const) {
    const answer = await fetch(fake.url + path);
    expect(answer.headers.get('content-type')).toBe(type);
    const found = await probe(new Uint8Array(await answer.arrayBuffer()));
    expect(found.type).toBe(type);
    expect(Math.abs(found.duration_s! - seconds)).toBeLessThan(0.2);
  }
  expect((await fetch(`${fake.url}/v1/audio?path=%2Fetc%2Fpasswd`)).status).toBe(403);
  expect((await fetch(`${fake.url}/v1/audio?path=%2Ftmp%2Facestep%2Fapi_audio%2Fno.mp3`)).status).toBe(404);
  expect(fake.executions()).toBe(2);
});

it('tells progress, one task at a time', async () => {
  const fake = await start();
  fake.hold();
  const first = (await release(fake, { prompt: 'a' })).data.task_id;
  expect(await fake.held()).toBe(first);
  const second = (await release(fake, { prompt: 'b' })).data.task_id;
  expect(await query(fake, first)).toMatchObject({ status: 0, items: [{ progress: 0.1, stage: 'Preparing inputs' }] });
  expect(await query(fake, second)).toEqual({ status: 0, items: [] });
  fake.release();
  await finished(fake, second);
});

it('never says that it does not know a task', async () => {
  const fake = await start();
  expect(await query(fake, 'unknown')).toEqual({ status: 0, items: [] });
  fake.failNext('lost');
  const lost = (await release(fake, { prompt: 'a' })).data.task_id;
  expect(await query(fake, lost)).toEqual({ status: 0, items: [] });
  fake.hold();
  const running = (await release(fake, { prompt: 'a' })).data.task_id;
  await fake.held();
  await fake.restart();
  expect(await query(fake, running)).toEqual({ status: 0, items: [] });
  await finished(fake, (await release(fake, { prompt: 'a' })).data.task_id);
});

it('fails in each of its ways', async () => {
  const fake = await start({ queueMax: 1 });
  fake.failNext('task');
  const failed = await finished(fake, (await release(fake, { prompt: 'a' })).data.task_id);
  expect([failed.status, failed.items[0]!.error]).toEqual([2, 'CUDA out of memory. Tried to allocate 2.00 GiB']);
  fake.failNext('submit');
  expect(await release(fake, { prompt: 'a' })).toMatchObject({
    code: 500,
    data: null,
    error: expect.any(String) as string,
  });
  fake.failNext('http');
  expect((await post(fake, '/release_task', {})).status).toBe(500);
  fake.hold();
  await release(fake, { prompt: 'a' });
  await fake.held();
  await release(fake, { prompt: 'b' });
  expect((await post(fake, '/release_task', { prompt: 'c' })).status).toBe(429);
});

it('wants its key, but for its health, and takes forms', async () => {
  const fake = await start({ key: 'secret' });
  expect((await fetch(`${fake.url}/health`)).status).toBe(200);
  expect((await post(fake, '/release_task', { prompt: 'a' })).status).toBe(401);
  expect((await post(fake, '/release_task', { prompt: 'a' }, { authorization: 'Bearer secret' })).status).toBe(200);
  const form = new FormData();
  form.set('ai_token', 'secret');
  form.set('prompt', 'from a form');
  form.set('src_audio', new File(['RIFF'], 'in.wav'));
  expect((await fetch(`${fake.url}/release_task`, { method: 'POST', body: form })).status).toBe(200);
  expect(fake.tasks().at(-1)).toMatchObject({ prompt: 'from a form', src_audio: { name: 'in.wav' } });
  const models = await fetch(`${fake.url}/v1/models`, { headers: { authorization: 'Bearer secret' } });
  expect(await models.json()).toMatchObject({ data: { default_model: 'acestep-v15-turbo' } });
});
