// Waiting for a job to end: told by its events, and looked for now and then, for those of another process reach nobody here.
import { GatewayError } from '../error.ts';
import { isTerminal, type Hub } from '../hub.ts';

/** Milliseconds between two looks of whoever waits. */
export const LOOK_MS = 1000;
const LONGEST_MS = 2_147_483_647;

export interface Waiting {
  hub: Hub;
  owner: string;
  job: string;
  /** Asked once at the beginning, when what it throws is thrown; later only not_found counts, and ends the wait. */
  isOver(): Promise<boolean>;
  ms: number;
  signal: AbortSignal | undefined;
}

/** Resolves when the job has ended, `ms` have passed or the signal aborts. */
export async function untilEnded({ hub, owner, job, isOver, ms, signal }: Waiting): Promise<void> {
  const over = Promise.withResolvers<void>();
  const look = () =>
    isOver().then(
      (is) => is && over.resolve(),
      (error: unknown) => error instanceof GatewayError && error.code === 'not_found' && over.resolve(),
    );
  const watch = hub.watch({
    owner,
    job,
    onEntry: () => {
      const { reset, entries } = watch.take();
      if (entries.some(({ event }) => isTerminal(event))) over.resolve();
      else if (reset) void look();
    },
  });
  const leave = () => over.resolve();
  const timer = setTimeout(leave, Math.min(ms, LONGEST_MS));
  const looking = setInterval(() => void look(), LOOK_MS);
  signal?.addEventListener('abort', leave, { once: true });
  try {
    if (!(await isOver()) && !signal?.aborted) await over.promise;
  } finally {
    clearTimeout(timer);
    clearInterval(looking);
    signal?.removeEventListener('abort', leave);
    watch.close();
  }
}
