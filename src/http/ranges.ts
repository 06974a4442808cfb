// Which bytes of a file an answer holds, and how they are sent: at the pace of the reader, never faster.
export interface Asked {
  range: string | undefined;
  ifRange: string | undefined;
  ifNoneMatch: string | undefined;
}

export type Selection =
  | { status: 200 }
  /** `end` is exclusive. */
  | { status: 206; range: { start: number; end: number } }
  | { status: 304 }
  | { status: 416 };

const MAX_RANGES = 10;
/** A reader that takes nothing for so long holds a file open for nobody, in milliseconds. */
const STALL_MS = 600_000;

/** What of `size` bytes under the strong tag `etag` is to be sent. Several ranges are answered with the whole. */
export function selectBytes({ range, ifRange, ifNoneMatch }: Asked, etag: string, size: number): Selection {
  if (ifNoneMatch !== undefined && matches(ifNoneMatch, etag)) return { status: 304 };
  // A date cannot say whether these are the same bytes.
  if (range === undefined || (ifRange !== undefined && ifRange.trim() !== etag)) return { status: 200 };
  const specs = /^\s*bytes\s*=(.*)$/i.exec(range)?.[1];
  if (specs === undefined) return { status: 200 };
  const parts = specs.split(',', MAX_RANGES + 1);
  if (parts.length > MAX_RANGES) return { status: 416 };
  const ranges = parts.map((part) => toRange(part.trim(), size));
  if (ranges.includes('malformed') || !ranges.some((one) => typeof one === 'object')) return { status: 416 };
  const [only] = ranges;
  return ranges.length === 1 && typeof only === 'object' ? { status: 206, range: only } : { status: 200 };
}

function toRange(spec: string, size: number): { start: number; end: number } | 'malformed' | 'beyond' {
  const match = /^(\d{0,15})-(\d{0,15})$/.exec(spec);
  if (!match || spec === '-') return 'malformed';
  const [, first, last] = match as unknown as [string, string, string];
  if (first === '') {
    const count = Math.min(Number(last), size);
    return count === 0 ? 'beyond' : { start: size - count, end: size };
  }
  const start = Number(first);
  if (last !== '' && Number(last) < start) return 'malformed';
  if (start >= size) return 'beyond';
  return { start, end: last === '' ? size : Math.min(Number(last) + 1, size) };
}

function matches(list: string, etag: string): boolean {
  return list.split(',', 100).some((one) => {
    const tag = one.trim();
    return tag === '*' || tag === etag || tag === `W/${etag}`;
  });
}

/** A body that reads its source only when its reader wants more: a large file costs one piece of memory, however slow the reader. */
export function toPulledStream(source: AsyncIterable<Uint8Array>, stallMs = STALL_MS): ReadableStream<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const leave = async () => {
    clearTimeout(timer);
    await iterator.return?.();
  };
  const expectPull = (controller: ReadableStreamDefaultController<Uint8Array>) => {
    timer = setTimeout(() => {
      controller.error(new Error('The reader takes nothing.'));
      void leave();
    }, stallMs);
  };
  return new ReadableStream<Uint8Array>(
    {
      start: expectPull,
      async pull(controller) {
        clearTimeout(timer);
        try {
          const { done, value } = await iterator.next();
          if (done) return controller.close();
          controller.enqueue(value);
        } catch (error) {
          return controller.error(error);
        }
        expectPull(controller);
      },
      cancel: leave,
    },
    { highWaterMark: 0 },
  );
}
