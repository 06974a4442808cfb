// The fake ComfyUI as a queue: one at a time in order, cancelled, interrupted, failed, restarted, and told only to whom it concerns.
import { randomUUID } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { openFakeComfyUI } from '../support/fake-comfyui/index.ts';
import type { FakeComfyUI, FakeComfyUIOptions, FakeGraph } from '../support/fake-comfyui/index.ts';
import { probe } from '../support/media/index.ts';

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

async function start(options: FakeComfyUIOptions = {}): Promise<FakeComfyUI> {
  const fake = await openFakeComfyUI(options);
  closers.push(() => fake.close());
  return fake;
}

/** Text to picture, as short as it goes. */
function graph(seed: number, size = 64, steps = 3): FakeGraph {
  return {
    ckpt: { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'sd_xl_base_1.0.safetensors' } },
    pos: { class_type: 'CLIPTextEncode', inputs: { text: 'a fox', clip: ['ckpt', 1] } },
    neg: { class_type: 'CLIPTextEncode', inputs: { text: '', clip: ['ckpt', 1] } },
    latent: { class_type: 'EmptyLatentImage', inputs: { width: size, height: size, batch_size: 1 } },
    sample: {
      class_type: 'KSampler',
      inputs: {
        model: ['ckpt', 0],
        positive: ['pos', 0],
        negative: ['neg', 0],
        latent_image: ['latent', 0],
        seed,
        steps,
        cfg: 7,
        sampler_name: 'euler',
        scheduler: 'normal',
        denoise: 1,
      },
    },
    decode: { class_type: 'VAEDecode', inputs: { samples: ['sample', 0], vae: ['ckpt', 2] } },
    save: { class_type: 'SaveImage', inputs: { images: ['decode', 0], filename_prefix: 'gateway/test' } },
  };
}

async function post(fake: FakeComfyUI, prompt: FakeGraph, more: object = {}): Promise<{ id: string; status: number }> {
  const prompt_id = randomUUID();
  const answer = await fetch(`${fake.url}/prompt`, {
    method: 'POST',
    body: JSON.stringify({ prompt, prompt_id, ...more }),
  });
  return { id: prompt_id, status: answer.status };
}

interface Entry {
  status: { status_str: string; messages: [string, Record<string, unknown>][] };
  outputs: Record<string, Record<string, { filename: string; subfolder: string; type: string }[]>>;
}

async function ended(fake: FakeComfyUI, id: string): Promise<Entry> {
  const look = async () => ((await (await fetch(`${fake.url}/history/${id}`)).json()) as Record<string, Entry>)[id];
  await expect.poll(look).toBeDefined();
  return (await look())!;
}

const send = (fake: FakeComfyUI, path: string, body: object = {}) =>
  fetch(fake.url + path, { method: 'POST', body: JSON.stringify(body) });

async function listen(fake: FakeComfyUI, clientId: string, flags = true) {
  const socket = new WebSocket(`${fake.url.replace('http', 'ws')}/api/ws?clientId=${clientId}`);
  const events: { type: string; data: Record<string, unknown> }[] = [];
  const frames: Buffer[] = [];
  socket.on(
    'message',
    (raw, binary) => void (binary ? frames.push(raw as Buffer) : events.push(JSON.parse(String(raw)))),
  );
  socket.on('error', () => undefined);
  const opened = new Promise((resolve) => socket.once('open', resolve));
  await opened;
  if (flags) socket.send('{"type":"feature_flags","data":{"supports_preview_metadata":true}}');
  await expect.poll(() => events.length).toBe(flags ? 2 : 1);
  closers.push(() => socket.terminate());
  return { socket, events, frames, types: () => events.map(({ type }) => type) };
}

describe('the queue', () => {
  it('runs one at a time, the smallest number first, and `front` before all', async () => {
    const fake = await start();
    fake.hold();
    const first = await post(fake, graph(1));
    await fake.held();
    const second = await post(fake, graph(2));
    const third = await post(fake, graph(3), { front: true });
    const fourth = await post(fake, graph(4), { number: -50 });
    expect(fake.running()).toBe(first.id);
    expect(fake.pending()).toEqual([fourth.id, third.id, second.id]);
    fake.release();
    await ended(fake, second.id);
    expect(fake.executions()).toBe(4);
    expect(fake.prompts().map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  });

  it('deletes what waits without a word but status, and interrupts what runs', async () => {
    const fake = await start();
    const { types, events } = await listen(fake, 'me');
    fake.hold();
    const first = await post(fake, graph(1), { client_id: 'me' });
    const second = await post(fake, graph(2), { client_id: 'me' });
    await fake.held();
    await expect.poll(types).toContain('progress');
    await expect.poll(() => types().filter((type) => type === 'status').length).toBe(4);
    const before = events.length;
    await send(fake, '/queue', { delete: [second.id] });
    await expect.poll(() => types().slice(before)).toEqual(['status', 'status']);
    expect((await fetch(`${fake.url}/api/jobs/${second.id}`)).status).toBe(404);
    await send(fake, '/api/interrupt', { prompt_id: second.id });
    expect(fake.running()).toBe(first.id);
    await send(fake, '/interrupt', { prompt_id: first.id });
    const entry = await ended(fake, first.id);
    expect(entry.status).toMatchObject({ status_str: 'error' });
    expect(entry.status.messages.at(-1)![0]).toBe('execution_interrupted');
    await expect.poll(() => types().slice(-3)).toEqual(['execution_interrupted', 'status', 'executing']);
    const job = (await (await fetch(`${fake.url}/api/jobs/${first.id}`)).json()) as { status: string };
    expect(job.status).toBe('cancelled');
    expect(fake.interrupts().map(({ hit }) => hit)).toEqual([false, true]);
    expect(fake.executions()).toBe(1);
  });

  it('cancels jobs one by one or many, and not at all where it is of 2025', async () => {
    const fake = await start();
    fake.hold();
    const ids = [];
    for (const seed of [1, 2, 3]) ids.push((await post(fake, graph(seed))).id);
    await fake.held();
    expect(await (await send(fake, `/api/jobs/${ids[2]}/cancel`)).json()).toEqual({ cancelled: true });
    expect(await (await send(fake, '/api/jobs/cancel', { job_ids: [ids[0], ids[1]] })).json()).toEqual({
      cancelled: true,
    });
    expect(await (await send(fake, `/api/jobs/${ids[2]}/cancel`)).json()).toEqual({ cancelled: false });
    await ended(fake, ids[0]!);
    expect(fake.executions()).toBe(1);
    const old = await start({ jobsApi: false });
    expect((await fetch(`${old.url}/api/jobs/${ids[0]}`)).status).toBe(404);
    // The pages at the root take any path, but only to be read.
    expect((await send(old, `/api/jobs/${ids[0]}/cancel`)).status).toBe(405);
  });

  it('refuses ids that are no UUID', async () => {
    const fake = await start();
    expect((await post(fake, graph(1), { prompt_id: 'mine' })).status).toBe(400);
    expect((await post(await start({ checkIds: false }), graph(1), { prompt_id: 'mine' })).status).toBe(200);
    expect(fake.executions()).toBe(0);
  });

  it('runs out of memory as often as it is told, and goes on', async () => {
    const fake = await start();
    fake.failNext('oom-twice');
    const outcomes = [];
    for (const seed of [1, 2, 3]) outcomes.push(await ended(fake, (await post(fake, graph(seed))).id));
    expect(outcomes.map(({ status }) => status.status_str)).toEqual(['error', 'error', 'success']);
    const failed = outcomes[0]!.status.messages.at(-1)!;
    expect(failed[1]).toMatchObject({
      exception_type: 'torch.OutOfMemoryError',
      node_id: 'sample',
      node_type: 'KSampler',
    });
    expect(failed[1]['exception_message']).toContain('HIP out of memory');
  });

  it('frees memory when nothing runs, and forgets results only when asked', async () => {
    const fake = await start();
    await ended(fake, (await post(fake, graph(1))).id);
    expect(fake.loadedVram).toBe(6_900_000_000);
    const free = async () =>
      ((await (await fetch(`${fake.url}/system_stats`)).json()) as { devices: { vram_free: number }[] }).devices[0]!
        .vram_free;
    const before = await free();
    fake.hold();
    const second = await post(fake, graph(2));
    await fake.held();
    expect((await send(fake, '/free', { unload_models: true })).status).toBe(200);
    expect(await free()).toBe(before);
    fake.release();
    await ended(fake, second.id);
    await expect.poll(free).toBe(before + 6_900_000_000);
    await ended(fake, (await post(fake, graph(2))).id);
    expect(fake.executions()).toBe(2);
    await send(fake, '/free', { free_memory: true });
    await expect.poll(() => fake.running()).toBeUndefined();
    await ended(fake, (await post(fake, graph(2))).id);
    expect(fake.executions()).toBe(3);
    expect((await fetch(`${fake.url}/free`, { method: 'POST' })).status).toBe(500);
  });

  it('forgets queue, history and cache in a restart, and keeps files', async () => {
    const fake = await start();
    const { socket } = await listen(fake, 'me');
    const done = await post(fake, graph(1));
    const entry = await ended(fake, done.id);
    fake.hold();
    const lost = await post(fake, graph(2));
    await post(fake, graph(3));
    await fake.held();
    const cut = new Promise((resolve) => socket.once('close', resolve));
    await fake.restart();
    await cut;
    for (const { id } of [done, lost]) expect(await (await fetch(`${fake.url}/history/${id}`)).json()).toEqual({});
    expect([fake.running(), ...fake.pending()]).toEqual([undefined]);
    const made = entry.outputs['save']!['images']![0]!;
    const view = await fetch(`${fake.url}/view?${new URLSearchParams({ ...made })}`);
    expect(await probe(new Uint8Array(await view.arrayBuffer()))).toMatchObject({ type: 'image/png', width: 64 });
    await ended(fake, (await post(fake, graph(1))).id);
    expect(fake.executions()).toBe(3);
  });
});

describe('the websocket', () => {
  it('tells a prompt only to the newest socket of its client, and status to all', async () => {
    const fake = await start();
    const older = await listen(fake, 'me');
    const other = await listen(fake, 'other');
    const newer = await listen(fake, 'me');
    const { id } = await post(fake, graph(1), { client_id: 'me' });
    await ended(fake, id);
    await expect.poll(() => newer.types().at(-1)).toBe('executing');
    expect(older.events.length).toBe(2);
    // Measured on a real server: the older one takes the client's entry with it when it goes.
    older.socket.close();
    await expect.poll(() => fake.sockets()).toEqual(['other', 'me']);
    const before = newer.events.length;
    await ended(fake, (await post(fake, graph(2), { client_id: 'me' })).id);
    expect(newer.events.length).toBe(before);
    expect(new Set(other.types())).toEqual(new Set(['status', 'feature_flags']));
  });

  it('sends a preview every step, tagged only for those who can read that', async () => {
    const fake = await start();
    const tagged = await listen(fake, 'tagged');
    const { id } = await post(fake, graph(1), { client_id: 'tagged' });
    await ended(fake, id);
    expect(tagged.frames.map((frame) => frame.readUInt32BE(0))).toEqual([4, 4, 4]);
    const length = tagged.frames[0]!.readUInt32BE(4);
    const meta = JSON.parse(String(tagged.frames[0]!.subarray(8, 8 + length))) as object;
    expect(meta).toMatchObject({ node_id: 'sample', prompt_id: id, image_type: 'image/jpeg' });
    expect(await probe(tagged.frames[0]!.subarray(8 + length))).toMatchObject({
      type: 'image/jpeg',
      width: 8,
      height: 8,
    });
    expect(tagged.types().filter((type) => type === 'progress')).toHaveLength(3);

    const png = await start({ previews: 'png' });
    const plain = await listen(png, 'plain', false);
    await ended(png, (await post(png, graph(1), { client_id: 'plain' })).id);
    expect(plain.frames.map((frame) => [frame.readUInt32BE(0), frame.readUInt32BE(4)])).toEqual([
      [1, 2],
      [1, 2],
      [1, 2],
    ]);
    expect(await probe(plain.frames[0]!.subarray(8))).toMatchObject({ type: 'image/png' });
  });

  it('tells of success before history knows, where it is told to', async () => {
    const fake = await start();
    const { types } = await listen(fake, 'me');
    fake.successBeforeHistoryMs = 150;
    const { id } = await post(fake, graph(1), { client_id: 'me' });
    await expect.poll(types).toContain('execution_success');
    expect(await (await fetch(`${fake.url}/history/${id}`)).json()).toEqual({});
    await ended(fake, id);
    await expect.poll(() => types().at(-1)).toBe('executing');
  });

  it('goes silent or is cut while the work goes on', async () => {
    const fake = await start();
    const me = await listen(fake, 'me');
    fake.silence();
    await ended(fake, (await post(fake, graph(1), { client_id: 'me' })).id);
    expect(me.events.length).toBe(2);
    fake.speak();
    fake.dropSockets();
    await new Promise((resolve) => me.socket.once('close', resolve));
    expect(fake.sockets()).toEqual([]);
  });

  it('tells one that comes back which node runs', async () => {
    const fake = await start();
    fake.hold();
    await post(fake, graph(1), { client_id: 'me' });
    await fake.held();
    const socket = new WebSocket(`${fake.url.replace('http', 'ws')}/ws?clientId=me`);
    closers.push(() => socket.terminate());
    const heard: unknown[] = [];
    socket.on('message', (raw) => void heard.push(JSON.parse(String(raw))));
    await expect.poll(() => heard[1]).toEqual({ type: 'executing', data: { node: 'sample' } });
  });
});
