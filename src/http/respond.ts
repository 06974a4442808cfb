// Every answer leaves through here: with the request's standard headers, and streamed so that no reader can hold the card.
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { GatewayError, toGatewayError } from '../error.ts';
import type { AppContext, Piece, PushPort, StreamPort } from './context.ts';
import { PING, startHeartbeat } from './heartbeat.ts';

export interface Answer {
  status?: number;
  contentType: string;
  headers?: Record<string, string>;
}

export function respond(
  c: AppContext,
  body: string | Uint8Array<ArrayBuffer>,
  { status = 200, contentType, headers }: Answer,
): Response {
  const all = { ...c.var.headers, 'content-type': contentType, ...headers };
  return c.body(body, status as ContentfulStatusCode, all);
}

export function respondJson(c: AppContext, value: unknown, answer: Omit<Answer, 'contentType'> = {}): Response {
  return respond(c, JSON.stringify(value), { ...answer, contentType: 'application/json' });
}

/** A failure before the first byte: its status, headers and body. */
export function respondError(c: AppContext, thrown: unknown): Response {
  const error = toGatewayError(thrown);
  c.var.logged['code'] = error.code;
  if (error.cause !== undefined) c.var.logged['cause'] = toCause(error.cause);
  const headers: Record<string, string> = {};
  if (error.retryAfter !== undefined) headers['retry-after'] = String(Math.ceil(error.retryAfter));
  if (error.retry !== undefined) headers['x-should-retry'] = String(error.retry);
  if (error.code === 'draining' || error.code === 'body_too_large') headers['connection'] = 'close';
  if (error.code === 'invalid_api_key') headers['www-authenticate'] = 'Bearer';
  return respondJson(c, toErrorBody(error, c.var.requestId), { status: error.status, headers });
}

/** The one envelope of failures; OpenAI's shape with `request_id`, `source` and `hint` beside. */
export function toErrorBody(error: GatewayError, requestId: string) {
  return {
    error: {
      message: error.message,
      type: error.type,
      code: error.code,
      param: error.param ?? null,
      request_id: requestId,
      source: error.source,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    },
  };
}

/** One server-sent event with a name. */
export function toEvent(type: string, payload: unknown): string {
  return `event: ${type}\ndata: ${JSON.stringify(payload)}\n\n`;
}

export interface EventStream {
  /** Commits when it resolves, at once if absent; while it has not, a failure still gets its own HTTP status. */
  ready?: Promise<unknown>;
  /** Encoded events. */
  body: AsyncIterable<Piece>;
  /** What is sent when `body` throws. */
  onError: (error: GatewayError) => string;
  onGone: () => void;
  /** Bytes that may wait for the reader; `max_backlog` if absent. */
  maxBacklog?: number;
  /** Asked when the headers are sent. */
  headers?: () => Record<string, string>;
}

export const EVENT_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  'x-accel-buffering': 'no',
};

/** Server-sent events. Headers go out with the first event, or with the first heartbeat if that comes sooner. */
export async function respondEvents(c: AppContext, stream: EventStream): Promise<Response> {
  const { heartbeat_ms, max_backlog } = c.var.app.config;
  const waiting = stream.ready !== undefined && !(await within(heartbeat_ms, stream.ready));
  const headers = { ...c.var.headers, ...EVENT_HEADERS, ...stream.headers?.() };
  const finish = logAtEnd(c);
  const recorder = c.var.keyed?.stream(200, headers);
  async function* body(): AsyncGenerator<Piece> {
    if (waiting) yield PING;
    let error: GatewayError | undefined;
    let whole = false;
    try {
      if (recorder) yield* recorded(stream.body, recorder.record);
      else yield* stream.body;
      whole = true;
    } catch (thrown) {
      error = toGatewayError(thrown);
      const told = stream.onError(error);
      recorder?.record(told);
      whole = error.code !== 'client_closed';
      yield told;
    } finally {
      finish(error);
      recorder?.end(whole);
    }
  }
  return sendStream(c, {
    status: 200,
    headers,
    body: body(),
    heartbeatMs: heartbeat_ms,
    maxBacklog: stream.maxBacklog ?? max_backlog,
    onGone: stream.onGone,
  });
}

async function* recorded(body: AsyncIterable<Piece>, record: (piece: Piece) => void): AsyncGenerator<Piece> {
  for await (const piece of body) {
    record(piece);
    yield piece;
  }
}

/** Server-sent events that are pushed as they happen; at most `maxBacklog` bytes wait for the reader, then it is cut. */
export function respondPushed(c: AppContext, stream: { maxBacklog: number; open: PushPort['open'] }): Response {
  const finish = logAtEnd(c);
  const { maxBacklog, open } = stream;
  const port: PushPort = {
    status: 200,
    headers: { ...c.var.headers, ...EVENT_HEADERS },
    heartbeatMs: c.var.app.config.heartbeat_ms,
    maxBacklog,
    open(pipe) {
      const leave = open(pipe);
      return () => {
        leave();
        finish(undefined);
      };
    },
  };
  return c.env?.push?.(port) ?? new Response(toPushedStream(port), { status: port.status, headers: port.headers });
}

/** Whether it resolves within `ms`; throws if it rejects within. */
async function within(ms: number, promise: Promise<unknown>): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => (timer = setTimeout(resolve, ms, false)));
  // A failure after that comes out of the body; here nobody is left to hear it.
  promise.catch(() => {});
  return Promise.race([promise.then(() => true), late]).finally(() => clearTimeout(timer));
}

/** Bytes as they come; a failure cuts the connection, so that nobody takes half for whole. */
export function respondBytes(
  c: AppContext,
  answer: {
    contentType: string;
    headers?: Record<string, string>;
    body: AsyncIterable<Uint8Array>;
    onGone: () => void;
  },
): Response {
  const headers = { ...c.var.headers, 'content-type': answer.contentType, ...answer.headers };
  return sendStream(c, {
    status: 200,
    headers,
    body: answer.body,
    maxBacklog: c.var.app.config.max_backlog,
    onGone: answer.onGone,
  });
}

function sendStream(c: AppContext, port: StreamPort): Response {
  return c.env?.stream?.(port) ?? new Response(toWebStream(port), { status: port.status, headers: port.headers });
}

/**
 * The portable sink. It reads its source as fast as that goes and lets the rest wait here: a slow reader costs bounded
 * memory, never the run; one that falls too far behind is cut.
 */
function toWebStream({ body, heartbeatMs, maxBacklog, onGone }: StreamPort): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const iterator = body[Symbol.asyncIterator]();
  let gone = false;
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        // Not awaited: start() must return before the stream can be read.
        void (async () => {
          const heartbeat = heartbeatMs
            ? startHeartbeat(heartbeatMs, () => controller.enqueue(encoder.encode(PING)))
            : undefined;
          try {
            for (;;) {
              const { done, value } = await iterator.next();
              if (gone) return;
              if (done) return controller.close();
              heartbeat?.touch(value);
              controller.enqueue(typeof value === 'string' ? encoder.encode(value) : value);
              if ((controller.desiredSize ?? 0) < -maxBacklog) throw new Error('The reader is too slow.');
            }
          } catch (error) {
            if (!gone) controller.error(error);
            gone = true;
            onGone();
            await iterator.return?.();
          } finally {
            heartbeat?.stop();
          }
        })();
      },
      cancel() {
        gone = true;
        onGone();
        // Not awaited: the generator may be waiting for an event that the cancellation is only just bringing about.
        void iterator.return?.();
      },
    },
    new ByteLengthQueuingStrategy({ highWaterMark: 0 }),
  );
}

/** The portable sink of what is pushed; the host keeps no more of an idle stream than this. */
function toPushedStream({ heartbeatMs, maxBacklog, open }: PushPort): ReadableStream<Uint8Array> {
  let over = false;
  let finish = (_how?: (() => void) | undefined) => {};
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        let leave: (() => void) | undefined;
        const send = (piece: Piece) => {
          if (over) return;
          // Asked before and not after, so that a piece which alone is more gets through.
          if ((controller.desiredSize ?? 0) < -maxBacklog) {
            return finish(() => controller.error(new Error('The reader is too slow.')));
          }
          heartbeat.touch(piece);
          controller.enqueue(typeof piece === 'string' ? encode(piece) : piece);
        };
        finish = (how) => {
          if (over) return;
          over = true;
          heartbeat.stop();
          how?.();
          leave?.();
        };
        const heartbeat = startHeartbeat(heartbeatMs, () => send(PING));
        leave = open({
          send,
          buffered: () => -(controller.desiredSize ?? 0),
          end: () => finish(() => controller.close()),
        });
        // It may have ended before there was anything to leave.
        if (over) leave();
      },
      cancel: () => finish(),
    },
    new ByteLengthQueuingStrategy({ highWaterMark: 0 }),
  );
}

const encoder = new TextEncoder();
let latest: { text: string; bytes: Uint8Array } | undefined;

/** Text that goes to many readers in a row is encoded once. */
function encode(text: string): Uint8Array {
  if (latest?.text !== text) latest = { text, bytes: encoder.encode(text) };
  return latest!.bytes;
}

/** The log line of a stream is written when it ends, not when its headers went out. */
function logAtEnd(c: AppContext): (error: GatewayError | undefined) => void {
  // The context itself is let go: a stream may be open for days.
  const { logged, app, requestId } = c.var;
  logged['streaming'] = true;
  const begun = performance.now();
  return (error) => {
    app.log({
      level: error && error.status >= 500 ? 'warn' : 'info',
      message: 'stream',
      id: requestId,
      ...logged,
      ...(error ? { code: error.code } : {}),
      stream_ms: Math.round(performance.now() - begun),
    });
  };
}

function toCause(cause: unknown): string {
  return cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
}
