// Every way in which these servers say no, or say nothing that can be understood → one GatewayError.
import { GatewayError } from '../../../src/error.ts';
import { errorText } from '../../../src/upstream.ts';
import type { Reply, Upstream } from '../../../src/upstream.ts';

/** What a 403 says that is not about the key. */
const POLICY = /moderation|content policy|usage (policy|guidelines)|safety|violat/i;

/** The failure of an answer that is not 2xx; reads its body. */
export async function toRefusal(upstream: Upstream, reply: Reply): Promise<GatewayError> {
  const body = await reply.text();
  const { code, message, hint, source, retry, retryAfter } = upstream.failure(reply.status, body);
  // LM Studio and xAI answer 400 where others answer 404.
  const unknown = code === 'invalid_request' && /\bmodel\b.*\b(not found|does not exist|not exist)/i.test(message);
  if (reply.status === 403 && POLICY.test(errorText(body))) return toPolicy(errorText(body), source);
  const seconds = toSeconds(reply.header('retry-after')) ?? retryAfter;
  return new GatewayError(unknown ? 'model_not_found' : code, message, {
    source,
    ...(hint === undefined ? {} : { hint }),
    ...(retry === undefined ? {} : { retry }),
    ...(seconds === undefined ? {} : { retryAfter: seconds }),
  });
}

function toPolicy(message: string, source: string): GatewayError {
  const hint = 'Change the prompt or the pictures.';
  return new GatewayError('invalid_request', message.slice(0, 1000), { source, param: 'prompt', hint, retry: false });
}

/** JSON of an answer with status 200, or of an event. Throws for a failure in any of its shapes and for what is no object. */
export function toObject<T extends object>(text: string, upstream: Upstream): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw notOpenAI(upstream.name, cause);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw notOpenAI(upstream.name);
  if (isFailure(value as Record<string, unknown>)) throw toLateFailure(text, upstream);
  return value as T;
}

/** A failure that came under status 200; only where the body itself names a status is more known than that it failed. */
export function toLateFailure(text: string, upstream: Upstream): GatewayError {
  const status = toStatus(text);
  const failure = upstream.failure(status !== undefined && status < 500 ? status : 500, text);
  if (failure.code !== 'upstream_error') return failure;
  return new GatewayError('upstream_error', errorText(text).slice(0, 1000) || `${upstream.name} failed.`, {
    source: upstream.name,
    retry: false,
  });
}

export function notOpenAI(source: string, cause?: unknown): GatewayError {
  return new GatewayError('upstream_invalid', `${source} did not answer as an OpenAI-compatible server does.`, {
    source,
    hint: 'Check that its address ends in /v1 and that the right program listens there.',
    retry: false,
    cause,
  });
}

export function truncated(source: string): GatewayError {
  return new GatewayError('upstream_truncated', `${source} ended its answer before it was complete.`, {
    source,
    hint: `Look at the log of ${source}: a server that runs out of memory ends its answers like this.`,
    retry: false,
  });
}

export function cancelled(): GatewayError {
  return new GatewayError('client_closed', 'The request was cancelled.');
}

function isFailure(value: Record<string, unknown>): boolean {
  if (value['error']) return true;
  if (value['choices'] !== undefined || value['data'] !== undefined) return false;
  return value['object'] === 'error' || value['detail'] !== undefined;
}

/** `error.code` is a status on llama.cpp and vLLM, a word or nothing elsewhere. */
function toStatus(text: string): number | undefined {
  try {
    const value = JSON.parse(text) as { error?: { code?: unknown }; code?: unknown };
    const code = value.error?.code ?? value.code;
    return typeof code === 'number' && code >= 400 && code < 600 ? code : undefined;
  } catch {
    return undefined;
  }
}

function toSeconds(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : undefined;
}
