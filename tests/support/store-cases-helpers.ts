// What the cases of the store suite have in common: a store that is opened as often as wanted, jobs to put in, and assertions.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { GatewayError } from '../../src/error.ts';
import type { JobRecord, JobStore, NewJob, Outcome, Priority, Put, Store } from '../../src/store.ts';

export interface StoreUnderTest {
  /** One more gateway on the same data; the same data again where all others are closed. */
  open(): Promise<Store>;
  /** Closes what is still open and removes the data. */
  close(): Promise<void>;
}

/** Fresh data. */
export type OpenStore = () => Promise<StoreUnderTest>;

export interface StoreCase {
  name: string;
  run(open: OpenStore): Promise<void>;
}

export const HOUR = 3_600_000;

/** A case with a store on fresh data, and a way to open more on the same. */
export function toCase(name: string, run: (store: Store, subject: StoreUnderTest) => Promise<void>): StoreCase {
  return {
    name,
    async run(open) {
      const subject = await open();
      try {
        await run(await subject.open(), subject);
      } finally {
        await subject.close();
      }
    },
  };
}

let count = 0;
export const toId = (prefix: string): string => `${prefix}_${(++count).toString(36)}${crypto.randomUUID().slice(0, 8)}`;

/** A job that may start at once. */
export function toJob(change: Partial<NewJob> = {}): NewJob {
  const createdAt = change.createdAt ?? Date.now();
  return {
    id: toId('job'),
    owner: 'anna',
    capability: 'text.generate',
    priority: 'normal',
    createdAt,
    runAt: createdAt,
    maxAttempts: 3,
    limits: { queue: 24 * HOUR, run: HOUR, total: 48 * HOUR },
    notes: {},
    input: { prompt: 'a lighthouse' },
    ...change,
  };
}

export function toJobs(amount: number, change: Partial<NewJob> = {}): NewJob[] {
  return Array.from({ length: amount }, () => toJob(change));
}

export const done = (result: unknown = { text: 'x' }): Outcome => ({ state: 'done', at: Date.now(), result });
export const failed: () => Outcome = () => ({
  state: 'failed',
  at: Date.now(),
  error: { code: 'internal', message: 'It broke.', source: 'gateway' },
});
export const cancelled: () => Outcome = () => ({ state: 'cancelled', at: Date.now() });

export const toPut = (id: string, change: Record<string, unknown> = {}): Put =>
  ({ kind: 'thing', id, owner: 'anna', value: { id }, ...change }) as Put;

/** The next job, which must be there. */
export async function take(jobs: JobStore, now = Date.now(), worker = 'w1'): Promise<JobRecord> {
  const job = await jobs.claim(worker, now);
  assert.ok(job, 'nothing was claimed');
  return job;
}

/** Claims until nothing is left. */
export async function takeAll(jobs: JobStore, now = Date.now(), worker = 'w1'): Promise<JobRecord[]> {
  const taken: JobRecord[] = [];
  for (;;) {
    const job = await jobs.claim(worker, now);
    if (!job) return taken;
    taken.push(job);
  }
}

export async function get(jobs: JobStore, id: string): Promise<JobRecord> {
  const job = await jobs.get(id);
  assert.ok(job, `${id} is not there`);
  return job;
}

export async function rejects(promise: Promise<unknown>, code: string): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof GatewayError, `expected ${code}, got ${String(error)}`);
  assert.equal(error.code, code);
}

/** Waits until `check` holds. */
export async function until(check: () => boolean | Promise<boolean>, what: string, ms = 20_000): Promise<void> {
  for (const end = Date.now() + ms; !(await check()); await sleep(10)) {
    assert.ok(Date.now() < end, `${what} within ${ms} ms`);
  }
}

/** Priorities in their order, for loops. */
export const classes: readonly Priority[] = ['interactive', 'normal', 'background'];

/** mulberry32: the same numbers from the same seed, on every host. */
export function createRandom(seed: number): {
  next(): number;
  below(limit: number): number;
  pick<T>(from: readonly T[]): T;
} {
  let state = seed;
  function next(): number {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }
  const below = (limit: number) => Math.floor(next() * limit);
  return { next, below, pick: (from) => from[below(from.length)]! };
}
