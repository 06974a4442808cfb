// What tests may ask of the fake ComfyUI, and what they can do to it.
export type FakeGraph = Record<string, { class_type: string; inputs: Record<string, unknown>; _meta?: object }>;
export type FakeObjectInfo = Record<string, FakeClass>;

export interface FakeClass {
  input?: { required?: Record<string, unknown>; optional?: Record<string, unknown>; hidden?: Record<string, unknown> };
  output?: unknown[];
  output_node?: boolean;
  [other: string]: unknown;
}

export interface FakeComfyUIOptions {
  /** The node classes; those of the recording where it is missing. */
  objectInfo?: FakeObjectInfo;
  /** `all` has every model file that the recording or a graph of this repository names, `none` has no model file at all. */
  files?: 'all' | 'none';
  /** A folder `models` on disk: its files are all that the server has, looked up whenever it is asked. */
  modelsDir?: string;
  /** False: an older server that does not tell where its folders lie. */
  folderPaths?: boolean;
  /** Milliseconds per step of a sampler; 1. */
  stepMs?: number;
  port?: number;
  /** False: a server of 2025: GET of /api/jobs routes answers 404, POST 405 (its web pages are mounted at the root). */
  jobsApi?: boolean;
  /** False: a server that takes any string as prompt_id, as those of 2025 do. */
  checkIds?: boolean;
  /** What the server was started with: `--preview-method auto` (a preview every step) or none. A prompt's extra_data counts more. */
  previews?: 'jpeg' | 'png' | 'none';
  /** False: VHS finds no ffmpeg, so that its `video/…` formats fail. */
  ffmpeg?: boolean;
  /** Bytes of one upload; 100 MiB. */
  maxUpload?: number;
}

export interface PostedPrompt {
  graph: FakeGraph;
  prompt_id: string | undefined;
  client_id: string | undefined;
  number: number | undefined;
  front: boolean;
  extra_data: Record<string, unknown> | undefined;
  /** What it was answered with: 200 or the status of the refusal. */
  status: number;
}

export interface Uploaded {
  kind: 'image' | 'mask';
  /** As it was answered. */
  name: string;
  subfolder: string;
  type: string;
  /** As it was sent. */
  sentName: string;
  bytes: Uint8Array;
}

/**
 * How the next execution goes wrong: `oom` the sampler runs out of memory (`oom-twice`: two executions in a row), `error` a node
 * raises, `loader` a file cannot be read.
 */
export type Failure = 'oom' | 'oom-twice' | 'error' | 'loader';

/** Where an execution stands still: before its first node, before the second step of a sampler, before its first output node. */
export type Stage = 'start' | 'sampling' | 'output';

export interface FakeComfyUI {
  url: string;
  port: number;
  /** Prompts that began executing at least one node: neither refused, nor wholly cached, nor deleted while they waited. */
  executions(): number;
  /** Everything POSTed to /prompt, oldest first, refused ones too. */
  prompts(): PostedPrompt[];
  /** POST /interrupt: which prompt was named, and whether anything was running that it met. */
  interrupts(): { prompt_id: string | undefined; hit: boolean }[];
  /** Ids given to POST /api/jobs/{id}/cancel and /api/jobs/cancel. */
  cancels(): string[];
  /** Ids given to POST /queue {delete}. */
  deletes(): string[];
  /** POST /free, in order. */
  frees(): { unload_models: boolean; free_memory: boolean }[];
  uploads(): Uploaded[];
  /** All requests, as `METHOD /path`, without the query. */
  requests(): string[];
  /** Client ids of the websockets that are open, oldest first (one that was replaced is still open). */
  sockets(): string[];
  running(): string | undefined;
  pending(): string[];
  /** Bytes of the card that models hold; loaders raise it, /free drops it to 0 once nothing runs. */
  loadedVram: number;
  /** Milliseconds between `execution_success` and the entry in history, with `status` and `executing` null after it; 0. */
  successBeforeHistoryMs: number;
  stepMs: number;

  failNext(kind: Failure): void;
  /** Executions stand still at this stage until `release`; an interrupt ends them there. */
  hold(stage?: Stage): void;
  /** Settles with its prompt id when an execution stands still. */
  held(): Promise<string>;
  release(): void;
  /** Every websocket is cut, as by a proxy; the server works on. */
  dropSockets(): void;
  /** Websockets stay open but nothing is sent on them any more: a connection that died without a word. `speak` ends it for new ones. */
  silence(): void;
  speak(): void;
  /** A new process on the same port: connections cut, queue, history and cache forgotten; uploaded and made files stay on disk. */
  restart(options?: { downMs?: number }): Promise<void>;
  /** The folder is one of /models: `checkpoints`, `loras`, … */
  addModelFile(folder: string, name: string): void;
  removeModelFile(name: string): void;
  /** A file that is in the input folder without an upload. */
  addInputFile(name: string, bytes: Uint8Array): void;
  close(): Promise<void>;
}
