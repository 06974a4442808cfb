// Models that are to be in memory from the start and had to leave the card: brought back once nobody has wanted the card for a while.
import type { Arbiter, View } from '../../arbiter/arbiter.ts';
import type { Place } from '../../arbiter/books.ts';
import type { Held } from '../../arbiter/policy.ts';
import { GatewayError, toGatewayError } from '../../error.ts';
import type { ModelPolicy } from '../residency.ts';
import type { LoadOrder, Spot } from './load.ts';
import { findResident, type Look } from './look.ts';
import type { Preloads, Way } from './preload.ts';

export interface Restore {
  /** Looks at what has happened on the card. To be called now and then. */
  look(): void;
  /** A runtime has lost all that it held. */
  lost(runtime: string): void;
}

export interface RestoreOptions {
  /** Milliseconds without anybody who uses the card, or waits for it. */
  restoreMs: number;
  arbiter: () => Pick<Arbiter, 'snapshot' | 'plan'>;
  /** All that people want of models. */
  policies: () => Iterable<ModelPolicy>;
  policyOf: (place: Place) => ModelPolicy;
  /** Throws model_not_found, and what its runtime throws. */
  find: (place: Place) => Promise<Spot>;
  inMemory: Look;
  load: (place: Place, order: Pick<LoadOrder, 'signal' | 'class' | 'limitMs'>) => Promise<unknown>;
  add: Preloads['add'];
  now: () => number;
  note(message: string, fields: Record<string, unknown>): void;
}

/** One that does not come at once does not come to a card that is idle, in milliseconds. */
const TURN_MS = 60_000;
const AGAIN_MS = 60_000;
/** The longest that one waits which has come back for nothing, in milliseconds. */
const LONGEST_MS = 3_600_000;

interface Back {
  /** As it was when it had come back: whoever has used it since has moved that. */
  usedAt: number;
  isUsed: boolean;
  /** How often in a row it came back and left unused. */
  inVain: number;
}

export function createRestore(options: RestoreOptions): Restore {
  const { restoreMs, arbiter, policies, policyOf, find, inMemory, load, add, now, note } = options;
  const backs = new Map<string, Back>();
  let restingSince = now();
  let before: readonly Held[] = [];
  let wasClosed = false;
  /** The last swap that was looked at. */
  let seen: string | undefined;
  let coming: { place: Place; abort: AbortController } | undefined;

  /** `preload` says that it shall be there; `pinned`, that what is there shall not leave for others. */
  const isWanted = (place: Place) => {
    const { preload, pinned } = policyOf(place);
    return preload || pinned;
  };
  const isComing = (place: Place) => coming !== undefined && isSame(coming.place, place);

  /** Since when nobody uses the card or waits for it; what comes back is nobody. */
  function follow({ held, waiting, closed }: View): void {
    const isAwaited = waiting.some((one) => !isComing(one));
    // Whoever is waited for goes before it: it gives way.
    if (isAwaited || closed) coming?.abort.abort(new GatewayError('client_closed', 'Somebody else needs the card.'));
    const isBusy = held.some((one) => one.leases > (isComing(one) ? 1 : 0));
    if (isAwaited || closed || isBusy) restingSince = now();
    for (const one of held) {
      const back = backs.get(toName(one));
      if (isComing(one) || one.usedAt === back?.usedAt) continue;
      if (back) back.isUsed = true;
      restingSince = Math.max(restingSince, one.usedAt);
    }
  }

  function left(place: Place): void {
    if (!isWanted(place)) return;
    const back = backs.get(toName(place));
    if (back) {
      back.inVain = back.isUsed ? 0 : back.inVain + 1;
      // Counted once for each time that it comes back.
      back.isUsed = true;
    }
    add(place, toWay({ runtime: place.runtime, model: place.model }));
  }

  function toWay(place: Place): Way {
    return {
      verb: 'brought back',
      tries: Infinity,
      againMs: AGAIN_MS,
      patienceMs: Infinity,
      isWanted: () => isWanted(place),
      isDue: () => now() - restingSince >= waitOf(place),
      load: (signal) => bring(place, signal),
    };
  }

  /** What comes back only to leave again is left out for longer each time. */
  function waitOf(place: Place): number {
    const inVain = backs.get(toName(place))?.inVain ?? 0;
    return Math.min(restoreMs * 2 ** inVain, Math.max(restoreMs, LONGEST_MS));
  }

  async function bring(place: Place, signal: AbortSignal): Promise<boolean> {
    const spot = await find(place);
    // A request may have brought it; or nobody had yet looked whether it has really left.
    if (findResident(await inMemory(spot.runtime, signal), spot.model)) return true;
    if (!mayCome(spot)) return false;
    const abort = new AbortController();
    coming = { place, abort };
    try {
      await load(place, { signal: AbortSignal.any([signal, abort.signal]), class: 'background', limitMs: TURN_MS });
    } catch (thrown) {
      const { code } = toGatewayError(thrown);
      // Others came first.
      if (!signal.aborted && (abort.signal.aborted || code === 'overloaded' || code === 'client_closed')) return false;
      throw thrown;
    } finally {
      coming = undefined;
    }
    const entry = arbiter()
      .snapshot()
      .held.find((one) => isSame(one, place));
    const inVain = backs.get(toName(place))?.inVain ?? 0;
    backs.set(toName(place), { usedAt: entry?.usedAt ?? now(), isUsed: false, inVain });
    note(`${place.model} is back on the card.`, { ...place });
    return true;
  }

  /** Now, and only in the place of what nobody is known to need. Throws insufficient_vram where it can never come. */
  function mayCome({ runtime, model }: Spot): boolean {
    const footprint = runtime.gpu?.footprint(model) ?? 0;
    const { would, because, remedy, evicts } = arbiter().plan({
      runtime: runtime.name,
      model: model.id,
      footprint,
      class: 'background',
    });
    if (would === 'refuse') throw new GatewayError('insufficient_vram', `${because}.`, remedy ? { hint: remedy } : {});
    if (would === 'wait') return false;
    const { held } = arbiter().snapshot();
    return evicts.every((place) => {
      const entry = held.find((one) => isSame(one, place));
      // What came to the card some other way may be in use by whoever has brought it; and what is wanted as well would come back in turn.
      return entry !== undefined && entry.usedAt > 0 && !isWanted(place);
    });
  }

  return {
    look() {
      const view = arbiter().snapshot();
      const at = view.swaps.findLastIndex((swap) => toId(swap) === seen);
      for (const { evicted } of view.swaps.slice(at + 1)) evicted.forEach(left);
      const last = view.swaps.at(-1);
      if (last) seen = toId(last);
      const isClosed = view.closed !== undefined;
      // Lent, the card is emptied for nobody of ours.
      if (isClosed || wasClosed) before.filter((one) => !view.held.some((other) => isSame(one, other))).forEach(left);
      wasClosed = isClosed;
      before = view.held;
      follow(view);
    },
    lost(runtime) {
      for (const policy of policies()) {
        if (policy.runtime !== runtime) continue;
        if (policy.preload || before.some((one) => isSame(one, policy))) left(policy);
      }
    },
  };
}

function isSame(a: Place, b: Place): boolean {
  return a.runtime === b.runtime && a.model === b.model;
}

function toName({ runtime, model }: Place): string {
  return `${runtime} ${model}`;
}

function toId({ at, runtime, model }: View['swaps'][number]): string {
  return `${at} ${runtime} ${model}`;
}
