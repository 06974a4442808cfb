// Ten thousand random histories, each followed step by step by the reference model: nothing happens that it does not allow, and everybody's fate is the same.
import { describe, expect, it } from 'vitest';
import type { Lease } from '../../src/arbiter/arbiter.ts';
import { createDice, openFakeCard, TODAY } from '../support/fake-card.ts';
import { createReference, type Ask, type Reference } from './reference.ts';

const HISTORIES = Number(process.env['HISTORIES'] ?? 10_000);
/** Run beside each other, for a turn of the event loop costs more than what is done in it. */
const AT_ONCE = 100;
/** Made once: most of what an abort costs is the trace of its reason. */
const LEFT = new Error('The client left.');

describe('histories', () => {
  it('agree with the reference model', async () => {
    const first = Number(process.env['SEED'] ?? 1);
    const tally = { granted: 0, refused: 0, cancelled: 0, evicted: 0 };
    for (let from = 0; from < HISTORIES; from += AT_ONCE) {
      const seeds = Array.from({ length: Math.min(AT_ONCE, HISTORIES - from) }, (_, index) => first + from + index);
      await Promise.all(
        seeds.map((seed) =>
          live(seed, tally).catch((error: Error) => {
            throw new Error(`SEED=${seed} HISTORIES=1 shows it: ${error.message}`, { cause: error });
          }),
        ),
      );
    }
    // They are not all the same, and none of what can happen is rare.
    if (HISTORIES >= 10_000) for (const count of Object.values(tally)) expect(count).toBeGreaterThan(HISTORIES / 20);
  }, 120_000);
});

async function live(seed: number, tally: Record<string, number>): Promise<void> {
  const dice = createDice(seed);
  const below = (count: number) => Math.floor(dice() * count);
  const budget = [8, 10, 12, undefined][below(4)];
  const sizes = Array.from({ length: 2 + below(4) }, () => 1 + below(budget === undefined ? 8 : 11));
  const pinned = new Map<string, number>(below(4) === 0 && sizes[0]! <= (budget ?? 99) ? [['m0', sizes[0]!]] : []);
  const reference = createReference(budget, pinned);
  let broken: unknown;
  const guard = <T>(step: () => T): T | undefined => {
    try {
      return step();
    } catch (error) {
      broken ??= error;
      return undefined;
    }
  };
  const card = openFakeCard({
    budget,
    start: TODAY,
    queueMs: 10_000_000,
    runtimes: { r: { unloadMs: below(3) * 200, answerMs: below(2) * 50 } },
    isPinned: (_, name) => pinned.has(name),
    // The reference hears of it the moment it is.
    onGrant: ({ caller }) => guard(() => reference.grant(Number(caller))),
  });
  const { clock, arbiter } = card;
  for (const [name, bytes] of pinned) card.put('r', name, bytes);
  await clock.finish(arbiter.look('r', new AbortController().signal));
  const tenant = card.tenants['r']!;
  const { evict } = tenant;
  tenant.evict = async (model, signal) => {
    tally['evicted']!++;
    const gone = guard(() => reference.evict(model));
    await evict(model, signal);
    gone?.();
  };

  async function come(id: number): Promise<void> {
    const at = below(40_000);
    const index = below(sizes.length);
    const ask: Ask = { id, model: `m${index}`, bytes: sizes[index]! };
    const stays = dice() < 0.75 ? Infinity : below(20_000);
    const spell = { loadMs: below(8000), runMs: below(12_000), beatMs: 6000 };
    const order = { class: (['interactive', 'normal', 'background'] as const)[below(3)]!, caller: String(id) };
    await clock.sleep(at);
    const leaving = new AbortController();
    const cancel = clock.after(stays, () => {
      reference.leave(id);
      leaving.abort(LEFT);
    });
    reference.ask(ask);
    const want = { runtime: 'r', model: ask.model, footprint: ask.bytes };
    let lease: Lease | undefined;
    try {
      lease = await card.take({ ...want, ...order, signal: leaving.signal });
    } catch (error) {
      const { code } = error as { code?: string };
      if (code === 'insufficient_vram') reference.refuse(id);
      else if (code !== 'client_closed') throw error;
    }
    if (lease) await card.work(lease, want, spell, leaving.signal).catch(() => {});
    if (lease) reference.release(id);
    cancel();
    lease?.release();
    const fate = reference.fates.get(id)!;
    tally[fate]!++;
    const isRight = fate === 'cancelled' ? leaving.signal.aborted : fate === reference.fate(ask);
    if (!isRight) throw new Error(`${id} was ${fate}, and should have been ${reference.fate(ask)}.`);
  }

  const closing = below(4) === 0 ? closeOnce(card, reference, { at: below(60_000), ms: 1 + below(30_000) }) : undefined;
  const count = 2 + below(5);
  const everybody = Promise.all([closing, ...Array.from({ length: count }, async (_, id) => come(id))]);
  // What was not allowed comes before what followed from it.
  await clock.finish(everybody).catch((error) => Promise.reject(broken ?? error));
  if (broken) throw broken;
  // At rest: the books, the reference and the card itself hold the same, and nobody waits or runs.
  await clock.run();
  await clock.finish(arbiter.look('r', new AbortController().signal));
  const { held, waiting } = arbiter.snapshot();
  expect([waiting, reference.waiting(), reference.running()]).toEqual([[], [], []]);
  expect(held.filter(({ leases, loading }) => leases > 0 || loading)).toEqual([]);
  const names = held.map(({ model }) => model).toSorted();
  expect(names.filter((name) => !card.has('r', name))).toEqual([]);
  expect(reference.held().filter((name) => card.has('r', name))).toEqual(names);
}

async function closeOnce(
  { clock, arbiter }: ReturnType<typeof openFakeCard>,
  reference: Reference,
  { at, ms }: { at: number; ms: number },
): Promise<void> {
  await clock.sleep(at);
  reference.close();
  arbiter.close({ until: undefined, because: 'lent' });
  await clock.sleep(ms);
  reference.open();
  arbiter.open();
}
