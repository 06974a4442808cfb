// GET /gpu, /system/hardware and /system/capabilities of a whole gateway, with an Ollama that holds models.
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { openHardware } from '../../adapters/hardware/index.ts';
import { openGateway, type OpenOptions } from '../../adapters/index.ts';
import { gpuView, hardwareView, offeredView } from '../../src/hardware.ts';
import { openFakeOllama, VRAM } from '../support/fake-ollama.ts';
import { createScripted } from '../support/scripted-runtime.ts';
import { loadMachine, openMachine, type Files } from '../support/machines.ts';

const CARD_BYTES = 12868124672;
const USED = 7_000_000_000;
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

interface Given {
  files?: Files;
  env?: Record<string, string>;
  runtimes?: NonNullable<OpenOptions['runtimes']>;
}

async function start({ files = loadMachine('rx-6750-xt'), env = {}, runtimes }: Given = {}) {
  const machine = openMachine(files);
  const state = mkdtempSync(join(tmpdir(), 'hono-ai-gpu-'));
  const opened = await openGateway({
    env: {
      HONO_AI_STATE_DIR: state,
      HONO_AI_CONFIG: '/dev/null',
      HONO_AI_DISCOVER: 'false',
      HONO_AI_LOG_LEVEL: 'silent',
      HONO_AI_EMBEDDED: 'false',
      ...env,
    },
    hardware: openHardware({ root: machine.root, env: {} }),
    ...(runtimes ? { runtimes } : {}),
  });
  closing.push(async () => {
    await opened.close();
    machine.remove();
    rmSync(state, { recursive: true, force: true });
  });
  const ask = async (path: string, init?: RequestInit) =>
    opened.app.fetch(new Request(`http://127.0.0.1${path}`, init));
  const get = async (path: string) => {
    const response = await ask(path);
    expect(response.status, path).toBe(200);
    return response.json();
  };
  return { machine, ask, get };
}

async function startOllama(loaded: string[]) {
  const ollama = await openFakeOllama({ loaded });
  closing.push(() => ollama.close());
  return ollama;
}

describe('a model that is larger than the card', () => {
  const big = (given: Pick<Given, 'env'> = {}) => {
    const tenant = { footprint: () => 20 * 1024 ** 3, residents: async () => [], evict: async () => {} };
    const models = [{ id: 'big', capabilities: ['text.chat' as const], state: 'ready' as const }];
    return start({
      ...given,
      runtimes: [createScripted({ name: 'home', models, chat: () => ({ text: 'ok' }), gpu: tenant })],
    });
  };
  const chat = { method: 'POST', body: '{"messages":[{"role":"user","content":"x"}]}' };

  it('has it for itself where nobody said how much there is: runtimes can put the rest elsewhere', async () => {
    const { get, ask } = await big();
    expect((await ask('/text/chat', chat)).status).toBe(200);
    const { budget, others_counted } = gpuView.parse(await get('/gpu'));
    expect(budget).toBe(CARD_BYTES - Math.max(1024 ** 3, others_counted));
  });

  it('is refused where somebody did', async () => {
    const { ask } = await big({ env: { HONO_AI_VRAM: '8GB' } });
    const answer = await ask('/text/chat', chat);
    expect([answer.status, await answer.text()]).toEqual([503, expect.stringContaining('insufficient_vram')]);
  });
});

it('lists tell at once what has come to the card and what has left it', async () => {
  const ollama = await startOllama([]);
  const { get, ask } = await start({ env: { OLLAMA_HOST: ollama.url, HONO_AI_CATALOG_MS: '600000' } });
  const stateOf = async (id: string) => (await get(`/models/${id}`)).state;
  const chat = (model: string) => ({
    method: 'POST',
    body: JSON.stringify({ model, messages: [{ role: 'user', content: 'x' }] }),
  });
  expect(await stateOf('echo')).toBe('ready');
  expect((await ask('/text/chat', chat('echo'))).status).toBe(200);
  await expect.poll(() => stateOf('echo')).toBe('loaded');
  expect((await ask('/models/unload', { method: 'POST', body: '{"model":"echo"}' })).status).toBe(200);
  await expect.poll(() => stateOf('echo')).toBe('ready');
});

describe('GET /gpu', () => {
  it('tells what Ollama holds, what others hold, and what is free', async () => {
    const ollama = await startOllama(['echo', 'utf8']);
    const files = { ...loadMachine('rx-6750-xt'), '/sys/class/drm/card1/device/mem_info_vram_used': `${USED}\n` };
    const { get } = await start({ files, env: { OLLAMA_HOST: ollama.url } });
    const view = gpuView.parse(await get('/gpu'));
    expect(view.card).toMatchObject({ name: 'AMD Radeon RX 6750 XT', vram: { total: CARD_BYTES, used: USED } });
    expect(view.owners.map(({ runtime, model, vram, basis }) => [runtime, model, vram, basis])).toEqual([
      ['ollama', 'echo:latest', VRAM, 'measured'],
      ['ollama', 'utf8:latest', VRAM, 'measured'],
    ]);
    expect(view).toMatchObject({ others: USED - 2 * VRAM, free: CARD_BYTES - USED, why: null, warnings: [] });
    expect(view.budget).toBe(CARD_BYTES - 1024 ** 3);
    expect(view.history).toHaveLength(1);
    expect(view).toMatchObject({ hold: null, waiting: [], swaps: [], eta_error: null });
    expect(view.timeline).toMatchObject({ at: [view.history[0]!.at], swaps: [] });
    expect(await get('/gpu?history=0')).toMatchObject({ history: [], timeline: null });
  });
});

describe('GET /system/hardware', () => {
  it('tells the machine', async () => {
    const { get } = await start();
    const { cards, cpu, ram, why, problems } = hardwareView.parse(await get('/system/hardware'));
    expect(cards).toEqual([expect.objectContaining({ chosen: true, architecture: 'gfx1031' })]);
    expect(cpu.name).toContain('Ryzen');
    expect(ram.total).toBe(32776180 * 1024);
    expect({ why, problems }).toEqual({ why: null, problems: [] });
  });
});

describe('GET /system/capabilities', () => {
  const read = async (get: (path: string) => Promise<unknown>) => {
    const { capabilities } = offeredView.parse(await get('/system/capabilities'));
    return new Map(capabilities.map((each) => [each.id, each]));
  };

  it('tells what is offered and by whom, and for the rest why not and what to do', async () => {
    const ollama = await startOllama([]);
    const { get } = await start({ env: { OLLAMA_HOST: ollama.url } });
    const offered = await read(get);
    const chat = offered.get('text.chat')!;
    expect(chat).toMatchObject({ path: '/text/chat', offered: true, runtime: 'ollama', why: null, remedy: null });
    expect(chat.models).toContain('echo:latest');
    expect(chat.models).toContain(chat.model);
    expect(offered.get('text.embed')).toMatchObject({ offered: true, model: 'embedder:latest' });
    expect(offered.get('video.generate')).toMatchObject({
      offered: false,
      model: null,
      runtime: null,
      models: [],
      why: expect.stringContaining('video.generate'),
      remedy: expect.stringContaining('ComfyUI'),
    });
    // What the gateway does itself needs no model.
    expect(offered.has('model.pull')).toBe(false);
  });

  it('tells of a runtime that has gone that it has', async () => {
    const ollama = await openFakeOllama();
    const { get } = await start({ env: { OLLAMA_HOST: ollama.url, HONO_AI_CATALOG_MS: '1' } });
    expect((await read(get)).get('text.chat')!.offered).toBe(true);
    await ollama.close();
    await read(get);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect((await read(get)).get('text.chat')).toMatchObject({
      offered: false,
      why: expect.stringContaining('ollama'),
      remedy: expect.stringContaining('ollama serve'),
    });
  });
});

describe('whatever hangs', () => {
  it('every route answers in time', async () => {
    const sockets: { destroy(): void }[] = [];
    const server = createServer((socket) => void sockets.push(socket));
    server.listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    closing.push(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const { get } = await start({
      env: { OLLAMA_HOST: `http://127.0.0.1:${(server.address() as AddressInfo).port}` },
    });
    const before = performance.now();
    const answers = await Promise.all(['/gpu', '/system/hardware', '/system/capabilities'].map(get));
    expect(performance.now() - before).toBeLessThan(10_000);
    expect(offeredView.parse(answers[2]).capabilities[0]).toMatchObject({
      offered: false,
      why: expect.stringContaining('not answered'),
      remedy: expect.stringContaining('again'),
    });
  });
});
