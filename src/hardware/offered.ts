// What can be asked here, by which model, and for what cannot: why, and what to do.
import type { z } from 'zod';
import { capabilities, capabilityIds, type CapabilityId } from '../capabilities/index.ts';
import type { Catalog, Listing } from '../catalog.ts';
import { toGatewayError } from '../error.ts';
import type { offeredView } from '../hardware.ts';
import { within } from '../timers.ts';

export type Offered = z.output<typeof offeredView>['capabilities'][number];

/** Longest wait for the lists of runtimes, in milliseconds. */
const LIST_MS = 1200;

/** Never throws. */
export async function toOffered(catalog: Catalog): Promise<Offered[]> {
  const deadline = performance.now() + LIST_MS;
  const left = () => Math.max(0, deadline - performance.now());
  const known = await within(left(), Promise.all([catalog.list(), catalog.runtimes()])).catch(() => undefined);
  const [listings, statuses] = known ?? [[], []];
  const down = new Map(statuses.filter(({ ok }) => !ok).map((status) => [status.name, status]));

  async function tell(id: CapabilityId): Promise<Offered> {
    const base = { id, path: capabilities[id].path, models: modelsFor(id, listings) };
    const none = { ...base, offered: false, model: null, runtime: null };
    try {
      const routes = known && (await within(left(), catalog.resolve(id, undefined)));
      const route = routes?.[0];
      if (!route) return { ...none, why: 'Runtimes have not answered yet.', remedy: 'Ask again in a moment.' };
      const [model, runtime] = [route.model.id, route.runtime.name];
      // Who could do it is known, but cannot be reached.
      const status = down.get(runtime);
      if (status) {
        const why = status.error ?? `${runtime} cannot be reached.`;
        return { ...base, offered: false, model, runtime, why, remedy: status.hint ?? null };
      }
      return { ...base, offered: true, model, runtime, why: null, remedy: null };
    } catch (thrown) {
      const { message, hint } = toGatewayError(thrown);
      return { ...none, why: message, remedy: hint ?? null };
    }
  }

  return Promise.all(capabilityIds.filter((id) => !capabilities[id].own).map(tell));
}

function modelsFor(id: CapabilityId, listings: readonly Listing[]): string[] {
  return listings.filter((listing) => listing.capabilities.includes(id)).map((listing) => listing.id);
}
