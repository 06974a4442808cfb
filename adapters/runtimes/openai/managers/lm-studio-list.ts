// The models that LM Studio lists, and what its refusals mean.
import { GatewayError } from '../../../../src/error.ts';
import type { Upstream } from '../../../../src/upstream.ts';
import { notOpenAI } from '../failure.ts';

export interface StudioModel {
  key: string;
  type?: unknown;
  size_bytes?: unknown;
  params_string?: unknown;
  quantization?: { name?: unknown } | null;
  max_context_length?: unknown;
  loaded_instances?: ({ id?: unknown; config?: { context_length?: unknown } | null } | null)[] | null;
  capabilities?: { vision?: unknown; trained_for_tool_use?: unknown; reasoning?: unknown } | null;
}

export const LIST = '/api/v1/models';

/** Throws upstream_invalid where something else answers there now. */
export async function listStudio(upstream: Upstream, signal: AbortSignal): Promise<StudioModel[]> {
  const { models } = await upstream.control<{ models?: unknown }>(LIST, { signal });
  if (!Array.isArray(models)) throw notOpenAI(upstream.name);
  return models.filter(isModel);
}

export function isModel(value: unknown): value is StudioModel {
  const { key } = (value ?? {}) as { key?: unknown };
  return typeof key === 'string' && key !== '';
}

export function toFailure(upstream: Upstream, status: number, text: string): GatewayError {
  const failure = upstream.failure(status, text);
  const { message, source } = failure;
  if (/insufficient|not enough|resource|out of memory/i.test(message)) {
    return new GatewayError('insufficient_vram', `${source} has too little memory for it.`, {
      source,
      retryAfter: 10,
      retry: false,
      hint: 'Unload another model there, choose a smaller one, or relax its guardrails.',
    });
  }
  const unknown = /not found|no such|unknown model|does not exist|could not find/i.test(message);
  return unknown ? new GatewayError('model_not_found', message, { source, param: 'model' }) : failure;
}
