// What callers have used of the card: its time is split among those who use it at once, weighed by their share, and fades.
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import { createShares } from '../../src/arbiter/shares.ts';
import { openFakeCard } from '../support/fake-card.ts';

function open(shareOf?: (caller: string) => number) {
  const time = { ms: 0 };
  return { time, ...createShares({ now: () => time.ms, ...(shareOf ? { shareOf } : {}) }) };
}

describe('usage', () => {
  it('is nothing for whoever never had the card', () => {
    expect(open().usage('ann')).toBe(0);
  });

  it('is the time that one had alone, and a part of the time that several had', () => {
    const { time, begin, usage } = open();
    const ann = begin('ann');
    time.ms = 1000;
    const bob = begin('bob');
    time.ms = 3000;
    ann();
    time.ms = 3500;
    bob();
    expect(usage('ann')).toBeCloseTo(2000, -2);
    expect(usage('bob')).toBeCloseTo(1500, -2);
  });

  it('counts against the share: whoever may have twice as much has used half', () => {
    const { time, begin, usage } = open((caller) => (caller === 'ann' ? 2 : 1));
    const ends = [begin('ann'), begin('bob')];
    time.ms = 2000;
    for (const end of ends) end();
    expect(usage('bob') / usage('ann')).toBeCloseTo(2);
  });

  it('counts while it goes on, fades when it is over, and an end counts once', () => {
    const { time, begin, usage } = open();
    const end = begin('ann');
    time.ms = 1000;
    expect(usage('ann')).toBeCloseTo(1000, -1);
    end();
    end();
    const soon = usage('ann');
    time.ms = 600_000;
    expect(usage('ann')).toBeLessThan(soon / 2);
    begin('bob');
    time.ms = 601_000;
    expect(usage('bob')).toBeCloseTo(1000, -1);
  });

  it('of all together is the time that the card was in use, however it was', () => {
    const step = fc.record({ caller: fc.constantFrom('ann', 'bob', 'eve'), at: fc.nat(5000), ms: fc.nat(5000) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const { time, begin, usage } = open();
        const events = steps.flatMap(({ caller, at, ms }) => {
          let end = () => {};
          return [
            { at, run: () => void (end = begin(caller)) },
            { at: at + ms, run: () => end() },
          ];
        });
        let used = 0;
        for (const { at, run } of events.toSorted((a, b) => a.at - b.at)) {
          if (steps.some((one) => one.at <= time.ms && one.at + one.ms > time.ms)) used += at - time.ms;
          time.ms = at;
          run();
        }
        const sum = ['ann', 'bob', 'eve'].reduce((total, caller) => total + usage(caller), 0);
        // Ten seconds fade by a sixtieth.
        expect(sum).toBeLessThanOrEqual(used + 1e-6);
        expect(sum).toBeGreaterThanOrEqual(used * 0.97 - 1e-6);
      }),
    );
  });

  it('does not grow without end where every caller is a new one', () => {
    const { time, begin, usage } = open();
    for (let caller = 0; caller < 30_000; caller++) {
      const end = begin(`caller ${caller}`);
      time.ms++;
      end();
    }
    expect(usage('caller 0')).toBe(0);
    expect(usage('caller 29999')).toBeGreaterThan(0);
  });
});

describe('on the card', () => {
  it('whoever has used least goes first among those who wait for one model, and nobody is passed over for ever', async () => {
    const { clock, take, work } = openFakeCard({ budget: 8, slots: { model: 1 }, queueMs: 3_600_000 });
    const want = { runtime: 'r', model: 'a', footprint: 4 };
    const order: string[] = [];
    const one = async (caller: string) => {
      const lease = await take({ ...want, caller });
      order.push(caller);
      await work(lease, want, { loadMs: 0, runMs: 2000, beatMs: 1000 });
      lease.release();
    };
    const many = Array.from({ length: 12 }, async () => one('heavy'));
    await clock.run(5000);
    const few = [one('light'), one('light')];
    await clock.finish(Promise.all([...many, ...few]));
    expect(order).toHaveLength(14);
    expect(order.lastIndexOf('light')).toBeLessThan(7);
  });
});
