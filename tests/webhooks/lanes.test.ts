// Turns between receivers, without a network.
import { describe, expect, it } from 'vitest';
import { createLanes, type Parcel } from '../../src/webhooks/lanes.ts';

const parcel = (ref: string, number: number, owner = 'anna'): Parcel => ({ id: `${ref}-${number}`, ref, owner });

function open(concurrency = 4) {
  const lanes = createLanes<Parcel>(concurrency);
  const offer = (ref: string, count: number, owner?: string) =>
    Array.from({ length: count }, (_, number) => lanes.offer(parcel(ref, number, owner), 0));
  const takeAll = () => {
    const taken: Parcel[] = [];
    for (let next = lanes.next(); next; next = lanes.next()) taken.push(next);
    return taken;
  };
  const prove = (ref: string) => {
    lanes.offer(parcel(ref, -1), 0);
    for (const one of takeAll()) lanes.done(one, 'well');
  };
  return { lanes, offer, takeAll, prove };
}

describe('lanes', () => {
  it('give a receiver one try until it has answered, then as many as are allowed', () => {
    const { lanes, offer, takeAll } = open(3);
    offer('a', 10);
    const [first, ...rest] = takeAll();
    expect(rest).toEqual([]);
    lanes.done(first!, 'well');
    expect(takeAll()).toHaveLength(3);
  });

  it('go back to one where it falls silent', () => {
    const { lanes, offer, takeAll, prove } = open(3);
    prove('a');
    offer('a', 10);
    for (const one of takeAll()) lanes.done(one, 'unwell');
    expect(takeAll()).toHaveLength(1);
  });

  it('let receivers take turns', () => {
    const { offer, takeAll, prove } = open(2);
    for (const ref of ['a', 'b']) prove(ref);
    offer('a', 5);
    offer('b', 5);
    expect(takeAll().map(({ ref }) => ref)).toEqual(['a', 'b', 'a', 'b']);
  });

  it('hold what is known once, however often it is offered', () => {
    const { lanes, offer, takeAll } = open();
    offer('a', 3);
    offer('a', 3);
    expect(lanes.known()).toBe(3);
    const [first] = takeAll();
    offer('a', 3);
    expect(lanes.known()).toBe(3);
    lanes.done(first!, 'well');
    expect(lanes.known()).toBe(2);
  });

  it('put aside what is too much for one receiver, in groups that come back one after the other', () => {
    const { offer, prove } = open(1);
    expect(offer('a', 14).filter((until) => until !== undefined)).toEqual([
      ...Array(4).fill(1000),
      ...Array(4).fill(2000),
      ...Array(2).fill(3000),
    ]);
    prove('b');
    expect(offer('b', 129).slice(63)).toEqual([undefined, ...Array(64).fill(1000), 2000]);
  });

  it('put aside for longer the longer it is unwell, and never beyond ten minutes', () => {
    const { lanes, offer } = open();
    const unwell = (times: number) => {
      for (let time = 0; time < times; time++) {
        offer('a', 4);
        lanes.done(lanes.next()!, 'unwell');
      }
    };
    unwell(3);
    offer('a', 4);
    expect(lanes.offer(parcel('a', 99), 0)).toBe(20_000);
    unwell(20);
    offer('a', 4);
    expect(Array.from({ length: 20 }, (_, at) => lanes.offer(parcel('a', 200 + at), 0)).at(-1)).toBe(600_000);
  });

  it('leave a receiver alone that asked for it, and give back what waits for it', () => {
    const { lanes, offer } = open();
    offer('a', 3);
    const first = lanes.next()!;
    expect(lanes.pause(first, 700)).toHaveLength(2);
    lanes.done(first, 'unwell');
    expect(lanes.known()).toBe(0);
    expect(lanes.offer(parcel('a', 9), 699)).toBe(700);
    expect(lanes.offer(parcel('a', 9), 700)).toBeUndefined();
  });

  it('leave places for others, however many receivers one caller has', () => {
    const { offer, takeAll } = open();
    for (let count = 0; count < 1000; count++) offer(`a${count}`, 1, 'anna');
    expect(takeAll()).toHaveLength(256);
    offer('b', 1, 'berta');
    expect(takeAll().map(({ owner }) => owner)).toEqual(['berta']);
  });

  it('forget receivers in the end', () => {
    const { lanes, offer, takeAll } = open();
    for (let count = 0; count < 1500; count++) {
      offer(`a${count}`, 1);
      for (const one of takeAll()) lanes.done(one, 'unwell');
    }
    expect(offer('a0', 5).at(-1)).toBe(5000);
    lanes.tidy(0);
    expect(offer('a1', 5).at(-1)).toBe(1000);
  });
});
