// How far a download is: over all of its files, never backwards, and as often as people like to look.
import type { ProgressEvent } from '../../src/event.ts';

export interface Progress {
  /** The next file; what follows counts from its beginning. */
  begin(label: string, size: number | undefined): void;
  /** So many bytes of the file are here; of these, `moved` came over the network since the last call. */
  at(bytes: number, moved: number): void;
  /** The size of the file has become known. */
  learn(size: number): void;
  end(size: number): void;
  /** Undefined while the last one is too young. */
  next(): ProgressEvent | undefined;
  now(): ProgressEvent;
}

/** Milliseconds between two of them. */
const EVERY = 200;
/** Milliseconds after which a change of speed shows for the most part. */
const SMOOTH = 4000;

/** `sizes`: of all files, in bytes, as far as they are known. */
export function createProgress(sizes: (number | undefined)[]): Progress {
  let total = sizes.reduce((sum: number, size) => sum + (size ?? 0), 0);
  let before = 0;
  let current = 0;
  let known: number | undefined;
  let shown = 0;
  let label = '';
  let moved = 0;
  let rate: number | undefined;
  let measured = Date.now();
  let told = 0;

  function measure(): void {
    const passed = Date.now() - measured;
    if (passed < EVERY) return;
    const speed = (moved * 1000) / passed;
    const weight = 1 - Math.exp(-passed / SMOOTH);
    rate = rate === undefined ? speed : rate + (speed - rate) * weight;
    moved = 0;
    measured = Date.now();
  }

  function now(): ProgressEvent {
    told = Date.now();
    measure();
    shown = Math.max(shown, before + current);
    const all = Math.max(total, shown);
    const speed = rate !== undefined && rate >= 1 ? Math.round(rate) : undefined;
    return {
      type: 'progress',
      done: shown,
      total: all,
      unit: 'bytes',
      ...(speed === undefined ? {} : { rate: speed, eta: Math.ceil((all - shown) / speed) }),
      ...(label === '' ? {} : { label }),
    };
  }

  return {
    begin(name, size) {
      label = name;
      known = size;
      current = 0;
    },
    at(bytes, came) {
      current = bytes;
      moved += came;
    },
    learn(size) {
      total += size - (known ?? 0);
      known = size;
    },
    end(size) {
      total += size - (known ?? 0);
      before += size;
      current = 0;
      known = undefined;
    },
    next: () => (Date.now() - told < EVERY ? undefined : now()),
    now,
  };
}
