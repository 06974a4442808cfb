// What the card teaches: a look once a runtime rests, what was seen then is learned, and memory that is being given back is waited for.
import { afterEach, describe, expect, it } from 'vitest';
import type { Held } from '../../src/arbiter/policy.ts';
import { createFootprints } from '../../src/models/footprints.ts';
import { createLedger } from '../../src/models/ledger.ts';
import { eventually } from '../support/eventually.ts';
import { createMemoryDocuments } from '../support/open-pulls.ts';

const GB = 1024 ** 3;
const signal = new AbortController().signal;
const closing: (() => void)[] = [];
afterEach(() => closing.splice(0).forEach((close) => close()));

function toHeld(runtime: string, model: string, more: Partial<Held> = {}): Held {
  const idle = { leases: 0, usedAt: 0, since: 0, loading: false, loadMs: 0, leaving: false, stuck: false };
  return { runtime, model, footprint: 6 * GB, ...idle, ...more };
}

function open(read: (maxAgeMs: number) => Promise<number | undefined> = async () => undefined) {
  const footprints = createFootprints(createMemoryDocuments());
  const looks: string[] = [];
  let held: Held[] = [];
  const ledger = createLedger({
    footprints,
    held: () => held,
    look: async (runtime) => {
      looks.push(runtime);
      ledger.onResidents(runtime, [{ model: 'a', vram: 7 * GB, contextWindow: 100 }]);
    },
    read,
    limits: { rest: 10, apart: 150, settle: 400, poll: 10 },
  });
  closing.push(ledger.close);
  const now = (...entries: Held[]) => {
    held = entries;
    ledger.changed();
  };
  return { ledger, footprints, looks, now };
}

describe('a runtime', () => {
  it('is looked at once its last run has ended, and what it held is learned', async () => {
    const { looks, now, footprints } = open();
    now(toHeld('r', 'a', { leases: 1, usedAt: 5 }), toHeld('other', 'b'));
    await pause(50);
    expect(looks).toEqual([]);
    now(toHeld('r', 'a', { usedAt: 9 }), toHeld('other', 'b'));
    await eventually('a look', () => looks.length > 0);
    expect(looks).toEqual(['r']);
    expect(footprints.of('r', 'a', 100)).toMatchObject({ bytes: 7 * GB, count: 1 });
    now(toHeld('r', 'a', { usedAt: 9 }), toHeld('other', 'b', { leases: 1, usedAt: 10 }));
    await pause(250);
    expect(looks).toEqual(['r']);
  });

  it('is not looked at again and again, nor while it works', async () => {
    const { looks, now } = open();
    const began = performance.now();
    for (let run = 1; run <= 10; run++) {
      now(toHeld('r', 'a', { usedAt: run }));
      await pause(20);
    }
    now(toHeld('r', 'a', { usedAt: 11, leases: 1 }));
    await pause(200);
    expect(looks.length).toBeGreaterThan(0);
    expect(looks.length).toBeLessThanOrEqual(1 + (performance.now() - began) / 150);
    const seen = looks.length;
    await pause(200);
    expect(looks.length).toBe(seen);
  });

  it('is left alone when all is closed', async () => {
    const { ledger, looks, now } = open();
    now(toHeld('r', 'a', { usedAt: 1 }));
    ledger.close();
    now(toHeld('r', 'a', { usedAt: 2 }));
    await pause(60);
    expect(looks).toEqual([]);
  });
});

describe('what is in use', () => {
  it('is unknown where nobody tells, and told at once where nothing has left', async () => {
    expect(await open().ledger.used(signal)).toBeUndefined();
    let reads = 0;
    const { ledger, now } = open(async () => (reads++, 8 * GB));
    now(toHeld('r', 'a'));
    expect(await ledger.used(signal)).toBe(8 * GB);
    expect(await ledger.used(signal)).toBe(8 * GB);
    expect(reads).toBe(2);
  });

  it('waits for memory that has just been given back', async () => {
    let used = 8 * GB;
    const { ledger, now } = open(async () => used);
    now(toHeld('r', 'a'));
    await ledger.used(signal);
    now();
    setTimeout(() => (used = 2 * GB), 100);
    expect(await ledger.used(signal)).toBe(2 * GB);
  });

  it('counts as somebody else’s what does not come back', async () => {
    let reads = 0;
    const { ledger, now } = open(async () => (reads++, 8 * GB));
    now(toHeld('r', 'a'));
    await ledger.used(signal);
    now();
    const began = performance.now();
    expect(await ledger.used(signal)).toBe(8 * GB);
    expect(performance.now() - began).toBeGreaterThanOrEqual(390);
    expect(reads).toBeGreaterThan(2);
    const before = reads;
    expect(await ledger.used(signal)).toBe(8 * GB);
    expect(reads).toBe(before + 1);
  });

  it('is waited for no longer than the asker', async () => {
    const { ledger, now } = open(async () => 8 * GB);
    now(toHeld('r', 'a'));
    await ledger.used(signal);
    now();
    expect(await ledger.used(AbortSignal.abort())).toBe(8 * GB);
  });
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
