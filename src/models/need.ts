// What a call needs of the card: bytes for what it asks, from measurements where there are some.
import type { Want } from '../arbiter/policy.ts';
import type { Route } from '../catalog.ts';
import type { CapabilityId } from '../capabilities/index.ts';
import { extentOf, workOf } from './extent.ts';
import { countsTokens, estimateVram, growTo } from './fit.ts';
import type { Footprints } from './footprints.ts';

export type Need = Pick<Want, 'footprint' | 'extent'> & { work: string };

export interface NeedOptions {
  footprints: Pick<Footprints, 'of'>;
  /** Tokens that texts are loaded for where nobody says. */
  usualContext: () => number;
  /** Bytes of VRAM that models may use now; undefined where nobody knows. */
  budget: () => number | undefined;
}

/** For a runtime on the card. A larger extent never needs less. */
export function toNeed(
  capability: CapabilityId,
  { runtime, model }: Pick<Route, 'runtime' | 'model'>,
  input: unknown,
  { footprints, usualContext, budget }: NeedOptions,
): Need {
  const extent = extentOf(capability, input, model);
  const work = workOf(capability, input, model);
  const tenant = runtime.gpu!;
  const told = tenant.footprint(model);
  const measured = footprints.of(runtime.name, model.id, extent);
  const need = { work, ...(extent === undefined ? {} : { extent }) };
  // It runs elsewhere, or on the processor.
  if (told === 0 && (!measured || tenant.device?.() === 'processor')) return { footprint: 0, ...need };
  const ofTokens = countsTokens(model);
  const facts = ofTokens ? model : { ...model, ...(told > 0 ? { vram: told } : {}) };
  const usual = ofTokens ? usualContext() : extentOf(capability, {}, model);
  const found = estimateVram(facts, measured, extent, usualContext());
  let bytes = found?.bytes ?? told;
  if (ofTokens && !measured && extent === undefined) bytes = Math.max(bytes, told);
  // What is told, or was measured of nobody knows what, is for what is usually made.
  if (!ofTokens && measured?.extent === undefined && usual !== undefined && extent !== undefined) {
    bytes = growTo(bytes, usual, extent);
  }
  if (found?.basis === 'measured' && measured?.extent !== undefined) return { footprint: bytes, ...need };
  // Growth that nobody measured may make it have the card for itself, but never be refused.
  const base = Math.max(measured?.bytes ?? 0, estimateVram(facts, undefined, undefined, usualContext())?.bytes ?? told);
  return { footprint: Math.round(Math.min(bytes, Math.max(base, budget() ?? Infinity))), ...need };
}
