// Reads what a puller says, whatever it is: one that throws at once, falls silent, never pauses or does not heed its abort ends all the same.
import { GatewayError, toGatewayError } from '../../error.ts';
import type { Puller, PullEvent, PullWant } from '../../puller.ts';
import { unref } from '../../timers.ts';

export type Pulled = Extract<PullEvent, { type: 'pulled' }>;

export interface Patience {
  /** Milliseconds that a puller gets to stop; then it is left behind. */
  stopMs: number;
  /** Milliseconds without a word until a try counts as dead. Longer than anybody takes to hash a large file. */
  silenceMs: number;
}

/** Events in a row after which whoever else has something to do gets to. */
const BREATH = 256;

/** What it ends with. Throws what it throws, upstream_idle, upstream_truncated, and the signal's reason. */
export async function readPuller(
  puller: Puller,
  want: PullWant,
  signal: AbortSignal,
  { stopMs, silenceMs, heed }: Patience & { heed(event: Exclude<PullEvent, Pulled>): void },
): Promise<Pulled> {
  const silence = new AbortController();
  const stop = AbortSignal.any([signal, silence.signal]);
  const left = Promise.withResolvers<never>();
  left.promise.catch(() => {});
  let late: ReturnType<typeof setTimeout> | undefined;
  const onStop = () => unref((late = setTimeout(() => left.reject(stop.reason), stopMs)));
  stop.addEventListener('abort', onStop, { once: true });
  let heardAt = performance.now();
  const listening = setInterval(() => {
    if (performance.now() - heardAt > silenceMs) silence.abort(fellSilent(puller));
  }, silenceMs / 4);
  unref(listening);
  let iterator: AsyncIterator<PullEvent> | undefined;
  try {
    iterator = puller.pull(want, stop)[Symbol.asyncIterator]();
    for (let count = 1; ; count++) {
      const next = await Promise.race([left.promise, iterator.next()]);
      if (next.done) break;
      heardAt = performance.now();
      const event = next.value;
      if (event?.type === 'pulled') return event;
      if (event) heed(event);
      if (count % BREATH === 0) await new Promise((resolve) => setTimeout(resolve, 0));
    }
    stop.throwIfAborted();
    throw new GatewayError('upstream_truncated', `${puller.runtime} ended without saying that the model is there.`, {
      source: puller.runtime,
    });
  } catch (thrown) {
    // Whatever broke because of the abort, the abort is the reason.
    throw stop.aborted ? toGatewayError(stop.reason) : thrown;
  } finally {
    clearTimeout(late);
    clearInterval(listening);
    stop.removeEventListener('abort', onStop);
    // Not awaited: one that is left behind would never answer.
    void (async () => iterator?.return?.())().catch(() => {});
  }
}

function fellSilent({ runtime }: Puller): GatewayError {
  return new GatewayError('upstream_idle', `${runtime} said nothing for too long.`, { source: runtime });
}
