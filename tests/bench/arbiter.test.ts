// The benchmark of schedulers: its clock, its traces, its bounds, and that each policy serves what it is given.
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { toFigures } from '../../bench/arbiter/figures.ts';
import { createHousehold } from '../../bench/arbiter/household.ts';
import { compare } from '../../bench/arbiter/compare.ts';
import { toLowerBound } from '../../bench/arbiter/bounds.ts';
import { compared, policies } from '../../bench/arbiter/policies.ts';
import { simulate } from '../../bench/arbiter/simulate.ts';
import { readTrace, type Row } from '../../bench/arbiter/trace.ts';
import { makeTrace, toJsonLines, workloads } from '../../bench/arbiter/traces.ts';
import { createVirtualClock } from '../../bench/arbiter/virtual-time.ts';
import { createWorld } from '../../bench/arbiter/world.ts';
import { root } from '../support/gateway.ts';

const VRAM = 11;
const names = Object.keys(policies);
const folder = join(root, 'bench/arbiter/traces');

const row = (at: number, model: string, more: Partial<Row> = {}): Row => ({
  at,
  model,
  caller: 'me',
  capability: 'run',
  runtime: 'card',
  vram: 6,
  load: 4,
  run: 2,
  class: 'interactive',
  ...more,
});

/** Two that do not fit together, a small one beside them, and what runs several at a time. */
const small = [
  row(0, 'a'),
  row(1, 'b', { caller: 'you', class: 'normal' }),
  row(1, 'a'),
  row(2, 'tiny', { vram: 0.5, load: 1 }),
  row(2, 'wide', { vram: 1, load: 1, runtime: 'other', slots: 3 }),
  ...[3, 3, 3, 3].map((at) => row(at, 'wide', { vram: 1, load: 1, runtime: 'other', slots: 3 })),
  row(9, 'b', { run: 30, class: 'background' }),
  row(10, 'a'),
];

describe('virtual time', () => {
  it('lets promises settle before it jumps, and keeps the order of those due at once', async () => {
    const clock = createVirtualClock();
    const seen: string[] = [];
    clock.after(5, () => seen.push(`late ${clock.now()}`));
    clock.after(3, async () => {
      for (let turn = 0; turn < 50; turn++) await Promise.resolve();
      clock.after(0, () => seen.push(`next ${clock.now()}`));
      seen.push(`settled ${clock.now()}`);
    });
    clock.after(3, () => seen.push('second'));
    clock.after(4, () => seen.push('never'))();
    await clock.run();
    expect(seen).toEqual(['settled 3', 'second', 'next 3', 'late 5']);
    expect(clock.pending()).toBe(0);
  });

  it('stops where it is told to, and says that work hangs', async () => {
    const clock = createVirtualClock();
    let fired = 0;
    for (const ms of [10, 20, 30, Infinity]) clock.after(ms, () => fired++);
    await clock.run(20);
    expect([fired, clock.now()]).toEqual([2, 20]);
    await clock.finish(clock.sleep(15));
    expect([fired, clock.now()]).toEqual([3, 35]);
    await expect(clock.finish(new Promise(() => {}))).rejects.toThrow('not done at 35 ms');
  });

  it('fires thousands of timers in the order of their times', async () => {
    const clock = createVirtualClock();
    const seen: number[] = [];
    for (let index = 0; index < 3000; index++) clock.after((index * 7919) % 1009, () => seen.push(clock.now()));
    await clock.run();
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(seen).toHaveLength(3000);
  });
});

describe('world', () => {
  it('shares compute equally, and loads one model after the other', async () => {
    const clock = createVirtualClock();
    const world = createWorld({ clock, vram: 10, slots: { r: 2 } });
    const [a, b] = ['a', 'b'].map((model) => ({ runtime: 'r', model }));
    const ends: Record<string, number> = {};
    const serve = async (name: string, place: { runtime: string; model: string }, ms: number) => {
      await world.load(place, { bytes: 4, ms: 100 });
      ends[`${name} loaded`] = clock.now();
      await world.run(place, ms);
      ends[name] = clock.now();
    };
    await clock.finish(Promise.all([serve('a', a!, 300), serve('b', b!, 100)]));
    expect(ends).toEqual({ 'a loaded': 100, 'b loaded': 200, b: 400, a: 500 });
    expect(world.tally()).toMatchObject({ loads: 2, peak: 8, busyMs: 400, loadingMs: 200, violations: [] });
  });

  it('tells on whoever overfills it, evicts what is busy, or runs what is not there', async () => {
    const clock = createVirtualClock();
    const world = createWorld({ clock, vram: 10, slots: { r: 1 } });
    const place = (model: string) => ({ runtime: 'r', model });
    const busy = world.load(place('a'), { bytes: 6, ms: 100 });
    await world.tenants.r!.evict('a', new AbortController().signal);
    await clock.finish(busy);
    await clock.finish(Promise.all(['b', 'c'].map((model) => world.load(place(model), { bytes: 6, ms: 1 }))));
    await clock.finish(Promise.all([world.run(place('b'), 5), world.run(place('b'), 5), world.run(place('z'), 5)]));
    expect(world.tally().violations).toEqual([
      'a was evicted while it was busy',
      'c was loaded with 2 bytes too few',
      'b ran too often at once',
      'z ran without being there',
    ]);
  });
});

describe('traces', () => {
  it('are shipped as their generator makes them, small enough to be read', async () => {
    expect((await readdir(folder)).toSorted()).toEqual(
      Object.keys(workloads)
        .map((name) => `${name}.jsonl`)
        .toSorted(),
    );
    for (const name of Object.keys(workloads)) {
      const file = join(folder, `${name}.jsonl`);
      const text = await readFile(file, 'utf8');
      expect(text === toJsonLines(makeTrace(name)), name).toBe(true);
      expect(readTrace(text, name).rows.length).toBeGreaterThan(100);
      expect((await stat(file)).size).toBeLessThan(200_000);
    }
  });

  it('are read with what may be left out, in the order of arrival', () => {
    const text =
      '{"at":5,"model":"b","vram":2,"load":1,"run":1}\n\n{"arrival":1,"model":"a","vram_gb":2,"loadTime":1,"runtime":3}\r\n';
    expect(readTrace(text, 'x').rows).toMatchObject([
      { at: 1, model: 'a', runtime: 'card', vram: 2, load: 1, run: 3, class: 'interactive' },
      { at: 5, model: 'b' },
    ]);
  });

  it.each([
    ['{"at":1', 'x, line 2: this is not JSON'],
    ['[1]', 'x, line 2: this is not a JSON object'],
    ['{"at":1,"vram":2,"load":1,"run":1}', 'x, line 2: "model" is missing'],
    ['{"at":-1,"model":"a","vram":2,"load":1,"run":1}', 'x, line 2: "at" must be a number from 0'],
    ['{"at":1,"model":"a","vram":"2","load":1,"run":1}', 'x, line 2: "vram" must be a number'],
    ['{"at":1,"model":"a","vram":2,"load":1,"run":1,"class":"vip"}', 'x, line 2: "class" must be one of'],
    ['{"at":1,"model":"a","vram":2,"load":1,"run":1,"slots":2}', 'x, line 2: card has 2 slots here and 1 in line 1'],
  ])('say what is wrong, and where: %s', (line, message) => {
    expect(() => readTrace(`${JSON.stringify(row(0, 'a'))}\n${line}\n`, 'x')).toThrow(message);
  });
});

describe('policies', () => {
  it.each(names)('%s serves everybody, never with more than the card has', async (name) => {
    const outcome = await simulate(small, { policy: policies[name]!(), vram: VRAM });
    expect(outcome.served).toHaveLength(small.length);
    expect(outcome).toMatchObject({ refused: [], violations: [] });
    expect(outcome.peak).toBeLessThanOrEqual(VRAM * 1e9);
    expect(outcome.loads).toBeGreaterThanOrEqual(4);
  });

  it.each(names)('%s refuses what never fits, and tells', async (name) => {
    const rows = [row(0, 'a'), row(1, 'huge', { vram: 20 }), row(2, 'b')];
    const outcome = await simulate(rows, { policy: policies[name]!(), vram: VRAM });
    expect(outcome.refused.map((one) => one.row.model)).toEqual(['huge']);
    expect(outcome.served).toHaveLength(2);
  });

  it('differ as those that they stand for', async () => {
    // a runs long, b waits for its place, and more come for a; c fits beside either.
    const rows = [
      row(0, 'a', { run: 10 }),
      row(1, 'b', { caller: 'b' }),
      row(2, 'c', { vram: 1, load: 1, caller: 'c' }),
      row(3, 'a', { caller: 'late' }),
    ];
    const order = async (name: string) => {
      const { served, loads } = await simulate(rows, { policy: policies[name]!(), vram: VRAM, knowsLoads: true });
      const starts = served.map((one) => ({ who: `${one.row.model}${one.row.at}`, at: one.row.at + one.wait }));
      return `${starts
        .toSorted((x, y) => x.at - y.at)
        .map(({ who }) => who)
        .join(' ')}, ${loads}`;
    };
    expect(await order('fifo')).toBe('a0 b1 c2 a3, 4');
    expect(await order('one-at-a-time')).toBe('a0 b1 c2 a3, 4');
    expect(await order('lru')).toBe('a0 b1 c2 a3, 4');
    expect(await order('lru-passing')).toBe('a0 a3 b1 c2, 3');
    expect(await order('set-swap')).toBe('a0 c2 a3 b1, 3');
  });

  it.each([
    ['fifo', { swaps: 80, meanWait: 19.04, maxWait: 52.1, jain: 0.979 }],
    ['lru', { swaps: 93, meanWait: 16.92, maxWait: 57.8, jain: 0.914 }],
    ['set-swap', { swaps: 88, meanWait: 11.21, maxWait: 69.5, jain: 0.782 }],
    ['one-at-a-time', { swaps: 134, meanWait: 69.26, maxWait: 136.5, jain: 0.999 }],
  ])('%s does on our machinery what it does in a simulator that shares nothing with it', async (name, expected) => {
    const home = createHousehold(11);
    for (let at = 5; at < 900; at += 60) at = home.chat(at, 'ann', { turns: 3, aloud: 0.5 });
    for (let at = 0; at < 900; at += 40) at = home.talk(at, 'bob', { turns: 3 });
    for (let at = 30; at < 900; at += 90) at = home.paint(at, 'eve', { clicks: 2, pictures: 3 });
    const outcome = await simulate(home.rows(), { policy: policies[name]!(), vram: VRAM, knowsLoads: true });
    const figures = toFigures(name, outcome);
    expect(figures.swaps).toBe(expected.swaps);
    for (const key of ['meanWait', 'maxWait', 'jain'] as const) expect(figures[key], key).toBeCloseTo(expected[key], 1);
  });

  it('are never below the bounds', async () => {
    for (const trace of [small, makeTrace('mixed', 77).slice(0, 150)]) {
      const workload = await compare({ name: 'x', rows: trace }, { vram: VRAM, names });
      for (const { swaps, meanFlow, makespan } of workload.policies) {
        expect(swaps).toBeGreaterThanOrEqual(workload.lowerBound.swaps);
        expect(meanFlow).toBeGreaterThanOrEqual(workload.lowerBound.meanFlow - 0.001);
        expect(makespan).toBeGreaterThanOrEqual(workload.lowerBound.makespan - 0.001);
      }
    }
  });
});

describe('bounds', () => {
  it('count the turns of two that exclude each other', () => {
    const rows = [0, 100, 200, 300].flatMap((at) => [row(at, 'a'), row(at + 1, 'b')]);
    // Each may wait for so long: an impatient one makes for turns, a patient one for none but the first two.
    expect(toLowerBound(rows, { vram: VRAM, longestWait: 10 }).swaps).toBe(5);
    expect(toLowerBound(rows, { vram: VRAM, longestWait: 1000 }).swaps).toBe(2);
    expect(toLowerBound(rows, { vram: 20, longestWait: 10 }).swaps).toBe(2);
  });

  it('take the shortest first on a card where everything fits', () => {
    const rows = [row(0, 'a', { run: 10 }), row(1, 'b', { run: 2 }), row(1, 'c', { run: 4 })];
    // b: 1 to 3, c: 3 to 7, a: 0 to 1 and 7 to 16.
    const bound = toLowerBound(rows, { vram: VRAM, longestWait: 1000 });
    expect(bound.meanFlow).toBeCloseTo((2 + 6 + 16) / 3);
    expect(bound.makespan).toBe(16);
  });
});

describe('bench:arbiter', () => {
  const main = (...args: string[]) =>
    promisify(execFile)(process.execPath, [join(root, 'bench/arbiter/main.ts'), ...args], { cwd: root });

  it('tells a file in JSON', async () => {
    const temporary = await mkdtemp(join(tmpdir(), 'bench-arbiter-'));
    try {
      const file = join(temporary, 'mine.jsonl');
      await writeFile(file, toJsonLines(small.filter(({ slots }) => !slots)));
      const { workloads: told } = JSON.parse((await main(file, '--json')).stdout);
      expect(told).toHaveLength(1);
      expect(told[0]).toMatchObject({
        name: 'mine',
        lowerBound: { swaps: expect.any(Number), makespan: expect.any(Number) },
      });
      expect(told[0].policies.map(({ name }: { name: string }) => name)).toEqual(compared);
      for (const figures of told[0].policies) {
        const keys = [
          'swaps',
          'meanWait',
          'p95Wait',
          'p99Wait',
          'maxWait',
          'meanFlow',
          'jain',
          'makespan',
          'utilization',
        ];
        for (const key of keys) expect(figures[key], key).toEqual(expect.any(Number));
        expect(figures.classes.interactive.meanWait).toEqual(expect.any(Number));
      }
      const table = await main(file, '--policy', 'ours,fifo');
      expect(table.stdout).toMatch(/lower bound/);
      expect(table.stdout).toMatch(/ours against each: /);
      expect(table.stdout).not.toMatch(/set-swap/);
    } finally {
      await rm(temporary, { recursive: true });
    }
  });

  it('says in one line what it cannot do', async () => {
    await expect(main('/nowhere.jsonl')).rejects.toMatchObject({
      code: 1,
      stdout: '',
      stderr: /^\/nowhere.jsonl cannot be read.*\n$/,
    });
    await expect(main('--policy', 'best')).rejects.toMatchObject({
      code: 1,
      stderr: /^No policy best: there are ours, /,
    });
  });
});
