// A prompt that was taken → its events and its end: what the websocket says, held against what queue and history say.
import { GatewayError } from '../../../src/error.ts';
import type { PreviewEvent, ProgressEvent, StatusEvent } from '../../../src/event.ts';
import type { Client } from './client.ts';
import { clean, gone, interrupted, lost, toEndFailure, toExecutionFailure } from './failure.ts';
import type { Mailbox } from './mailbox.ts';
import { createProgress } from './progress.ts';
import type { Heard, Socket } from './socket.ts';
import type { HistoryEntry, Message } from './wire.ts';
import type { Graph, ObjectInfo } from './workflow.ts';

export interface FollowParts {
  client: Client;
  socket: Socket;
  timings: JobTimings;
}

export interface JobTimings {
  /** Milliseconds between looks at queue and history: all that is heard of a dead connection. */
  pollMs: number;
  /** Milliseconds for which a server may be away before its jobs are given up. */
  lostMs: number;
}

export interface Followed {
  id: string;
  graph: Graph;
  info: ObjectInfo;
  model: string;
  mailbox: Mailbox<Heard>;
  /** Called when the server is done with it: nothing is left there to be cancelled. */
  onOver: () => void;
}

export type JobEvent = StatusEvent | ProgressEvent | PreviewEvent;

type Look = { at: 'pending'; position: number } | { at: 'running' | 'missing' } | { at: 'ended'; entry: HistoryEntry };

/** Success is said before history knows of it, by up to this many milliseconds. */
const HISTORY_MS = 10_000;
/** Between looks at what must show itself any moment. */
const SOON_MS = 150;
/** A prompt that neither waits nor runs nor has ended is gone, if it is still so when looked at again. */
const MISSES = 3;
const PREVIEW_MS = 250;
const QUIET_MS = 500;
const LOADER = /loader|load.*model|checkpoint/i;

/** Returns what history says of it. Throws what it failed with, and upstream_terminated where it was lost. */
export async function* follow(parts: FollowParts, followed: Followed): AsyncGenerator<JobEvent, HistoryEntry> {
  const { client, socket, timings } = parts;
  const { id, graph, info, model, mailbox, onOver } = followed;
  const asked = { source: client.upstream.name, model };
  const watch = createWatch(client.upstream.name, timings);
  const progress = createProgress(graph, info);
  const teller = createTeller(graph);
  let nextLook = 0;

  const end = (failure: GatewayError): GatewayError => {
    onOver();
    return failure;
  };

  for (;;) {
    const heard = await mailbox.take(nextLook - performance.now());
    if (heard?.type === 'error') throw end(toExecutionFailure(heard.error, asked));
    if (heard?.type === 'interrupted') throw end(interrupted(asked.source));
    if (heard && isEnd(heard)) watch.ends();
    if (heard && !isEnd(heard) && heard.type !== 'reopened' && !(heard.type === 'status' && watch.waits())) {
      if (heard.type !== 'status') watch.runs();
      yield* toEvents(heard, teller, progress);
      continue;
    }
    const found = await mailbox.orLeave(look(client, id).catch((error: unknown) => error as Error));
    const seen = watch.see(found);
    // What has changed without a word was said to a dead connection. To renew one that is not costs little.
    if (!heard && seen.changed && socket.quietMs() > Math.min(QUIET_MS, timings.pollMs / 2)) socket.renew();
    if (seen.failure) throw seen.isOver ? end(seen.failure) : seen.failure;
    if (seen.entry) {
      onOver();
      const failure = toEndFailure(seen.entry, asked);
      if (failure) throw failure;
      yield progress.end();
      return seen.entry;
    }
    nextLook = performance.now() + seen.againMs;
    const status = teller.stands(seen);
    if (status) yield status;
  }
}

/** Where a prompt stands. The queue comes first: a prompt that left it is in history by then. */
export async function look(client: Client, id: string): Promise<Look> {
  const { running, pending } = await client.queue();
  if (running.includes(id)) return { at: 'running' };
  const index = pending.indexOf(id);
  if (index >= 0) return { at: 'pending', position: index + 1 };
  const entry = await client.history(id);
  return entry ? { at: 'ended', entry } : { at: 'missing' };
}

interface Seen {
  at: Look['at'] | 'unknown';
  position?: number;
  entry?: HistoryEntry;
  failure?: GatewayError;
  /** With a failure: there is nothing left of it on the server. */
  isOver?: boolean;
  /** It is further than messages have said. */
  changed: boolean;
  /** Milliseconds until the next look. */
  againMs: number;
}

/** Looks at one prompt, one after the other → what to make of them. */
function createWatch(source: string, { pollMs, lostMs }: JobTimings) {
  let waits = true;
  let endsAt: number | undefined;
  let misses = 0;
  let away = false;
  let awaySince: number | undefined;

  function see(found: Look | Error): Seen {
    const now = performance.now();
    if (found instanceof Error) {
      // Silence is no absence: while it loads a model the server may answer nobody.
      const silent = found instanceof GatewayError && found.code === 'upstream_timeout';
      const soon = { at: 'unknown', changed: false, againMs: Math.min(1000, pollMs) } as const;
      if (silent) return soon;
      away = true;
      awaySince ??= now;
      return now - awaySince > lostMs ? { ...soon, failure: gone(source, found) } : soon;
    }
    awaySince = undefined;
    if (found.at === 'ended') return { at: 'ended', entry: found.entry, changed: endsAt === undefined, againMs: 0 };
    if (found.at === 'missing') {
      misses++;
      const isPatient = endsAt !== undefined && now - endsAt < HISTORY_MS;
      const unknown = { at: 'unknown', changed: misses === 1, againMs: SOON_MS } as const;
      return misses < MISSES || isPatient ? unknown : { ...unknown, failure: lost(source, away), isOver: true };
    }
    misses = 0;
    const changed = found.at === 'running' && waits;
    if (found.at === 'running') waits = false;
    return { ...found, changed, againMs: endsAt === undefined ? pollMs : SOON_MS };
  }

  return {
    see,
    waits: () => waits,
    runs: () => (waits = false),
    /** The server said that it is over; history is to show how. */
    ends: () => (endsAt ??= performance.now()),
  };
}

/** Statuses, each told once. */
function createTeller(graph: Graph) {
  let previewAt = -Infinity;
  let last = '';
  const once = (status: StatusEvent): StatusEvent | undefined => {
    const key = JSON.stringify(status);
    if (key === last) return undefined;
    last = key;
    return status;
  };
  const begins = () => (/"(running|loading)"/.test(last) ? undefined : once({ type: 'status', state: 'running' }));

  return {
    begins,
    stands({ at, position }: Pick<Seen, 'at' | 'position'>): StatusEvent | undefined {
      if (at === 'pending') return once({ type: 'status', state: 'queued', position: position! });
      return at === 'running' ? begins() : undefined;
    },
    node(id: string): StatusEvent | undefined {
      const node = graph[id];
      if (!node) return undefined;
      const isLoader = LOADER.test(node.class_type) && !/^Load(Image|Audio|Video)/.test(node.class_type);
      const message = clean(node._meta?.title ?? node.class_type);
      return once({ type: 'status', state: isLoader ? 'loading' : 'running', message });
    },
    text: (text: string) => once({ type: 'status', state: 'running', message: clean(text) }),
    mayPreview(): boolean {
      if (performance.now() - previewAt < PREVIEW_MS) return false;
      previewAt = performance.now();
      return true;
    },
  };
}

function* toEvents(
  message: Message,
  teller: ReturnType<typeof createTeller>,
  progress: ReturnType<typeof createProgress>,
): Generator<JobEvent> {
  if (message.type === 'preview') {
    if (teller.mayPreview()) yield { type: 'preview', media_type: message.media_type, bytes: message.bytes };
    return;
  }
  if (message.type === 'status') return;
  const isNode = message.type === 'node' && message.node !== null;
  const status =
    message.type === 'text' ? teller.text(message.text) : isNode ? teller.node(message.node!) : teller.begins();
  if (status) yield status;
  const further = progress.hear(message);
  if (further) yield further;
}

function isEnd(heard: Heard): boolean {
  return heard.type === 'success' || (heard.type === 'node' && heard.node === null);
}
