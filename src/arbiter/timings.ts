// How long models take to load and to run, learned from those that did: what ETAs and orders are made of.
import type { DocumentStore } from '../store.ts';
import { createLearned } from './learned.ts';
import type { Want } from './policy.ts';

export interface Timings {
  /** Milliseconds that the model is expected to load; a guess by its size where none was seen. */
  loadMs(model: Want): number;
  /**
   * Milliseconds that one run of it takes; `work` tells apart what takes differently long, its first word the capability
   * (`image.generate 1024x1024 s20`). Work that was never seen takes what others of the model do, then others of the runtime.
   */
  runMs(model: Want, work?: string): number;
  /** Milliseconds from the start of a run to its first sign of work, where the model is there; 0 where none was seen. */
  firstMs(model: Want, work?: string): number;
  /** `ms` is without what a run takes to its first sign of work anyway. */
  learnLoad(model: Want, ms: number): void;
  learnRun(model: Want, work: string | undefined, ms: number): void;
  /** Of a model that was there. */
  learnFirst(model: Want, work: string | undefined, ms: number): void;
  /** A wait ended: how long it was expected to be when it began, and how long it was, in milliseconds. */
  learnWait(wait: { expectedMs: number | undefined; ms: number }): void;
  /** How far off the last few hundred waits were from what was told; null where nobody was told anything yet. */
  view(): EtaError | null;
  load(): Promise<void>;
  /** Writes what has changed; nothing where nothing has. */
  save(now: number): Promise<void>;
}

/** Seconds, with one decimal. */
export interface EtaError {
  /** That the figures are of. */
  waits: number;
  /** Above 0: it took longer than was told. */
  mean_s: number;
  /** Mean of the distance, whichever way. */
  mean_abs_s: number;
  /** Nine of ten waits were closer than that. */
  p90_abs_s: number;
}

/** Before anything was seen: from a disk that reads 1.5 GB a second, and a process that starts. */
const BYTES_PER_MS = 1_500_000;
const START_MS = 1000;
/** The same of runs, by what is made. */
const RUN_MS = 8000;
const RUNS_MS: Record<string, number> = { image: 15_000, music: 60_000, video: 180_000 };
const MAX_WAITS = 200;

/** Work that is nothing but loading, and teaches nothing of runs. */
export const LOAD = 'load';

export function createTimings(documents?: DocumentStore): Timings {
  const loads = createLearned(documents, 'timing-load');
  const runs = createLearned(documents, 'timing-run');
  const firsts = createLearned(documents, 'timing-first');
  const all = [loads, runs, firsts];
  /** In milliseconds, the newest last. */
  const errors: number[] = [];

  return {
    loadMs(model) {
      const known = loads.of(toKey(model.runtime, model.model));
      // A runtime whose other loads were slow has a slow disk.
      return known?.mean ?? toLoadGuess(model) * (loads.of(toKey(model.runtime))?.mean ?? 1);
    },
    runMs(model, work) {
      if (work === LOAD) return 0;
      for (const key of toRunKeys(model, work)) {
        const known = runs.of(key);
        if (known) return known.mean;
      }
      return RUNS_MS[toCapability(work).split('.')[0]!] ?? RUN_MS;
    },
    firstMs(model, work) {
      for (const key of toRunKeys(model, work).slice(0, 2)) {
        const known = firsts.of(key);
        if (known) return known.mean;
      }
      return 0;
    },
    learnLoad(model, ms) {
      loads.learn(toKey(model.runtime, model.model), ms);
      loads.learn(toKey(model.runtime), ms / toLoadGuess(model));
    },
    learnRun(model, work, ms) {
      if (work === LOAD) return;
      for (const key of toRunKeys(model, work)) runs.learn(key, ms);
    },
    learnFirst(model, work, ms) {
      for (const key of toRunKeys(model, work).slice(0, 2)) firsts.learn(key, ms);
    },
    learnWait({ expectedMs, ms }) {
      if (expectedMs === undefined || !Number.isFinite(ms - expectedMs)) return;
      errors.push(ms - expectedMs);
      if (errors.length > MAX_WAITS) errors.shift();
    },
    view: () => toView(errors),
    load: async () => void (await Promise.all(all.map((one) => one.load()))),
    save: async () => void (await Promise.all(all.map((one) => one.save()))),
  };
}

/** From what it is exactly to what it is like: this work, this capability of the model, the model, this capability of the runtime. */
function toRunKeys({ runtime, model }: Want, work = ''): string[] {
  const capability = toCapability(work);
  const keys = [toKey(runtime, model, work), toKey(runtime, model, capability), toKey(runtime, model)];
  if (capability !== '') keys.push(toKey(runtime, '', capability));
  return [...new Set(keys)];
}

function toCapability(work = ''): string {
  return work.split(' ', 1)[0]!;
}

function toKey(...parts: string[]): string {
  return JSON.stringify(parts.filter((part, index) => part !== '' || index < 2));
}

function toLoadGuess({ footprint }: Want): number {
  return START_MS + Math.max(0, footprint) / BYTES_PER_MS;
}

function toView(errors: readonly number[]): EtaError | null {
  if (errors.length === 0) return null;
  const away = errors.map(Math.abs).toSorted((a, b) => a - b);
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    waits: errors.length,
    mean_s: toSeconds(mean(errors)),
    mean_abs_s: toSeconds(mean(away)),
    p90_abs_s: toSeconds(away[Math.ceil(away.length * 0.9) - 1]!),
  };
}

/** Not `-0`, which JSON would tell as 0 and tests would not. */
function toSeconds(ms: number): number {
  return Math.round(ms / 100) / 10 + 0;
}
