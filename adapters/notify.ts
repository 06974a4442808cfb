// Tells everybody who watches what changes often, at a bearable rate: the latest state, not every step to it.
import type { Hub } from '../src/hub.ts';

/** Milliseconds between two events about the same thing. */
const PAUSE_MS = 250;

export interface Notify {
  /** `about` begins with the type of the event; what follows tells apart what it is about. */
  changed(about: string, state: () => Record<string, unknown>): void;
  to(hub: Hub): void;
  close(): void;
}

export function createNotify(): Notify {
  const waiting = new Map<string, ReturnType<typeof setTimeout>>();
  let hub: Hub | undefined;
  return {
    changed(about, state) {
      if (!hub || waiting.has(about)) return;
      const tell = () => {
        waiting.delete(about);
        hub?.publish({ type: about.split(' ')[0]!, data: state() });
      };
      waiting.set(about, setTimeout(tell, PAUSE_MS));
    },
    to: (target) => void (hub = target),
    close() {
      for (const timer of waiting.values()) clearTimeout(timer);
      hub = undefined;
    },
  };
}
