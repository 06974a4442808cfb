// The fake ComfyUI says what the real one said: every recording is sent to it again, and shape and order are compared.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { openFakeComfyUI } from '../support/fake-comfyui/index.ts';
import type { FakeComfyUI, FakeObjectInfo } from '../support/fake-comfyui/index.ts';
import { makePicture } from '../support/media/index.ts';

interface Http {
  http: string;
  request: unknown;
  status: number;
  contentType?: string;
  response: unknown;
}
type Entry = { ws: unknown } | Http;

const folder = join(import.meta.dirname, '../recordings');
const read = (name: string): string => readFileSync(join(folder, name), 'utf8');
const objectInfo = JSON.parse(read('comfyui-object_info.json')) as FakeObjectInfo;
const entries = (name: string): Entry[] =>
  read(`comfyui-${name}.jsonl`)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Entry);
const SID = '200d0810-42a8-465b-a37e-d4d064a5daf5';

const open: { fake: FakeComfyUI; socket: WebSocket }[] = [];
afterEach(async () => {
  for (const { fake, socket } of open.splice(0)) {
    socket.terminate();
    await fake.close();
  }
});

async function start(): Promise<{ fake: FakeComfyUI; heard: unknown[] }> {
  const fake = await openFakeComfyUI({ objectInfo });
  const socket = new WebSocket(`${fake.url.replace('http', 'ws')}/ws?clientId=${SID}`);
  const heard: unknown[] = [];
  socket.on('message', (raw, binary) => void (binary || heard.push(JSON.parse(String(raw)))));
  socket.once('open', () => socket.send('{"type":"feature_flags","data":{"supports_preview_metadata":true}}'));
  await expect.poll(() => heard.length).toBe(2);
  open.push({ fake, socket });
  return { fake, heard };
}

async function ask(fake: FakeComfyUI, { http, request }: Http): Promise<Omit<Http, 'http' | 'request'>> {
  const [method, path] = http.split(' ') as [string, string];
  const init: RequestInit = { method };
  if (path === '/upload/image') {
    const form = new FormData();
    form.set('image', new File([(await makePicture({ width: 4, height: 4 })) as BlobPart], 'in.png'));
    init.body = form;
  } else if (method === 'POST') init.body = request === null ? 'no JSON' : JSON.stringify(small(request));
  const answer = await fetch(fake.url + path.replace('=../x', '=..%2Fx'), init);
  const contentType = answer.headers.get('content-type') ?? '';
  const response = contentType.includes('json')
    ? await answer.json()
    : contentType.startsWith('image/')
      ? { base64: Buffer.from(await answer.arrayBuffer()).toString('base64') }
      : await answer.text();
  return { status: answer.status, contentType, response };
}

/** Large pictures cost time and say nothing. */
function small(request: unknown): unknown {
  return JSON.parse(JSON.stringify(request).replaceAll('512', '32'));
}

const wsOf = (list: Entry[]) => list.flatMap((entry) => ('ws' in entry ? [normal(entry.ws)] : []));
const httpOf = (list: Entry[]) => list.filter((entry): entry is Http => 'http' in entry);
const compare = (answer: Omit<Http, 'http' | 'request'>, recorded: Http): void => {
  expect(answer.status, recorded.http).toBe(recorded.status);
  if (recorded.contentType !== undefined) expect(answer.contentType, recorded.http).toBe(recorded.contentType);
  expect(normal(answer.response), recorded.http).toEqual(normal(small(recorded.response)));
};

describe('recorded traffic', () => {
  it.each(['success', 'same-graph-twice', 'video-webp', 'validation-errors', 'execution-error', 'upload-free-models'])(
    '%s',
    async (name) => {
      const recorded = entries(name);
      const { fake, heard } = await start();
      if (name === 'execution-error') fake.failNext('loader');
      for (const entry of httpOf(recorded)) {
        await expect.poll(() => [fake.running(), ...fake.pending()]).toEqual([undefined]);
        compare(await ask(fake, entry), entry);
      }
      await expect.poll(() => heard.length).toBeGreaterThanOrEqual(wsOf(recorded).length);
      await pause(20);
      expect(heard.map((event) => normal(event))).toEqual(wsOf(recorded));
    },
  );

  it('interrupt-and-delete', async () => {
    const recorded = entries('interrupt-and-delete');
    const [first, second, ...others] = httpOf(recorded) as [Http, Http, ...Http[]];
    const { fake, heard } = await start();
    const running = (entry: Http) => (entry.request as { prompt_id: string }).prompt_id;
    fake.hold('start');
    compare(await ask(fake, first), first);
    expect(await fake.held()).toBe(running(first));
    compare(await ask(fake, second), second);
    // Holding anew lets the first go on, and the second stands still in its turn.
    fake.hold('start');
    await expect.poll(() => fake.held()).toBe(running(second));
    for (const entry of others) compare(await ask(fake, entry), entry);
    fake.release();
    await expect.poll(() => heard.length).toBe(wsOf(recorded).length);
    expect(heard.map((event) => normal(event))).toEqual(wsOf(recorded));
    expect(fake.interrupts()).toEqual([{ prompt_id: running(first), hit: false }]);
    expect(fake.executions()).toBe(2);
  });

  it('system_stats has the same members', async () => {
    const { fake } = await start();
    const stats = (await (await fetch(`${fake.url}/system_stats`)).json()) as Stats;
    const recorded = JSON.parse(read('comfyui-system_stats.json')) as Stats;
    expect(Object.keys(stats.system)).toEqual(Object.keys(recorded.system));
    expect(Object.keys(stats.devices[0]!)).toEqual(Object.keys(recorded.devices[0]!));
  });

  it('object_info is the recorded one', async () => {
    const { fake } = await start();
    const info = (await (await fetch(`${fake.url}/object_info`)).json()) as FakeObjectInfo;
    expect(Object.keys(info)).toEqual(Object.keys(objectInfo));
    expect(info['CheckpointLoaderSimple']).toEqual(objectInfo['CheckpointLoaderSimple']);
    expect(info['VAELoader']!.input!.required!['vae_name']).toEqual([
      [...(objectInfo['VAELoader']!.input!.required!['vae_name'] as [string[]])[0]].toSorted(),
    ]);
    expect(await (await fetch(`${fake.url}/object_info/KSampler`)).json()).toEqual({
      KSampler: objectInfo['KSampler'],
    });
    expect(await (await fetch(`${fake.url}/object_info/Nothing`)).json()).toEqual({});
  });
});

interface Stats {
  system: object;
  devices: object[];
}

/** Without what differs from run to run: times, counters, numbers of prompts, pictures' bytes, where Python was. */
function normal(value: unknown, key = ''): unknown {
  if (key === 'traceback') return 'traceback';
  if (key === 'base64') return 'picture';
  if (key === 'number' || key === 'priority') return 'number';
  if (key === 'current_outputs') return (value as string[]).toSorted();
  if (typeof value === 'number' && value > 1e12) return 'time';
  if (typeof value === 'string')
    return value.replace(/_\d{5}/, '_N').replace(/^"?[0-9a-f]{8}-[\w-]{27}$/, (id) => (id === SID ? 'sid' : 'id'));
  if (Array.isArray(value)) {
    const list = value.map((item) => normal(item));
    return list.length === 5 && list[1] === 'id' ? ['number', ...list.slice(1)] : list;
  }
  if (typeof value === 'object' && value !== null) {
    // Tooltips are in the answers but not in the recorded classes.
    const members = Object.entries(value).filter(([name]) => name !== 'tooltip');
    return Object.fromEntries(members.map(([name, item]) => [name, normal(item, name)]));
  }
  return value;
}
