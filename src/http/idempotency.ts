// Idempotency-Key: work that costs time on the card runs once per key and caller; whoever asks again gets the same bytes.
import type { Handler } from 'hono';
import { GatewayError } from '../error.ts';
import type { Document, Put } from '../store.ts';
import { readBytes } from './body.ts';
import type { AppContext, AppEnv, Piece } from './context.ts';
import { forgetBrought } from './inputs.ts';
import { respond, respondError } from './respond.ts';

interface Answer {
  status: number;
  contentType: string;
  headers: Record<string, string>;
  body: string;
}

interface Claim {
  fingerprint: string;
  /** The one who works on it gives signs of life until then, in milliseconds since 1970. */
  until: number;
  /** The job that does the work: it outlives whoever asked. */
  job?: string;
  answer?: Answer;
}

/** The claim of the request that is being worked on, for whoever answers it. */
export interface Keyed {
  /** The job of an earlier request with this key whose process died before it could answer: it is to be waited for. */
  job: string | undefined;
  /** The document that names the job, to be committed together with it. */
  bind(job: string): Put;
  /** The document that holds the answer, to be committed together with a job; nothing more is written then. */
  settle(status: number, body: string, headers: Record<string, string>): Put;
  /** An answer in pieces: each that is sent, and whether the last was. */
  stream(status: number, headers: Record<string, string>): { record(piece: Piece): void; end(whole: boolean): void };
}

const KIND = 'idempotency';
const LEASE_MS = 30_000;
const RENEW_MS = 10_000;
/** Answers beyond this many characters are not kept, only the job that made them. */
const MAX_ANSWER = 8_000_000;
/** Headers of the first answer that are part of it. */
const KEPT_HEADERS = ['location', 'retry-after', 'x-model', 'x-runtime', 'x-warning', 'x-job-id', 'preference-applied'];

/**
 * Wraps a handler that costs time. Streamed answers are replayed whole. `print` gives what tells one request from another
 * where that is not the bytes of its body.
 */
export function idempotent(
  handler: (c: AppContext) => Promise<Response>,
  print: (c: AppContext) => Promise<Uint8Array<ArrayBuffer>> = (c) => readBytes(c, c.var.app.config.max_body),
): Handler<AppEnv> {
  async function handle(c: AppContext): Promise<Response> {
    const key = c.req.header('idempotency-key');
    if (key === undefined) return handler(c);
    if (!/^[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?$/.test(key)) {
      throw new GatewayError('invalid_request', 'An Idempotency-Key is 1 to 255 printable ASCII characters.', {
        param: 'idempotency-key',
      });
    }
    const { store, now, config } = c.var.app;
    const { documents } = store;
    const body = await print(c);
    const id = `${c.var.caller}:${await digest(key)}`;
    const fingerprint = await digest(`${c.req.method} ${c.req.path}\n`, body);
    const claim = (job?: string): Claim => ({
      fingerprint,
      until: now() + LEASE_MS,
      ...(job === undefined ? {} : { job }),
    });
    let job: string | undefined;
    const due = now() + config.idempotency_ms;
    const place = { kind: KIND, id, owner: c.var.caller, due };
    const first = await documents.put([{ ...place, value: claim(), if: 'absent' }]);
    if (first) {
      const known = first.conflict === 'missing' ? undefined : (first.conflict as Document<Claim>);
      const answer = known && answerFrom(c, known, fingerprint);
      if (answer) return answer;
      // Whoever held it is gone: its job goes on, anything else came to nothing that anybody was told of.
      job = known?.value.job;
      const taken = await documents.put([{ ...place, value: claim(job), ...(known ? { if: known.version } : {}) }]);
      if (taken) throw stillRunning();
    }
    return work(c, handler, { place, claim, fingerprint, job });
  }
  return async (c) => {
    try {
      return await handle(c);
    } finally {
      // A request that was refused, or answered before, brought its files for nothing.
      await forgetBrought(c);
    }
  };
}

function answerFrom(c: AppContext, known: Document<Claim>, fingerprint: string): Response | undefined {
  const { value } = known;
  if (value.fingerprint !== fingerprint) {
    throw new GatewayError('idempotency_mismatch', 'This Idempotency-Key was used for another request.', {
      hint: 'Use a new key for every new request.',
    });
  }
  if (value.answer) {
    const { status, contentType, headers, body } = value.answer;
    return respond(c, body, { status, contentType, headers: { ...headers, 'idempotent-replayed': 'true' } });
  }
  if (value.until > c.var.app.now()) throw stillRunning();
  return undefined;
}

interface Held {
  place: { kind: string; id: string; owner: string; due: number };
  claim(job?: string): Claim;
  fingerprint: string;
  job: string | undefined;
}

async function work(
  c: AppContext,
  handler: (c: AppContext) => Promise<Response>,
  { place, claim, fingerprint, job }: Held,
): Promise<Response> {
  const { documents } = c.var.app.store;
  let left = false;
  const renew = () => void documents.put([{ ...place, value: claim(keyed.job) }]).catch(() => {});
  const renewal = setInterval(renew, RENEW_MS);
  const toPut = (status: number, headers: Record<string, string>, body: string): Put => {
    const contentType = headers['content-type'] ?? 'application/json';
    return {
      ...place,
      value: { fingerprint, until: 0, answer: { status, contentType, headers: pick(headers), body } },
    };
  };
  const toEnd = (status: number, headers: Record<string, string>, body: string, kept: boolean): Put => {
    if (kept && body.length <= MAX_ANSWER) return toPut(status, headers, body);
    // What is too much to be kept is told anew from the job that made it.
    if (kept && keyed.job !== undefined) return { ...place, value: { ...claim(keyed.job), until: 0 } };
    return { kind: KIND, id: place.id, delete: true };
  };
  const finish = async (status: number, headers: Record<string, string>, body: string, whole: boolean) => {
    clearInterval(renewal);
    const put = toEnd(status, headers, body, whole && isKept(status, headers));
    // The answer goes out all the same: at worst a second request runs again.
    await documents.put([put]).catch(() => {});
  };
  const keyed: Keyed = {
    job,
    bind(id) {
      keyed.job = id;
      return { ...place, value: claim(id) };
    },
    settle(status, body, headers) {
      left = true;
      // A sign of life written later would take the answer away again.
      clearInterval(renewal);
      return toPut(status, headers, body);
    },
    stream(status, headers) {
      left = true;
      const decoder = new TextDecoder();
      let text = '';
      return {
        record(piece) {
          if (text.length <= MAX_ANSWER)
            text += typeof piece === 'string' ? piece : decoder.decode(piece, { stream: true });
        },
        end: (whole) => void finish(status, headers, text, whole),
      };
    },
  };
  c.set('keyed', keyed);
  const response = await handler(c).catch((thrown) => respondError(c, thrown));
  if (left) {
    // Where the job was not taken, neither was the answer; but a store that failed may have taken both.
    const known = response.status < 400 ? undefined : documents.get<Claim>(KIND, place.id).catch(() => undefined);
    if (response.status < 400 || (await known)?.value.answer) return response;
  }
  await finish(response.status, Object.fromEntries(response.headers), await response.clone().text(), true);
  return response;
}

/** What was refused before any work began is not an answer: the corrected or later request may use the key. */
function isKept(status: number, headers: Record<string, string>): boolean {
  if (status === 499 || status === 503 || status === 429) return false;
  return status < 400 || status >= 500 || 'x-job-id' in headers;
}

function pick(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    KEPT_HEADERS.flatMap((name) => (headers[name] === undefined ? [] : [[name, headers[name]]])),
  );
}

function stillRunning(): GatewayError {
  return new GatewayError(
    'idempotency_running',
    'The first request with this Idempotency-Key is still being worked on.',
    {
      retryAfter: 5,
      hint: 'Ask again in a few seconds; it is not started twice.',
    },
  );
}

async function digest(text: string, bytes = new Uint8Array()): Promise<string> {
  const head = new TextEncoder().encode(text);
  const all = new Uint8Array(head.length + bytes.length);
  all.set(head);
  all.set(bytes, head.length);
  const hash = await crypto.subtle.digest('SHA-256', all);
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
