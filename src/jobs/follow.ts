// One job as it goes on, for whoever waits for it: how things stand, what happens, and the end.
import { isTerminal, type Hub } from '../hub.ts';
import type { Jobs } from './jobs.ts';
import { isEnded, type JobProgress, type JobView } from './view.ts';
import { LOOK_MS } from './wait.ts';

export type Step =
  | { type: 'status'; job: JobView }
  | { type: 'progress'; progress: JobProgress & { eta_s?: number } }
  /** `data` is base64. */
  | { type: 'preview'; media_type: string; data: string }
  /** The last one. */
  | { type: 'ended'; job: JobView };

/** Ends with the job, or without a last step when the signal aborts. Throws not_found. */
export async function* followJob(
  { jobs, hub }: { jobs: Jobs; hub: Hub },
  owner: string,
  id: string,
  signal: AbortSignal,
): AsyncGenerator<Step, void> {
  void jobs.start();
  let wake = () => {};
  const watch = hub.watch({ owner, job: id, onEntry: () => wake(), onClose: () => wake() });
  const onAbort = () => wake();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    let job = await jobs.get(owner, id);
    for (let look = true; !signal.aborted;) {
      if (look) {
        if (isEnded(job)) return yield { type: 'ended', job };
        yield { type: 'status', job };
      }
      const woken = Promise.withResolvers<boolean>();
      wake = () => woken.resolve(false);
      const { reset, entries } = watch.take();
      for (const { event } of entries) {
        if (isTerminal(event)) return yield { type: 'ended', job: await jobs.get(owner, id) };
        const step = toStep(event.type, event.data);
        if (step?.type === 'status') ({ job } = step);
        if (step) yield step;
      }
      look = reset;
      if (!reset && entries.length === 0 && !signal.aborted) {
        const timer = setTimeout(() => woken.resolve(true), LOOK_MS);
        look = await woken.promise.finally(() => clearTimeout(timer));
      }
      if (look) {
        const before = job;
        job = await jobs.get(owner, id);
        // Silence that means nothing is not worth telling.
        look = reset || job.state !== before.state || isEnded(job);
      }
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    watch.close();
  }
}

function toStep(type: string, data: Record<string, unknown>): Step | undefined {
  if (type === 'job:queued' || type === 'job:running') return { type: 'status', job: data['job'] as JobView };
  if (type === 'job:preview') {
    return { type: 'preview', media_type: data['media_type'] as string, data: data['data'] as string };
  }
  if (type !== 'job:progress') return undefined;
  const { id: _, ...progress } = data;
  return { type: 'progress', progress: progress as JobProgress & { eta_s?: number } };
}
