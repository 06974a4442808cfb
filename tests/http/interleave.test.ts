// Chats and pictures through one gateway for ten minutes, a hundredth of a second each second: the fakes never hold more than the budget, and nobody who hangs or leaves is felt by the others.
import { request as httpRequest } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { createDice } from '../support/fake-card.ts';
import { openFakeComfyUI, type FakeComfyUI } from '../support/fake-comfyui/index.ts';
import { openFakeOllama, type FakeOllama } from '../support/fake-ollama.ts';
import { openServed, post, type TestGateway } from '../support/gateway.ts';

/** A second of theirs, in milliseconds. */
const SECOND = 10;
const MINUTE = 60 * SECOND;
const BUDGET = 10 * 1024 ** 3;
/** Two chat models fit beside each other; neither fits beside the pictures' (6.9 GB). */
const CHAT_BYTES = 4_200_000_000;
const CHATS = ['echo', 'vision', 'thinker'];
const MODELS = [...CHATS, 'slow', 'hang'];
/** What any one request may take, in milliseconds: the queue, swaps on the way, and a busy machine. */
const BOUND = 30_000;
/** What all of it may take, in milliseconds. */
const LIMIT = 60_000;

let ollama: FakeOllama;
let comfyui: FakeComfyUI;
let gateway: TestGateway;
let most = 0;
let changes = 0;

/** Called at every change of what either fake holds. */
function watch(): void {
  changes++;
  most = Math.max(most, (ollama?.taken() ?? 0) + (comfyui?.loadedVram ?? 0));
}

beforeAll(async () => {
  ollama = await openFakeOllama({ loadMs: 4 * SECOND, unloadMs: SECOND, tokenMs: SECOND / 5, onMemory: watch });
  for (const model of MODELS) ollama.memory.set(`${model}:latest`, { size: CHAT_BYTES, vram: CHAT_BYTES });
  comfyui = await openFakeComfyUI({ stepMs: SECOND / 5, previews: 'none' });
  let loaded = 0;
  Object.defineProperty(comfyui, 'loadedVram', {
    get: () => loaded,
    set(bytes: number) {
      loaded = bytes;
      watch();
    },
  });
  gateway = await openServed('node', {
    runtimes: [
      { name: 'ollama', kind: 'ollama', url: ollama.url },
      { name: 'comfyui', kind: 'comfyui', url: comfyui.url },
    ],
    env: {
      HONO_AI_VRAM: String(BUDGET),
      HONO_AI_EMBEDDED: 'false',
      HONO_AI_PATIENCE_S: '1',
      HONO_AI_QUEUE_MS: String(BOUND),
      HONO_AI_FIRST_BYTE_MS: '10000',
      HONO_AI_IDLE_MS: '2000',
      HONO_AI_JOB_WORKERS: '2',
    },
  });
  // Each is seen once, so that its size is known: the file tells too little.
  for (const model of MODELS) {
    expect((await gateway.request('/models/load', post({ model }))).status).toBe(200);
  }
  most = 0;
});
afterAll(async () => {
  await gateway?.close();
  await Promise.all([ollama?.close(), comfyui?.close()]);
});

interface Tally {
  chats: number;
  pictures: number;
  rude: number;
  longest: number;
  failures: string[];
}

it(
  'keeps the budget at every instant, answers everybody, and leaves nothing behind',
  { timeout: 2 * LIMIT },
  async () => {
    const tally: Tally = { chats: 0, pictures: 0, rude: 0, longest: 0, failures: [] };
    const began = performance.now();
    // Both have their turn, however busy this machine is, and the card changes hands between them.
    const isEnough = () => tally.chats > 20 && tally.pictures > 2 && tally.rude > 10;
    const isOver = () => performance.now() > began + (isEnough() ? 10 * MINUTE : LIMIT);
    const dices = Array.from({ length: 12 }, (_, index) => createDice(index + 1));
    await Promise.all([
      ...dices.slice(0, 5).map(async (dice) => repeat(isOver, dice, () => chat(dice, tally))),
      ...dices.slice(5, 7).map(async (dice) => repeat(isOver, dice, () => paint(dice, tally))),
      ...dices.slice(7, 9).map(async (dice) => repeat(isOver, dice, () => leave(dice, tally))),
      repeat(isOver, dices[9]!, () => neverRead(dices[9]!, tally)),
      repeat(isOver, dices[10]!, () => hang(tally)),
      repeat(isOver, dices[11]!, () => cancelPicture(dices[11]!, tally)),
    ]);
    expect(tally.failures).toEqual([]);
    expect(tally.longest).toBeLessThan(BOUND);
    expect(most).toBeGreaterThan(CHAT_BYTES);
    expect(most).toBeLessThanOrEqual(BUDGET);
    expect(isEnough(), JSON.stringify(tally)).toBe(true);
    expect(changes).toBeGreaterThan(10);
    await eventually('nothing runs on the fakes', () => {
      return ollama.running() === 0 && comfyui.running() === undefined && comfyui.pending().length === 0;
    });
    expect(most).toBeLessThanOrEqual(BUDGET);
  },
);

/** Until that is enough, with a pause between. */
async function repeat(isOver: () => boolean, dice: () => number, once: () => Promise<void>): Promise<void> {
  await pause(dice() * 20 * SECOND);
  while (!isOver()) {
    await once();
    await pause((2 + dice() * 8) * SECOND);
  }
}

const pick = (dice: () => number) => CHATS[Math.floor(dice() * CHATS.length)]!;

/** One that is to be answered, and in time. */
async function expectAnswer(tally: Tally, what: string, ask: () => Promise<Response>): Promise<boolean> {
  const began = performance.now();
  const response = await ask();
  const text = await response.text();
  tally.longest = Math.max(tally.longest, performance.now() - began);
  if (response.status !== 200 || /^event: error/m.test(text))
    tally.failures.push(`${what}: ${response.status} ${text.slice(0, 300)}`);
  return response.status === 200;
}

async function chat(dice: () => number, tally: Tally): Promise<void> {
  const body = { prompt: `say ${dice()}`, model: pick(dice), stream: dice() < 0.5 };
  if (await expectAnswer(tally, body.model, () => gateway.request('/text/gen', post(body)))) tally.chats++;
}

const picture = (dice: () => number) => ({
  prompt: 'a fox',
  model: 'sdxl',
  size: '256x256',
  seed: Math.floor(dice() * 1e6),
});

async function paint(dice: () => number, tally: Tally): Promise<void> {
  if (await expectAnswer(tally, 'sdxl', () => gateway.request('/image/gen', post(picture(dice))))) tally.pictures++;
}

/** Goes at any moment: while it waits, while the model loads, while it is answered. */
async function leave(dice: () => number, tally: Tally): Promise<void> {
  const leaving = new AbortController();
  const body = { prompt: `leave ${dice()}`, model: dice() < 0.2 ? 'slow' : pick(dice), stream: true };
  const asked = gateway
    .request('/text/gen', post(body, { signal: leaving.signal }))
    .then((response) => response.text());
  asked.catch(() => {});
  await pause(dice() * 60 * SECOND);
  leaving.abort();
  tally.rude++;
  await asked.catch(() => {});
}

/** Asks, and does not take a byte of the answer. */
async function neverRead(dice: () => number, tally: Tally): Promise<void> {
  const body = JSON.stringify({ prompt: `unread ${dice()}`, model: pick(dice), stream: true });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const asked = httpRequest(`${gateway.url}/text/gen`, { method: 'POST', headers, agent: false });
  asked.on('error', () => {});
  asked.end(body);
  tally.rude++;
  // It stays connected longer than it would take to answer; others do not wait for that.
  void pause(100 * SECOND).then(() => asked.destroy());
  await pause(20 * SECOND);
}

/** The runtime says two words and then nothing more. */
async function hang(tally: Tally): Promise<void> {
  const response = await gateway.request('/text/gen', post({ prompt: 'x', model: 'hang' }));
  await response.text();
  expect(response.status).toBe(504);
  tally.rude++;
  await pause(60 * SECOND);
}

async function cancelPicture(dice: () => number, tally: Tally): Promise<void> {
  const response = await gateway.request('/image/gen', post(picture(dice), { headers: { prefer: 'respond-async' } }));
  const { id } = (await response.json()) as { id: string };
  await pause(dice() * 80 * SECOND);
  await gateway.request(`/jobs/${id}`, { method: 'DELETE' });
  tally.rude++;
}
