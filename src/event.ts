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
  /** Units per second, and seconds until it is done, where somebody measures. */
  rate?: number;
  eta?: number;
  /** What is at work: the name of a file. */
  label?: string;
}

/** A first look at what is being made, to be shown and forgotten. */
export interface PreviewEvent {
  type: 'preview';
  /** `image/jpeg`, … */
  media_type: string;
  bytes: Uint8Array;
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
  /** Files that were made; they become the artifacts of the job. */
  files?: MadeFile[];
}

/** A file that a runtime made. Its media type is read from its bytes, not believed. */
export interface MadeFile {
  name?: string;
  bytes: Uint8Array | AsyncIterable<Uint8Array>;
  /** Where the bytes do not say: text, for instance. */
  media_type?: string;
}

export type RunEvent<Chunk, Result> =
  | StatusEvent
  | ProgressEvent
  | PreviewEvent
  | WarningEvent
  | ChunkEvent<Chunk>
  | ResultEvent<Result>;
