// Webhooks over the real store, a real receiver and the guarded transport, with a clock that the test sets.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSqliteStore } from '../../adapters/stores/sqlite/index.ts';
import { createGuardedSend } from '../../adapters/transports/guarded.ts';
import type { LogEntry } from '../../src/http/context.ts';
import type { Put, Store } from '../../src/store.ts';
import type { Delivery, DeliveryView } from '../../src/webhooks/records.ts';
import { createWebhooks, type WebhookOptions, type Webhooks } from '../../src/webhooks/webhooks.ts';
import { openFakeReceiver, type FakeReceiver } from '../support/fake-receiver.ts';

/** For expect.poll: machines that run tests are busy. */
export const PATIENT = { timeout: 5000 };
export const START = Date.UTC(2026, 0, 1);

export interface TestWebhooks {
  store: Store;
  path: string;
  receiver: FakeReceiver;
  webhooks: Webhooks;
  logged: LogEntry[];
  now(): number;
  /** Moves the clock and looks what is due. */
  advance(ms: number): void;
  /** Another gateway on the same store and clock. */
  another(options?: Partial<WebhookOptions>): Promise<Webhooks>;
  /** Announces an event and commits it. The webhook-ids. */
  announce(event?: { type?: string; owner?: string; url?: string; data?: Record<string, unknown> }): Promise<string[]>;
  /** As its owner sees it. */
  delivery(id: string, owner?: string): Promise<DeliveryView | undefined>;
  /** Waits until a delivery looks like this. */
  until(id: string, wanted: Partial<DeliveryView>, ms?: number): Promise<DeliveryView>;
  close(): Promise<void>;
}

export async function openTestWebhooks(
  options: Partial<WebhookOptions> = {},
  openStore: (place: { path: string; now: () => number }) => Promise<Store> = openSqliteStore,
): Promise<TestWebhooks> {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-webhooks-'));
  const path = join(folder, 'store.sqlite');
  const receiver = await openFakeReceiver();
  const logged: LogEntry[] = [];
  let time = START;
  const now = () => time;
  const base: WebhookOptions = {
    documents: undefined as never,
    send: createGuardedSend({ allow: ['127.0.0.1'] }),
    now,
    log: (entry) => void logged.push(entry),
    timeoutMs: 1000,
    concurrency: 4,
    keepMs: 86_400_000,
    random: () => 0.5,
    ...options,
  };
  const open = async (more: Partial<WebhookOptions> = {}) => {
    const store = await openStore({ path, now });
    const webhooks = createWebhooks({ ...base, ...more, documents: store.documents });
    webhooks.start();
    closing.push(async () => {
      await webhooks.stop();
      await store.close();
    });
    return { store, webhooks };
  };
  const closing: (() => Promise<void>)[] = [];
  const { store, webhooks } = await open();

  const delivery = async (id: string, owner = 'anna') => {
    for (let cursor: string | undefined; ;) {
      const page = await webhooks.deliveries.list(owner, { limit: 100, ...(cursor ? { cursor } : {}) });
      const found = page.deliveries.find((one) => one.id === id);
      if (found || page.next === undefined) return found;
      cursor = page.next;
    }
  };

  return {
    store,
    path,
    receiver,
    webhooks,
    logged,
    now,
    advance(ms) {
      time += ms;
      webhooks.wake();
    },
    another: async (more) => (await open(more)).webhooks,
    async announce({ type = 'job.done', owner = 'anna', data = { job: { id: 'job_1' } }, url } = {}) {
      const puts = await webhooks.announce({ type, owner, data, ...(url === undefined ? {} : { url }) });
      await store.documents.put(puts);
      webhooks.wake();
      return puts.map(({ id }) => id);
    },
    delivery,
    async until(id, wanted, ms = 5000) {
      const end = performance.now() + ms;
      for (;;) {
        const seen = await delivery(id);
        if (seen && Object.entries(wanted).every(([name, value]) => seen[name as keyof DeliveryView] === value)) {
          return seen;
        }
        if (performance.now() > end) {
          throw new Error(`not within ${ms} ms: ${JSON.stringify(wanted)} but ${JSON.stringify(seen)}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
    async close() {
      await Promise.all(closing.map((close) => close()));
      await receiver.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** The stored text of a delivery. */
export function toPayloadOf(put: Put): string {
  return ((put as { value: unknown }).value as Delivery).payload;
}
