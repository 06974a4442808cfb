// How often each model was asked for lately: what tells whether it will be wanted again soon.

export interface Demands {
  /** Somebody asks for the model. */
  arrive(key: string, now: number): void;
  /** Requests, each counting less the longer it is ago. */
  of(key: string, now: number): number;
}

/** After this long a request counts a third, in milliseconds. */
const FADE_MS = 120_000;
/** Models that are remembered; the one not asked for longest is forgotten first. */
const MAX_MODELS = 1000;

export function createDemands(): Demands {
  const models = new Map<string, { weight: number; at: number }>();
  const weightOf = (entry: { weight: number; at: number }, now: number) =>
    entry.weight * Math.exp((entry.at - now) / FADE_MS);
  return {
    arrive(key, now) {
      const before = models.get(key);
      models.delete(key);
      models.set(key, { weight: (before ? weightOf(before, now) : 0) + 1, at: now });
      if (models.size > MAX_MODELS) models.delete(models.keys().next().value!);
    },
    of(key, now) {
      const entry = models.get(key);
      return entry ? weightOf(entry, now) : 0;
    },
  };
}
