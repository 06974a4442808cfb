// Pictures out of answers: as many as were asked for, in as many requests as that takes, each looked at before it is believed.
import { Buffer } from 'node:buffer';
import type { Result } from '../../../src/capabilities/index.ts';
import { GatewayError, toGatewayError } from '../../../src/error.ts';
import type { MadeFile, RunEvent } from '../../../src/event.ts';
import type { MediaTools } from '../../../src/media.ts';
import type { Call } from '../../../src/runtime.ts';
import type { Reply, Upstream } from '../../../src/upstream.ts';
import type { Ask, Leeway, Request } from './ask.ts';
import { notOpenAI, toObject } from './failure.ts';
import type { Fetch } from './fetch.ts';
import type { WireCost, WirePicture, WirePictures } from './wire.ts';

export type PictureEvent = RunEvent<never, Result<'image.generate'>>;

export interface Maker {
  upstream: Upstream;
  ask: Ask;
  fetch: Fetch;
  tools: MediaTools;
  /** Milliseconds before the first look at a film. */
  pauseMs: number;
}

export interface Order {
  n: number;
  /** The most that one request may ask for. */
  most: number;
  /** The request for `count` pictures when there are `made` already. */
  toRequest(count: number, made: number): Request;
  leeway: Leeway;
  seed?: number | undefined;
}

/** Pictures in parts, whichever way a part is made. */
export interface Batch {
  /** The runtime's name. */
  source: string;
  n: number;
  /** The most that one part may have. */
  most: number;
  seed?: number | undefined;
  /** Makes `count` pictures when there are `made` already. */
  draw(count: number, made: number): AsyncGenerator<PictureEvent, Made>;
}

const TICKS_PER_USD = 1e10;

/** One request after the other until there are as many as were asked for. */
export async function* makePictures(maker: Maker, order: Order, call: Call): AsyncGenerator<PictureEvent> {
  const { name: source } = maker.upstream;
  const { n, most, seed, leeway } = order;
  async function* draw(count: number, made: number): AsyncGenerator<PictureEvent, Made> {
    const request = order.toRequest(count, made);
    try {
      return await readPictures(maker, await maker.ask(request, leeway, call.signal), call.signal);
    } catch (thrown) {
      throw withoutRoute(thrown, request.path, source);
    } finally {
      for (const warning of request.warnings) yield { type: 'warning', warning };
    }
  }
  yield* collectPictures({ source, n, most, seed, draw }, call.signal);
}

/** Who pays for pictures and gets some of them is given those, and told about the rest. */
export async function* collectPictures(batch: Batch, signal: AbortSignal): AsyncGenerator<PictureEvent> {
  const { source, n, most, seed } = batch;
  const files: MadeFile[] = [];
  const result: Result<'image.generate'> = seed === undefined ? {} : { seed };
  while (files.length < n) {
    const warnings: string[] = [];
    try {
      const made = yield* batch.draw(Math.min(n - files.length, most), files.length);
      files.push(...made.files.slice(0, n - files.length));
      if (made.withheld > 0) warnings.push(`${source} withheld ${count(made.withheld)}.`);
      if (made.cost !== undefined) result.cost_usd = (result.cost_usd ?? 0) + made.cost;
      result.revised_prompt ??= made.revised;
      if (made.withheld > 0) break;
    } catch (thrown) {
      if (files.length === 0 || signal.aborted) throw thrown;
      warnings.push(`Only ${files.length} of ${n} pictures were made: ${toGatewayError(thrown).message}`);
      break;
    } finally {
      for (const warning of warnings) yield { type: 'warning', warning };
    }
    if (n > 1) yield { type: 'progress', done: files.length, total: n, unit: 'pictures' };
  }
  if (result.revised_prompt === undefined) delete result.revised_prompt;
  yield { type: 'result', result, files };
}

export interface Made {
  files: MadeFile[];
  revised?: string;
  cost?: number;
  /** How many the server made and kept to itself. */
  withheld: number;
}

async function readPictures(maker: Maker, reply: Reply, signal: AbortSignal): Promise<Made> {
  const { data, usage } = toObject<WirePictures>(await reply.text(), maker.upstream);
  const made = await takePictures(maker, data, signal);
  const cost = toCost(usage);
  return cost === undefined ? made : { ...made, cost };
}

/** Throws where there is no picture among them, or something else. */
export async function takePictures(
  { upstream: { name }, fetch, tools }: Maker,
  data: WirePicture[] | null | undefined,
  signal: AbortSignal,
): Promise<Made> {
  if (!Array.isArray(data) || data.some((picture) => typeof picture !== 'object' || !picture)) throw notOpenAI(name);
  const given = data.filter((picture) => picture.respect_moderation !== false);
  if (given.length === 0 && data.length > 0) throw withheld(name, 'picture');
  const files: MadeFile[] = [];
  for (const picture of given) {
    const bytes = await toBytes(picture, fetch, name, signal);
    if (!(await isPicture(bytes, tools))) throw invalid(name, 'what is no picture');
    files.push({ bytes });
  }
  if (files.length === 0) throw invalid(name, 'no picture');
  const revised = given.find((picture) => picture.revised_prompt)?.revised_prompt;
  return { files, withheld: data.length - given.length, ...(revised ? { revised } : {}) };
}

async function toBytes({ b64_json, url }: WirePicture, fetch: Fetch, source: string, signal: AbortSignal) {
  const inline = b64_json || (url && /^data:/i.test(url) ? url : undefined);
  if (inline) return new Uint8Array(Buffer.from(inline.slice(inline.indexOf(',') + 1), 'base64'));
  if (url) return fetch(url, signal);
  throw invalid(source, 'a picture without bytes');
}

async function isPicture(bytes: Uint8Array, tools: MediaTools): Promise<boolean> {
  const file = {
    size: bytes.byteLength,
    read: (start: number, end: number) => Promise.resolve(bytes.subarray(start, end)),
  };
  return (await tools.measure(file, 'image/png'))?.width !== undefined;
}

/** In US dollars. */
export function toCost(usage: WireCost | null | undefined): number | undefined {
  const ticks = usage?.cost_in_usd_ticks;
  return typeof ticks === 'number' && ticks >= 0 ? ticks / TICKS_PER_USD : undefined;
}

/** Many servers list models for pictures and have no route to ask them by. */
export function withoutRoute(thrown: unknown, path: string, source: string): unknown {
  if (!(thrown instanceof GatewayError) || thrown.code !== 'model_not_found' || /model/i.test(thrown.message))
    return thrown;
  return new GatewayError('not_supported', `${source} has no ${path}.`, {
    source,
    hint: 'Choose a model of another runtime, or start this one with what makes pictures and films.',
    cause: thrown,
  });
}

export function withheld(source: string, what: 'picture' | 'film'): GatewayError {
  return new GatewayError('invalid_request', `The moderation of ${source} withheld the ${what}.`, {
    source,
    param: 'prompt',
    hint: 'Change the prompt; the same one is withheld again, and paid for again.',
    retry: false,
  });
}

export function invalid(source: string, what: string): GatewayError {
  return new GatewayError('upstream_invalid', `${source} sent ${what}.`, { source, retry: false });
}

function count(pictures: number): string {
  return pictures === 1 ? 'a picture: its moderation refused it' : `${pictures} pictures: its moderation refused them`;
}
