// The body of an upload as it comes; a sender that all but stops is sent away.
import { GatewayError } from '../error.ts';

const MIN_BYTES_PER_S = 1024;

/**
 * Only time spent waiting for the sender counts, never time that we take ourselves. Throws `request_timeout` where the
 * sender gave less than 1 KiB/s over `slowMs`.
 */
export async function* readSteadily(
  body: ReadableStream<Uint8Array> | null,
  slowMs: number,
): AsyncGenerator<Uint8Array, void> {
  if (!body) return;
  const reader = body.getReader();
  const least = (MIN_BYTES_PER_S * slowMs) / 1000;
  let waited = 0;
  let got = 0;
  let ended = false;
  try {
    for (;;) {
      let begun = performance.now();
      const reading = reader.read();
      let step = await within(reading, slowMs - waited);
      while (!step) {
        if (got < least) throw slow();
        waited = got = 0;
        begun = performance.now();
        step = await within(reading, slowMs);
      }
      if (step.done) {
        ended = true;
        return;
      }
      waited += performance.now() - begun;
      got += step.value.byteLength;
      if (waited >= slowMs) {
        if (got < least) throw slow();
        waited = got = 0;
      }
      yield step.value;
    }
  } finally {
    // Not awaited: a sender that is silent would keep us here.
    if (!ended) void reader.cancel().catch(() => {});
  }
}

async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => (timer = setTimeout(resolve, Math.max(0, ms), undefined)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function slow(): GatewayError {
  return new GatewayError('request_timeout', 'The upload was too slow.', {
    hint: 'Send at least 1 KiB per second.',
  });
}
