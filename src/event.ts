// What a run says while it works: the one event vocabulary of every capability, runtime, dialect and surface.

/** Where a waiting or working run stands. `position` counts from 1; `eta` is in seconds. */
export interface StatusEvent {
  type: 'status';
  state: 'queued' | 'swapping' | 'loading' | 'running';
  position?: number;
  eta?: number;
  message?: string;
}

/** `done` of `total`, in `unit` (steps, bytes, tokens). */
export interface ProgressEvent {
  type: 'progress';
  done: number;
  total: number;
  unit?: string;
}

/** Something asked for that could not be honoured; it is reported, never dropped in silence. */
export interface WarningEvent {
  type: 'warning';
  warning: string;
}

export interface ChunkEvent<Chunk> {
  type: 'chunk';
  chunk: Chunk;
}

/** Exactly one ends every successful run. A failed run throws a GatewayError instead. */
export interface ResultEvent<Result> {
  type: 'result';
  result: Result;
}

export type RunEvent<Chunk, Result> =
  | StatusEvent
  | ProgressEvent
  | WarningEvent
  | ChunkEvent<Chunk>
  | ResultEvent<Result>;
