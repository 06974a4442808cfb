// Which pulls work now: so many at a time, in the order in which they came, and never two on the same thing.

export interface Turn {
  /** Of one key only one works at a time. */
  key: string;
  /** The smaller goes first. */
  order: number;
  /** Its place is taken until this has settled. Must not throw. */
  start(): Promise<void>;
  /** Its place among those that wait, from 1, has changed. */
  moved(position: number): void;
}

export interface Queue {
  wait(turn: Turn): void;
  /** It waits no more. Nothing happens where it does not. */
  leave(turn: Turn): void;
  position(turn: Turn): number | undefined;
  /** Resolves when nothing works. */
  idle(): Promise<void>;
}

export function createQueue(places: number): Queue {
  const waiting: Turn[] = [];
  const busy = new Map<string, Promise<void>>();

  function pump(): void {
    const before = [...waiting];
    for (const turn of before) {
      if (busy.size >= Math.max(1, places)) break;
      const place = waiting.indexOf(turn);
      if (place < 0 || busy.has(turn.key)) continue;
      waiting.splice(place, 1);
      const work = turn.start().finally(() => {
        busy.delete(turn.key);
        pump();
      });
      busy.set(turn.key, work);
    }
    for (const [index, turn] of waiting.entries()) if (before[index] !== turn) turn.moved(index + 1);
  }

  return {
    wait(turn) {
      waiting.push(turn);
      waiting.sort((a, b) => a.order - b.order);
      const place = waiting.indexOf(turn);
      for (const [index, behind] of waiting.entries()) if (index > place) behind.moved(index + 1);
      pump();
    },
    leave(turn) {
      const place = waiting.indexOf(turn);
      if (place < 0) return;
      waiting.splice(place, 1);
      for (const [index, behind] of waiting.entries()) if (index >= place) behind.moved(index + 1);
    },
    position(turn) {
      const place = waiting.indexOf(turn);
      return place < 0 ? undefined : place + 1;
    },
    async idle() {
      while (busy.size > 0) await Promise.all(busy.values());
    },
  };
}
