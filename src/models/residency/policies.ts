// What people want of models in memory: pinned, preloaded, sent away after a while; written down by runtime and model.
import { GatewayError } from '../../error.ts';
import type { DocumentStore } from '../../store.ts';
import type { ModelPolicy } from '../residency.ts';

export interface PolicyChange {
  pinned?: boolean;
  preload?: boolean;
  /** Seconds; null: none of its own. */
  ttlS?: number | null;
}

export interface Policies {
  of(runtime: string, model: string): ModelPolicy;
  /** Those that ask for anything. */
  all(): Iterable<ModelPolicy>;
  /** By the model's id, or `runtime/id`: for models that are not in any list now. */
  named(name: string): ModelPolicy | undefined;
  /** Lasts when it resolves. Throws conflict where there are too many. */
  change(runtime: string, model: string, change: PolicyChange): Promise<ModelPolicy>;
  version(): number;
  /** Reads what was written down. */
  read(): Promise<void>;
}

interface Written {
  runtime: string;
  model: string;
  pinned: boolean;
  preload: boolean;
  ttl_s: number | null;
}

const KIND = 'model policy';
const OWNER = 'gateway';
/** They are all kept at hand. */
const MAX_POLICIES = 1000;

export function createPolicies(documents: DocumentStore): Policies {
  const policies = new Map<string, ModelPolicy>();
  let version = 0;
  let reading: Promise<void> | undefined;
  /** Changes are made one after the other, so that none is made of what is being changed. */
  let last: Promise<unknown> = Promise.resolve();

  const of = (runtime: string, model: string): ModelPolicy =>
    policies.get(toKey(runtime, model)) ?? { runtime, model, pinned: false, preload: false };

  function read(): Promise<void> {
    reading ??= readAll().catch((error: unknown) => {
      reading = undefined;
      throw error;
    });
    return reading;
  }

  async function readAll(): Promise<void> {
    const { documents: known } = await documents.list<Written>(KIND, { limit: MAX_POLICIES });
    for (const { id, value } of known) if (!policies.has(id)) policies.set(id, fromWritten(value));
    version++;
  }

  async function write(runtime: string, model: string, change: PolicyChange): Promise<ModelPolicy> {
    await read();
    const key = toKey(runtime, model);
    const { ttlS: before, ...policy } = { ...of(runtime, model) };
    const { pinned = policy.pinned, preload = policy.preload, ttlS = before } = change;
    const next: ModelPolicy = { runtime, model, pinned, preload, ...(ttlS == null ? {} : { ttlS }) };
    if (!pinned && !preload && ttlS == null) {
      await documents.put([{ kind: KIND, id: key, delete: true }]);
      policies.delete(key);
    } else {
      if (!policies.has(key) && policies.size >= MAX_POLICIES) throw tooMany();
      const value: Written = { runtime, model, pinned, preload, ttl_s: ttlS ?? null };
      await documents.put([{ kind: KIND, id: key, owner: OWNER, value }]);
      policies.set(key, next);
    }
    version++;
    return next;
  }

  return {
    of,
    all: () => policies.values(),
    named(name) {
      for (const policy of policies.values()) {
        if (policy.model === name || `${policy.runtime}/${policy.model}` === name) return policy;
      }
      return undefined;
    },
    change(runtime, model, change) {
      const mine = last.then(() => write(runtime, model, change));
      last = mine.catch(() => {});
      return mine;
    },
    version: () => version,
    read,
  };
}

function fromWritten({ runtime, model, pinned, preload, ttl_s }: Written): ModelPolicy {
  return { runtime, model, pinned, preload, ...(ttl_s === null ? {} : { ttlS: ttl_s }) };
}

function toKey(runtime: string, model: string): string {
  return `${runtime} ${model}`;
}

function tooMany(): GatewayError {
  return new GatewayError('conflict', `${MAX_POLICIES} models have a policy already.`, {
    hint: 'Take one back first: hono-ai models pin NAME --off.',
  });
}
