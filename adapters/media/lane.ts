// Work that costs memory or threads by the piece: no more of it at a time than is good for everything else here.

/** Runs what it is given, at most `places` at a time, in the order in which it came. */
export function createLane(places: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let free = places;
  return async (work) => {
    if (free > 0) free--;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else free++;
    }
  };
}
