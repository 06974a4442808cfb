// Webhooks: what happened becomes deliveries that are kept with it, and are sent, signed, until they have arrived or are dead.
import type { DocumentStore, Failpoint, Put } from '../store.ts';
import { toHookUrl } from './address.ts';
import { createCourier } from './courier.ts';
import { createDeliveries, type Deliveries } from './deliveries.ts';
import { createEndpoints, createSecrets, MAX_ENDPOINTS, toPayload, type Endpoints, type Secrets } from './endpoints.ts';
import { newId, type Delivery, type Hook } from './records.ts';
import { SCHEDULE } from './schedule.ts';
import type { HookLog, SendHook } from './send.ts';

export interface HookAnnouncement {
  /** `job.done`, `job.failed`, `job.cancelled`, `batch.done`. */
  type: string;
  owner: string;
  data: Record<string, unknown>;
  /** The job's own webhook, as `check` gave it back. */
  url?: string;
}

export interface Webhooks {
  /** What is to be committed together with the event: a delivery to each endpoint that wants it, and to the job's own. */
  announce(event: HookAnnouncement): Promise<Put[]>;
  /** The address as it will be called. Throws invalid_request (`param`, `webhook` if absent) for one that may not be used. */
  check(url: string, param?: string): string;
  /** To be called after a commit; never waits, never throws. */
  wake(): void;
  start(): void;
  stop(): Promise<void>;
  endpoints: Endpoints;
  secret: Secrets;
  deliveries: Deliveries;
}

export interface WebhookOptions {
  documents: DocumentStore;
  send: SendHook;
  /** Milliseconds since 1970. */
  now: () => number;
  log: HookLog;
  /** How long a receiver may take. */
  timeoutMs: number;
  /** Deliveries to one receiver at the same time. */
  concurrency: number;
  /** How long delivered ones are kept, in milliseconds; dead ones at least 30 days. */
  keepMs: number;
  failpoint?: Failpoint;
  random?: () => number;
  /** Milliseconds before each try. */
  schedule?: readonly number[];
}

export function createWebhooks(options: WebhookOptions): Webhooks {
  const { documents, send, now, failpoint = () => {}, random = Math.random, schedule = SCHEDULE } = options;
  const courier = createCourier({ ...options, failpoint, random, schedule });

  return {
    async announce({ type, owner, data, url }) {
      const at = now();
      const payload = toPayload({ type, at, data });
      const toPut = (ref: string, to: Pick<Delivery, 'endpoint' | 'url'>): Put => {
        const value: Delivery = { event: type, ...to, payload, attempts: 0, step: 0, created_at: at };
        return { kind: 'delivery', id: newId('msg'), owner, value, due: at, ref };
      };
      const hooks = await documents.list<Hook>('hook', { owner, limit: MAX_ENDPOINTS });
      const wanted = hooks.documents.filter(({ value }) => value.enabled && wants(value, type));
      const puts = wanted.map(({ id }) => toPut(id, { endpoint: id }));
      if (url !== undefined) puts.push(toPut(await toUrlRef(owner, url), { url }));
      return puts;
    },
    check: (url, param = 'webhook') => toHookUrl(url, send.permits, param),
    wake: courier.wake,
    start: courier.start,
    stop: courier.stop,
    endpoints: createEndpoints({ documents, send, now, courier }),
    secret: createSecrets({ documents, now }),
    deliveries: createDeliveries({ documents, now, wake: courier.wake }),
  };
}

function wants({ events }: Hook, type: string): boolean {
  return events.includes('*') || events.some((event) => event === type);
}

/** One receiver per caller and address; no list of what points where can be read back from it. */
async function toUrlRef(owner: string, url: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(`${owner} ${url}`));
  const hex = Array.from(new Uint8Array(digest, 0, 16), (byte) => byte.toString(16).padStart(2, '0'));
  return `url_${hex.join('')}`;
}
