// What is on the card as far as the gateway knows: entered when a model is let in, corrected by every look at the runtimes.
import type { GpuTenant, Resident } from '../runtime.ts';
import type { Held, Want } from './policy.ts';

/** Which model of which runtime. */
export type Place = Pick<Want, 'runtime' | 'model'>;

export interface Books {
  readonly held: readonly Held[];
  find(place: Place): Held | undefined;
  /** One more uses it; it is entered where it was not there. */
  enter(want: Want): Held;
  /** One less uses it. */
  leave(entry: Held): void;
  /** It has left the card. */
  strike(entry: Held): void;
  /** What a runtime holds now; what is written here follows. Throws what the runtime throws. */
  look(runtime: string, signal: AbortSignal): Promise<Resident[]>;
}

export interface BooksOptions {
  tenants: Record<string, GpuTenant>;
  now: () => number;
  onResidents: (runtime: string, residents: readonly Resident[]) => void;
}

export function createBooks({ tenants, now, onResidents }: BooksOptions): Books {
  const held: Held[] = [];
  /** Counts what happens: an answer is old news of whatever has happened since it was asked for. */
  let moment = 0;
  let struckIn = 0;
  const usedIn = new WeakMap<Held, number>();

  const find = ({ runtime, model }: Place) => held.find((entry) => entry.runtime === runtime && entry.model === model);

  function touch(entry: Held, leases: number): void {
    entry.leases += leases;
    entry.usedAt = now();
    usedIn.set(entry, ++moment);
  }

  function note(runtime: string, residents: readonly Resident[], askedIn: number): void {
    for (let index = held.length - 1; index >= 0; index--) {
      const entry = held[index]!;
      if (entry.runtime !== runtime || entry.leases > 0 || (usedIn.get(entry) ?? 0) > askedIn) continue;
      if (!residents.some(({ model }) => model === entry.model)) held.splice(index, 1);
    }
    for (const { model, vram } of residents) {
      const entry = find({ runtime, model });
      if (entry) entry.footprint = Math.max(entry.footprint, vram);
      else if (vram > 0 && struckIn < askedIn) held.push({ runtime, model, footprint: vram, leases: 0, usedAt: 0 });
    }
  }

  return {
    held,
    find,
    enter({ runtime, model, footprint }) {
      let entry = find({ runtime, model });
      if (!entry) held.push((entry = { runtime, model, footprint, leases: 0, usedAt: 0 }));
      touch(entry, 1);
      return entry;
    },
    leave: (entry) => touch(entry, -1),
    strike(entry) {
      const index = held.indexOf(entry);
      if (index >= 0) held.splice(index, 1);
      struckIn = ++moment;
    },
    async look(runtime, signal) {
      const askedIn = ++moment;
      const residents = (await tenants[runtime]?.residents(signal)) ?? [];
      onResidents(runtime, residents);
      note(runtime, residents, askedIn);
      return residents;
    },
  };
}
