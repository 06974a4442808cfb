// One started call of one capability: it works on whether or not anybody reads, and whoever reads can start anywhere.
import type { Cost } from './arbiter/leases.ts';
import { GatewayError, toGatewayError } from './error.ts';
import type { RunEvent } from './event.ts';

/** What really runs; known before the first chunk. */
export interface Target {
  model: string;
  runtime: string;
  /** Why it is this one: `asked for`, `alias gpt-4o, because qwen3:8b cannot be reached`. */
  reason?: string;
}

export interface Run<Chunk, Output> {
  readonly id: string;
  readonly target: Target | undefined;
  readonly warnings: readonly string[];
  /** What it has cost so far, of all its turns at the card; undefined where it had none. */
  readonly cost: Cost | undefined;
  /** Seconds until it is done, as it was last told and less what has passed since; undefined once something came out. */
  readonly eta: number | undefined;
  readonly ended: boolean;
  /** Every event from number `from` (0 is the first) to the end. Throws the run's GatewayError where it failed. */
  events(from?: number): AsyncIterable<RunEvent<Chunk, Output>>;
  /** Resolves with the first chunk or the result, rejects when the run fails before either. */
  readonly started: Promise<void>;
  /** Settles when the run has ended; rejects with a GatewayError. */
  readonly result: Promise<Output>;
  /** Stops the work; it reaches the hardware. Nothing happens when the run has ended. */
  cancel(reason?: GatewayError): void;
}

/** What a run's source may call while it works. */
export interface RunContext {
  signal: AbortSignal;
  setTarget(target: Target): void;
  /** It has a turn at the card; `read` tells what that has cost so far. */
  addCost(read: () => Cost): void;
}

/** A result, with what ran and what could not be honoured. */
export type Ran<Result> = Result & { model: string; runtime: string; warnings: string[] };

/** Events that nobody may ever read are kept up to this number; more means a runtime that never stops. */
const MAX_EVENTS = 1_000_000;

export function startRun<Chunk, Result>(options: {
  id: string;
  /** Aborts the run, as `cancel` does. */
  signal: AbortSignal;
  source: (context: RunContext) => AsyncIterable<RunEvent<Chunk, Result>>;
  onEnd?: (error: GatewayError | undefined) => void;
}): Run<Chunk, Ran<Result>> {
  type Output = Ran<Result>;
  const { id, source, onEnd } = options;
  const abort = new AbortController();
  const events: RunEvent<Chunk, Output>[] = [];
  const warnings: string[] = [];
  const readers = new Set<() => void>();
  const costs: (() => Cost)[] = [];
  let eta: { seconds: number; at: number } | undefined;
  let target: Target | undefined;
  let ended = false;
  let failure: GatewayError | undefined;
  const started = Promise.withResolvers<void>();

  const cancel = (reason?: GatewayError) => {
    if (!ended) abort.abort(reason ?? new GatewayError('client_closed', 'The request was cancelled.'));
  };
  const onSignal = () => cancel();
  if (options.signal.aborted) cancel();
  else options.signal.addEventListener('abort', onSignal, { once: true });

  const wake = () => {
    for (const reader of readers) reader();
  };

  async function work(): Promise<Output> {
    let output: Output | undefined;
    try {
      const context: RunContext = {
        signal: abort.signal,
        setTarget: (to) => (target = to),
        addCost: (read) => costs.push(read),
      };
      for await (const event of source(context)) {
        if (event.type === 'result') {
          const { model, runtime } = target!;
          output = { ...event.result, model, runtime, warnings };
          events.push({ type: 'result', result: output, ...(event.files ? { files: event.files } : {}) });
        } else {
          if (event.type === 'warning') {
            if (warnings.includes(event.warning)) continue;
            warnings.push(event.warning);
          }
          events.push(event);
        }
        if (event.type === 'status' && event.eta !== undefined) eta = { seconds: event.eta, at: performance.now() };
        if (event.type === 'chunk' || event.type === 'result') {
          eta = undefined;
          started.resolve();
        }
        if (events.length > MAX_EVENTS)
          throw new GatewayError('upstream_invalid', 'The runtime does not stop.', { retry: false });
        wake();
      }
      if (abort.signal.aborted && !output) throw abort.signal.reason;
      if (!output)
        throw new GatewayError('upstream_truncated', 'The runtime ended without a result.', { retry: false });
      return output;
    } catch (error) {
      // Whatever broke because of the cancellation, the cancellation is the reason.
      failure = abort.signal.aborted && !output ? toGatewayError(abort.signal.reason) : toGatewayError(error);
      started.reject(failure);
      throw failure;
    } finally {
      ended = true;
      options.signal.removeEventListener('abort', onSignal);
      abort.abort();
      onEnd?.(failure);
      wake();
    }
  }

  const result = work();
  // Readers of events see the failure there; a promise that nobody awaits must not end the process.
  result.catch(() => {});
  started.promise.catch(() => {});

  return {
    id,
    get target() {
      return target;
    },
    warnings,
    get cost() {
      return costs.length === 0 ? undefined : addUp(costs);
    },
    get eta() {
      return eta && !ended ? Math.max(0, Math.ceil(eta.seconds - (performance.now() - eta.at) / 1000)) : undefined;
    },
    get ended() {
      return ended;
    },
    started: started.promise,
    result,
    cancel,
    async *events(from = 0) {
      let next = from;
      let signalled = () => {};
      const reader = () => signalled();
      readers.add(reader);
      try {
        for (;;) {
          while (next < events.length) yield events[next++]!;
          if (ended) break;
          await new Promise<void>((resolve) => (signalled = resolve));
        }
        if (failure) throw failure;
      } finally {
        readers.delete(reader);
      }
    },
  };
}

function addUp(costs: readonly (() => Cost)[]): Cost {
  const all = costs.map((read) => read());
  const sum = (of: (cost: Cost) => number) => all.reduce((so, cost) => so + of(cost), 0);
  return {
    queueMs: sum(({ queueMs }) => queueMs),
    swapMs: sum(({ swapMs }) => swapMs),
    runMs: sum(({ runMs }) => runMs),
    evicted: all.flatMap(({ evicted }) => evicted),
  };
}
