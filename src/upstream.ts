// The one outward client: pooled connections, deadlines, abort before and after the first byte, size limits, error mapping.
import { GatewayError, isAbort } from './error.ts';

export interface TransportRequest {
  url: string;
  method: string;
  headers: Record<string, string>;
  body?: string | Uint8Array<ArrayBuffer> | Blob | ReadableStream<Uint8Array>;
  signal: AbortSignal;
}

export interface TransportReply {
  status: number;
  header(name: string): string | undefined;
  /** Must be read to its end, or its iterator returned, to free the connection. */
  body: AsyncIterable<Uint8Array>;
}

/** How bytes travel. fetch everywhere; a host may bring a faster one (see adapters/hosts/node). */
export type Transport = (request: TransportRequest) => Promise<TransportReply>;

export interface UpstreamLimits {
  /** Milliseconds until response headers. Long, because a cold model loads first. */
  firstByteMs: number;
  /** Milliseconds of silence inside a body. */
  idleMs: number;
  /** Milliseconds for a control call (list, show, health). */
  controlMs: number;
  /** Bytes of a buffered answer. */
  maxReplyBytes: number;
}

export interface UpstreamOptions {
  /** The runtime's name, the `source` of its errors. */
  name: string;
  baseUrl: string;
  headers?: Record<string, string>;
  transport: Transport;
  limits: UpstreamLimits;
  /** What to do when it cannot be reached, in one line. */
  hint?: string;
}

export interface SendOptions {
  method?: string;
  json?: unknown;
  body?: Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>;
  headers?: Record<string, string>;
  signal: AbortSignal;
}

export interface Reply {
  status: number;
  header(name: string): string | undefined;
  /** Guarded by the idle limit; a cut connection throws `upstream_terminated`. */
  body: AsyncIterable<Uint8Array>;
  /** The whole body as text, within the size limit. */
  text(): Promise<string>;
}

export interface Upstream {
  readonly name: string;
  /** Any status resolves; only a failure to get an answer throws. */
  send(path: string, options: SendOptions): Promise<Reply>;
  /** A short control call with its own deadline; throws for any answer that is not 2xx JSON. */
  control<T>(path: string, options?: Partial<SendOptions>): Promise<T>;
  /** The failure that an answer other than 2xx stands for. */
  failure(status: number, body: string): GatewayError;
}

export const fetchTransport: Transport = async (request) => {
  const response = await fetch(request.url, {
    method: request.method,
    headers: request.headers,
    body: request.body ?? null,
    signal: request.signal,
    redirect: 'manual',
    ...(request.body instanceof ReadableStream ? { duplex: 'half' } : {}),
    // Bun ends silent responses after five minutes unless told otherwise; other hosts ignore the field.
    ...({ timeout: false } as object),
  });
  return {
    status: response.status,
    header: (name) => response.headers.get(name) ?? undefined,
    body: response.body ?? noBytes(),
  };
};

export function createUpstream(options: UpstreamOptions): Upstream {
  const { name, limits, transport } = options;
  const base = options.baseUrl.replace(/\/+$/, '');

  async function send(path: string, send: SendOptions): Promise<Reply> {
    // One controller per call joins the caller's signal and our deadlines, and tells them apart by its reason.
    const abort = new AbortController();
    const onCallerAbort = () => abort.abort(send.signal.reason);
    if (send.signal.aborted) onCallerAbort();
    else send.signal.addEventListener('abort', onCallerAbort, { once: true });
    const release = () => send.signal.removeEventListener('abort', onCallerAbort);
    const timer = setTimeout(() => abort.abort(timeout('upstream_timeout')), limits.firstByteMs);
    try {
      const reply = await transport({
        url: base + path,
        method: send.method ?? 'POST',
        headers: {
          ...(send.json === undefined ? {} : { 'content-type': 'application/json' }),
          ...options.headers,
          ...send.headers,
        },
        body: send.json === undefined ? send.body : JSON.stringify(send.json),
        signal: abort.signal,
      } as TransportRequest);
      const body = guard(reply.body, abort, release);
      return {
        status: reply.status,
        header: reply.header,
        body,
        text: () => readText(body, limits.maxReplyBytes, name),
      };
    } catch (error) {
      release();
      throw failed(error, abort.signal, false);
    } finally {
      clearTimeout(timer);
    }
  }

  async function* guard(body: AsyncIterable<Uint8Array>, abort: AbortController, release: () => void) {
    let last = Date.now();
    // One timer looks at the clock now and then: re-arming a timer for every token would cost more than the token.
    const watch = () => {
      const left = last + limits.idleMs - Date.now();
      if (left <= 0) abort.abort(timeout('upstream_idle'));
      else timer = setTimeout(watch, left);
    };
    let timer = setTimeout(watch, limits.idleMs);
    let ended = false;
    try {
      for await (const bytes of body) {
        last = Date.now();
        yield bytes;
        last = Date.now();
      }
      ended = true;
      if (abort.signal.aborted) throw abort.signal.reason;
    } catch (error) {
      ended = true;
      throw failed(error, abort.signal, true);
    } finally {
      clearTimeout(timer);
      release();
      // A reader that stopped early must free the connection and stop the runtime.
      if (!ended) abort.abort();
    }
  }

  function timeout(code: 'upstream_timeout' | 'upstream_idle') {
    const seconds = (code === 'upstream_timeout' ? limits.firstByteMs : limits.idleMs) / 1000;
    return new GatewayError(code, `${name} sent nothing for ${seconds} s.`, {
      source: name,
      retry: false,
      hint: `Look at the log of ${name}; it may be wedged or still loading a model.`,
    });
  }

  function failed(error: unknown, signal: AbortSignal, started: boolean): GatewayError | Error {
    if (signal.aborted && signal.reason instanceof GatewayError) return signal.reason;
    if (signal.aborted || isAbort(error)) {
      return new GatewayError('client_closed', 'The request was cancelled.', { cause: error });
    }
    if (error instanceof GatewayError) return error;
    if (started) {
      return new GatewayError('upstream_terminated', `${name} closed the connection before its answer was complete.`, {
        source: name,
        retry: false,
        cause: error,
      });
    }
    return new GatewayError('upstream_unavailable', `${name} cannot be reached.`, {
      source: name,
      hint: options.hint ?? `Start ${name}, or correct its address in the configuration.`,
      cause: error,
    });
  }

  function failure(status: number, body: string): GatewayError {
    const message = errorText(body).slice(0, 1000);
    const details = { source: name } as const;
    if (status === 401 || status === 403) {
      return new GatewayError('provider_auth', `${name} refused the gateway’s credentials.`, {
        ...details,
        hint: `Check the API key configured for ${name}.`,
        retry: false,
      });
    }
    if (status === 404)
      return new GatewayError('model_not_found', message || `${name} does not know this model.`, details);
    if (status === 429) return new GatewayError('rate_limited', message || `${name} limits requests.`, details);
    if (status === 503) {
      return new GatewayError('overloaded', message || `${name} is busy.`, { ...details, retryAfter: 5 });
    }
    if (status === 413) return new GatewayError('body_too_large', message || `${name} refused the size.`, details);
    if (status >= 400 && status < 500) {
      const context = /context (length|window|size)|exceeds? the (available )?context|too long/i.test(message);
      return new GatewayError(context ? 'context_length_exceeded' : 'invalid_request', message || 'Refused.', details);
    }
    if (/out of memory|insufficient.*memory|OutOfMemory/i.test(message)) {
      return new GatewayError('insufficient_vram', `${name} ran out of memory.`, {
        ...details,
        retryAfter: 10,
        retry: false,
      });
    }
    return new GatewayError('upstream_error', message || `${name} failed with status ${status}.`, {
      ...details,
      retry: false,
    });
  }

  async function control<T>(path: string, call: Partial<SendOptions> = {}): Promise<T> {
    const deadline = AbortSignal.timeout(limits.controlMs);
    const signal = call.signal ? AbortSignal.any([call.signal, deadline]) : deadline;
    let status: number;
    let body: string;
    try {
      const reply = await send(path, { method: call.json === undefined ? 'GET' : 'POST', ...call, signal });
      status = reply.status;
      body = await reply.text();
    } catch (error) {
      if (!deadline.aborted || call.signal?.aborted) throw error;
      throw new GatewayError('upstream_unavailable', `${name} does not answer.`, {
        source: name,
        hint: `Look at the log of ${name}; its port is open but it says nothing.`,
        cause: error,
      });
    }
    if (status < 200 || status > 299) throw failure(status, body);
    try {
      return JSON.parse(body) as T;
    } catch (cause) {
      throw new GatewayError('upstream_invalid', `${name} did not answer with JSON.`, { source: name, cause });
    }
  }

  return { name, send, control, failure };
}

/** Collects a body within a size limit. */
export async function readText(body: AsyncIterable<Uint8Array>, maxBytes: number, source: string): Promise<string> {
  const decoder = new TextDecoder();
  let size = 0;
  let text = '';
  for await (const bytes of body) {
    size += bytes.byteLength;
    if (size > maxBytes)
      throw new GatewayError('upstream_invalid', `${source} sent more than ${maxBytes} bytes.`, { source });
    text += decoder.decode(bytes, { stream: true });
  }
  return text + decoder.decode();
}

/** The human part, without places, of the many error shapes of the field: string, `{error}`, `{error:{message}}`, `{message}`, `{detail}`. */
export function errorText(body: string): string {
  return withoutPlaces(rawErrorText(body));
}

function rawErrorText(body: string): string {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return /^\s*</.test(body) ? '' : body.trim();
  }
  for (let depth = 0; depth < 4; depth++) {
    if (typeof value === 'string') return value;
    if (Array.isArray(value)) value = value[0];
    if (typeof value !== 'object' || value === null) return '';
    const fields = value as Record<string, unknown>;
    value = fields['error'] ?? fields['message'] ?? fields['msg'] ?? fields['detail'];
  }
  return '';
}

/** Runtimes put their own paths and addresses into messages; they are nobody's business out here. */
function withoutPlaces(message: string): string {
  return message
    .replace(/\b[a-z]+:\/\/[^\s"']+/gi, '…')
    .replace(/\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b/g, '…')
    .replace(/(?<![\w.…])(\/[\w.@+-]+){2,}|\b[A-Z]:\\[^\s"']+/g, '…');
}

async function* noBytes(): AsyncGenerator<Uint8Array> {}
