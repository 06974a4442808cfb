// Timers and waits that hold nobody: not the process, not whoever has left, and no longer than one likes to, whatever hangs.

/** Undefined where it has not settled by then; it goes on by itself. Rejects where it rejects in time. */
export async function within<T>(ms: number, promise: T | Promise<T>): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, ms, undefined);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A timer that does not keep a process alive by itself, where the host has such a thing. */
export function unref(timer: unknown): void {
  (timer as { unref?: () => void } | undefined)?.unref?.();
}

/** What the promise gives, or throws the signal's reason when that comes first: who does not heed it is left behind. */
export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => {});
  signal.throwIfAborted();
  const gone = Promise.withResolvers<never>();
  const onAbort = () => gone.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, gone.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** What `work` gives. Once the signal has aborted it has `ms` to end; then it is left behind, and the signal's reason thrown. */
export async function* untilHeeded<T>(
  work: AsyncIterable<T>,
  signal: AbortSignal,
  { ms, onLeft }: { ms: number; onLeft?: () => void },
): AsyncGenerator<T, void> {
  const iterator = work[Symbol.asyncIterator]();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let left = false;
  let ended = false;
  // One promise for each step: a race against one that stays pending would keep every step in memory.
  let giveUp = () => {};
  const onAbort = () => {
    timer = setTimeout(() => {
      left = true;
      giveUp();
    }, ms);
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  try {
    for (;;) {
      if (left) throw signal.reason;
      const step = Promise.withResolvers<IteratorResult<T>>();
      giveUp = () => step.reject(signal.reason);
      iterator.next().then(step.resolve, step.reject);
      const { done, value } = await step.promise.catch((error: unknown) => {
        ended = !left;
        throw error;
      });
      if (done) return void (ended = true);
      yield value;
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
    const leaving = ended ? undefined : Promise.resolve(iterator.return?.()).catch(() => {});
    if (left) onLeft?.();
    else if (leaving) await within(ms, leaving);
  }
}
