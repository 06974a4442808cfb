// GET /gpu: who holds how much of the card, held against what the card says, and what is wrong with it.
import { describe, expect, it } from 'vitest';
import { GatewayError } from '../../src/error.ts';
import type { Card, Hardware, Owner, Reading, Sample } from '../../src/hardware.ts';
import { createGpu, type GpuOptions } from '../../src/hardware/gpu.ts';
import { toWarnings, type Situation } from '../../src/hardware/warnings.ts';
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
}

function fakeHardware(card: Card | undefined = CARD): FakeHardware {
  const reading = (): Reading => ({
    at: 0,
    cards: hardware.card ? [hardware.card] : [],
    machine: { os: '', cpu: { name: '', cores: 1, load: 0 }, ram: { total: 1, used: 0 }, container: false },
    problems: [],
    ...(hardware.card ? {} : { why: 'No card; buy one.' }),
  });
  const hardware: FakeHardware = {
    card,
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

type Held = ReturnType<GpuOptions['arbiter']['snapshot']>['held'][number];
const held = (runtime: string, model: string, footprint: number, leases: number): Held => ({
  runtime,
  model,
  footprint,
  leases,
  usedAt: 0,
});

function open(runtimes: RuntimeAdapter[], { hardware = fakeHardware(), books = [] as Held[], pinned = '' } = {}) {
  const gpu = createGpu({
    runtimes,
    hardware,
    arbiter: { snapshot: () => ({ held: books, waiting: [{ runtime: 'a', model: 'next' }], budget: 11 * GIB }) },
    residency: { policyOf: (runtime, model) => ({ runtime, model, pinned: model === pinned, preload: false }) },
  });
  return { hardware, view: (options?: { history?: boolean }) => gpu.view(options) };
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
      free: 3 * GIB,
      waiting: [{ runtime: 'a', model: 'next' }],
      warnings: [],
      why: null,
      history: [],
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
    hardware.samples = [{ at: '', used: 1, gtt_used: 0, busy: null, temperature_c: null, power_w: null }];
    expect((await view({ history: false })).history).toEqual([]);
    expect((await view()).history).toHaveLength(1);
  });

  it('is guessed by the budget where there is no card to read', async () => {
    const hardware = fakeHardware();
    hardware.card = undefined;
    const { card, free, others, why } = await open([tenant('o', [{ model: 'm', vram: GIB }])], { hardware }).view();
    expect({ card, free, others, why }).toEqual({ card: null, free: 10 * GIB, others: 0, why: 'No card; buy one.' });
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
    expect(performance.now() - before).toBeLessThan(2500);
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
    expect(performance.now() - before).toBeLessThan(2500);
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
