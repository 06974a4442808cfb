// Leases, queue and swaps, over a card that is only counted.
import { describe, expect, it } from 'vitest';
import { createArbiter, type Arbiter, type Lease } from '../../src/arbiter/arbiter.ts';
import { GatewayError } from '../../src/error.ts';
import type { StatusEvent } from '../../src/event.ts';
import type { GpuTenant } from '../../src/runtime.ts';

const GB = 1024 ** 3;

/** A runtime that loads what is leased and counts what is on the card. */
function createCard() {
  const loaded = new Map<string, number>();
  const evictions: string[] = [];
  let most = 0;
  const tenant: GpuTenant = {
    footprint: (model) => model.size ?? 0,
    residents: async () => [...loaded].map(([model, vram]) => ({ model, vram })),
    evict: async (model) => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (model === 'stuck') throw new GatewayError('insufficient_vram', 'stuck does not leave the card.');
      loaded.delete(model);
      evictions.push(model);
    },
  };
  return {
    tenant,
    evictions,
    loaded,
    most: () => most,
    load(model: string, size: number) {
      loaded.set(model, size * GB);
      most = Math.max(
        most,
        [...loaded.values()].reduce((sum, vram) => sum + vram, 0),
      );
    },
  };
}

async function take(
  arbiter: Arbiter,
  tenant: GpuTenant,
  model: string,
  size: number,
  signal = new AbortController().signal,
) {
  const statuses: StatusEvent[] = [];
  const waiting = arbiter.acquire({ runtime: 'r', model, footprint: size * GB, tenant, signal });
  for (;;) {
    const { done, value } = await waiting.next();
    if (done) return { lease: value as Lease, statuses };
    statuses.push(value as StatusEvent);
  }
}

const open = (card: ReturnType<typeof createCard>, budget: number | undefined, queueMs = 5000) =>
  createArbiter({ tenants: { r: card.tenant }, budget: () => budget, queueMs });

describe('arbiter', () => {
  it('lets requests for one model in together', async () => {
    const card = createCard();
    const arbiter = open(card, undefined);
    const first = await take(arbiter, card.tenant, 'a', 4);
    const second = await take(arbiter, card.tenant, 'a', 4);
    expect(arbiter.snapshot().held).toMatchObject([{ model: 'a', leases: 2 }]);
    first.lease.release();
    second.lease.release();
    second.lease.release();
    expect(arbiter.snapshot().held).toMatchObject([{ model: 'a', leases: 0 }]);
  });

  it('makes another model wait, says why, and swaps when the lease ends', async () => {
    const card = createCard();
    const arbiter = open(card, undefined);
    const first = await take(arbiter, card.tenant, 'a', 4);
    card.load('a', 4);
    first.lease.running();
    const second = take(arbiter, card.tenant, 'b', 4);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(arbiter.snapshot().waiting).toMatchObject([{ runtime: 'r', model: 'b' }]);
    first.lease.release();
    const { statuses } = await second;
    expect(statuses).toContainEqual(
      expect.objectContaining({ state: 'queued', position: 1, message: 'a is using the card' }),
    );
    expect(statuses).toContainEqual(expect.objectContaining({ state: 'swapping' }));
    expect(card.evictions).toEqual(['a']);
  });

  it('counts what others loaded behind its back', async () => {
    const card = createCard();
    card.load('stranger', 6);
    const { statuses } = await take(open(card, 8 * GB), card.tenant, 'a', 4);
    expect(card.evictions).toEqual(['stranger']);
    expect(statuses.at(-1)?.state).toBe('swapping');
  });

  it('refuses what never fits, with the remedy', async () => {
    const card = createCard();
    const error = await take(open(card, 8 * GB), card.tenant, 'big', 9).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'insufficient_vram', status: 503 });
    expect(error.hint).toContain('HONO_AI_VRAM');
  });

  it('fails the one request whose swap cannot be done, and goes on', async () => {
    const card = createCard();
    card.load('stuck', 6);
    const arbiter = open(card, 8 * GB);
    await expect(take(arbiter, card.tenant, 'a', 4)).rejects.toMatchObject({ code: 'insufficient_vram' });
    const small = await take(arbiter, card.tenant, 'b', 2);
    small.lease.release();
  });

  it('forgets a waiter that leaves, before and after its turn', async () => {
    const card = createCard();
    const arbiter = open(card, undefined);
    const first = await take(arbiter, card.tenant, 'a', 4);
    const leaving = new AbortController();
    const second = take(arbiter, card.tenant, 'b', 4, leaving.signal);
    const third = take(arbiter, card.tenant, 'a', 4);
    await new Promise((resolve) => setTimeout(resolve, 10));
    leaving.abort();
    await expect(second).rejects.toMatchObject({ code: 'client_closed' });
    (await third).lease.release();
    first.lease.release();
    expect(arbiter.snapshot()).toMatchObject({ waiting: [], held: [{ model: 'a', leases: 0 }] });
    expect(card.evictions).toEqual([]);
  });

  it('gives a place in the queue back when its reader stops reading', async () => {
    const card = createCard();
    const arbiter = open(card, undefined);
    const first = await take(arbiter, card.tenant, 'a', 4);
    const waiting = arbiter.acquire({
      runtime: 'r',
      model: 'b',
      footprint: 1,
      tenant: card.tenant,
      signal: new AbortController().signal,
    });
    await waiting.next();
    await waiting.return(undefined as never);
    first.lease.release();
    expect(arbiter.snapshot().waiting).toEqual([]);
  });

  it('ends a wait at the limit', async () => {
    const card = createCard();
    const arbiter = open(card, undefined, 30);
    await take(arbiter, card.tenant, 'a', 4);
    await expect(take(arbiter, card.tenant, 'b', 4)).rejects.toMatchObject({ code: 'overloaded', status: 503 });
  });

  it('never lets the card hold more than its budget, whatever comes', async () => {
    const card = createCard();
    const arbiter = open(card, 10 * GB, 20_000);
    const sizes: Record<string, number> = { a: 2, b: 3, c: 5, d: 7, e: 10 };
    let state = 7;
    const random = (below: number) => (state = (state * 1103515245 + 12345) % 2 ** 31) % below;
    let done = 0;
    await Promise.all(
      Array.from({ length: 300 }, async () => {
        const model = Object.keys(sizes)[random(5)]!;
        const leaving = new AbortController();
        if (random(10) === 0) setTimeout(() => leaving.abort(), random(30));
        try {
          const { lease } = await take(arbiter, card.tenant, model, sizes[model]!, leaving.signal);
          card.load(model, sizes[model]!);
          await new Promise((resolve) => setTimeout(resolve, random(3)));
          lease.release();
        } catch (error) {
          expect(error).toMatchObject({ code: 'client_closed' });
        }
        done++;
      }),
    );
    expect(done).toBe(300);
    expect(card.most()).toBeLessThanOrEqual(10 * GB);
    expect(arbiter.snapshot().waiting).toEqual([]);
    expect(arbiter.snapshot().held.every((model) => model.leases === 0)).toBe(true);
  });

  it('refuses what only pinned models stand in the way of, and lets them be', async () => {
    const card = createCard();
    const arbiter = createArbiter({
      tenants: { r: card.tenant },
      budget: () => 8 * GB,
      queueMs: 5000,
      isPinned: (_, model) => model === 'a',
    });
    (await take(arbiter, card.tenant, 'a', 5)).lease.release();
    card.load('a', 5);
    const error = await take(arbiter, card.tenant, 'b', 4).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'insufficient_vram', hint: expect.stringContaining('models pin a --off') });
    expect(card.evictions).toEqual([]);
    const small = await take(arbiter, card.tenant, 'c', 3);
    small.lease.release();
    // What has left the card by itself stands in nobody's way, pinned or not.
    card.loaded.clear();
    (await take(arbiter, card.tenant, 'b', 8)).lease.release();
  });

  it('tells a lease what had to leave for it', async () => {
    const card = createCard();
    card.load('a', 3);
    card.load('b', 3);
    const arbiter = open(card, 8 * GB);
    const { lease } = await take(arbiter, card.tenant, 'c', 8);
    expect(lease.evicted.map(({ model }) => model).toSorted()).toEqual(['a', 'b']);
    expect((await take(arbiter, card.tenant, 'c', 8)).lease.evicted).toEqual([]);
  });
});

describe('dismiss', () => {
  const place = { runtime: 'r', model: 'a' };

  it('sends away what nobody uses, and lets be what somebody does', async () => {
    const card = createCard();
    const arbiter = open(card, 8 * GB);
    const { lease } = await take(arbiter, card.tenant, 'a', 4);
    card.load('a', 4);
    expect(await arbiter.dismiss(place)).toBe('in_use');
    lease.release();
    const { usedAt } = arbiter.snapshot().held[0]!;
    expect(await arbiter.dismiss(place, { usedAt: usedAt - 1 })).toBe('in_use');
    expect(await arbiter.dismiss(place, { usedAt })).toBe('gone');
    expect([card.evictions, arbiter.snapshot().held]).toEqual([['a'], []]);
  });

  it('has a request for the model that is leaving wait and then load it, while others are let in at once', async () => {
    const card = createCard();
    const arbiter = open(card, 8 * GB);
    for (const model of ['a', 'b']) {
      (await take(arbiter, card.tenant, model, 3)).lease.release();
      card.load(model, 3);
    }
    const gone = Promise.withResolvers<void>();
    const { evict } = card.tenant;
    card.tenant.evict = async (...args) => (await gone.promise, evict(...args));
    const leaving = arbiter.dismiss(place);
    await new Promise((resolve) => setTimeout(resolve, 5));
    (await take(arbiter, card.tenant, 'b', 3)).lease.release();
    let granted = false;
    const again = take(arbiter, card.tenant, 'a', 3).then(({ lease }) => ((granted = true), lease));
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(granted).toBe(false);
    gone.resolve();
    expect(await leaving).toBe('gone');
    (await again).release();
    expect(card.evictions).toEqual(['a']);
  });

  it('does not wedge the card when the model stays: who waits for it gets it', async () => {
    const card = createCard();
    card.load('stuck', 3);
    const arbiter = open(card, 8 * GB);
    await arbiter.look('r', new AbortController().signal);
    const leaving = arbiter.dismiss({ runtime: 'r', model: 'stuck' });
    const waiting = take(arbiter, card.tenant, 'stuck', 3);
    await expect(leaving).rejects.toMatchObject({ code: 'insufficient_vram' });
    (await waiting).lease.release();
  });

  it('never lets a lease and an eviction of one model overlap, whatever comes', async () => {
    const card = createCard();
    const arbiter = open(card, 10 * GB, 20_000);
    const using = new Map<string, number>();
    const { evict } = card.tenant;
    card.tenant.evict = async (model, signal) => {
      expect(using.get(model) ?? 0).toBe(0);
      await evict(model, signal);
      expect(using.get(model) ?? 0).toBe(0);
    };
    let state = 11;
    const random = (below: number) => (state = (state * 1103515245 + 12345) % 2 ** 31) % below;
    await Promise.all(
      Array.from({ length: 200 }, async () => {
        await new Promise((resolve) => setTimeout(resolve, random(60)));
        const model = 'abc'[random(3)]!;
        if (random(3) === 0) return arbiter.dismiss({ runtime: 'r', model });
        if (random(4) === 0) return arbiter.look('r', new AbortController().signal);
        const { lease } = await take(arbiter, card.tenant, model, 4);
        card.load(model, 4);
        using.set(model, (using.get(model) ?? 0) + 1);
        await new Promise((resolve) => setTimeout(resolve, random(3)));
        using.set(model, using.get(model)! - 1);
        return lease.release();
      }),
    );
    expect(card.most()).toBeLessThanOrEqual(10 * GB);
    expect(arbiter.snapshot()).toMatchObject({ waiting: [] });
  });
});

describe('look', () => {
  it('keeps the books right, and learns on the way', async () => {
    const card = createCard();
    const seen: string[] = [];
    const arbiter = createArbiter({
      tenants: { r: card.tenant },
      budget: () => 8 * GB,
      queueMs: 5000,
      onResidents: (_, residents) => seen.push(...residents.map(({ model }) => model)),
    });
    (await take(arbiter, card.tenant, 'a', 2)).lease.release();
    card.load('a', 3);
    card.load('stranger', 1);
    const look = () => arbiter.look('r', new AbortController().signal);
    await look();
    expect(arbiter.snapshot().held).toMatchObject([
      { model: 'a', footprint: 3 * GB },
      { model: 'stranger', usedAt: 0 },
    ]);
    card.loaded.delete('a');
    await look();
    expect(arbiter.snapshot().held).toMatchObject([{ model: 'stranger' }]);
    expect(seen).toEqual(['a', 'stranger', 'stranger']);
  });

  it('does not believe old news: neither of what has left since nor of what has come', async () => {
    const card = createCard();
    card.load('a', 3);
    const arbiter = open(card, 8 * GB);
    await arbiter.look('r', new AbortController().signal);
    const { residents } = card.tenant;
    const answer = Promise.withResolvers<void>();
    card.tenant.residents = async (signal) => {
      const now = await residents(signal);
      await answer.promise;
      return now;
    };
    const late = arbiter.look('r', new AbortController().signal);
    card.tenant.residents = residents;
    await arbiter.dismiss({ runtime: 'r', model: 'a' });
    (await take(arbiter, card.tenant, 'b', 3)).lease.release();
    answer.resolve();
    await late;
    expect(arbiter.snapshot().held).toMatchObject([{ model: 'b' }]);
  });
});
