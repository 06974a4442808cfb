// Watching jobs until they end: by their events where those come, and by asking where they do not.
import { setTimeout as sleep } from 'node:timers/promises';
import type { BatchView } from '../src/jobs/batches.ts';
import type { JobView } from '../src/jobs/view.ts';
import { readMessages } from './events.ts';
import { CommandFailure, exitCodes } from './exit.ts';
import { askJson, readAnswer, type Target } from './target.ts';

/** Something that happened to a job; `data` as the gateway sends it. */
export interface JobEvent {
  type: string;
  data: Record<string, unknown>;
}

export interface FollowOptions {
  signal: AbortSignal;
  /** One is enough. */
  any?: boolean;
  onEvent?: (event: JobEvent) => void;
  /** About the connection, for people. */
  note: (text: string) => void;
}

/** Events may be lost, the job is not: after this much silence it is asked how it stands. */
const SILENCE_MS = 15_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 2000;
/** Jobs that are asked about at the same time. */
const AT_ONCE = 8;
/** After these, what was known may be wrong. */
const LOOK_ANEW = new Set(['joined', 'silence', 'reset', 'job:reset']);

/** The jobs that have ended, in the order in which they were seen to. A gateway that goes away is waited for. */
export async function followJobs(target: Target, ids: string[], options: FollowOptions): Promise<JobView[]> {
  const { any = false, onEvent = () => {}, signal } = options;
  const pending = new Set(ids);
  const ended: JobView[] = [];
  const enough = () => pending.size === 0 || (any && ended.length > 0);

  async function look(id: string): Promise<void> {
    const job = await askJson<JobView>(target, { method: 'GET', path: `/jobs/${id}` });
    if (!pending.has(id)) return;
    onEvent({ type: `job:${job.state}`, data: { job } });
    if (!isEnded(job)) return;
    pending.delete(id);
    ended.push(job);
  }

  async function lookAtAll(): Promise<void> {
    const waiting = [...pending];
    const next = async () => {
      for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) await look(id);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, next));
  }

  await lookAtAll();
  if (enough()) return ended;
  const path = ids.length === 1 ? `/jobs/${ids[0]}/events` : '/events';
  for await (const event of listen(target, path, { ...options, known: true })) {
    signal.throwIfAborted();
    try {
      if (LOOK_ANEW.has(event.type)) await lookAtAll();
      else {
        const id = toJobId(event);
        if (id === undefined || !pending.has(id)) continue;
        // What came of it is only in the job itself.
        if (isEnd(event.type)) await look(id);
        else onEvent(event);
      }
    } catch (error) {
      // The stream will break too; what was missed is seen once it is back.
      if (!isPassing(error)) throw error;
    }
    if (enough()) break;
  }
  return ended;
}

/** Asks again and again: a batch has no events of its own, and what matters of it are its counts. */
export async function followBatch(
  target: Target,
  id: string,
  { signal, note }: FollowOptions,
  onBatch: (batch: BatchView) => void,
): Promise<BatchView> {
  let pause = FIRST_PAUSE_MS;
  for (let first = true; ; first = false) {
    try {
      const batch = await askJson<BatchView>(target, { method: 'GET', path: `/jobs/batches/${id}` });
      onBatch(batch);
      if (batch.finished_at !== null) return batch;
    } catch (error) {
      if (first || !isPassing(error)) throw error;
      await target.refresh();
    }
    await untilServed(target, signal, note);
    await sleep(pause, undefined, { signal });
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}

/**
 * The events of a path, for ever: a connection that breaks is opened again and goes on after the last event that came. Only the
 * first may fail, and not even that where the gateway is known to be there.
 * Beside the gateway's own there are `joined` (from now on nothing is missed) and `silence` (for a while nothing came).
 */
export async function* listen(
  target: Target,
  path: string,
  { signal, note, known = false }: Pick<FollowOptions, 'signal' | 'note'> & { known?: boolean },
): AsyncGenerator<JobEvent> {
  let last: string | undefined;
  let pause = FIRST_PAUSE_MS;
  let told = false;
  for (let first = !known; ; first = false) {
    await untilServed(target, signal, note);
    const here = new AbortController();
    try {
      const reply = await target.send({
        method: 'GET',
        path,
        accept: 'text/event-stream',
        signal: here.signal,
        ...(last === undefined ? {} : { headers: { 'last-event-id': last } }),
      });
      if (reply.status !== 200) await readAnswer(reply);
      if (told) note('The gateway is back.');
      told = false;
      yield { type: 'joined', data: {} };
      for await (const message of noticeSilence(readMessages(reply.body))) {
        if (message === undefined) {
          yield { type: 'silence', data: {} };
          continue;
        }
        pause = FIRST_PAUSE_MS;
        if (message.id !== undefined) last = message.id;
        yield { type: message.event ?? 'message', data: toData(message.data) };
      }
    } catch (error) {
      if (signal.aborted || first || !isPassing(error)) throw error;
    } finally {
      here.abort();
    }
    await sleep(pause, undefined, { signal });
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    await target.refresh();
    if (pause > 4 * FIRST_PAUSE_MS && !told) {
      told = true;
      note('The gateway cannot be reached; waiting for it to come back.');
    }
  }
}

export function isEnded({ state }: Pick<JobView, 'state'>): boolean {
  return isEnd(`job:${state}`);
}

/** How the command ends that waited for them: the worst of all. */
export function toEndCode(states: Iterable<string>): number {
  const seen = new Set(states);
  if (seen.has('failed')) return exitCodes.failure;
  return seen.has('cancelled') ? exitCodes.cancelled : exitCodes.ok;
}

/** The job that an event is about. */
export function toJobId({ data }: JobEvent): string | undefined {
  const id = (data['job'] as { id?: unknown } | undefined)?.id ?? data['id'];
  return typeof id === 'string' ? id : undefined;
}

const isEnd = (type: string) => type === 'job:done' || type === 'job:failed' || type === 'job:cancelled';

/** Of the kind that a restart brings. */
function isPassing(error: unknown): boolean {
  return (
    error instanceof CommandFailure && (error.exitCode === exitCodes.unavailable || error.exitCode === exitCodes.busy)
  );
}

/** A job that this process put away is worked on once there is a gateway. */
async function untilServed(target: Target, signal: AbortSignal, note: (text: string) => void): Promise<void> {
  if (target.url !== undefined) return;
  note('No gateway is running; what waits is kept and starts with one: hono-ai serve');
  while (target.url === undefined) {
    await target.refresh();
    if (target.url === undefined) await sleep(500, undefined, { signal });
  }
}

/** Undefined stands for a while without any. */
async function* noticeSilence<T>(source: AsyncGenerator<T>): AsyncGenerator<T | undefined> {
  // Whoever stops reading leaves this promise behind; it breaks when the connection is closed.
  const ask = () => {
    const step = source.next();
    step.catch(() => {});
    return step;
  };
  let next = ask();
  for (;;) {
    const silence = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => silence.resolve(undefined), SILENCE_MS);
    const step = await Promise.race([next, silence.promise]).finally(() => clearTimeout(timer));
    if (step?.done) return;
    if (step !== undefined) next = ask();
    yield step?.value;
  }
}

function toData(text: string): Record<string, unknown> {
  try {
    const data: unknown = JSON.parse(text);
    return typeof data === 'object' && data !== null ? (data as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
