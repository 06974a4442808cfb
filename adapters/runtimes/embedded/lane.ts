// One model worker and the queue in front of it: starts it when needed, one task at a time, ends it when idle or broken.
import { clearTimeout, setTimeout } from 'node:timers';
import { Worker } from 'node:worker_threads';
import { GatewayError } from '../../../src/error.ts';
import type { StatusEvent } from '../../../src/event.ts';
import { createChannel } from './channel.ts';
import type { EngineSettings, FromWorker, LoadTask, ModelFiles, Task, ToWorker, UnloadTask } from './wire.ts';

export interface LaneOptions {
  settings: EngineSettings;
  /** Milliseconds without a task until the worker ends and its memory is free. */
  idleMs: number;
  /** How many tasks may wait. */
  queue: number;
}

/** The part of a worker's messages that a caller is shown. */
export type LaneEvent =
  | StatusEvent
  | Extract<
      FromWorker,
      { type: 'warning' | 'chunk' | 'step' | 'look' | 'generated' | 'embedded' | 'painted' | 'moved' }
    >;

interface Ticket {
  task: Task;
  /** Seconds that the worker lives on after it, -1 for ever; undefined: as the lane has it. */
  keep: number | undefined;
  cancel: SharedArrayBuffer;
  channel: ReturnType<typeof createChannel<LaneEvent>>;
}

/** A token or a step takes milliseconds, the reading of a long prompt seconds; after that a cancelled worker is taken for stuck. */
const CANCEL_GRACE = 5_000;
const RETRY_AFTER = 5;
/** What timers can count to. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export function createLane({ settings, idleMs, queue }: LaneOptions) {
  const waiting: Ticket[] = [];
  let active: Ticket | undefined;
  let worker: Worker | undefined;
  let loaded: string[] = [];
  let idle: NodeJS.Timeout | undefined;
  let expiresAt: number | undefined;
  let grace: NodeJS.Timeout | undefined;
  let closed = false;

  async function* run(task: Task, signal: AbortSignal, keep?: number): AsyncGenerator<LaneEvent, void> {
    if (signal.aborted) throw cancelled();
    if (closed) throw draining();
    if (active && waiting.length >= queue) {
      throw new GatewayError('overloaded', 'The embedded runtime is busy and its queue is full.', {
        source: 'embedded',
        retryAfter: RETRY_AFTER,
        hint: 'Try again in a moment.',
      });
    }
    const ticket: Ticket = { task, keep, cancel: new SharedArrayBuffer(4), channel: createChannel() };
    waiting.push(ticket);
    const leave = () => ticket.channel.fail(cancelled());
    signal.addEventListener('abort', leave, { once: true });
    advance();
    try {
      for await (const event of ticket.channel.events()) {
        // A caller who has left must not be handed what was already on its way.
        if (signal.aborted) throw cancelled();
        yield event;
      }
    } finally {
      signal.removeEventListener('abort', leave);
      abandon(ticket);
    }
  }

  /** Gives the worker its next task, and tells those who wait where they stand. */
  function advance(): void {
    if (!active && waiting.length > 0) {
      active = waiting.shift()!;
      rest(undefined);
      worker ??= start();
      worker.ref();
      worker.postMessage({ task: active.task, cancel: active.cancel } satisfies ToWorker, []);
    }
    for (const [index, { channel }] of waiting.entries()) {
      channel.push({ type: 'status', state: 'queued', position: index + 1 });
    }
  }

  /** The reader of this ticket is gone, whether it had everything or not. */
  function abandon(ticket: Ticket): void {
    const at = waiting.indexOf(ticket);
    if (at !== -1) {
      waiting.splice(at, 1);
      advance();
    }
    if (active !== ticket) return;
    Atomics.store(new Int32Array(ticket.cancel), 0, 1);
    clearTimeout(grace);
    grace = setTimeout(() => {
      if (active === ticket) stop();
      advance();
    }, CANCEL_GRACE);
  }

  function start(): Worker {
    const started = new Worker(new URL('./worker.ts', import.meta.url), { workerData: settings });
    started.on('message', (message: FromWorker) => {
      if (worker === started) receive(message);
    });
    const crashed = (cause?: unknown) => {
      if (worker !== started) return;
      const ticket = active;
      stop();
      ticket?.channel.fail(
        new GatewayError('upstream_terminated', 'The embedded model worker ended before its answer was complete.', {
          source: 'embedded',
          hint: 'Ask again: a new worker starts by itself. If it happens again, the machine may be out of memory.',
          retry: false,
          cause,
        }),
      );
      advance();
    };
    started.on('error', crashed);
    started.on('exit', () => crashed());
    return started;
  }

  function receive(message: FromWorker): void {
    const ticket = active;
    if (!ticket) return;
    const { channel } = ticket;
    if (message.type === 'loading') channel.push({ type: 'status', state: 'loading' });
    else if (message.type === 'running') {
      loaded = message.models;
      channel.push({ type: 'status', state: 'running' });
    } else if (isPartial(message)) channel.push(message);
    else {
      if (message.type === 'moved') loaded = message.models;
      if (message.type === 'failed') channel.fail(toError(message));
      else if (message.type === 'cancelled') channel.fail(cancelled());
      else channel.push(message);
      channel.end();
      finish(message.type === 'failed' && message.broken, ticket.keep);
    }
  }

  function finish(broken: boolean, keep: number | undefined): void {
    clearTimeout(grace);
    if (broken) stop();
    else {
      active = undefined;
      // An idle worker must not keep a finished program alive.
      worker?.unref();
      rest(keep === undefined ? idleMs : keep < 0 ? undefined : keep * 1000);
    }
    advance();
  }

  /** The worker ends when so many milliseconds have passed; undefined: not by itself. */
  function rest(ms: number | undefined): void {
    clearTimeout(idle);
    expiresAt = ms === undefined ? undefined : Date.now() + ms;
    if (ms === undefined) return;
    idle = setTimeout(stop, Math.min(ms, MAX_TIMER_MS));
    idle.unref();
  }

  function stop(): void {
    const ended = worker;
    worker = undefined;
    active = undefined;
    loaded = [];
    rest(undefined);
    clearTimeout(grace);
    void ended?.terminate();
  }

  /** Moves a model in or out, and resolves when that is done. */
  async function move(task: LoadTask | UnloadTask, signal: AbortSignal, keep?: number): Promise<void> {
    for await (const event of run(task, signal, keep)) if (event.type === 'moved') return;
  }

  const uses = (id: string) => [...(active ? [active] : []), ...waiting].some(({ task }) => task.model.id === id);

  return {
    run,
    /** Ids of the models in the worker's memory. */
    loaded: () => loaded,
    /** Milliseconds since 1970 when the worker ends unless something is asked of it; undefined: not by itself, or it works. */
    expiresAt: () => expiresAt,
    /** Whether something is asked of this model now. */
    uses,
    load: (model: ModelFiles, as: LoadTask['as'], signal: AbortSignal, keep?: number) =>
      move({ kind: 'load', model, as }, signal, keep),
    /** Its memory is given back whole only with the worker, which ends where nothing else is in it. Throws conflict while it is in use. */
    async unload(id: string, signal: AbortSignal): Promise<void> {
      if (!loaded.includes(id)) return;
      if (uses(id)) throw inUse(id);
      if (!active && waiting.length === 0 && loaded.length === 1) {
        const ended = worker;
        stop();
        await ended?.terminate();
      } else await move({ kind: 'unload', model: { id } }, signal);
    },
    close() {
      closed = true;
      for (const ticket of [...waiting.splice(0), ...(active ? [active] : [])]) ticket.channel.fail(draining());
      const ended = worker;
      stop();
      return Promise.resolve(ended?.terminate());
    },
  };
}

export type Lane = ReturnType<typeof createLane>;

function isPartial(
  message: FromWorker,
): message is Extract<LaneEvent, { type: 'warning' | 'chunk' | 'step' | 'look' }> {
  return ['warning', 'chunk', 'step', 'look'].includes(message.type);
}

function toError(message: Extract<FromWorker, { type: 'failed' }>): GatewayError {
  const { code, hint, param } = message;
  return new GatewayError(code, message.message, {
    source: 'embedded',
    ...(hint !== undefined && { hint }),
    ...(param !== undefined && { param }),
    ...(message.broken && { retry: false }),
    cause: new Error(message.detail),
  });
}

function cancelled(): GatewayError {
  return new GatewayError('client_closed', 'The request was cancelled.', { source: 'embedded' });
}

function draining(): GatewayError {
  return new GatewayError('draining', 'The gateway is shutting down.', { source: 'embedded' });
}

function inUse(id: string): GatewayError {
  return new GatewayError('conflict', `${id} is in use.`, {
    source: 'embedded',
    hint: 'Try again when it has answered.',
  });
}
