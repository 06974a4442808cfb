// The S3 client with limits: every call ends, is tried again where that can help, and fails in words for the caller.
import { S3mini, S3NetworkError, S3ServiceError } from 's3mini';
import { GatewayError } from '../../../src/error.ts';

export interface S3Account {
  /** The bucket: `https://host/bucket`. */
  url: string;
  accessKey: string;
  secretKey: string;
  region: string;
  /** Milliseconds that one request may take, and that an answer may be silent. */
  timeoutMs: number;
}

export interface S3Client {
  /** One short request, tried up to three times. Throws `storage_unavailable`, `storage_full`, `client_closed`. */
  call<T>(work: (s3: S3mini) => Promise<T>, signal?: AbortSignal): Promise<T>;
  /** An object's bytes from `start` on, up to `end` (exclusive). Undefined where it is not there. */
  get(key: string, range?: { start: number; end: number }): Promise<AsyncIterable<Uint8Array> | undefined>;
}

const PAUSES_MS = [200, 1000];

export function createS3Client(account: S3Account): S3Client {
  const { url, accessKey, secretKey, region, timeoutMs } = account;

  function connect(limits: { whole: boolean; signal?: AbortSignal | undefined }): S3mini {
    return new S3mini({
      endpoint: url,
      accessKeyId: accessKey,
      secretAccessKey: secretKey,
      region,
      // Our own fetch also keeps the client off Bun's built-in one, which cannot be stopped.
      fetch: bounded(timeoutMs, limits.signal) as typeof fetch,
      ...(limits.whole ? { requestAbortTimeout: timeoutMs } : {}),
    });
  }

  async function retry<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        if (signal?.aborted)
          throw new GatewayError('client_closed', 'The file was not wanted any more.', { cause: error });
        const pause = PAUSES_MS[attempt];
        if (pause === undefined || !isPassing(error)) throw toStorageError(error);
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  return {
    call: (work, signal) => retry(async () => work(connect({ whole: true, signal })), signal),
    async get(key, range) {
      try {
        const answer = await retry(async () =>
          connect({ whole: false }).getObjectRaw(key, !range, range?.start, range?.end),
        );
        return readBody(answer, timeoutMs);
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
    },
  };
}

/** Whether the storage said that there is no such object. */
export function isMissing(error: unknown): boolean {
  return toStatus(error) === 404;
}

export function toStorageError(error: unknown): GatewayError {
  if (error instanceof GatewayError) return error;
  const status = toStatus(error);
  const code = error instanceof S3ServiceError ? (error.serviceCode ?? '') : '';
  if (status === 507 || /QuotaExceeded|StorageFull/i.test(code)) {
    return new GatewayError('storage_full', 'The storage has no room for this file.', {
      hint: 'Delete files that are not needed, or raise the quota of the bucket.',
      cause: error,
    });
  }
  const refused = status === 401 || status === 403;
  return new GatewayError('storage_unavailable', 'The storage of files did not take part.', {
    hint: refused
      ? 'It refused the keys: check HONO_AI_S3_ACCESS_KEY, HONO_AI_S3_SECRET_KEY and what they may do.'
      : 'Try again; if it stays so, check HONO_AI_S3_URL and the storage behind it.',
    retryAfter: 10,
    cause: error,
  });
}

function toStatus(error: unknown): number | undefined {
  const inner = error instanceof GatewayError ? error.cause : error;
  return inner instanceof S3ServiceError ? inner.status : undefined;
}

function isPassing(error: unknown): boolean {
  if (error instanceof S3NetworkError) return true;
  const status = toStatus(error);
  if (status !== undefined) return (status >= 500 && status !== 507) || status === 408 || status === 429;
  return !(error instanceof GatewayError);
}

/** fetch whose answer begins within `timeoutMs`. What is signed for one host is never sent on to another. */
function bounded(timeoutMs: number, signal: AbortSignal | undefined) {
  return async (input: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(new Error('The storage did not answer in time.')), timeoutMs);
    const signals = [late.signal, signal, init.signal].filter((one) => one instanceof AbortSignal);
    try {
      return await fetch(input, { ...init, redirect: 'error', signal: AbortSignal.any(signals) });
    } finally {
      clearTimeout(timer);
    }
  };
}

/** The bytes as they come; an end that comes too soon, or silence, is a failure. */
function readBody(answer: Response, timeoutMs: number): AsyncIterableIterator<Uint8Array> {
  const reader = answer.body?.getReader();
  const announced = answer.headers.get('content-length');
  const expected = announced === null ? undefined : Number(announced);
  let got = 0;
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      if (!reader) return { done: true, value: undefined };
      let timer: ReturnType<typeof setTimeout> | undefined;
      try {
        const silent = new Promise<never>((_, reject) => {
          timer = setTimeout(() => reject(new Error('The storage fell silent.')), timeoutMs);
        });
        const { done, value } = await Promise.race([reader.read(), silent]);
        if (!done) {
          got += value.byteLength;
          return { done: false, value };
        }
        if (expected !== undefined && got < expected) throw new Error('The storage gave less than it announced.');
        return { done: true, value: undefined };
      } catch (error) {
        void reader.cancel().catch(() => {});
        throw toStorageError(error);
      } finally {
        clearTimeout(timer);
      }
    },
    async return() {
      await reader?.cancel().catch(() => {});
      return { done: true, value: undefined };
    },
  };
}
