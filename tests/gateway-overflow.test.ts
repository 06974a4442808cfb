// Overflow: of several models that are listed, when one that needs no card answers rather than have somebody wait for it.
import { describe, expect, it } from 'vitest';
import { createVirtualClock } from '../bench/arbiter/virtual-time.ts';
import type { GatewayOptions } from '../src/gateway.ts';
import { answering, chunk, createCardRuntime, GB, holding, result, type Work } from './support/card-runtime.ts';
import { openScripted } from './support/open-scripted.ts';
import { createScripted } from './support/scripted-runtime.ts';

/** Two models that do not fit on the card together, a third in main memory elsewhere, and a chain of all. */
async function open(gateway: Partial<GatewayOptions> = {}) {
  const clock = createVirtualClock();
  const busyMs = { a: 45_000 };
  const work: Work = async function* (call) {
    if (call.model.id === 'b') return yield* answering();
    yield chunk('x');
    await clock.sleep(busyMs.a);
    yield result('x');
  };
  const card = createCardRuntime({ models: { a: 8, b: 8, c: 8 }, work });
  const down = { away: false };
  const away = createScripted({
    name: 'away',
    priority: 10,
    model: { id: 'grok' },
    generate: () => ({ text: 'from afar' }),
    down: () => down.away,
  });
  const scripted = openScripted([card, away], {
    budget: 8 * GB,
    aliases: { best: ['b', 'c', 'grok'], alone: ['b', 'c'] },
    card: { clock, queueMs: 600_000 },
    gateway: { now: clock.now, ...gateway },
  });
  const start = (model: string | undefined) =>
    scripted.start('text.generate', { prompt: 'x', ...(model === undefined ? {} : { model }) });
  const ask = async (model: string) => {
    const run = start(model);
    const { model: ran, warnings } = await clock.finish(run.result);
    return { ran, warnings, reason: run.target!.reason };
  };
  /** Takes the card for as long as `a` takes, `n` times. */
  const occupy = async (n = 1) => {
    const runs = Array.from({ length: n }, () => start('a'));
    await clock.run(clock.now());
    return runs;
  };
  // How long `a` takes is known from then on.
  await clock.finish(start('a').result);
  return { ...scripted, card, clock, down, start, ask, occupy, busyMs };
}

describe('a listed model that would have to be waited for', () => {
  it('is passed over at once where that is longer than somebody wants to wait, and the reason says how long', async () => {
    const { ask, occupy, arbiter, clock } = await open({ overflowMs: 20_000 });
    await occupy();
    const begun = clock.now();
    const { ran, reason, warnings } = await ask('best');
    expect(ran).toBe('grok');
    expect(reason).toMatch(/^alias best, because b would wait (4\d|5\d) s$/);
    expect(warnings).toEqual([expect.stringMatching(/^b would wait \d+ s\. grok on away answers instead\.$/)]);
    expect([clock.now(), arbiter.snapshot().waiting]).toEqual([begun, []]);
  });

  it('is waited for where that is not longer', async () => {
    const { ask, occupy } = await open({ overflowMs: 300_000 });
    await occupy();
    expect(await ask('best')).toEqual({ ran: 'b', reason: 'alias best', warnings: [] });
  });

  it('is given up when the wait becomes longer than was thought, and leaves the queue', async () => {
    const { ask, occupy, arbiter, clock, busyMs } = await open({ overflowMs: 60_000 });
    busyMs.a = 500_000;
    await occupy();
    const begun = clock.now();
    const { ran, reason } = await ask('best');
    expect([ran, reason]).toEqual(['grok', 'alias best, because b would wait longer than 60 s']);
    expect([clock.now() - begun, arbiter.snapshot().waiting]).toEqual([60_000, []]);
  });

  it('is passed over at once where the card is lent and nobody can tell for how long', async () => {
    const { ask, arbiter, clock } = await open({ overflowMs: 20_000 });
    arbiter.close({ until: undefined, because: 'the card is lent' });
    const begun = clock.now();
    expect(await ask('best')).toMatchObject({
      ran: 'grok',
      reason: 'alias best, because b would wait for the card (the card is lent)',
    });
    expect(clock.now()).toBe(begun);
  });

  it('is waited for after all where nobody else can', async () => {
    const { ask, occupy, down, gateway } = await open({ overflowMs: 20_000 });
    await gateway.catalog.list();
    await occupy();
    down.away = true;
    const { ran, reason } = await ask('best');
    expect(ran).toBe('b');
    expect(reason).toMatch(/^alias best, because b would wait \d+ s and grok cannot be reached$/);
  });
});

describe('nobody overflows', () => {
  it.each<[string, string, Partial<GatewayOptions>]>([
    ['where it is not wanted', 'best', {}],
    ['from a model that was asked for by its name', 'b', { overflowMs: 0 }],
    ['where all that is listed is on the card', 'alone', { overflowMs: 0 }],
  ])('%s', async (_, name, options) => {
    const { ask, occupy } = await open(options);
    await occupy();
    expect(await ask(name)).toMatchObject({ ran: 'b', warnings: [] });
  });

  it('from a default that nobody listed', async () => {
    const { start, arbiter, clock } = await open({ overflowMs: 0 });
    arbiter.close({ until: undefined, because: 'the card is lent' });
    const run = start(undefined);
    await clock.run(clock.now());
    expect(arbiter.snapshot().waiting).toMatchObject([{ runtime: 'card' }]);
    arbiter.open();
    expect(await clock.finish(run.result)).toMatchObject({ runtime: 'card', warnings: [] });
  });

  it('after something came out', async () => {
    const { start, clock, card } = await open({ overflowMs: 1000 });
    const run = start('best');
    card.work = async function* (call) {
      yield chunk('mine');
      await clock.sleep(50_000);
      yield* call.signal.aborted ? holding(call) : answering();
    };
    expect(await clock.finish(run.result)).toMatchObject({ model: 'b', warnings: [] });
  });
});
