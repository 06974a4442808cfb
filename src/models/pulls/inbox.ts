// What waits for one who follows a pull: the latest of each kind, so that whoever reads slowly costs nothing and holds nobody up.
import type { GatewayError } from '../../error.ts';
import type { FollowEvent } from '../pulls.ts';

export interface Inbox {
  put(event: FollowEvent): void;
  /** Nothing comes any more: what waits is forgotten. */
  fail(error: GatewayError): void;
  /** The next event. Throws what it failed with. */
  next(): Promise<FollowEvent>;
}

export function createInbox(): Inbox {
  const waiting: FollowEvent[] = [];
  let failure: GatewayError | undefined;
  let wake = () => {};

  return {
    put(event) {
      // Of warnings there are few, and each counts; of the others only the latest does.
      const before = event.type === 'warning' ? -1 : waiting.findIndex(({ type }) => type === event.type);
      if (before >= 0) waiting.splice(before, 1);
      waiting.push(event);
      wake();
    },
    fail(error) {
      failure ??= error;
      wake();
    },
    async next() {
      for (;;) {
        if (failure) throw failure;
        const event = waiting.shift();
        if (event) return event;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    },
  };
}
