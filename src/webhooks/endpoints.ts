// The endpoints of callers, and the secrets that sign for them.
import { GatewayError } from '../error.ts';
import type { Document, DocumentStore } from '../store.ts';
import { toHookUrl } from './address.ts';
import { changeHook } from './attempt.ts';
import type { Courier } from './courier.ts';
import {
  newId,
  putEach,
  toEndpointView,
  toOldSecretUntil,
  toTime,
  type Delivery,
  type EndpointView,
  type Hook,
  type HookSecret,
  type TestView,
} from './records.ts';
import { UNREACHABLE, type SendHook } from './send.ts';
import { createSecret, type Secret } from './sign.ts';

export interface Endpoints {
  /** The only view that holds the secret, with that of `rotate`. Throws invalid_request, conflict. */
  create(owner: string, input: Pick<Hook, 'url' | 'events'>): Promise<EndpointView & { secret: string }>;
  list(owner: string): Promise<EndpointView[]>;
  /** Throws not_found, as all that follow. */
  get(owner: string, id: string): Promise<EndpointView>;
  update(owner: string, id: string, change: Partial<Pick<Hook, 'url' | 'events' | 'enabled'>>): Promise<EndpointView>;
  /** When it resolves, nothing is sent there any more, and what waited for it is gone. */
  remove(owner: string, id: string): Promise<void>;
  /** The old secret signs beside the new one for a day. */
  rotate(owner: string, id: string): Promise<EndpointView & { secret: string }>;
  /** Sends a `webhook.test` now, once, and tells what came of it. */
  test(owner: string, id: string): Promise<TestView>;
}

export interface Secrets {
  get(owner: string): Promise<{ created_at: string | null; old_secret_until: string | null }>;
  rotate(owner: string): Promise<{ created_at: string | null; old_secret_until: string | null; secret: string }>;
}

interface Options {
  documents: DocumentStore;
  send: SendHook;
  now: () => number;
  courier: Courier;
}

export const MAX_ENDPOINTS = 50;
const OVERLAP_MS = 86_400_000;
/** Secrets that sign at the same time, however often is rotated. */
const MAX_SECRETS = 4;
const MAX_TESTS = 4;
/** A test that fails is not answered sooner: the time would tell a refused connection from one that was never tried. */
const MIN_FAILED_TEST_MS = 500;
const PAGE = 100;

export function createEndpoints({ documents, send, now, courier }: Options): Endpoints {
  const testing = new Map<string, number>();

  async function find(owner: string, id: string): Promise<Document<Hook>> {
    const document = await documents.get<Hook>('hook', id);
    if (!document || document.owner !== owner) throw unknown();
    return document;
  }

  async function change(owner: string, id: string, how: (hook: Hook) => Hook): Promise<Document<Hook>> {
    await find(owner, id);
    const document = await changeHook(documents, id, how);
    if (!document) throw unknown();
    return document;
  }

  async function removeWaiting(ref: string): Promise<void> {
    let cursor: string | undefined;
    do {
      const page = await documents.list<Delivery>('delivery', { ref, limit: PAGE, ...(cursor ? { cursor } : {}) });
      const puts = page.documents.map(({ kind, id, version }) => ({ kind, id, delete: true as const, if: version }));
      await putEach(documents, puts);
      cursor = page.next;
    } while (cursor !== undefined);
  }

  async function sendTest({ value }: Document<Hook>): Promise<TestView> {
    const id = newId('msg');
    const begun = performance.now();
    const data = { message: 'A test. Nothing has happened.' };
    const payload = toPayload({ type: 'webhook.test', at: now(), data });
    const { answer, failure } = await courier.post(id, value, payload, new AbortController().signal);
    if (!answer) {
      const left = MIN_FAILED_TEST_MS - (performance.now() - begun);
      if (left > 0) await new Promise((resolve) => setTimeout(resolve, left));
    }
    return {
      object: 'webhook.test',
      id,
      delivered: failure === undefined,
      status: answer?.status ?? null,
      error: failure ?? null,
      message: failure === undefined ? null : answer ? `The receiver answered ${answer.status}.` : UNREACHABLE,
    };
  }

  return {
    async create(owner, input) {
      const url = toHookUrl(input.url, send.permits, 'url');
      const { documents: all } = await documents.list('hook', { owner, limit: MAX_ENDPOINTS });
      if (all.length >= MAX_ENDPOINTS) {
        const hint = 'Remove one, or send more events to the same endpoint.';
        throw new GatewayError('conflict', `There are ${MAX_ENDPOINTS} webhook endpoints already.`, { hint });
      }
      const id = newId('hook');
      const secret = createSecret();
      const value: Hook = { url, events: input.events, secrets: [{ secret }], enabled: true, created_at: now() };
      await documents.put([{ kind: 'hook', id, owner, value, if: 'absent' }]);
      return { ...toEndpointView({ kind: 'hook', id, owner, value, version: 0, createdAt: now() }, now()), secret };
    },
    async list(owner) {
      const { documents: all } = await documents.list<Hook>('hook', { owner, limit: MAX_ENDPOINTS });
      return all.map((document) => toEndpointView(document, now()));
    },
    get: async (owner, id) => toEndpointView(await find(owner, id), now()),
    async update(owner, id, wanted) {
      const url = wanted.url === undefined ? undefined : toHookUrl(wanted.url, send.permits, 'url');
      const document = await change(owner, id, (hook) => {
        const next = { ...hook, ...wanted, url: url ?? hook.url };
        // A new start, whatever came before.
        return wanted.enabled === undefined ? next : { ...next, disabled_because: undefined, failing_since: undefined };
      });
      return toEndpointView(document, now());
    },
    async remove(owner, id) {
      const { kind } = await find(owner, id);
      await documents.put([{ kind, id, delete: true }]);
      await courier.breakOff(id);
      await removeWaiting(id);
    },
    async rotate(owner, id) {
      const secret = createSecret();
      const document = await change(owner, id, (hook) => ({
        ...hook,
        secrets: toRotated(hook.secrets, secret, now()),
      }));
      return { ...toEndpointView(document, now()), secret };
    },
    async test(owner, id) {
      const document = await find(owner, id);
      const running = testing.get(owner) ?? 0;
      if (running >= MAX_TESTS) {
        throw new GatewayError('rate_limited', 'Other tests have not ended yet.', { retryAfter: 5 });
      }
      testing.set(owner, running + 1);
      try {
        return await sendTest(document);
      } finally {
        const left = testing.get(owner)! - 1;
        if (left === 0) testing.delete(owner);
        else testing.set(owner, left);
      }
    },
  };
}

/** What signs deliveries to the addresses that jobs bring themselves: one secret per caller. */
export function createSecrets({ documents, now }: Pick<Options, 'documents' | 'now'>): Secrets {
  const kind = 'hook_secret';
  const toView = ({ secrets, created_at }: HookSecret) => ({
    created_at: toTime(created_at),
    old_secret_until: toOldSecretUntil(secrets, now()),
  });
  return {
    async get(owner) {
      const document = await documents.get<HookSecret>(kind, owner);
      return document ? toView(document.value) : { created_at: null, old_secret_until: null };
    },
    async rotate(owner) {
      const secret = createSecret();
      for (;;) {
        const document = await documents.get<HookSecret>(kind, owner);
        const secrets = toRotated(document?.value.secrets ?? [], secret, now());
        const value: HookSecret = { secrets, created_at: now() };
        const conflict = await documents.put([{ kind, id: owner, owner, value, if: document?.version ?? 'absent' }]);
        if (!conflict) return { ...toView(value), secret };
      }
    },
  };
}

/** The text of an event: made once, then sent and signed as it is. */
export function toPayload({ type, at, data }: { type: string; at: number; data: Record<string, unknown> }): string {
  return JSON.stringify({ type, timestamp: new Date(at).toISOString(), data });
}

function toRotated(secrets: readonly Secret[], secret: string, now: number): Secret[] {
  const old = secrets
    .map((entry) => ({ ...entry, until: entry.until ?? now + OVERLAP_MS }))
    .filter(({ until }) => until > now);
  return [{ secret }, ...old].slice(0, MAX_SECRETS);
}

function unknown(): GatewayError {
  return new GatewayError('not_found', 'There is no such webhook endpoint.', { hint: 'GET /webhooks lists yours.' });
}
