// Background work that gives way: only where somebody said so, only for somebody at the screen who would be late, and only background work.
import { describe, expect, it } from 'vitest';
import type { Class } from '../../src/arbiter/policy.ts';
import { createTimings } from '../../src/arbiter/timings.ts';
import { createVirtualClock } from '../../bench/arbiter/virtual-time.ts';
import { createCardRuntime, GB, holding } from '../support/card-runtime.ts';
import { openFakeCard } from '../support/fake-card.ts';
import { openScripted } from '../support/open-scripted.ts';

const FILM = { runtime: 'r', model: 'film', footprint: 6 };
const CHAT = { runtime: 'r', model: 'chat', footprint: 6 };
/** Ten minutes, of which the card knows beforehand. */
const LONG_MS = 600_000;

/** Somebody runs a long film, somebody else wants to chat; when the film was told to end, in milliseconds. */
async function meet(preempts: boolean, film: Class, chat: Class): Promise<number | undefined> {
  const timings = createTimings();
  timings.learnRun(FILM, undefined, LONG_MS);
  const { clock, take, work } = openFakeCard({ budget: 8, queueMs: 3_600_000, preempts, timings });
  const lease = await clock.finish(take({ ...FILM, class: film }));
  let endedAt: number | undefined;
  lease.signal.addEventListener('abort', () => (endedAt = clock.now()));
  const running = work(lease, FILM, { loadMs: 10_000, runMs: LONG_MS, beatMs: 1000 })
    .catch((error: unknown) => expect(error).toBe(lease.signal.reason))
    .finally(() => lease.release());
  await clock.run(clock.now() + 60_000);
  const asked = clock.now();
  const mine = await clock.finish(take({ ...CHAT, class: chat }));
  mine.release();
  await clock.finish(running);
  if (endedAt !== undefined) expect(lease.signal.reason).toMatchObject({ code: 'overloaded' });
  return endedAt === undefined ? undefined : endedAt - asked;
}

describe('background work', () => {
  it('is ended for somebody at the screen who would otherwise wait beyond his patience', async () => {
    expect(await meet(true, 'background', 'interactive')).toBeLessThan(60_000);
  });

  it.each<[string, boolean, Class, Class]>([
    ['where nobody allowed it', false, 'background', 'interactive'],
    ['for one who does not sit at the screen', true, 'background', 'normal'],
    ['where it is not of the background', true, 'normal', 'interactive'],
  ])('goes on %s', async (_, preempts, film, chat) => {
    expect(await meet(preempts, film, chat)).toBeUndefined();
  });

  it('fails so that its job is begun again, and leaves the card', async () => {
    const clock = createVirtualClock();
    const runtime = createCardRuntime({ models: { film: 6, chat: 6 }, work: holding });
    const card = { clock, preempts: true, queueMs: 3_600_000, patienceMs: 1000 };
    const { start, arbiter } = openScripted([runtime], { budget: 8 * GB, card, gateway: { now: clock.now } });
    const signal = new AbortController().signal;
    const film = start('text.generate', { prompt: 'x', model: 'film' }, signal, { class: 'background' });
    await clock.run(0);
    const chat = start('text.generate', { prompt: 'x', model: 'chat' }, signal);
    await clock.run(clock.now() + 120_000);
    await expect(film.result).rejects.toMatchObject({ code: 'overloaded', status: 503 });
    await clock.run(clock.now() + 1000);
    expect(arbiter.snapshot().running).toMatchObject([{ model: 'chat' }]);
    chat.cancel();
    await expect(chat.result).rejects.toMatchObject({ code: 'client_closed' });
  });
});
