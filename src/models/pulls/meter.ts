// How far a pull is: never backwards, however often it begins again, with its speed over the last seconds.
import type { ProgressEvent } from '../../event.ts';

export interface PullMeter {
  /** Takes what a puller says; what makes no sense is passed over. */
  take(event: ProgressEvent): void;
  /** Another try begins: what it says first is where it stands, not what came in that moment. */
  begin(): void;
  readonly done: number;
  /** Bytes in all; undefined while nobody knows. */
  readonly total: number | undefined;
  /** 0 to 100, with one decimal. */
  readonly percent: number | undefined;
  /** Bytes per second; undefined while nothing moves. */
  readonly rate: number | undefined;
  /** Seconds. */
  readonly eta: number | undefined;
  readonly label: string | undefined;
  /** Something was missing, and came or is to come. */
  readonly fetched: boolean;
}

/** Over how long the speed is smoothed, in milliseconds. */
const SMOOTH_MS = 5000;
/** Events that come closer than this are measured together. */
const SAMPLE_MS = 100;
/** What was said longer ago tells nothing of now. */
const STALE_MS = 10_000;
const MAX_LABEL = 200;

export function createPullMeter(
  start: { done?: number; total?: number | undefined } = {},
  clock: () => number = () => performance.now(),
): PullMeter {
  let done = toBytes(start.done) ?? 0;
  let total = toBytes(start.total) || undefined;
  let percent: number | undefined = toPercent(done, total);
  let label: string | undefined;
  let fetched = false;
  /** Speed and time left, as they were told. */
  let told: { rate: number | undefined; eta: number | undefined; at: number } | undefined;
  let sample: { at: number; done: number } | undefined;
  let rate: number | undefined;

  function measure(now: number, at: number): void {
    if (!sample || at < sample.done) {
      sample = { at: now, done: at };
      return;
    }
    const ms = now - sample.at;
    if (ms < SAMPLE_MS) return;
    const speed = ((at - sample.done) / ms) * 1000;
    rate = rate === undefined ? speed : rate + (1 - Math.exp(-ms / SMOOTH_MS)) * (speed - rate);
    sample = { at: now, done: at };
  }

  const fresh = (at: number | undefined) => at !== undefined && clock() - at < STALE_MS;
  const speed = () => {
    if (told?.rate !== undefined && fresh(told.at)) return told.rate;
    return fresh(sample?.at) ? rate : undefined;
  };

  return {
    begin() {
      sample = undefined;
      rate = undefined;
      told = undefined;
    },
    take(event) {
      const at = toBytes(event.done);
      if (at === undefined || (event.unit !== undefined && event.unit !== 'bytes')) return;
      const now = clock();
      const all = toBytes(event.total) || undefined;
      fetched ||= all === undefined ? at > 0 : at < all;
      measure(now, at);
      done = Math.max(done, at);
      if (all !== undefined) total = Math.max(all, done);
      percent = Math.max(percent ?? 0, toPercent(done, total) ?? 0);
      if (total === undefined) percent = undefined;
      label = typeof event.label === 'string' ? event.label.slice(0, MAX_LABEL) : label;
      told = { rate: toPositive(event.rate), eta: toPositive(event.eta), at: now };
    },
    get done() {
      return done;
    },
    get total() {
      return total;
    },
    get percent() {
      return percent;
    },
    get rate() {
      return speed();
    },
    get eta() {
      if (told?.eta !== undefined && fresh(told.at)) return Math.max(0, told.eta - (clock() - told.at) / 1000);
      const now = speed();
      return now && total !== undefined ? (total - done) / now : undefined;
    },
    get label() {
      return label;
    },
    get fetched() {
      return fetched;
    },
  };
}

function toPercent(done: number, total: number | undefined): number | undefined {
  return total === undefined ? undefined : Math.floor(Math.min(1, done / total) * 1000) / 10;
}

function toBytes(value: unknown): number | undefined {
  if (typeof value !== 'number' || !(value >= 0) || value > Number.MAX_SAFE_INTEGER) return undefined;
  return Math.floor(value);
}

function toPositive(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined;
}
