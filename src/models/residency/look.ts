// What sits in a runtime's memory, asked with a limit; whoever learns from that is told on the way.
import type { Arbiter } from '../../arbiter/arbiter.ts';
import { GatewayError } from '../../error.ts';
import { memoryOf, type Model, type Resident, type RuntimeAdapter } from '../../runtime.ts';
import type { Footprints } from '../footprints.ts';
import { untilAborted } from '../../timers.ts';

/** Throws what the runtime throws, and upstream_timeout where it does not answer within the limit. */
export type Look = (runtime: RuntimeAdapter, signal: AbortSignal) => Promise<Resident[]>;

export function createLook(options: {
  arbiter: () => Pick<Arbiter, 'look'>;
  footprints: Pick<Footprints, 'learn'>;
  limitMs: number;
}): Look {
  const { arbiter, footprints, limitMs } = options;
  return async (runtime, signal) => {
    const late = AbortSignal.timeout(limitMs);
    const both = AbortSignal.any([signal, late]);
    try {
      if (runtime.gpu) return await untilAborted(arbiter().look(runtime.name, both), both);
      const residents = await untilAborted(memoryOf(runtime)?.residents(both) ?? Promise.resolve([]), both);
      for (const resident of residents) footprints.learn(runtime.name, resident);
      return residents;
    } catch (error) {
      if (late.aborted && !signal.aborted) throw tooLate(runtime.name, error);
      throw error;
    }
  };
}

/** Runtimes may tell a model by another of its names. */
export function findResident(residents: readonly Resident[], { id, aliases = [] }: Model): Resident | undefined {
  return residents.find(({ model }) => model === id) ?? residents.find(({ model }) => aliases.includes(model));
}

/** Share of a model that is on the card, 0 to 1; undefined where the runtime does not tell what is elsewhere. */
export function toShare({ vram, ram }: Resident): number | undefined {
  if (ram === undefined) return vram > 0 ? undefined : 0;
  return vram + ram > 0 ? vram / (vram + ram) : undefined;
}

/** What is to be said of a model that was meant for the card and is not wholly there; nothing where there is none. */
export function toSpillWarning(
  runtime: RuntimeAdapter,
  resident: Resident,
  hasCard: boolean | undefined,
): string | undefined {
  if (!runtime.gpu) return undefined;
  // A runtime on another machine may have one all the same.
  if (hasCard === false && runtime.gpu.device?.() !== 'card') return undefined;
  const share = toShare(resident);
  if (share === undefined || share > 0.995) return undefined;
  if (share === 0) {
    return `${resident.model} runs on the processor, not on the card. hono-ai doctor tells why.`;
  }
  const percent = Math.max(1, Math.floor(share * 100));
  return `Only ${percent} % of ${resident.model} is on the card; the rest runs on the processor, which is slow. Unload others, or choose a smaller model or context.`;
}

function tooLate(runtime: string, cause: unknown): GatewayError {
  return new GatewayError('upstream_timeout', `${runtime} did not say in time what it has loaded.`, {
    source: runtime,
    cause,
    retryAfter: 5,
  });
}
