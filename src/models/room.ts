// How much room there is on the card: for all models, and for each of them beside what is on it now.
import type { Arbiter } from '../arbiter/arbiter.ts';
import type { Room } from './fit.ts';

type Books = Pick<ReturnType<Arbiter['snapshot']>, 'held' | 'budget'>;
type IsPinned = (runtime: string, model: string) => boolean;

/** The room for a model, which does not stand in its own way; without one, for something that is not here yet. */
export type RoomOf = (runtime?: string, model?: string) => Room;

/** Of memory that card and processor share: about what Metal lets a program take. */
const UNIFIED_SHARE = 2 / 3;
/** Bytes of a card that is too small to plan with, such as an APU's carve-out; what runs there runs in system memory. */
const TOO_SMALL = 2 * 1024 ** 3;

/**
 * Bytes of VRAM that models may use: what somebody said, as far as `others` leave it, else what the card has, less the headroom or
 * what others hold, whichever is more. What runtimes take beyond their models, about 500 MB each, is among what others hold, so
 * it is not taken off twice. Undefined where nobody knows.
 */
export function toBudget(
  card: { kind: 'discrete' | 'integrated' | 'unified'; vram: { total: number } } | undefined,
  { said, headroom, others }: { said: number | undefined; headroom: number; others: number },
): number | undefined {
  // All that runs on the machine is among the others there.
  if (card?.kind === 'unified') return said ?? Math.floor(card.vram.total * UNIFIED_SHARE);
  const total = card && card.vram.total > TOO_SMALL ? card.vram.total : undefined;
  // More than there is was not said of this card.
  if (total === undefined || (said !== undefined && said > total)) return said;
  return Math.max(0, said === undefined ? total - Math.max(headroom, others) : Math.min(said, total - others));
}

/** Sums up once, however many models are then asked about. */
export function toRoomOf({ held, budget }: Books, isPinned: IsPinned): RoomOf {
  const own = new Map<string, { held: number; pinned: number }>();
  const all = { held: 0, pinned: 0 };
  for (const { runtime, model, footprint } of held) {
    const pinned = isPinned(runtime, model) ? footprint : 0;
    own.set(toKey(runtime, model), { held: footprint, pinned });
    all.held += footprint;
    all.pinned += pinned;
  }
  return (runtime = '', model = '') => {
    const mine = own.get(toKey(runtime, model));
    return { budget, held: all.held - (mine?.held ?? 0), pinned: all.pinned - (mine?.pinned ?? 0) };
  };
}

/** `toRoomOf` kept until the card's books change. Its version grows with them. */
export function createRooms(
  books: () => Books,
  isPinned: IsPinned,
  pins: () => number,
): { of: RoomOf; version(): number } {
  let seen = '';
  let version = 0;
  let roomOf: RoomOf = () => ({ budget: undefined, held: 0, pinned: 0 });
  function look(): number {
    const { held, budget } = books();
    const now = JSON.stringify([
      budget,
      pins(),
      held.map(({ runtime, model, footprint }) => [runtime, model, footprint]),
    ]);
    if (now !== seen) {
      seen = now;
      version++;
      roomOf = toRoomOf({ held, budget }, isPinned);
    }
    return version;
  }
  return { of: (runtime, model) => roomOf(runtime, model), version: look };
}

function toKey(runtime: string, model: string): string {
  return `${runtime}\n${model}`;
}
