// After the last kill: waits until all work is done and all webhooks are out, and reads lists whole.
import { setTimeout as sleep } from 'node:timers/promises';
import type { DeliveryView } from '../../src/webhooks/records.ts';
import type { CountingRuntime } from './counting-runtime.ts';
import { callers, type Caller, type Ledger } from './kill-ledger.ts';
import type { Client } from './kill-load.ts';
import type { Receiver } from './kill-receiver.ts';

export interface Stage {
  ask: Client;
  url: string;
  ledger: Ledger;
  runtime: CountingRuntime;
  receiver: Receiver;
}

const READERS = 8;
const DRAIN_MS = 120_000;
/** A delivery whose gateway died belongs to it for its timeout and ten seconds more. */
const DELIVER_MS = 60_000;
export const names = Object.keys(callers) as Caller[];

/** Resolves when nothing waits or runs; what cannot end is told by the deadline. */
export async function drain({ ask }: Pick<Stage, 'ask'>): Promise<void> {
  const end = performance.now() + DRAIN_MS;
  for (;;) {
    const { json } = await ask('owner', '/system/status');
    const { jobs } = json as { jobs: { queued: number; running: number } };
    if (jobs.queued + jobs.running === 0) return;
    if (performance.now() > end) throw new Error(`still ${jobs.queued} jobs wait and ${jobs.running} run`);
    await sleep(100);
  }
}

/** Resolves when every webhook has arrived, but for those that wait because their receiver refused them. */
export async function deliver({ ask, receiver }: Pick<Stage, 'ask' | 'receiver'>): Promise<number> {
  const end = performance.now() + DELIVER_MS;
  const refused = new Set(receiver.deliveries.filter(({ status }) => status === 500).map(({ id }) => id));
  for (;;) {
    const pending = (await Promise.all(names.map((caller) => listDeliveries(ask, caller, 'pending')))).flat();
    const late = pending.filter(({ id, next_try_at: at }) => !refused.has(id) || Date.parse(at!) < Date.now() + 20_000);
    if (late.length === 0) return pending.length;
    if (performance.now() > end) throw new Error(`webhooks do not arrive: ${JSON.stringify(late.slice(0, 3))}`);
    await sleep(250);
  }
}

function listDeliveries(ask: Client, caller: Caller, state: string): Promise<DeliveryView[]> {
  return readPages(ask, caller, `/webhooks/deliveries?state=${state}&limit=100`);
}

/** All pages of a list. */
export async function readPages<T>(ask: Client, caller: Caller, path: string): Promise<T[]> {
  const all: T[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const { status, json } = await ask(caller, cursor === '' ? path : `${path}&cursor=${encodeURIComponent(cursor)}`);
    if (status !== 200) throw new Error(`${path} answered ${status}: ${JSON.stringify(json)}`);
    const page = json as { data: T[]; next_cursor: string | null };
    all.push(...page.data);
    cursor = page.next_cursor;
  }
  return all;
}

/** A few at the same time. */
export async function each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  await Promise.all(
    Array.from({ length: READERS }, async () => {
      for (const item of rest) await work(item);
    }),
  );
}
