// Whether a model fits on the card: how much it will take, and how much there is.
import type { Model } from '../runtime.ts';
import type { Footprint } from './footprints.ts';
import type { Fit, Vram } from './views.ts';

export type Facts = Pick<Model, 'size' | 'vram' | 'kvPerToken' | 'contextWindow' | 'parameters' | 'quantization'>;

/** What a runtime of texts computes in, and what its driver takes, in bytes: 512 tokens' worth of a vocabulary of 128k, and then some. */
const COMPUTE_BYTES = 300 * 1024 ** 2;
/** What a model of pictures needs beside its weights while it works: SDXL is 6.9 GB, and 8 to 10 GB at its peak. */
const WORKING_SHARE = 0.25;
/** Of all that such a model takes, what grows with what it makes. */
const GROWING_SHARE = WORKING_SHARE / (1 + WORKING_SHARE);
/** A measurement counts for contexts that are this near to its own. */
const NEAR = 1 / 8;
/** Attention's cache where nobody tells: 140 KiB a token at 5 GB of weights (qwen3:8b 144, llama3.2:3b 112), with the root of the size. */
const USUAL = { kvPerToken: 140 * 1024, size: 5e9 };
/** Bits for each weight of the usual quantizations, scales included. */
const BITS: [name: RegExp, bits: number][] = [
  [/^(f32|fp32)/, 32],
  [/^(f16|fp16|bf16)/, 16],
  [/^(q8|fp8|int8|8bit)/, 8.5],
  [/^q6/, 6.6],
  [/^q5/, 5.7],
  [/^(mxfp4|nvfp4|fp4)/, 4.25],
  [/^(q4|iq4|int4|awq|gptq|nf4|4bit)/, 4.85],
  [/^(q3|iq3)/, 3.9],
  [/^(q2|iq2)/, 3.1],
  [/^iq1/, 1.9],
];

/**
 * Bytes of VRAM that a model takes for `extent`: tokens of context, or pixels of all frames at once. Undefined where nothing is
 * known. The first that there is:
 *
 * 1. what was measured for about that extent, or for extents on both sides of it;
 * 2. what was measured for another, and what the difference takes;
 * 3. what its runtime or workflow says;
 * 4. weights + context · cache per token + compute buffers. Models without a context take a share of their weights to work in
 *    instead.
 *
 * A measurement that is no more than a guess counts where it is the larger one. Without `extent`: what it was measured for, else
 * the `usual` context, which Ollama takes by the size of the card.
 */
export function estimateVram(
  facts: Facts,
  measured?: Footprint,
  extent?: number,
  usual = defaultContext(),
): Vram | undefined {
  const asked = known(extent);
  if (measured?.confidence === 'guess') {
    const guess = { ...fromMeasured(facts, measured, asked), basis: 'estimated' as const };
    const other = estimateVram(facts, undefined, extent, usual);
    return other && other.bytes > guess.bytes ? other : guess;
  }
  if (measured) return fromMeasured(facts, measured, asked);
  const told = known(facts.vram);
  if (told !== undefined) return { bytes: toWhole(told), basis: 'told', context: null };
  const weights = toWeights(facts);
  if (weights === undefined) return undefined;
  if (!countsTokens(facts)) {
    return { bytes: toWhole(weights * (1 + WORKING_SHARE) + COMPUTE_BYTES), basis: 'estimated', context: null };
  }
  const tokens = toTokens(facts, asked ?? usual);
  const bytes = toWhole(weights + tokens * toCache(facts) + COMPUTE_BYTES);
  return { bytes, basis: 'estimated', context: tokens };
}

function fromMeasured(facts: Facts, measured: Footprint, asked: number | undefined): Vram {
  const { bytes, extent } = measured;
  const ofTokens = countsTokens(facts);
  if (extent === undefined || asked === undefined || isAbout(extent, asked)) {
    return { bytes: toWhole(bytes), basis: 'measured', context: ofTokens && extent !== undefined ? extent : null };
  }
  if (!ofTokens) {
    return { bytes: toWhole(growTo(bytes, extent, asked, measured.perUnit)), basis: 'estimated', context: null };
  }
  const tokens = toTokens(facts, asked);
  const perToken = measured.perUnit ?? toCache(facts);
  const least = Math.min(bytes, toWeights(facts) ?? 0);
  const grown = Math.max(bytes + (tokens - extent) * perToken, least);
  return { bytes: toWhole(grown), basis: 'estimated', context: tokens };
}

/** What takes `bytes` for one extent takes so much for a larger one; for a smaller one nobody knows that it takes less. */
export function growTo(bytes: number, from: number, to: number, perUnit = (bytes * GROWING_SHARE) / from): number {
  return bytes + Math.max(0, to - from) * Math.max(0, perUnit);
}

/** Tokens that Ollama loads a model for where nobody says, by the bytes of VRAM of the card; of a small one where there is none. */
export function defaultContext(vram = 0): number {
  if (vram < 23 * 1024 ** 3) return 4096;
  return vram < 47 * 1024 ** 3 ? 32_768 : 262_144;
}

/** What is said of a model that is too big for `budget`, both in bytes. */
export function toTooBig({ bytes }: Vram, budget: number): string {
  return `It needs about ${toGb(bytes)} of the card, and models may use ${toGb(budget)}: it will not run wholly there.`;
}

export function toGb(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

export interface Room {
  /** Bytes of VRAM that models may use; undefined where nobody knows. */
  budget: number | undefined;
  /** Bytes that other models on the card hold, and of those the ones that cannot be sent away. */
  held: number;
  pinned: number;
}

/**
 * `fits` beside what is held; `fits_alone` once all that is not pinned has left; else `too_big`. Undefined where the need or
 * the budget is unknown.
 */
export function judge(vram: Vram | undefined, { budget, held, pinned }: Room): Fit | undefined {
  if (!vram || budget === undefined) return undefined;
  if (held + vram.bytes <= budget) return 'fits';
  return pinned + vram.bytes <= budget ? 'fits_alone' : 'too_big';
}

/** Sizes come from files and servers that may say anything. */
function known(value: number | undefined): number | undefined {
  return value !== undefined && Number.isFinite(value) && value >= 0 ? value : undefined;
}

function toWhole(bytes: number): number {
  return Math.min(Math.max(0, Math.round(bytes)), Number.MAX_SAFE_INTEGER);
}

function isAbout(measured: number, asked: number): boolean {
  return Math.abs(measured - asked) <= asked * NEAR;
}

/** Whether what it takes is counted in tokens. */
export function countsTokens({ contextWindow, kvPerToken }: Facts): boolean {
  return known(contextWindow) !== undefined || known(kvPerToken) !== undefined;
}

function toTokens({ contextWindow }: Facts, asked: number): number {
  return Math.min(asked, known(contextWindow) || Infinity);
}

function toCache(facts: Facts): number {
  return known(facts.kvPerToken) ?? toUsualCache(toWeights(facts) ?? 0);
}

/** On disk as in memory; from their number and how they are stored where nobody says how large the files are. */
function toWeights({ size, parameters, quantization }: Facts): number | undefined {
  if (known(size)) return size;
  const name = quantization?.toLowerCase();
  const bits = name === undefined ? undefined : BITS.find(([pattern]) => pattern.test(name))?.[1];
  return known(parameters) && bits !== undefined ? (parameters! * bits) / 8 : undefined;
}

function toUsualCache(weights: number): number {
  return USUAL.kvPerToken * Math.sqrt(weights / USUAL.size);
}
