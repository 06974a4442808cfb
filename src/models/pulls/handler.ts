// model.pull as a run: follows the shared pull, and tells how far it is at a rate that a run of days can bear.
import type { Input } from '../../capabilities/index.ts';
import type { OwnHandler } from '../../own.ts';
import type { Pulls, Wanted } from '../pulls.ts';

/** Milliseconds between two events about progress: at first often, after an hour every two seconds; a run keeps its events. */
const SOONEST_MS = 250;
const LATEST_MS = 2000;

/** What somebody should know of a model that is being got: that it does not fit on the card. Undefined where there is nothing to say. */
export type Advise = (want: Wanted, signal: AbortSignal) => Promise<string | undefined>;

/** Milliseconds that a pull that is done waits for advice. */
const ADVICE_MS = 1000;

/** model.pull, done with `pulls`. */
export function toPullHandler(pulls: Pulls, advise: Advise = async () => undefined): OwnHandler<'model.pull'> {
  const run: OwnHandler<'model.pull'> = async function* (input, { signal, setTarget }) {
    const want = toWanted(input);
    await pulls.ready();
    const { runtime } = pulls.choose(want);
    const prefix = `${runtime}/`;
    setTarget({ runtime, model: want.model.startsWith(prefix) ? want.model.slice(prefix.length) : want.model });
    const isTimely = createPace();
    let advice: string | undefined;
    const advised = advise(want, signal).then(
      (text) => void (advice = text),
      () => {},
    );
    function* tell() {
      if (advice !== undefined) yield { type: 'warning' as const, warning: advice };
      advice = undefined;
    }
    for await (const event of pulls.follow(want, signal)) {
      yield* tell();
      if (event.type === 'pulled') {
        if (!event.already) await Promise.race([advised, new Promise((resolve) => setTimeout(resolve, ADVICE_MS))]);
        yield* tell();
        setTarget({ runtime: event.runtime, model: event.model });
        yield { type: 'result' as const, result: { files: event.files, already: event.already } };
      } else if (event.type !== 'progress' || isTimely(event)) yield event;
    }
  };
  const check = async (input: Input<'model.pull'>) => {
    await pulls.ready();
    pulls.choose(toWanted(input));
  };
  return Object.assign(run, { check });
}

function toWanted({ model, runtime, source, sha256, kind }: Input<'model.pull'>): Wanted {
  return { model, runtime, source, sha256, kind };
}

/** Whether it is time to tell again how far it is. That all has come is told at once. */
export function createPace(): (progress: { done: number; total: number }) => boolean {
  const begun = performance.now();
  let toldAt = -Infinity;
  let complete = false;
  return ({ done, total }) => {
    const now = performance.now();
    const pause = Math.min(LATEST_MS, Math.max(SOONEST_MS, (now - begun) / 2000));
    const completes = done === total && !complete;
    if (now - toldAt < pause && !completes) return false;
    toldAt = now;
    complete = done === total;
    return true;
  };
}
