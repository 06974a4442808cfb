// Brings deliveries out when they are due: one timer, a bounded number under way, and every receiver gets its turn.
import type { Document, Put } from '../store.ts';
import { createAttempts, type AttemptOptions, type Attempts, type Posted } from './attempt.ts';
import { createLanes, type Impression } from './lanes.ts';
import { putEach, type Delivery } from './records.ts';
import { toRetryAfter } from './schedule.ts';

export interface Courier {
  /** Looks for what is due; never throws. */
  wake(): void;
  start(): void;
  /** Tries under way get a moment to end; those broken off are made again later, under the same id. */
  stop(): Promise<void>;
  /** Breaks off what is under way to a receiver; resolves when nothing is. */
  breakOff(ref: string): Promise<void>;
  post: Attempts['post'];
}

export interface CourierOptions extends AttemptOptions {
  /** Deliveries to one receiver at the same time. */
  concurrency: number;
}

const PAGE = 100;
/** Longest sleep: the clock may be set, and another gateway may have added something. */
const MAX_SLEEP_MS = 60_000;
/** Until another look where something is due that cannot be begun yet, or where the store does not answer. */
const SOON_MS = 1000;
const SWEEP_MS = 60_000;
const STOP_MS = 2000;
/** A receiver that answers so is sent to one at a time. */
const OVERLOADED = new Set([429, 502, 503, 504]);

export function createCourier(options: CourierOptions): Courier {
  const { documents, now, log } = options;
  const attempts = createAttempts(options);
  const lanes = createLanes<Document<Delivery>>(options.concurrency);
  const underWay = new Map<string, { ref: string | undefined; abort: AbortController; ended: Promise<void> }>();
  let running = false;
  let looking: Promise<void> | undefined;
  let again = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let sweptAt = -Infinity;

  function look(): void {
    if (!running) return;
    again = true;
    looking ??= lookUntilNothingIsNew().finally(() => (looking = undefined));
  }

  async function lookUntilNothingIsNew(): Promise<void> {
    let sleep = SOON_MS;
    try {
      while (again) {
        again = false;
        await takeDue();
        launch();
      }
      await sweep();
      sleep = await untilNext();
    } catch (error) {
      log({ level: 'warn', message: 'webhooks wait for the store', cause: String(error) });
    }
    clearTimeout(timer);
    if (running) timer = setTimeout(look, again ? 0 : sleep);
  }

  async function takeDue(): Promise<void> {
    if (!running) return;
    const limit = lanes.known() + PAGE;
    const due = await documents.due<Delivery>('delivery', now(), limit);
    const aside: Put[] = [];
    for (const document of due) {
      const until = lanes.offer(document, now());
      if (until !== undefined) aside.push(toAside(document, until));
    }
    await putEach(documents, aside);
    lanes.tidy(now());
    if (due.length === limit) again = true;
  }

  function launch(): void {
    for (let document = running ? lanes.next() : undefined; document; document = lanes.next()) {
      const abort = new AbortController();
      const ended = attempt(document, abort.signal);
      underWay.set(document.id, { ref: document.ref, abort, ended });
    }
  }

  async function attempt(document: Document<Delivery>, signal: AbortSignal): Promise<void> {
    let impression: Impression;
    try {
      const posted = await attempts.run(document, signal);
      impression = posted && toImpression(posted);
      const rest = posted?.answer && toRetryAfter(posted.answer, now());
      if (rest !== undefined) {
        const until = now() + rest;
        const back = lanes.pause(document, until);
        await putEach(
          documents,
          back.map((waiting) => toAside(waiting, until)),
        );
      }
    } catch (error) {
      log({ level: 'warn', message: 'webhook', webhook: document.id, cause: String(error) });
    } finally {
      lanes.done(document, impression);
      underWay.delete(document.id);
      launch();
      // Where something waits here, the next look is close already.
      if (lanes.waiting() === 0) look();
    }
  }

  async function sweep(): Promise<void> {
    if (Math.abs(now() - sweptAt) < SWEEP_MS) return;
    sweptAt = now();
    await attempts.sweep();
  }

  async function untilNext(): Promise<number> {
    const next = await documents.nextDue('delivery');
    if (next === undefined) return MAX_SLEEP_MS;
    const wait = Math.min(next - now(), MAX_SLEEP_MS);
    return wait > 0 ? wait : SOON_MS;
  }

  return {
    wake: look,
    start() {
      running = true;
      look();
    },
    async stop() {
      running = false;
      clearTimeout(timer);
      const all = [...underWay.values()];
      const breakAll = setTimeout(() => all.forEach(({ abort }) => abort.abort()), STOP_MS);
      await Promise.all([looking, ...all.map(({ ended }) => ended)]);
      clearTimeout(breakAll);
    },
    async breakOff(ref) {
      const theirs = [...underWay.values()].filter((entry) => entry.ref === ref);
      for (const { abort } of theirs) abort.abort();
      await Promise.all(theirs.map(({ ended }) => ended));
    },
    post: attempts.post,
  };
}

function toImpression({ answer, failure }: Posted): Impression {
  if (!answer) return failure === undefined ? undefined : 'unwell';
  return OVERLOADED.has(answer.status) ? 'unwell' : 'well';
}

/** Not a try: it only comes later. */
function toAside({ kind, id, owner, value, ref, version }: Document<Delivery>, due: number): Put {
  return { kind, id, owner, value, due, ref, if: version };
}
