// GET /gpu: who holds how much of the card, held against what the card says, and what is wrong with it.
import { describe, expect, it } from 'vitest';
import { GatewayError } from '../../src/error.ts';
import type { Card, Hardware, Owner, Reading, Sample } from '../../src/hardware.ts';
import { createGpu } from '../../src/hardware/gpu.ts';
import { toGpuEvent, toSwapEvent, type Viewer } from '../../src/hardware/tell.ts';
import { toWarnings, type Situation } from '../../src/hardware/warnings.ts';
import type { View } from '../../src/arbiter/arbiter.ts';
import type { Resident, RuntimeAdapter } from '../../src/runtime.ts';

const GIB = 1024 ** 3;

const CARD: Card = {
  id: '0000:0b:00.0',
  index: 0,
  vendor: 'amd',
  name: 'AMD Radeon RX 6750 XT',
  kind: 'discrete',
  chosen: true,
  architecture: 'gfx1031',
  driver: null,
  vram: { total: 12 * GIB, used: 9 * GIB },
  gtt: { total: 16 * GIB, used: 0 },
  busy: 0.5,
  temperature_c: 60,
  power_w: 100,
  power_cap_w: 203,
  fan_rpm: 900,
};

interface FakeHardware extends Hardware {
  card: Card | undefined;
  samples: Sample[];
  hangs: boolean;
  /** Adds a sample, and tells of it. */
  sample(sample: Sample): void;
}

const toSample = (second: number, used: number): Sample => ({
  at: new Date(second * 1000).toISOString(),
  used,
  gtt_used: 0,
  busy: null,
  temperature_c: null,
  power_w: null,
});

function fakeHardware(card: Card | undefined = CARD): FakeHardware {
  const reading = (): Reading => ({
    at: 0,
    cards: hardware.card ? [hardware.card] : [],
    machine: { os: '', cpu: { name: '', cores: 1, load: 0 }, ram: { total: 1, used: 0 }, container: false },
    problems: [],
    ...(hardware.card ? {} : { why: 'No card; buy one.' }),
  });
  const listeners: ((sample: Sample) => void)[] = [];
  const hardware: FakeHardware = {
    card,
    onSample: (listener) => void listeners.push(listener),
    sample(sample) {
      hardware.samples.push(sample);
      for (const listener of listeners) listener(sample);
    },
    samples: [],
    hangs: false,
    read: () => (hardware.hangs ? new Promise(() => {}) : Promise.resolve(reading())),
    latest: reading,
    history: () => hardware.samples,
    start: () => {},
    close: () => {},
  };
  return hardware;
}

interface FakeTenant extends RuntimeAdapter {
  answer: () => Promise<Resident[]>;
  asked: number;
}

function tenant(name: string, residents: Resident[] = [], device?: 'card' | 'processor'): FakeTenant {
  const runtime: FakeTenant = {
    name,
    priority: 1,
    asked: 0,
    answer: async () => residents,
    models: async () => [],
    handles: {},
    health: async () => {},
    gpu: {
      footprint: () => 0,
      evict: async () => {},
      residents: () => {
        runtime.asked++;
        return runtime.answer();
      },
      ...(device ? { device: () => device } : {}),
    },
  };
  return runtime;
}

type Held = View['held'][number];
const held = (runtime: string, model: string, footprint: number, leases: number, loading = false): Held => ({
  runtime,
  model,
  footprint,
  leases,
  usedAt: 0,
  since: 0,
  loading,
  loadMs: 0,
  leaving: false,
  stuck: false,
});
const waits = (model: string, caller: string, position: number): View['waiting'][number] => ({
  runtime: 'a',
  model,
  caller,
  position,
  footprint: GIB,
  class: 'interactive',
  id: position,
  since: 500,
  dueAt: 0,
  loadMs: 0,
  runMs: 0,
  message: 'large is answering others',
  eta: 12,
});
const swap = (second: number, caller: string): View['swaps'][number] => ({
  at: second * 1000,
  runtime: 'a',
  model: 'next',
  caller,
  because: 'making room: unloading old',
  tookMs: 1234,
  evicted: [{ runtime: 'b', model: 'old' }],
});

const OWNER: Viewer = { caller: 'owner', isOwner: true };
const GUEST: Viewer = { caller: 'guest', isOwner: false };

interface Given {
  hardware?: FakeHardware;
  books?: Held[];
  pinned?: string;
  waiting?: View['waiting'];
  swaps?: View['swaps'];
}

function open(runtimes: RuntimeAdapter[], given: Given = {}) {
  const { hardware = fakeHardware(), books = [], pinned = '', waiting = [], swaps = [] } = given;
  const snapshot = (): View => ({
    held: books,
    running: [],
    waiting,
    swaps,
    budget: 11 * GIB,
    others: GIB,
    closed: undefined,
  });
  const gpu = createGpu({
    runtimes,
    hardware,
    arbiter: { snapshot },
    residency: { policyOf: (runtime, model) => ({ runtime, model, pinned: model === pinned, preload: false }) },
  });
  return { hardware, gpu, view: gpu.view, snapshot };
}

describe('the card by owner', () => {
  it('adds up to what the card says', async () => {
    const ollama = tenant('ollama', [
      { model: 'small', vram: 2 * GIB, expiresAt: Date.parse('2026-01-01T00:00:00Z') },
      { model: 'large', vram: 5 * GIB, ram: 0, expiresAt: 9e15 },
    ]);
    const books = [held('ollama', 'large', 4 * GIB, 2), held('ollama', 'gone', GIB, 0)];
    const { view } = open([ollama], { books, pinned: 'small' });
    const { owners, ...rest } = await view();
    const common = { runtime: 'ollama', basis: 'measured' };
    expect(owners).toEqual([
      { ...common, model: 'large', vram: 5 * GIB, ram: 0, in_use: 2, pinned: false, expires_at: null },
      {
        ...common,
        model: 'small',
        vram: 2 * GIB,
        ram: null,
        in_use: 0,
        pinned: true,
        expires_at: '2026-01-01T00:00:00.000Z',
      },
    ]);
    expect(rest).toEqual({
      card: CARD,
      cards: [CARD],
      budget: 11 * GIB,
      others: 2 * GIB,
      others_counted: GIB,
      free: 3 * GIB,
      waiting: [],
      swaps: [],
      warnings: [],
      why: null,
      history: [],
      timeline: { at: [], owners: [], rows: [], others: [], swaps: [] },
    });
  });

  it('counts main memory of runtimes without a card apart', async () => {
    const { gpu, ...rest } = tenant('embedded');
    const embedded: RuntimeAdapter = {
      ...rest,
      memory: { residents: async () => [{ model: 'tiny', vram: 0, ram: GIB }] },
    };
    const { owners, others, warnings } = await open([embedded]).view();
    expect(gpu).toBeDefined();
    expect(owners).toEqual([expect.objectContaining({ runtime: 'embedded', model: 'tiny', vram: 0, ram: GIB })]);
    expect(others).toBe(9 * GIB);
    expect(warnings).toEqual([]);
  });

  it('counts no runtime among the others, whoever looks after its memory', async () => {
    const { gpu: _, ...rest } = tenant('router');
    const memory = { residents: async () => [{ model: 'm', vram: 4 * GIB, estimated: true }] };
    const { owners, others } = await open([tenant('o', [{ model: 'n', vram: GIB }]), { ...rest, memory }]).view();
    expect(owners.map(({ model, basis }) => [model, basis])).toEqual([
      ['m', 'estimated'],
      ['n', 'measured'],
    ]);
    expect(others).toBe(4 * GIB);
  });

  it('tells what was promised where a runtime has not loaded it yet, or never answered', async () => {
    const silent = tenant('silent');
    silent.answer = async () => {
      throw new GatewayError('upstream_timeout', 'Too slow.');
    };
    const books = [held('silent', 'film', 4 * GIB, 0), held('ollama', 'coming', 3 * GIB, 1)];
    const { owners, others } = await open([silent, tenant('ollama')], { books }).view();
    expect(owners.map(({ model, basis, in_use }) => [model, basis, in_use])).toEqual([
      ['film', 'estimated', 0],
      ['coming', 'estimated', 1],
    ]);
    // What is on its way is not there yet; what nobody can look at may be.
    expect(others).toBe(5 * GIB);
  });

  it('is never owned by less than nobody', async () => {
    const { others, warnings } = await open([tenant('far', [{ model: 'x', vram: 11 * GIB }])]).view();
    expect(others).toBe(0);
    expect(warnings).toEqual([expect.stringMatching(/hold 11\.0 GiB, but only 9\.0 GiB.*another card or machine/)]);
  });

  it('is told without its history, and with it', async () => {
    const { hardware, view } = open([]);
    hardware.samples = [toSample(1, 1)];
    expect(await view({ history: false })).toMatchObject({ history: [], timeline: null });
    // A sample that was there before anybody listened is in the timeline as well.
    const { history, timeline } = await view();
    expect([history.length, timeline!.at]).toEqual([1, [history[0]!.at]]);
  });

  it('is guessed by the budget where there is no card to read', async () => {
    const hardware = fakeHardware();
    hardware.card = undefined;
    const { card, free, others, why } = await open([tenant('o', [{ model: 'm', vram: GIB }])], { hardware }).view();
    expect({ card, free, others, why }).toEqual({ card: null, free: 10 * GIB, others: 0, why: 'No card; buy one.' });
  });
});

describe('who waits, and what made room', () => {
  const given = {
    waiting: [waits('late', 'guest', 2), waits('next', 'owner', 1)],
    swaps: [swap(1, 'owner'), swap(2, 'guest'), { ...swap(3, ''), failure: 'It would not leave.' }],
  };

  it('is told in order, with when and why', async () => {
    const { waiting, swaps } = await open([], given).view({ viewer: OWNER, now: 2500 });
    expect(waiting.map(({ model, caller }) => [model, caller])).toEqual([
      ['next', 'owner'],
      ['late', 'guest'],
    ]);
    expect(waiting[0]).toEqual({
      runtime: 'a',
      model: 'next',
      position: 1,
      class: 'interactive',
      caller: 'owner',
      waited_s: 2,
      eta_s: 12,
      why: 'large is answering others',
    });
    expect(swaps[1]).toEqual({
      at: '1970-01-01T00:00:02.000Z',
      runtime: 'a',
      model: 'next',
      caller: 'guest',
      took_s: 1.2,
      failure: null,
      evicted: [{ runtime: 'b', model: 'old' }],
      because: 'making room: unloading old',
    });
    expect(swaps.map(({ failure }) => failure)).toEqual(['It would not leave.', null, null]);
  });

  it('names nobody else to whoever is not the owner', async () => {
    const { gpu, view } = open([], given);
    const { waiting, swaps } = await view({ viewer: GUEST });
    expect(waiting.map(({ caller }) => caller)).toEqual([null, 'guest']);
    expect(swaps.map(({ caller }) => caller)).toEqual([null, 'guest', null]);
    expect(gpu.swaps(2, GUEST).map(({ at, caller }) => [Date.parse(at), caller])).toEqual([
      [3000, null],
      [2000, 'guest'],
    ]);
    expect((await view()).waiting.map(({ caller }) => caller)).toEqual([null, null]);
  });

  it('is told to everybody who watches, without callers', () => {
    const { snapshot } = open([], { ...given, books: [held('a', 'm', GIB, 1)] });
    const told = JSON.stringify([toGpuEvent(snapshot()), toSwapEvent(given.swaps[1]!)]);
    expect(told).toContain('late');
    expect(told).not.toContain('guest');
    expect(toGpuEvent(snapshot()).held).toEqual([{ runtime: 'a', model: 'm', footprint: GIB, leases: 1 }]);
  });
});

describe('the timeline', () => {
  it('tells who held how much at each sample, what others did, and the swaps between', async () => {
    const books = [held('a', 'small', 2 * GIB, 0)];
    const { hardware, view } = open([], { books, swaps: [swap(1, 'owner'), swap(15, 'owner')] });
    hardware.sample(toSample(10, 3 * GIB));
    books.splice(0, 1, held('b', 'large', 8 * GIB, 1), held('a', 'coming', GIB, 1, true));
    hardware.sample(toSample(20, 9 * GIB));
    const { timeline } = await view();
    expect(timeline).toEqual({
      at: ['1970-01-01T00:00:10.000Z', '1970-01-01T00:00:20.000Z'],
      owners: [
        { runtime: 'b', model: 'large' },
        { runtime: 'a', model: 'small' },
      ],
      rows: [
        [0, 2 * GIB],
        [8 * GIB, 0],
      ],
      others: [GIB, GIB],
      swaps: [expect.objectContaining({ at: '1970-01-01T00:00:15.000Z' })],
    });
    expect((await view({ history: false })).timeline).toBeNull();
  });

  it('forgets what the history has forgotten, and names no more owners than anybody can look at', async () => {
    const books: Held[] = [];
    const { hardware, view } = open([], { books });
    for (let second = 0; second < 300; second++) {
      books.splice(0, 1, held('a', `m${second}`, (second + 1) * 1000, 0));
      hardware.sample(toSample(second, 400_000));
    }
    hardware.samples.splice(0, 200);
    const { timeline } = await view();
    expect(timeline!.at).toHaveLength(100);
    expect(timeline!.owners).toHaveLength(64);
    expect(timeline!.owners[0]).toEqual({ runtime: 'a', model: 'm299' });
    // Whoever is not named is among the others.
    expect(timeline!.others[0]).toBe(400_000);
  });
});

describe('whatever hangs', () => {
  it('a runtime is told as it last was, and said to be', async () => {
    const ollama = tenant('ollama', [{ model: 'm', vram: 5 * GIB }]);
    const { view } = open([ollama]);
    await view();
    ollama.answer = () => new Promise(() => {});
    const before = performance.now();
    const [{ owners, warnings }] = await Promise.all([view(), view()]);
    expect(performance.now() - before).toBeLessThan(10_000);
    expect(owners).toEqual([expect.objectContaining({ model: 'm', vram: 5 * GIB })]);
    expect(warnings).toEqual([expect.stringContaining('ollama does not answer')]);
    // Both have asked once, together.
    expect(ollama.asked).toBe(2);
  });

  it('a runtime that has gone holds nothing any more', async () => {
    const ollama = tenant('ollama', [{ model: 'm', vram: 5 * GIB }]);
    const { view } = open([ollama]);
    await view();
    ollama.answer = async () => {
      throw new GatewayError('upstream_unavailable', 'It is gone.');
    };
    expect(await view()).toMatchObject({ owners: [], warnings: [], others: 9 * GIB });
  });

  it('the card is told as it last was', async () => {
    const hardware = fakeHardware();
    hardware.hangs = true;
    const before = performance.now();
    expect((await open([], { hardware }).view()).card).toEqual(CARD);
    expect(performance.now() - before).toBeLessThan(10_000);
  });
});

describe('warnings', () => {
  const owner = (vram: number, ram: number | null): Owner => ({
    runtime: 'ollama',
    model: 'qwen3:8b',
    vram,
    ram,
    basis: 'measured',
    in_use: 0,
    pinned: false,
    expires_at: null,
  });
  const roomy: Card = { ...CARD, vram: { total: 12 * GIB, used: GIB } };
  const warn = (given: Partial<Situation>) =>
    toWarnings({ card: roomy, owners: [], others: 0, gttBefore: 0, onProcessor: [], silent: [], ...given });

  it.each<[string, Partial<Card>, RegExp]>([
    ['gfx1031', {}, /wholly on the processor: ROCm did not take.*HSA_OVERRIDE_GFX_VERSION=10\.3\.0 for ollama/],
    ['gfx1030', { architecture: 'gfx1030' }, /\/dev\/kfd and \/dev\/dri.*doctor/],
    ['gfx1010', { architecture: 'gfx1010' }, /Vulkan build/],
    ['NVIDIA', { vendor: 'nvidia', architecture: '8.6' }, /--gpus all/],
    ['Intel', { vendor: 'intel', architecture: null }, /log of ollama/],
  ])('a model on the processor beside a card with room: %s', (_, card, expected) => {
    const warnings = warn({ card: { ...roomy, ...card }, owners: [owner(0, 5 * GIB)] });
    expect(warnings).toEqual([expect.stringMatching(expected)]);
  });

  it('beside a card without room it is the room', () => {
    const card = { ...CARD, vram: { total: 12 * GIB, used: 11 * GIB } };
    expect(warn({ card, owners: [owner(0, 5 * GIB)] })).toEqual([expect.stringMatching(/only 1\.0 GiB.*unload/)]);
  });

  it('a part of a model on the processor is said, the little that always is there is not', () => {
    const card = { ...CARD, vram: { total: 12 * GIB, used: 10 * GIB } };
    expect(warn({ card, owners: [owner(9 * GIB, 3 * GIB)] })).toEqual([
      expect.stringMatching(/partly on the processor.*3\.0 GiB of its 12\.0 GiB.*smaller quantization/),
    ]);
    expect(warn({ card, owners: [owner(9 * GIB, 0.2 * GIB), owner(GIB, 0), owner(0, null)] })).toEqual([]);
  });

  it('none of it where there is no card, or only a processor’s graphics', () => {
    const owners = [owner(0, 5 * GIB)];
    expect(warn({ card: undefined, owners, onProcessor: ['comfyui'] })).toEqual([]);
    expect(warn({ card: { ...roomy, kind: 'integrated' }, owners, onProcessor: ['comfyui'] })).toEqual([]);
  });

  it('a card crowded by others', () => {
    const card = { ...CARD, vram: { total: 12 * GIB, used: 11 * GIB } };
    expect(warn({ card, others: 7 * GIB })).toEqual([expect.stringMatching(/hold 7\.0 GiB of 12\.0 GiB: close them/)]);
    expect(warn({ card, others: GIB })).toEqual([]);
  });

  it('a runtime that computes on the processor', async () => {
    const { view } = open([tenant('comfyui', [], 'processor'), tenant('a1111', [], 'card'), tenant('ollama')]);
    const { warnings } = await view();
    expect(warnings).toEqual([expect.stringMatching(/^comfyui computes on the processor although.*--cpu/)]);
  });

  it('memory that spilled: borrowed since, and only while the card is full', async () => {
    const { hardware, view } = open([
      tenant('ollama', [
        { model: 'm', vram: 8 * GIB, ram: 0 },
        { model: 'n', vram: 3 * GIB },
      ]),
    ]);
    const look = async (used: number, gtt: number) => {
      hardware.card = {
        ...CARD,
        vram: { total: 12 * GIB, used: used * GIB },
        gtt: { total: 16 * GIB, used: gtt * GIB },
      };
      return (await view()).warnings;
    };
    // What the desktop borrows in any case is no spill.
    expect(await look(11.8, 1)).toEqual([]);
    expect(await look(11.8, 1.3)).toEqual([]);
    expect(await look(10.5, 4)).toEqual([]);
    expect(await look(11.8, 4)).toEqual([expect.stringMatching(/3\.0 GiB have spilled.*unload a model/)]);
    hardware.samples = [{ at: '', used: 0, gtt_used: 0, busy: null, temperature_c: null, power_w: null }];
    expect(await look(11.8, 4)).toEqual([expect.stringMatching(/4\.0 GiB have spilled/)]);
  });
});
