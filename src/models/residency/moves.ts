// Notices that models have come to the card or left it, so that lists tell so at once.
import type { Held } from '../../arbiter/policy.ts';

/** To be called with all that is held whenever that may have changed. `onMoved` is called once for each runtime that is concerned. */
export function createMoves(onMoved: (runtime: string) => void): (held: readonly Held[]) => void {
  let before = new Map<string, string>();
  return (held) => {
    const now = new Map<string, string>();
    for (const { runtime, model, leases } of held) {
      const key = `${runtime} ${model}`;
      // It is surely there when its first use has ended; until then it may be on its way.
      if (leases === 0 || before.has(key)) now.set(key, runtime);
    }
    const moved = new Set<string>();
    for (const [key, runtime] of now) if (!before.has(key)) moved.add(runtime);
    for (const [key, runtime] of before) if (!now.has(key)) moved.add(runtime);
    before = now;
    for (const runtime of moved) onMoved(runtime);
  };
}
