// Callers of a gateway that is killed: they submit, repeat, cancel and look, and write down every answer they got.
import { setTimeout as sleep } from 'node:timers/promises';
import type { BatchView } from '../../src/jobs/batches.ts';
import type { JobView } from '../../src/jobs/view.ts';
import { models, type Plan } from './counting-runtime.ts';
import { callers, type Caller, type Ledger, type Wish } from './kill-ledger.ts';
import type { Receiver } from './kill-receiver.ts';

export interface Answer {
  status: number;
  headers: Headers;
  json: unknown;
}

export interface Client {
  (caller: Caller, path: string, init?: RequestInit): Promise<Answer>;
}

export interface Load {
  /** One job, submitted and accepted. */
  submit(ask: Client): Promise<void>;
  /** Works until the signal says that the gateway is gone. Never throws. */
  work(ask: Client, generation: string, signal: AbortSignal): Promise<void>;
  /** Asks again for whatever no answer has come to, until it has come. */
  settle(ask: Client): Promise<void>;
}

/** More jobs than this that wait would only grow the queue. */
const MAX_OPEN = 150;
const LANES = 3;
/** A claim of a key whose gateway died holds for half a minute. */
const SETTLE_MS = 60_000;

/** How jobs end that did not get done. */
const ENDS = new Set(['upstream_error', 'poisoned', 'cancelled']);

export function createClient(url: string, signal?: AbortSignal): Client {
  return async (caller, path, init = {}) => {
    const response = await fetch(url + path, {
      ...init,
      headers: { authorization: `Bearer ${callers[caller]}`, 'content-type': 'application/json', ...init.headers },
      ...(signal ? { signal } : {}),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json');
    return { status: response.status, headers: response.headers, json: isJson ? JSON.parse(text) : text };
  };
}

export function createLoad(options: {
  /** Keys of two loads must differ. */
  name: string;
  ledger: Ledger;
  receiver: Receiver;
  random: () => number;
}): Load {
  const { name, ledger, receiver, random } = options;
  const keyed: Wish[] = [];
  let made = 0;

  const chance = (share: number) => random() < share;
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;

  function makePlan(key: string): Plan {
    // Most files are like no other, some have the bytes of others.
    const files = Array.from({ length: pick([0, 1, 1, 1, 2]) }, (_, index) =>
      chance(0.25) ? `shared-${Math.floor(random() * 20)}` : `${key}-${index}`,
    );
    return { key, ms: Math.floor(random() * 12), files, ...(chance(0.05) ? { fails: true } : {}) };
  }

  function makeWish(): Wish {
    const shared = chance(0.04);
    const seed = shared ? Math.floor(random() * 8) : undefined;
    const key = shared ? `${name}-seed-${seed}` : `${name}-${made++}`;
    const plan = shared ? { key, ms: 3, files: [key] } : makePlan(key);
    const maxAttempts = chance(0.1) ? pick([1, 2, 3]) : 100;
    const delayMs = chance(0.08) ? 50 + Math.floor(random() * 300) : 0;
    const caller = shared || chance(0.6) ? 'owner' : 'beta';
    const target = !shared && chance(0.6) ? `/${name}/${caller}/job/${key}` : undefined;
    const wish: Wish = {
      caller,
      plan,
      maxAttempts,
      delayMs,
      shared,
      ids: new Set(),
      body: {
        prompt: JSON.stringify(plan),
        model: shared || chance(0.8) ? models[0] : models[1],
        ...(seed === undefined ? {} : { seed }),
        job: {
          max_attempts: maxAttempts,
          metadata: { key },
          ...(delayMs === 0 ? {} : { delay_s: delayMs / 1000 }),
          ...(chance(0.3) ? { priority: pick(['interactive', 'background']) } : {}),
          ...(target === undefined ? {} : { webhook: receiver.url(target) }),
        },
      },
      ...(target === undefined ? {} : { target }),
    };
    if (!shared && chance(0.3)) {
      wish.idempotencyKey = `idem-${key}`;
      keyed.push(wish);
    }
    ledger.wishes.push(wish);
    return wish;
  }

  /** The status; 409 where another request with the same key is, or was, being worked on. */
  async function send(ask: Client, wish: Wish, prefer = 'respond-async'): Promise<number> {
    const again = wish.ids.size > 0;
    if (wish.idempotencyKey !== undefined && prefer !== 'respond-async') wish.waited = true;
    const { status, headers, json } = await ask(wish.caller, '/text/gen', {
      method: 'POST',
      body: JSON.stringify(wish.body),
      headers: { prefer, ...(wish.idempotencyKey === undefined ? {} : { 'idempotency-key': wish.idempotencyKey }) },
    });
    if (status === 202) {
      const view = json as JobView;
      ledger.accept(view.id, wish.caller, wish);
      if (again && headers.get('idempotent-replayed') !== 'true')
        ledger.blame(`${view.id} was answered anew, not replayed`);
    } else if (status === 200) ledger.accept(headers.get('x-job-id')!, wish.caller, wish);
    else if (!isExpected(wish, status, json))
      ledger.blame(`a submission was answered ${status}: ${JSON.stringify(json)}`);
    return status;
  }

  async function submitBatch(ask: Client): Promise<void> {
    const key = `${name}-batch-${made++}`;
    const caller = chance(0.5) ? 'owner' : 'beta';
    const plans = Array.from({ length: 2 + Math.floor(random() * 4) }, (_, index) => makePlan(`${key}-${index}`));
    const target = `/${name}/${caller}/batch/${key}`;
    const { status, json } = await ask(caller, '/jobs/batch', {
      method: 'POST',
      body: JSON.stringify({
        capability: 'text.generate',
        inputs: plans.map((plan) => ({ prompt: JSON.stringify(plan) })),
        defaults: { model: models[0] },
        job: { max_attempts: 100, webhook: receiver.url(target) },
      }),
    });
    if (status === 202) ledger.batches.set((json as BatchView).id, { key, caller, plans, target });
    else ledger.blame(`a batch was answered ${status}: ${JSON.stringify(json)}`);
  }

  async function cancel(ask: Client, generation: string): Promise<void> {
    const entry = pick([...ledger.open].filter(({ wish, seen }) => (wish ? !wish.waited : seen?.batch)));
    if (!entry) return;
    const askedAt = performance.now();
    const { status, json } = await ask(entry.caller, `/jobs/${entry.id}`, { method: 'DELETE' });
    const view = json as JobView;
    if (status === 200) {
      entry.cancelled ??= { at: performance.now(), generation, state: view.state };
      ledger.observe(entry.caller, view, askedAt);
    } else if (status !== 409) ledger.blame(`a cancel of ${entry.id} was answered ${status}`);
  }

  async function look(ask: Client): Promise<void> {
    // Now and then one that has ended: it must not have changed.
    const entry = pick(chance(0.7) ? [...ledger.open] : [...ledger.known.values()]);
    if (!entry) return;
    const askedAt = performance.now();
    const { status, json } = await ask(entry.caller, `/jobs/${entry.id}`);
    if (status === 200) ledger.observe(entry.caller, json as JobView, askedAt);
    else ledger.blame(`a look at ${entry.id}, which was accepted, was answered ${status}`);
  }

  async function list(ask: Client): Promise<void> {
    const caller = chance(0.5) ? 'owner' : 'beta';
    const askedAt = performance.now();
    const { status, json } = await ask(caller, '/jobs?limit=20');
    if (status === 200) for (const view of (json as { data: JobView[] }).data) ledger.observe(caller, view, askedAt);
    else ledger.blame(`a list was answered ${status}`);
  }

  function act(ask: Client, generation: string): Promise<unknown> {
    const full = ledger.open.size > MAX_OPEN;
    const die = random();
    if (die < 0.08) return cancel(ask, generation);
    if (die < 0.2 || full) return look(ask);
    if (die < 0.25) return list(ask);
    if (die < 0.3) return submitBatch(ask);
    if (die < 0.42 && keyed.length > 0) return send(ask, pick(keyed.slice(-20)));
    return send(ask, makeWish(), die < 0.47 ? 'wait=1' : 'respond-async');
  }

  return {
    submit: async (ask) => void (await send(ask, makeWish())),
    async work(ask, generation, signal) {
      const lane = async () => {
        while (!signal.aborted) {
          await act(ask, generation).catch((error: Error) => {
            // What fails because the gateway is gone was never answered, and promises nothing.
            if (!isGone(error)) ledger.blame(String(error.stack));
          });
          await sleep(random() * 15);
        }
      };
      await Promise.all(Array.from({ length: LANES }, lane));
    },
    async settle(ask) {
      const end = performance.now() + SETTLE_MS;
      for (const wish of keyed.filter(({ ids }) => ids.size === 0)) {
        while ((await send(ask, wish)) === 409) {
          if (performance.now() > end) throw new Error(`no answer to the key ${wish.idempotencyKey}`);
          await sleep(500);
        }
      }
    },
  };
}

/** How fetch says that the other end is dead, or that it was told to stop. */
export function isGone({ name, message }: Error): boolean {
  return name === 'AbortError' || (name === 'TypeError' && /^(fetch failed|terminated)$/.test(message));
}

/** Somebody else works on the same key, or the job that was waited for has ended so. */
function isExpected({ idempotencyKey }: Wish, status: number, json: unknown): boolean {
  const { code } = (json as { error: { code: string } }).error;
  if (status === 409 && idempotencyKey !== undefined && code === 'idempotency_running') return true;
  return ENDS.has(code);
}
