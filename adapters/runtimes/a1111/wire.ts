// The shapes of AUTOMATIC1111's API, as loosely as its relatives (Forge, SD.Next, sd-server) send them.
import { GatewayError } from '../../../src/error.ts';
import type { Upstream } from '../../../src/upstream.ts';

export interface Checkpoint {
  /** Names it in requests: `sd_xl_base_1.0.safetensors [31e35c80fc]`. */
  title: string;
  model_name?: string;
}

/** Samplers, schedulers, LoRAs and upscalers: each a name, most with others beside it. */
export interface Named {
  name: string;
  label?: string | null;
  alias?: string | null;
  aliases?: string[] | null;
}

export interface Progress {
  /** 0 to 1; 0 also where nothing is done. */
  progress?: number;
  state?: { job_count?: number; sampling_step?: number; sampling_steps?: number; interrupted?: boolean };
  /** base64. */
  current_image?: string | null;
  /** Whose turn it is; older versions do not say. */
  current_task?: string | null;
}

export interface MadeReply {
  images?: string[] | null;
  /** JSON. */
  info?: string | null;
}

export interface UpscaleReply {
  image?: string | null;
}

export interface MemoryReply {
  /** Bytes; `error` where there is no such card. */
  cuda?: {
    allocated?: { current?: number };
    reserved?: { current?: number; peak?: number };
    error?: string;
  };
}

/** The reply of a route that not every relative has; undefined where this one has not. */
export async function ifThere<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    // A page of somebody else's is no answer either.
    if (error instanceof GatewayError && (error.code === 'model_not_found' || error.code === 'upstream_invalid'))
      return undefined;
    throw error;
  }
}

/** What its Python exceptions, its FastAPI refusals and its own words of them mean here. */
export function toFailure(upstream: Upstream, status: number, body: string): GatewayError {
  const { name } = upstream;
  let told: { error?: unknown; errors?: unknown; detail?: unknown } = {};
  try {
    told = (JSON.parse(body) ?? {}) as typeof told;
  } catch {
    // Then it is text, or a page.
  }
  const all = [told.error, told.errors, typeof told.detail === 'string' ? told.detail : ''].filter(isText).join(': ');
  if (/out ?of ?memory|not enough memory|_ALLOC_FAILED/i.test(all || body)) {
    return new GatewayError('insufficient_vram', `${name} ran out of memory.`, {
      source: name,
      retryAfter: 10,
      retry: false,
      hint: 'Ask for a smaller picture or fewer at once, or start it with --medvram.',
    });
  }
  const unknown = /^(sampler|scheduler|upscaler)\b.* not found/i.exec(
    typeof told.detail === 'string' ? told.detail : '',
  );
  if (unknown) {
    const param = unknown[1]!.toLowerCase();
    return new GatewayError('invalid_request', `${param}: ${name} does not know it.`, { source: name, param });
  }
  return upstream.failure(status, status >= 500 && all ? JSON.stringify({ error: all }) : body);
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

export function notA1111(source: string, cause?: unknown): GatewayError {
  return new GatewayError('upstream_invalid', `${source} does not answer like AUTOMATIC1111.`, {
    source,
    retry: false,
    hint: 'Start it with --api, and check its address in the configuration.',
    cause,
  });
}

export function cancelled(): GatewayError {
  return new GatewayError('client_closed', 'The request was cancelled.');
}
