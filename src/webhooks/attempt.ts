// One try of one delivery: counted on disk, signed, sent, and what came of it written down.
import type { Document, DocumentStore, Failpoint } from '../store.ts';
import { putEach, toMove, type Delivery, type Hook, type HookSecret } from './records.ts';
import { toFailure, toPause, toRetryAfter, type Failure } from './schedule.ts';
import { Unreachable, type HookAnswer, type HookLog, type SendHook } from './send.ts';
import { createSecret, sign, type Secret } from './sign.ts';

export interface AttemptOptions {
  documents: DocumentStore;
  send: SendHook;
  /** Milliseconds since 1970. */
  now: () => number;
  log: HookLog;
  timeoutMs: number;
  /** How long delivered ones are kept, in milliseconds. */
  keepMs: number;
  failpoint: Failpoint;
  random: () => number;
  schedule: readonly number[];
}

export interface Target {
  url: string;
  secrets: Secret[];
}

/** What came back, if anything did. */
export interface Posted {
  answer?: HookAnswer;
  failure?: Failure;
  /** The gateway itself broke it off. */
  stopped?: boolean;
}

/** A try that has begun belongs to its gateway for this much longer than it may take. */
const MARGIN_MS = 10_000;
/** An endpoint whose tries have all failed for so long is disabled. */
const FAILING_MS = 5 * 86_400_000;
const MIN_DEAD_MS = 30 * 86_400_000;
const PAGE = 100;

export function createAttempts(options: AttemptOptions) {
  const { documents, send, now, log, timeoutMs, failpoint, random, schedule } = options;
  const deadMs = Math.max(options.keepMs, MIN_DEAD_MS);

  /** Sends to any target, whatever is on disk. */
  async function post(id: string, target: Target, payload: string, signal: AbortSignal): Promise<Posted> {
    const signed = await sign({ id, payload, secrets: target.secrets, at: now() });
    if (signal.aborted) return { stopped: true };
    const headers = { 'content-type': 'application/json', 'user-agent': 'hono-ai', ...signed };
    try {
      const answer = await send({ url: target.url, headers, body: payload, timeoutMs, signal });
      return { answer, failure: toFailure(answer) };
    } catch (error) {
      if (signal.aborted) return { stopped: true };
      const reason = error instanceof Unreachable ? error.reason : 'broken';
      log({ level: 'info', message: 'webhook not delivered', webhook: id, reason });
      return { failure: reason === 'timeout' ? 'timeout' : 'unreachable' };
    }
  }

  /** Whoever writes the count first makes the try. Undefined where that was another. */
  async function claim(document: Document<Delivery>): Promise<Delivery | undefined> {
    const { kind, id, owner, ref, version } = document;
    const value: Delivery = { ...document.value, attempts: document.value.attempts + 1, tried_at: now() };
    const due = now() + timeoutMs + MARGIN_MS;
    const conflict = await documents.put([{ kind, id, owner, value, due, ref, if: version }]);
    return conflict ? undefined : value;
  }

  async function toTarget({ owner, value }: Document<Delivery>): Promise<Target | 'gone' | 'disabled'> {
    if (value.endpoint === undefined) return { url: value.url!, secrets: await ownSecrets(owner) };
    const hook = await documents.get<Hook>('hook', value.endpoint);
    if (!hook) return 'gone';
    return hook.value.enabled ? hook.value : 'disabled';
  }

  async function ownSecrets(owner: string): Promise<Secret[]> {
    const found = await documents.get<HookSecret>('hook_secret', owner);
    if (found) return found.value.secrets;
    const value: HookSecret = { secrets: [{ secret: createSecret() }], created_at: now() };
    const conflict = await documents.put([{ kind: 'hook_secret', id: owner, owner, value, if: 'absent' }]);
    return conflict ? ownSecrets(owner) : value.secrets;
  }

  /** Throws what the store throws; the delivery is tried again then, under the same id. */
  async function run(document: Document<Delivery>, signal: AbortSignal): Promise<Posted | undefined> {
    const begun = performance.now();
    const claimed = await claim(document);
    if (!claimed) return undefined;
    const target = await toTarget(document);
    if (typeof target === 'string') {
      const failure = target === 'disabled' ? ('disabled' as const) : undefined;
      await settle(document, claimed, { failure }, target === 'gone');
      return undefined;
    }
    // This process stood still meanwhile: the try may be another's by now.
    if (performance.now() - begun > MARGIN_MS) return undefined;
    const posted = await post(document.id, target, claimed.payload, signal);
    if (posted.answer) failpoint('webhook sent');
    await settle(document, claimed, posted);
    if (claimed.endpoint !== undefined && !posted.stopped) await judge(claimed.endpoint, posted.failure);
    if (posted.failure === 'gone' && document.ref !== undefined) await bury(document.ref, 'gone');
    return posted;
  }

  async function settle(before: Document<Delivery>, claimed: Delivery, posted: Posted, drop = false): Promise<void> {
    const document = await documents.get<Delivery>('delivery', before.id);
    // Removed meanwhile, or another gateway took it for lost and tries it itself.
    if (!document || document.value.attempts !== claimed.attempts) return;
    const { kind, id, owner, ref, version } = document;
    if (drop) return void (await documents.put([{ kind, id, delete: true, if: version }]));
    const { answer, failure } = posted;
    // A try that this process did not live to see the end of is no step on the receiver's schedule.
    const step = claimed.step + (failure === undefined ? 0 : 1);
    const value: Delivery = { ...claimed, step, status: answer?.status, error: failure };
    const at = now();
    if (posted.stopped) {
      await documents.put([{ kind, id, owner, value: claimed, due: at, ref, if: version }]);
    } else if (failure === undefined) {
      await documents.put(toMove(document, 'delivered', value, at + options.keepMs));
    } else {
      const retryAfter = answer && toRetryAfter(answer, at);
      const final = failure === 'gone' || failure === 'disabled';
      const pause = final ? undefined : toPause(step, { schedule, retryAfter, random });
      if (pause === undefined) await documents.put(toMove(document, 'dead', value, at + deadMs));
      else await documents.put([{ kind, id, owner, value, due: at + pause, ref, if: version }]);
    }
  }

  /** An endpoint is disabled where it says so itself, or where nothing has reached it for days. */
  async function judge(id: string, failure: Failure | undefined): Promise<void> {
    let because: Hook['disabled_because'];
    await changeHook(documents, id, (hook) => {
      because = undefined;
      if (failure === undefined) return hook.failing_since === undefined ? hook : { ...hook, failing_since: undefined };
      const since = hook.failing_since ?? now();
      if (!hook.enabled) return hook;
      if (failure === 'gone') because = 'gone';
      else if (now() - since >= FAILING_MS) because = 'failing';
      if (because) return { ...hook, failing_since: since, enabled: false, disabled_because: because };
      return hook.failing_since === undefined ? { ...hook, failing_since: since } : hook;
    });
    if (because) log({ level: 'warn', message: 'webhook endpoint disabled', endpoint: id, because });
  }

  /** What waits for a receiver will not be sent to it any more. It stays visible, and can be replayed. */
  async function bury(ref: string, error: Failure): Promise<void> {
    let cursor: string | undefined;
    do {
      const page = await documents.list<Delivery>('delivery', { ref, limit: PAGE, ...(cursor ? { cursor } : {}) });
      for (const document of page.documents) {
        await documents.put(toMove(document, 'dead', { ...document.value, error }, now() + deadMs));
      }
      cursor = page.next;
    } while (cursor !== undefined);
  }

  /** Deletes what has been kept for its time. */
  async function sweep(): Promise<void> {
    for (const kind of ['delivered', 'dead']) {
      for (let full = true; full;) {
        const over = await documents.due(kind, now(), PAGE);
        const puts = over.map(({ id, version }) => ({ kind, id, delete: true as const, if: version }));
        await putEach(documents, puts);
        full = over.length === PAGE;
      }
    }
  }

  return { run, post, sweep };
}

export type Attempts = ReturnType<typeof createAttempts>;

/** Reads, changes and writes until nobody was faster. Undefined where there is none; nothing is written where nothing changes. */
export async function changeHook(
  documents: DocumentStore,
  id: string,
  change: (hook: Hook) => Hook,
): Promise<Document<Hook> | undefined> {
  for (;;) {
    const document = await documents.get<Hook>('hook', id);
    if (!document) return undefined;
    const { kind, owner, version } = document;
    const value = change(document.value);
    if (value === document.value) return document;
    if (!(await documents.put([{ kind, id, owner, value, if: version }]))) return { ...document, value };
  }
}
