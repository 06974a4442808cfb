// The card by owner: what runtimes say they hold, held against what the card itself says is in use.
import type { Arbiter } from '../arbiter/arbiter.ts';
import type { Held } from '../arbiter/policy.ts';
import { chosenCard, type Card, type GpuView, type Hardware, type Owner, type SwapView } from '../hardware.ts';
import type { Residency } from '../models/residency.ts';
import type { Resident, RuntimeAdapter } from '../runtime.ts';
import { within } from '../timers.ts';
import { createHolders, type Holding } from './holders.ts';
import { toSwapView, toWaitView, type Viewer } from './tell.ts';
import { createTimeline } from './timeline.ts';
import { toWarnings } from './warnings.ts';

/** What the card itself and the arbiter can tell of `GET /gpu`. */
export type CardView = Omit<GpuView, 'hold' | 'eta_error'>;

export interface ViewOptions {
  /** Default true. */
  history?: boolean;
  viewer?: Viewer;
  /** Milliseconds on the arbiter's clock. */
  now?: number;
}

export interface Gpu {
  /** Answers within about a second, whatever hangs. Never throws. */
  view(options?: ViewOptions): Promise<CardView>;
  /** What made room for what, newest first. */
  swaps(limit: number, viewer: Viewer): SwapView[];
}

export interface GpuOptions {
  runtimes: RuntimeAdapter[];
  hardware: Hardware;
  arbiter: Pick<Arbiter, 'snapshot'>;
  residency: Pick<Residency, 'policyOf'>;
}

/** Of the record, beside what the card holds now. */
const LAST_SWAPS = 5;
const NOBODY: Viewer = { caller: '', isOwner: false };

/** Readers have deadlines of their own; this is for those that break their word. */
const READ_MS = 1200;

export function createGpu({ runtimes, hardware, arbiter, residency }: GpuOptions): Gpu {
  const holders = createHolders(runtimes);
  /** The least that each card was seen to borrow: what it does without models. */
  const borrowed = new Map<string, number>();
  const timeline = createTimeline(hardware, () => arbiter.snapshot().held);

  function leastBorrowed(card: Card): number | undefined {
    if (!card.gtt) return undefined;
    const seen = hardware.history().flatMap(({ gtt_used }) => gtt_used ?? []);
    const least = Math.min(card.gtt.used, ...seen, borrowed.get(card.id) ?? Infinity);
    borrowed.set(card.id, least);
    return least;
  }

  /** What a runtime says it holds; what it was promised, where it says nothing of that. */
  function ownersOf({ runtime, residents, told }: Holding, held: readonly Held[]): Owner[] {
    const mine = held.filter((entry) => entry.runtime === runtime.name);
    const promised = mine.filter(
      ({ model, leases }) =>
        (told === 'never' || leases > 0) && !residents.some((resident) => resident.model === model),
    );
    const isPinned = (model: string) => residency.policyOf(runtime.name, model).pinned;
    const leasesOf = (model: string) => mine.find((entry) => entry.model === model)?.leases ?? 0;
    return [
      ...residents.map((resident) =>
        toOwner(runtime.name, resident, leasesOf(resident.model), isPinned(resident.model)),
      ),
      ...promised.map(({ model, footprint, leases }): Owner => {
        const pinned = isPinned(model);
        const basis = 'estimated';
        return {
          runtime: runtime.name,
          model,
          vram: footprint,
          ram: null,
          basis,
          in_use: leases,
          pinned,
          expires_at: null,
        };
      }),
    ];
  }

  function swapsFor(viewer: Viewer): SwapView[] {
    return arbiter.snapshot().swaps.map((swap) => toSwapView(swap, viewer));
  }

  return {
    swaps: (limit, viewer) => swapsFor(viewer).slice(-limit).toReversed(),
    async view({ history = true, viewer = NOBODY, now = Date.now() } = {}) {
      const [read, holdings] = await Promise.all([within(READ_MS, hardware.read()), holders()]);
      const { cards = [], why } = read ?? hardware.latest() ?? {};
      const card = chosenCard({ cards });
      const { held, waiting, budget, others: counted } = arbiter.snapshot();
      const onCard = holdings.filter(({ runtime }) => runtime.gpu);
      const owners = holdings
        .flatMap((holding) => ownersOf(holding, held))
        .toSorted((a, b) => b.vram - a.vram || a.runtime.localeCompare(b.runtime));
      const others = card ? Math.max(0, card.vram.used - claimed(holdings, held)) : 0;
      const swaps = swapsFor(viewer);
      return {
        card: card ?? null,
        cards,
        budget: budget ?? null,
        owners,
        others,
        others_counted: counted,
        free: toFree(card, owners, budget),
        waiting: waiting.map((one) => toWaitView(one, viewer, now)).toSorted((a, b) => a.position - b.position),
        swaps: swaps.slice(-LAST_SWAPS).toReversed(),
        warnings: warningsOf({ card, owners, others, holdings, onCard }),
        why: card ? null : (why ?? SLOW),
        history: history ? hardware.history() : [],
        timeline: history ? timeline.view(swaps) : null,
      };
    },
  };

  function warningsOf(seen: {
    card: Card | undefined;
    owners: Owner[];
    others: number;
    holdings: Holding[];
    onCard: Holding[];
  }): string[] {
    const { card, owners, others, holdings, onCard } = seen;
    const named = new Set(onCard.map(({ runtime }) => runtime.name));
    return toWarnings({
      card,
      owners: owners.filter(({ runtime }) => named.has(runtime)),
      others,
      gttBefore: card && leastBorrowed(card),
      onProcessor: onCard
        .filter(({ runtime }) => runtime.gpu?.device?.() === 'processor')
        .map(({ runtime }) => runtime.name),
      silent: holdings.filter(({ told }) => told === 'before').map(({ runtime }) => runtime.name),
    });
  }
}

const SLOW = 'The system has not told of its cards yet: ask again in a moment.';

function toFree(card: Card | undefined, owners: Owner[], budget: number | undefined): number | null {
  if (card) return card.vram.total - card.vram.used;
  return budget === undefined ? null : Math.max(0, budget - sum(owners.map(({ vram }) => vram)));
}

/** Bytes of the card that are accounted for. What a runtime that answers was only promised is not there yet. */
function claimed(holdings: Holding[], held: readonly Held[]): number {
  const promised = (name: string) =>
    sum(held.filter(({ runtime }) => runtime === name).map(({ footprint }) => footprint));
  return sum(
    holdings.map(({ runtime, residents, told }) =>
      told === 'never' ? promised(runtime.name) : sum(residents.map(({ vram }) => vram)),
    ),
  );
}

function toOwner(runtime: string, resident: Resident, leases: number, pinned: boolean): Owner {
  const { model, vram, ram = null, estimated, expiresAt } = resident;
  return {
    runtime,
    model,
    vram,
    ram,
    basis: estimated ? 'estimated' : 'measured',
    in_use: leases,
    pinned,
    expires_at: toIso(expiresAt),
  };
}

/** A time that no calendar has means for ever. */
function toIso(ms: number | undefined): string | null {
  if (ms === undefined || !(Math.abs(ms) <= 8.64e15)) return null;
  return new Date(ms).toISOString();
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
