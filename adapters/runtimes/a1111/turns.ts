// One after the other, in the order in which they came; who waits may leave.
import type { StatusEvent } from '../../../src/event.ts';
import { cancelled } from './wire.ts';

export interface Turns {
  /** Says how many are before it while it waits, and ends when it is its turn. Throws client_closed. */
  wait(signal: AbortSignal): AsyncGenerator<StatusEvent>;
  leave(): void;
  /** Somebody has it now. */
  taken(): boolean;
}

export function createTurns(): Turns {
  const waiting: { granted: boolean; go(): void }[] = [];
  let taken = false;
  const turns: Turns = {
    async *wait(signal) {
      if (signal.aborted) throw cancelled();
      if (!taken) {
        taken = true;
        return;
      }
      const turn = Promise.withResolvers<void>();
      const leave = () => turn.reject(cancelled());
      const entry = { granted: false, go: turn.resolve };
      waiting.push(entry);
      signal.addEventListener('abort', leave, { once: true });
      let came = false;
      try {
        yield { type: 'status', state: 'queued', position: waiting.length };
        await turn.promise;
        came = true;
      } finally {
        signal.removeEventListener('abort', leave);
        if (!came && entry.granted) turns.leave();
        else if (!came) waiting.splice(waiting.indexOf(entry), 1);
      }
    },
    leave() {
      const next = waiting.shift();
      if (!next) taken = false;
      else {
        next.granted = true;
        next.go();
      }
    },
    taken: () => taken,
  };
  return turns;
}
