// What a request carries through the app, and what a host may do better than the web standard.
import type { Context } from 'hono';
import type { Config } from '../config.ts';
import type { ArtifactRecord, Artifacts } from '../artifacts.ts';
import type { Inputs } from '../artifacts/inputs.ts';
import type { Doctor } from '../doctor.ts';
import type { Gateway } from '../gateway.ts';
import type { Hardware } from '../hardware.ts';
import type { Timings } from '../arbiter/timings.ts';
import type { Gpu } from '../hardware/gpu.ts';
import type { Lending } from '../hardware/lending.ts';
import type { Footprints } from '../models/footprints.ts';
import type { Pulls } from '../models/pulls.ts';
import type { Residency } from '../models/residency.ts';
import type { Routing } from '../models/routing.ts';
import type { SocketSession } from '../realtime/session.ts';
import type { Hub } from '../hub.ts';
import type { Batches } from '../jobs/batches.ts';
import type { Jobs } from '../jobs/jobs.ts';
import type { Realtime } from '../realtime/realtime.ts';
import type { SocketIo } from '../realtime/socketio.ts';
import type { Store } from '../store.ts';
import type { Webhooks } from '../webhooks/webhooks.ts';
import type { Form } from './multipart.ts';
import type { Keyed } from './idempotency.ts';

/** A piece of an answer; text is sent as UTF-8. */
export type Piece = string | Uint8Array;

export interface StreamPort {
  status: number;
  headers: Record<string, string>;
  body: AsyncIterable<Piece>;
  /** Send `: ping` after this much silence; for event streams only. */
  heartbeatMs?: number;
  /** Bytes that may wait for the reader before the connection is cut. */
  maxBacklog: number;
  /** The reader left, or was cut. */
  onGone: () => void;
}

/** Where events go as they happen, for streams that are silent most of the time. */
export interface Pipe {
  /** Nothing happens once the reader has left or was cut. */
  send(piece: Piece): void;
  /** Bytes that wait for the reader. */
  buffered(): number;
  /** The stream is complete. */
  end(): void;
}

/** A stream of events that somebody pushes; it costs an idle reader next to nothing, where a generator would cost much. */
export interface PushPort extends Pick<StreamPort, 'status' | 'headers' | 'maxBacklog'> {
  heartbeatMs: number;
  /** Called once. Returns what to do when the stream is over: complete, cut, or its reader gone. */
  open(pipe: Pipe): () => void;
}

/** Given by a host with each request; every member is optional, the web standard serves where one is missing. */
export interface HostBindings {
  /** Sends a streamed answer past web streams; the Response that it returns only tells Hono so. */
  stream?(answer: StreamPort): Response;
  /** The same for events that are pushed. */
  push?(answer: PushPort): Response;
  /** Makes a WebSocket of the request and gives it to the session; throws invalid_request where that cannot be. */
  upgrade?(session: SocketSession): Response;
  /** Aborts when the client leaves before its answer is complete; the request's own signal if absent. */
  gone?(): AbortSignal;
}

export interface LogEntry {
  level: 'debug' | 'info' | 'warn' | 'error';
  message: string;
  [field: string]: unknown;
}

export type Log = (entry: LogEntry) => void;

/** What the app is made of; see adapters/index.ts. */
export interface AppOptions {
  gateway: Gateway;
  config: Config;
  version: string;
  /** The JS engine that serves, for people: `node 24.1.0`. */
  host: string;
  /** Changes with every start; how the CLI recognises the gateway of a state directory. */
  instance: string;
  log: Log;
  /** Milliseconds since 1970, on a clock that does not jump while the gateway runs. */
  now: () => number;
  store: Store;
  hub: Hub;
  jobs: Jobs;
  batches: Batches;
  artifacts: Artifacts;
  inputs: Inputs;
  webhooks: Webhooks;
  realtime: Realtime;
  socketIo?: SocketIo;
  pulls: Pulls;
  residency: Residency;
  routing: Routing;
  footprints: Footprints;
  hardware: Hardware;
  gpu: Gpu;
  lending: Lending;
  timings: Timings;
  doctor: Doctor;
  /** Files of the interactive documents page. */
  asset(name: string): Promise<{ bytes: Uint8Array<ArrayBuffer>; contentType: string } | undefined>;
}

export interface AppEnv {
  Bindings: HostBindings;
  Variables: {
    requestId: string;
    /** Who asks: the owner of what comes of it. */
    caller: string;
    /** Headers that every answer to this request gets. */
    headers: Record<string, string>;
    /** The body, once it was read. */
    bytes?: Uint8Array<ArrayBuffer>;
    /** The form that came as the body, once it was read. */
    form?: Form<ArtifactRecord>;
    /** Files that this request brought and nobody has taken over yet, by their ids; see http/inputs.ts. */
    brought?: string[];
    /** The claim of the Idempotency-Key that was sent. */
    keyed?: Keyed;
    /** Filled in for the log line. */
    logged: Record<string, unknown>;
    /** Whose words failures are told in. */
    app: AppOptions;
  };
}

export type AppContext = Context<AppEnv>;

export function clientSignal(c: AppContext): AbortSignal {
  return c.env?.gone?.() ?? c.req.raw.signal;
}
