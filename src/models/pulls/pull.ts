// One pull: fetched once for all who follow it, tried again where that may heal, paused, resumed, and ended for all at once.
import { GatewayError, toGatewayError } from '../../error.ts';
import type { StatusEvent } from '../../event.ts';
import type { PullEvent } from '../../puller.ts';
import type { FollowEvent } from '../pulls.ts';
import type { PullView } from '../views.ts';
import type { Chosen } from './choose.ts';
import { createInbox, type Inbox } from './inbox.ts';
import { createPullMeter } from './meter.ts';
import type { Queue, Turn } from './queue.ts';
import { readPuller, type Patience, type Pulled } from './read.ts';
import { mayHeal } from './retry.ts';
import { unref } from '../../timers.ts';

export interface Pull extends Chosen {
  readonly id: string;
  /** The model as all may see it. */
  readonly shown: string;
  isPaused(): boolean;
  /** All is there, or nothing more will come: it cannot be changed any more. */
  readonly settled: boolean;
  view(): PullView;
  /** The latest state at once, then what happens. Ends with `pulled`; throws what it failed with, and the signal's reason. */
  follow(signal: AbortSignal): AsyncGenerator<FollowEvent, void>;
  pause(): void;
  /** Gets in line; also how it begins. */
  resume(): void;
  /** Ends it for all. */
  end(error: GatewayError): void;
  /** Stops working, and tells nobody: the process is about to end. */
  halt(): void;
}

export interface PullOptions {
  id: string;
  chosen: Chosen;
  /** Grows with every pull. */
  order: number;
  queue: Queue;
  patience: Patience;
  /** Tries in a row that bring nothing until it fails. */
  tries: number;
  backoff(misses: number, retryAfter: number | undefined): number;
  /** Of an earlier process that was told to pause it. */
  paused?: { done: number; total: number | undefined; tries: number };
  /** How it stands has changed; `urgent` where its state has. */
  onChange(pull: Pull, urgent: boolean): void;
  /** It is on disk: lists are read again. Must not throw. */
  onPulled(model: string): Promise<void>;
  /** The last who followed has left. */
  onAbandoned(pull: Pull): void;
  onEnd(pull: Pull, error: GatewayError | undefined): void;
}

const MAX_WARNINGS = 50;
const MAX_MESSAGE = 300;

export function createPull(options: PullOptions): Pull {
  const { id, chosen, order, queue } = options;
  const { puller, want, key } = chosen;
  const shown = toShown(want.model);
  const inboxes = new Set<Inbox>();
  const warnings: string[] = [];
  const meter = createPullMeter(options.paused);
  let state: PullView['state'] = options.paused ? 'paused' : 'queued';
  let settled = false;
  let said: StatusEvent = options.paused ? whenPaused(id) : { type: 'status', state: 'queued' };
  let tries = options.paused?.tries ?? 0;
  let misses = 0;
  let abort: AbortController | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const turn: Turn = {
    key,
    order,
    start: work,
    moved: (position) => say({ type: 'status', state: 'queued', position, message: 'Waits for other pulls.' }, false),
  };

  function tell(event: FollowEvent): void {
    for (const inbox of inboxes) inbox.put(event);
  }

  function say(status: StatusEvent, urgent = true): void {
    said = status;
    tell(status);
    options.onChange(pull, urgent);
  }

  function enter(next: PullView['state'], status: StatusEvent): void {
    state = next;
    say(status);
  }

  async function work(): Promise<void> {
    const mine = (abort = new AbortController());
    const before = meter.done;
    tries++;
    meter.begin();
    enter('running', { type: 'status', state: 'running', message: `Fetching ${shown}.` });
    try {
      const heed = (event: Exclude<PullEvent, Pulled>) => {
        if (!mine.signal.aborted) take(event);
      };
      const pulled = await readPuller(puller, want, mine.signal, { ...options.patience, heed });
      // Paused or left in that moment: it is there all the same, and whoever comes next finds it so.
      if (mine.signal.aborted) return void (await options.onPulled(toName(pulled)));
      await finish(pulled);
    } catch (thrown) {
      if (!mine.signal.aborted) failed(toGatewayError(thrown), meter.done > before);
    }
  }

  function take(event: Exclude<PullEvent, Pulled>): void {
    if (event.type === 'progress') {
      meter.take(event);
      tell(toProgress());
      options.onChange(pull, false);
    } else if (event.type === 'status') {
      const message = typeof event.message === 'string' ? event.message.slice(0, MAX_MESSAGE) : undefined;
      say({ type: 'status', state: 'running', ...(message === undefined ? {} : { message }) }, false);
    } else if (event.type === 'warning') {
      const warning = String(event.warning).slice(0, MAX_MESSAGE);
      if (warnings.includes(warning) || warnings.length >= MAX_WARNINGS) return;
      warnings.push(warning);
      tell({ type: 'warning', warning });
    }
  }

  function toProgress(): FollowEvent {
    const { done, total, rate, eta, label } = meter;
    return {
      type: 'progress',
      done,
      // 0 where nobody knows.
      total: total ?? 0,
      unit: 'bytes',
      ...(rate === undefined ? {} : { rate: Math.round(rate) }),
      ...(eta === undefined ? {} : { eta: Math.ceil(eta) }),
      ...(label === undefined ? {} : { label }),
    };
  }

  async function finish(pulled: Pulled): Promise<void> {
    settled = true;
    const model = toName(pulled);
    await options.onPulled(model);
    const files = Array.isArray(pulled.files) ? pulled.files : [];
    options.onEnd(pull, undefined);
    tell({ type: 'pulled', runtime: puller.runtime, model, files, already: pulled.already ?? !meter.fetched });
  }

  const toName = ({ model }: Pulled) => (typeof model === 'string' && model !== '' ? model : shown);

  function failed(error: GatewayError, progressed: boolean): void {
    misses = progressed ? 0 : misses + 1;
    if (!mayHeal(error) || misses >= options.tries) return end(error);
    const ms = options.backoff(misses, error.retryAfter);
    const message = `${error.message} Tried again in ${Math.ceil(ms / 1000)} s.`;
    enter('waiting', { type: 'status', state: 'queued', message });
    timer = setTimeout(resume, ms);
    unref(timer);
  }

  function resume(): void {
    misses = state === 'paused' ? 0 : misses;
    state = 'queued';
    queue.wait(turn);
    const position = queue.position(turn);
    if (position === undefined) return;
    say({ type: 'status', state: 'queued', position, message: 'Waits for other pulls.' });
  }

  function halt(): void {
    clearTimeout(timer);
    queue.leave(turn);
    abort?.abort(new GatewayError('cancelled', 'The pull was stopped.'));
  }

  function end(error: GatewayError): void {
    if (settled) return;
    settled = true;
    halt();
    options.onEnd(pull, error);
    for (const inbox of inboxes) inbox.fail(error);
  }

  const pull: Pull = {
    ...chosen,
    id,
    shown,
    isPaused: () => state === 'paused',
    get settled() {
      return settled;
    },
    view: () => ({
      id,
      object: 'pull',
      model: shown,
      runtime: puller.runtime,
      state,
      done: meter.done,
      total: meter.total ?? null,
      percent: meter.percent ?? null,
      bytes_per_s: state === 'running' && meter.rate !== undefined ? Math.round(meter.rate) : null,
      eta_s: state === 'running' && meter.eta !== undefined ? Math.ceil(meter.eta) : null,
      file: meter.label ?? null,
      message: said.message ?? null,
      callers: inboxes.size,
      tries,
    }),
    async *follow(signal) {
      signal.throwIfAborted();
      const inbox = createInbox();
      const leave = () => {
        signal.removeEventListener('abort', leave);
        if (!inboxes.delete(inbox)) return;
        if (signal.aborted) inbox.fail(toGatewayError(signal.reason));
        if (settled) return;
        if (inboxes.size === 0) options.onAbandoned(pull);
        else options.onChange(pull, false);
      };
      inboxes.add(inbox);
      // Not in the loop: whoever does not read any more leaves all the same.
      signal.addEventListener('abort', leave, { once: true });
      inbox.put(said);
      for (const warning of warnings) inbox.put({ type: 'warning', warning });
      if (meter.done > 0 || meter.total !== undefined) inbox.put(toProgress());
      try {
        for (;;) {
          const event = await inbox.next();
          yield event;
          if (event.type === 'pulled') return;
        }
      } finally {
        leave();
      }
    },
    pause() {
      halt();
      enter('paused', whenPaused(id));
    },
    resume,
    end,
    halt,
  };
  return pull;
}

function whenPaused(id: string): StatusEvent {
  return { type: 'status', state: 'queued', message: `Paused. POST /models/pulls/${id}/resume goes on.` };
}

/** Of an address only where it leads: tokens stand behind it, and before its host. */
function toShown(model: string): string {
  if (!model.includes('://') || !URL.canParse(model)) return model;
  const { protocol, host, pathname } = new URL(model);
  return `${protocol}//${host}${pathname}`;
}
