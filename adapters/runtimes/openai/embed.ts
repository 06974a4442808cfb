// text.embed over POST /embeddings: unit vectors in the order of the texts, whatever the server makes of either.
import { Buffer } from 'node:buffer';
import type { Chunk, Input, Result } from '../../../src/capabilities/index.ts';
import type { RunEvent } from '../../../src/event.ts';
import type { Call } from '../../../src/runtime.ts';
import type { Upstream } from '../../../src/upstream.ts';
import { notOpenAI, toObject, toRefusal } from './failure.ts';
import type { WireEmbeddings } from './wire.ts';

type EmbedEvent = RunEvent<Chunk<'text.embed'>, Result<'text.embed'>>;

export function createEmbed(upstream: Upstream) {
  return async function* embed(input: Input<'text.embed'>, call: Call): AsyncGenerator<EmbedEvent> {
    const texts = typeof input.input === 'string' ? [input.input] : input.input;
    const json = { model: call.model.id, input: texts, encoding_format: 'float', dimensions: input.dimensions };
    const reply = await upstream.send('/embeddings', { json, signal: call.signal });
    if (reply.status !== 200) throw await toRefusal(upstream, reply);
    const { data, usage } = toObject<WireEmbeddings>(await reply.text(), upstream);
    const embeddings = toVectors(data, texts.length);
    if (!embeddings) throw notOpenAI(upstream.name);
    const dimensions = embeddings[0]?.length ?? 0;
    if (input.dimensions !== undefined && input.dimensions !== dimensions) {
      yield warning(`Vectors of ${call.model.id} have ${dimensions} dimensions, not ${input.dimensions}.`);
    }
    if (typeof usage?.prompt_tokens !== 'number') {
      yield warning(`${upstream.name} does not count tokens; usage is an estimate.`);
    }
    const chars = texts.reduce((sum, text) => sum + text.length, 0);
    const tokens = Math.trunc(usage?.prompt_tokens ?? Math.ceil(chars / 4));
    yield {
      type: 'result',
      result: { embeddings, dimensions, usage: { prompt_tokens: tokens, total_tokens: tokens } },
    };
  };
}

/** undefined where they are not one vector per text, all of one length. */
function toVectors(data: WireEmbeddings['data'], count: number): number[][] | undefined {
  if (!Array.isArray(data) || data.length !== count) return undefined;
  const vectors: number[][] = [];
  for (const [at, { index = at, embedding }] of data.entries()) {
    const vector = toNumbers(embedding);
    if (!vector || vector.length === 0 || index < 0 || index >= count || vectors[index]) return undefined;
    vectors[index] = toUnit(vector);
  }
  return vectors.every((vector) => vector.length === vectors[0]!.length) ? vectors : undefined;
}

function toNumbers(embedding: unknown): number[] | undefined {
  if (typeof embedding === 'string') {
    const bytes = Buffer.from(embedding, 'base64');
    embedding = Array.from({ length: bytes.length >> 2 }, (_, at) => bytes.readFloatLE(at * 4));
  }
  return Array.isArray(embedding) && embedding.every((value) => Number.isFinite(value)) ? embedding : undefined;
}

/** A vector of zeros has no direction and stays as it is. */
function toUnit(vector: number[]): number[] {
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  return length === 0 ? vector : vector.map((value) => value / length);
}

function warning(text: string): EmbedEvent {
  return { type: 'warning', warning: text };
}
