// The models that llama-server's router lists, with what each is doing.
import type { Upstream } from '../../../../src/upstream.ts';
import { notOpenAI } from '../failure.ts';
import type { RouterProgress } from './llama-router-events.ts';

export interface RouterEntry {
  id: string;
  status: {
    value?: string;
    args?: unknown;
    failed?: boolean;
    exit_code?: number;
    progress?: RouterProgress | null;
  };
  /** false for what it did not download itself. */
  can_remove?: unknown;
  /** Only of what is loaded. */
  meta?: { size?: unknown; n_ctx?: unknown } | null;
}

/** Throws upstream_invalid where something else answers there now. */
export async function listEntries(upstream: Upstream, signal: AbortSignal): Promise<RouterEntry[]> {
  const { data } = await upstream.control<{ data?: unknown }>('/models', { signal });
  if (!Array.isArray(data)) throw notOpenAI(upstream.name);
  return data.filter(isEntry);
}

export function isEntry(value: unknown): value is RouterEntry {
  const { id, status } = (value ?? {}) as { id?: unknown; status?: { value?: unknown } | null };
  return typeof id === 'string' && typeof status === 'object' && status !== null && typeof status.value === 'string';
}
