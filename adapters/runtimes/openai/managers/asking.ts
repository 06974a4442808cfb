// How programs are asked to do something, and how it is waited for until it shows.
import { GatewayError } from '../../../../src/error.ts';
import type { SendOptions, Upstream } from '../../../../src/upstream.ts';
import { pause } from '../films.ts';

export interface Said {
  status: number;
  text: string;
}

/** Whatever is answered, however long it takes within the limit for a first byte. */
export async function act(upstream: Upstream, path: string, options: SendOptions): Promise<Said> {
  const reply = await upstream.send(path, options);
  return { status: reply.status, text: await reply.text() };
}

export const worked = ({ status }: Said): boolean => status >= 200 && status < 300;

export interface Waiting {
  signal: AbortSignal;
  /** Milliseconds between two looks, and until it is given up. */
  everyMs: number;
  ms: number;
  late(): GatewayError;
}

/** Looks until there is something. Throws client_closed at once, and what `look` throws. */
export async function waitFor<T>(
  look: (signal: AbortSignal) => Promise<T | undefined>,
  { signal, everyMs, ms, late }: Waiting,
): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const seen = await look(signal);
    if (seen !== undefined) return seen;
    if (Date.now() >= end) throw late();
    await pause(everyMs, signal);
  }
}

/** An id as the end of a path: its slashes stay, and it leads nowhere else. Throws invalid_request. */
export function toTail(id: string, source: string): string {
  const parts = id.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new GatewayError('invalid_request', 'This is not the name of a model.', { source, param: 'model' });
  }
  return parts.map(encodeURIComponent).join('/');
}

/** Something is done for somebody who has left: it gets half a second of their time, and goes on without them. */
export async function inParting(work: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
  const done = work(AbortSignal.timeout(PARTING_LIMIT_MS)).catch(() => {});
  await Promise.race([done, pause(PARTING_MS, new AbortController().signal)]);
}

const PARTING_MS = 500;
const PARTING_LIMIT_MS = 5000;

export function unknownModel(id: string, source: string): GatewayError {
  return new GatewayError('model_not_found', `${source} has no model ${id}.`, { source, param: 'model' });
}

export function tooSlow(id: string, source: string, ms: number): GatewayError {
  return new GatewayError('upstream_timeout', `${source} did not load ${id} within ${Math.round(ms / 1000)} s.`, {
    source,
    retry: false,
    hint: `Look at the log of ${source}.`,
  });
}

export function stillThere(id: string, source: string): GatewayError {
  return new GatewayError('insufficient_vram', `${source} was told to unload ${id} and still holds it.`, {
    source,
    retryAfter: 10,
    hint: `Look at the log of ${source}; it may still be answering somebody.`,
  });
}

/** A finite count that is not below zero, or nothing. */
export function toCount(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? Math.floor(value) : undefined;
}
