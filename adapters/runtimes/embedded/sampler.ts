// Chooses the next token: penalties, truncation, temperature and a seeded random number, the same on every host.
import type { Sampling } from './wire.ts';

export interface Scored {
  id: number;
  /** Natural logarithm, from the model's own distribution: before penalties, truncation and temperature. */
  logprob: number;
}

export interface Choice extends Scored {
  top: Scored[];
}

/** The repeat penalty looks back this many tokens, as llama.cpp and Ollama do. */
const REPEAT_WINDOW = 64;
/** exp(-16) of the likeliest token's weight: below it a token hardly ever belongs to a nucleus. */
const NUCLEUS_FLOOR = 16;

/** `logits` are changed in place. `logprobs` undefined skips the scores, which cost a pass over the vocabulary. */
export function createSampler(sampling: Sampling, promptLength: number) {
  const random = seededRandom(sampling.seed);
  return function choose(logits: Float32Array, ids: readonly bigint[], logprobs: number | undefined): Choice {
    // Scores are read first, because penalties overwrite the logits.
    const scores = logprobs === undefined ? undefined : { total: logSumExp(logits), raw: logits.slice() };
    penalize(logits, ids, promptLength, sampling);
    const id = sampling.temperature === 0 ? argmax(logits) : draw(logits, sampling, random);
    if (!scores) return { id, logprob: 0, top: [] };
    const score = (each: number): Scored => ({ id: each, logprob: scores.raw[each]! - scores.total });
    return { ...score(id), top: likeliest(scores.raw, logprobs ?? 0).map(score) };
  };
}

/** The score of a token that is already known, and its likeliest rivals. */
export function scoreToken(logits: Float32Array, id: number, alternatives: number): Choice {
  const total = logSumExp(logits);
  const score = (each: number): Scored => ({ id: each, logprob: logits[each]! - total });
  return { ...score(id), top: likeliest(logits, alternatives).map(score) };
}

/** Uniform numbers in [0, 1): sfc32, seeded with both halves of an integer below 2^53. */
export function seededRandom(seed: number): () => number {
  let a = seed | 0;
  let b = Math.floor(seed / 2 ** 32) | 0;
  let c = 0x9e3779b9 | 0;
  let counter = 1;
  const next = () => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    c |= 0;
    return (sum >>> 0) / 2 ** 32;
  };
  // Neighbouring seeds start alike; a few rounds pull them apart.
  for (let round = 0; round < 16; round++) next();
  return next;
}

function penalize(logits: Float32Array, ids: readonly bigint[], promptLength: number, sampling: Sampling): void {
  const { repeatPenalty, presencePenalty, frequencyPenalty } = sampling;
  if (repeatPenalty !== 1) {
    for (const id of new Set(ids.slice(-REPEAT_WINDOW).map(Number))) {
      const logit = logits[id]!;
      logits[id] = logit > 0 ? logit / repeatPenalty : logit * repeatPenalty;
    }
  }
  if (presencePenalty === 0 && frequencyPenalty === 0) return;
  const counts = new Map<number, number>();
  for (const id of ids.slice(promptLength)) counts.set(Number(id), (counts.get(Number(id)) ?? 0) + 1);
  for (const [id, count] of counts) logits[id] = logits[id]! - presencePenalty - count * frequencyPenalty;
}

/** top_k, top_p, min_p, then temperature over what is left. */
function draw(logits: Float32Array, sampling: Sampling, random: () => number): number {
  const max = logits[argmax(logits)]!;
  let kept = truncate(logits, max, sampling);
  if (sampling.minP > 0) {
    const floor = max + Math.log(sampling.minP);
    kept = kept.filter((id) => logits[id]! >= floor);
  }
  const weights = kept.map((id) => Math.exp((logits[id]! - max) / sampling.temperature));
  let left = random() * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [index, weight] of weights.entries()) {
    left -= weight;
    if (left < 0) return kept[index]!;
  }
  return kept[0]!;
}

/** Token ids after top_k and top_p, likeliest first where either applies. */
function truncate(logits: Float32Array, max: number, { topK, topP }: Sampling): number[] {
  const limited = topK > 0 && topK < logits.length;
  if (topP >= 1) return limited ? likeliest(logits, topK) : idsFrom(logits, -Infinity);
  const weight = (id: number) => Math.exp(logits[id]! - max);
  // Sorting a whole vocabulary costs more than a token of a small model; a nucleus is nearly always among the likeliest.
  let sorted = limited ? likeliest(logits, topK) : idsFrom(logits, max - NUCLEUS_FLOOR);
  const near = sorted.reduce((sum, id) => sum + weight(id), 0);
  let total = near;
  if (!limited) {
    total = 0;
    for (let id = 0; id < logits.length; id++) total += weight(id);
    if (near < topP * total) sorted = idsFrom(logits, -Infinity);
    sorted.sort((x, y) => logits[y]! - logits[x]! || x - y);
  }
  let mass = 0;
  const end = sorted.findIndex((id) => (mass += weight(id)) >= topP * total);
  return end === -1 ? sorted : sorted.slice(0, end + 1);
}

function idsFrom(logits: Float32Array, floor: number): number[] {
  const ids: number[] = [];
  for (let id = 0; id < logits.length; id++) if (logits[id]! >= floor) ids.push(id);
  return ids;
}

/** The ids of the `count` largest values, largest first; of equals the lower id comes first. */
function likeliest(values: Float32Array, count: number): number[] {
  if (count === 0) return [];
  if (count > 256) {
    return idsFrom(values, -Infinity)
      .toSorted((x, y) => values[y]! - values[x]! || x - y)
      .slice(0, count);
  }
  const best: number[] = [];
  for (let id = 0; id < values.length; id++) {
    const value = values[id]!;
    if (best.length === count && value <= values[best[count - 1]!]!) continue;
    let at = best.length;
    while (at > 0 && values[best[at - 1]!]! < value) at--;
    best.splice(at, 0, id);
    if (best.length > count) best.pop();
  }
  return best;
}

function argmax(values: Float32Array): number {
  let best = 0;
  for (let id = 1; id < values.length; id++) if (values[id]! > values[best]!) best = id;
  return best;
}

function logSumExp(values: Float32Array): number {
  const max = values[argmax(values)]!;
  let sum = 0;
  for (let id = 0; id < values.length; id++) sum += Math.exp(values[id]! - max);
  return max + Math.log(sum);
}
