// What comes when it likes, for one who takes it one by one, waits no longer than it wants, and stops when its caller leaves.
import { cancelled } from './failure.ts';

export interface Mailbox<T> {
  put(item: T): void;
  /** The oldest one, or undefined after `ms`. Throws client_closed. */
  take(ms: number): Promise<T | undefined>;
  /** The promise, or client_closed as soon as the caller has left. */
  orLeave<R>(promise: Promise<R>): Promise<R>;
  /** Forgets the caller. */
  close(): void;
}

export function createMailbox<T>(signal: AbortSignal): Mailbox<T> {
  const items: T[] = [];
  const left = Promise.withResolvers<never>();
  left.promise.catch(() => {});
  let wake = () => {};
  const onAbort = () => {
    left.reject(cancelled());
    wake();
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });

  return {
    put(item) {
      items.push(item);
      wake();
    },
    async take(ms) {
      if (signal.aborted) throw cancelled();
      if (items.length === 0 && ms > 0) {
        let timer: ReturnType<typeof setTimeout> | undefined;
        await new Promise<void>((resolve) => {
          wake = resolve;
          timer = setTimeout(resolve, ms);
        });
        clearTimeout(timer);
        if (signal.aborted) throw cancelled();
      }
      return items.shift();
    },
    orLeave: (promise) => (signal.aborted ? left.promise : Promise.race([promise, left.promise])),
    close: () => signal.removeEventListener('abort', onAbort),
  };
}
