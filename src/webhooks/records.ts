// What is kept about webhooks, as documents, and how their owner sees it.
import { z } from 'zod';
import type { Document, DocumentStore, Put } from '../store.ts';
import type { Failure } from './schedule.ts';
import type { Secret } from './sign.ts';

export const hookEvents = ['job.done', 'job.failed', 'job.cancelled', 'batch.done'] as const;
export type HookEvent = (typeof hookEvents)[number];

/** `hook`: an endpoint. Times in documents are milliseconds since 1970. */
export interface Hook {
  url: string;
  /** `*` stands for all, those of the future included. */
  events: (HookEvent | '*')[];
  /** The newest first. */
  secrets: Secret[];
  enabled: boolean;
  /** Why the gateway disabled it; absent where its owner did. */
  disabled_because?: 'gone' | 'failing';
  /** Every try since then has failed. */
  failing_since?: number;
  created_at: number;
}

/** `hook_secret`, under the owner's name: what signs deliveries to the addresses that jobs brought themselves. */
export interface HookSecret {
  secrets: Secret[];
  created_at: number;
}

/** `delivery`, `delivered` or `dead`. Its id is its webhook-id, for ever. */
export interface Delivery {
  event: string;
  /** The endpoint it goes to; absent where `url` is the job's own. */
  endpoint?: string;
  url?: string;
  /** The exact text that is sent and signed. */
  payload: string;
  /** Tries begun in all, each counted before it was made. */
  attempts: number;
  /** Tries begun in this round; a replay starts a new one. */
  step: number;
  tried_at?: number;
  status?: number;
  error?: Failure;
  created_at: number;
}

export const deliveryKinds = ['delivery', 'dead', 'delivered'] as const;
export type DeliveryKind = (typeof deliveryKinds)[number];
export const deliveryStates = ['pending', 'dead', 'delivered'] as const;
export type DeliveryState = (typeof deliveryStates)[number];

const time = z.string().nullable().describe('ISO 8601.');
const eventNames = z.array(z.enum([...hookEvents, '*'])).min(1);

export const endpointInput = z.strictObject({
  url: z.string().describe('https:// or http://, without credentials.'),
  events: eventNames.default(['*']).describe('Which events are sent there; * for all.'),
});

export const endpointChange = z.strictObject({
  url: z.string().optional(),
  events: eventNames.optional(),
  enabled: z.boolean().optional(),
});

export const endpointView = z.object({
  id: z.string(),
  object: z.literal('webhook'),
  url: z.string(),
  events: z.array(z.string()),
  enabled: z.boolean(),
  disabled_because: z
    .enum(['gone', 'failing'])
    .nullable()
    .describe('gone: it answered 410. failing: every try of the last five days failed. null: nobody did, or you.'),
  failing_since: time,
  old_secret_until: time.describe('Until then the secret before the last rotation signs too.'),
  created_at: z.string(),
});
export type EndpointView = z.output<typeof endpointView>;

const secretText = z.string().describe('whsec_…; shown this once.');
export const endpointWithSecret = endpointView.extend({ secret: secretText });

export const secretView = z.object({ object: z.literal('webhook.secret'), created_at: time, old_secret_until: time });
export const newSecret = secretView.extend({ secret: secretText });

export const deliveryView = z.object({
  id: z.string().describe('The webhook-id of every try.'),
  object: z.literal('webhook.delivery'),
  state: z.enum(deliveryStates),
  event: z.string(),
  endpoint: z.string().nullable(),
  url: z.string().nullable().describe('Where the job named its own address.'),
  attempts: z.int(),
  status: z.int().nullable().describe('The last answer.'),
  error: z.string().nullable().describe('unreachable, timeout, status, redirect, gone or disabled.'),
  tried_at: time,
  next_try_at: time,
  expires_at: time,
  created_at: z.string(),
});
export type DeliveryView = z.output<typeof deliveryView>;

export const testView = z.object({
  object: z.literal('webhook.test'),
  id: z.string(),
  delivered: z.boolean(),
  status: z.int().nullable(),
  error: z.string().nullable(),
  message: z.string().nullable(),
});
export type TestView = z.output<typeof testView>;

const listOf = <T extends z.ZodType>(item: T) =>
  z.object({
    object: z.literal('list'),
    data: z.array(item),
    has_more: z.boolean(),
    next_cursor: z.string().nullable(),
  });
export const endpointList = listOf(endpointView);
export const deliveryList = listOf(deliveryView);

export function toEndpointView({ id, value }: Document<Hook>, now: number): EndpointView {
  return {
    id,
    object: 'webhook',
    url: value.url,
    events: value.events,
    enabled: value.enabled,
    disabled_because: value.disabled_because ?? null,
    failing_since: toTime(value.failing_since),
    old_secret_until: toOldSecretUntil(value.secrets, now),
    created_at: new Date(value.created_at).toISOString(),
  };
}

export function toDeliveryView(document: Document<Delivery>): DeliveryView {
  const { id, kind, value, due } = document;
  const pending = kind === 'delivery';
  return {
    id,
    object: 'webhook.delivery',
    state: pending ? 'pending' : (kind as 'dead' | 'delivered'),
    event: value.event,
    endpoint: value.endpoint ?? null,
    url: value.url ?? null,
    attempts: value.attempts,
    status: value.status ?? null,
    error: value.error ?? null,
    tried_at: toTime(value.tried_at),
    next_try_at: pending ? toTime(due) : null,
    expires_at: pending ? null : toTime(due),
    created_at: new Date(value.created_at).toISOString(),
  };
}

export function toOldSecretUntil(secrets: readonly Secret[], now: number): string | null {
  const last = Math.max(0, ...secrets.map(({ until }) => until ?? 0));
  return last > now ? new Date(last).toISOString() : null;
}

export function toTime(at: number | undefined): string | null {
  return at === undefined ? null : new Date(at).toISOString();
}

export function newId(prefix: 'hook' | 'msg'): string {
  return `${prefix}_${crypto.randomUUID().replaceAll('-', '')}`;
}

/** One document moves from where it was to another kind, at once. Nothing is changed where it is not as it was read. */
export function toMove(from: Document<Delivery>, to: DeliveryKind, value: Delivery, due: number): Put[] {
  const { id, owner, ref, kind, version } = from;
  return [
    { kind, id, delete: true, if: version },
    { kind: to, id, owner, value, due, ref },
  ];
}

/** Changes that stand on their own, written together; where that meets a conflict, each alone, those in conflict left out. */
export async function putEach(documents: DocumentStore, puts: Put[]): Promise<void> {
  if (puts.length === 0 || !(await documents.put(puts)) || puts.length === 1) return;
  for (const put of puts) await documents.put([put]);
}
