// The contract of a runtime: what generates, in a shape small enough to write a new one in an evening.
import type { Ability } from './capabilities/define.ts';
import type { Measures } from './capabilities/file.ts';
import type { CapabilityId, Chunk, Input, Result } from './capabilities/index.ts';
import type { RunEvent } from './event.ts';
import type { Puller } from './puller.ts';
import type { WorkflowDesk } from './workflows.ts';

/** Of an ability that is neither true nor false nobody knows: such a model is asked for it only by name. */
export interface Model extends Partial<Record<Ability, boolean>> {
  /** As the runtime names it. */
  id: string;
  /** What it can be asked, before derivations. */
  capabilities: CapabilityId[];
  /** `available` must be pulled first, `ready` is on disk, `loaded` is in memory, `loading` on its way there. */
  state: 'available' | 'ready' | 'loading' | 'loaded';
  /** Other names this runtime answers to for the same model. */
  aliases?: string[];
  tools?: boolean;
  reasoning?: boolean;
  /** Too small to judge or to follow instructions; said in `warnings` where that matters. */
  tiny?: boolean;
  /** text.generate with `echo`, `logprobs` and `max_tokens: 0` scores the prompt (its own log-probabilities). */
  echo?: boolean;
  contextWindow?: number;
  /** Bytes on disk. */
  size?: number;
  /** Seconds since 1970. */
  created?: number;
  /** Which of a runtime's models is the default where nothing else decides: higher wins. */
  rank?: number;
  /** `sha256:…`, as the runtime tells it. */
  digest?: string;
  /** `Q4_K_M`, `fp16`. */
  quantization?: string;
  /** Number of weights. */
  parameters?: number;
  license?: string;
  /** Where it came from or can be got: an address, or a name in the runtime's own library. */
  source?: string;
  /** Bytes of VRAM that it is said to take while it runs, where the runtime or its workflow says so. */
  vram?: number;
  /** Bytes of the attention's cache for each token of context, at 16 bits a value. */
  kvPerToken?: number;
  /** What it makes where a request does not say, by capability. */
  usual?: Partial<Record<CapabilityId, Usual>>;
}

/** How large something is, and how long it is worked on. */
export interface Usual {
  /** In pixels. */
  width?: number;
  height?: number;
  frames?: number;
  fps?: number;
  seconds?: number;
  steps?: number;
  /** How many of several it makes at once, at most; all if absent. */
  batch?: number;
}

/** What a handler gets beside the input. */
export interface Call {
  model: Model;
  /** Aborts when the caller left, the deadline passed or the run was cancelled; it must reach the hardware. */
  signal: AbortSignal;
  requestId: string;
  /** The file that a field of the input names. Throws not_found, expired. */
  file(reference: string): Promise<InputFile>;
  /** Seconds that the model shall stay in memory after this, -1 for ever; undefined: as the runtime likes. */
  keep?: number;
}

/** A file that a caller gave: of the kind that its field asks for, and within the limits. */
export interface InputFile {
  /** Its name among artifacts. */
  id: string;
  /** As its bytes say. */
  media_type: string;
  /** Bytes. */
  size: number;
  /** Lower-case hexadecimal: the same bytes, the same name. */
  sha256: string;
  media: Measures;
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
}

export type Handler<Id extends CapabilityId> = (
  input: Input<Id>,
  call: Call,
) => AsyncIterable<RunEvent<Chunk<Id>, Result<Id>>>;

export type Handlers = { [Id in CapabilityId]?: Handler<Id> };

/** A request in a dialect that the runtime speaks itself: its bytes go there and the answer's bytes come back. */
export interface RelayRequest {
  /** Below the dialect's base path, e.g. `/chat/completions`. */
  path: string;
  body: Uint8Array<ArrayBuffer>;
  stream: boolean;
}

export interface RelayReply {
  status: number;
  contentType: string;
  body: AsyncIterable<Uint8Array>;
}

export type Relay = (request: RelayRequest, call: Call) => Promise<RelayReply>;

export interface RuntimeAdapter {
  /** Unique in a gateway: `ollama`, `embedded`, `xai`, or the name from the configuration. */
  name: string;
  /** Which runtime answers first where the caller named no model: higher wins. */
  priority: number;
  models(signal: AbortSignal): Promise<Model[]>;
  /** A missing key means "not offered", which becomes a 501 with a remedy. */
  handles: Handlers;
  /** By dialect name; present where bytes can pass untouched. Throws a GatewayError for any answer that is not 2xx. */
  relays?: { openai?: Relay };
  /** Present where the runtime holds memory on the card. */
  gpu?: GpuTenant;
  /** Present where it holds models in memory that is not on the arbiter's books; never beside `gpu`. */
  memory?: ModelMemory;
  /** Present where models can be got for it. */
  puller?: Puller;
  /** Resolves when the runtime answers, with its version where it tells one; throws a GatewayError with a hint when it does not. */
  health(signal: AbortSignal): Promise<{ version?: string } | void>;
  /** The one line that gets a model this runtime does not have, if it could have it. */
  pullHint?(model: string): string;
  /** Present where the runtime runs graphs that callers may look at and add. */
  workflows?: WorkflowDesk;
  close?(): Promise<void>;
}

/** A model that sits in memory. */
export interface Resident {
  model: string;
  /** Bytes of VRAM; 0 where it is all in main memory. */
  vram: number;
  /** The most that it held while it worked, where that was more. */
  peak?: number;
  /** Bytes in main memory: what did not fit on the card, or all of it. */
  ram?: number;
  /** Tokens that it was loaded for. */
  contextWindow?: number;
  /** Milliseconds since 1970 when the runtime sends it away by itself; undefined: never, or nobody knows. */
  expiresAt?: number;
  /** It works now. */
  busy?: boolean;
  /** The figures are of all that the runtime holds, and more than this model may be in them: they measure no model. */
  shared?: boolean;
  /** Nobody measures: the figures are a guess. */
  estimated?: boolean;
}

/** What sits in a runtime's memory, and moving it in and out. A member that is missing cannot be done. */
export interface ModelMemory {
  residents(signal: AbortSignal): Promise<Resident[]>;
  /** What it computes on, as far as it has told so far. */
  device?(): 'card' | 'processor' | undefined;
  /** Resolves when the model would answer at once. `keep` as in `Call`. Throws insufficient_vram, model_not_found, upstream failures. */
  load?(model: Model, options: { signal: AbortSignal; keep?: number }): Promise<void>;
  /** Resolves when the memory is measured free, throws `insufficient_vram` when it does not become so. One that is not loaded is no error. */
  evict?(model: string, signal: AbortSignal): Promise<void>;
}

export interface GpuTenant extends ModelMemory {
  /** Estimated or measured bytes of VRAM that running this model takes. */
  footprint(model: Model): number;
  /** How many requests it works on at the same time, of one model and in all; as many as come if absent. The rest waits for the card in the gateway's order. */
  slots?: { model?: number; runtime?: number };
  evict(model: string, signal: AbortSignal): Promise<void>;
}

/** Whichever of the two a runtime has. */
export function memoryOf({ gpu, memory }: Pick<RuntimeAdapter, 'gpu' | 'memory'>): ModelMemory | undefined {
  return gpu ?? memory;
}
