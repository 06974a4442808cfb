// A file whose reader may be led in circles: it gives so many bytes, in so many reads, in so much time, and then no more.
import type { RandomAccess } from '../../src/media.ts';

export interface Bounds {
  /** Bytes read, over all. */
  bytes: number;
  /** Each may be a request to a store far away. */
  reads: number;
  /** Milliseconds from now. */
  ms: number;
}

/** Throws beyond its bounds. */
export function bound(file: RandomAccess, bounds: Bounds): RandomAccess {
  let { bytes, reads } = bounds;
  const until = performance.now() + bounds.ms;
  return {
    size: file.size,
    read(start, end) {
      const last = Math.min(end, file.size);
      bytes -= Math.max(0, last - start);
      reads--;
      if (bytes < 0 || reads < 0 || performance.now() > until) throw new Error('more was read than a header takes');
      return file.read(start, last);
    },
  };
}

/** The same, read a page at a time: what lies together costs one read. */
export function inPages(file: RandomAccess, pageSize: number): RandomAccess {
  let first = 0;
  let page: Uint8Array = new Uint8Array();
  return {
    size: file.size,
    async read(start, end) {
      const last = Math.min(end, file.size);
      if (start < first || last > first + page.byteLength) {
        first = start;
        page = await file.read(start, Math.max(last, Math.min(start + pageSize, file.size)));
      }
      return page.subarray(start - first, Math.max(0, last - first));
    },
  };
}
