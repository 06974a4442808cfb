// The contract of a runtime: what generates, in a shape small enough to write a new one in an evening.
import type { Ability } from './capabilities/define.ts';
import type { Measures } from './capabilities/file.ts';
import type { CapabilityId, Chunk, Input, Result } from './capabilities/index.ts';
import type { RunEvent } from './event.ts';
import type { WorkflowDesk } from './workflows.ts';

/** Of an ability that is neither true nor false nobody knows: such a model is asked for it only by name. */
export interface Model extends Partial<Record<Ability, boolean>> {
  /** As the runtime names it. */
  id: string;
  /** What it can be asked, before derivations. */
  capabilities: CapabilityId[];
  /** `available` must be pulled first, `ready` is on disk, `loaded` is in memory. */
  state: 'available' | 'ready' | 'loaded';
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
}

/** What a handler gets beside the input. */
export interface Call {
  model: Model;
  /** Aborts when the caller left, the deadline passed or the run was cancelled; it must reach the hardware. */
  signal: AbortSignal;
  requestId: string;
  /** The file that a field of the input names. Throws not_found, expired. */
  file(reference: string): Promise<InputFile>;
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
  /** Resolves when the runtime answers, throws a GatewayError with a hint when it does not. */
  health(signal: AbortSignal): Promise<void>;
  /** The one line that gets a model this runtime does not have, if it could have it. */
  pullHint?(model: string): string;
  /** Present where the runtime runs graphs that callers may look at and add. */
  workflows?: WorkflowDesk;
  close?(): Promise<void>;
}

/** A model that sits in the card's memory. */
export interface Resident {
  model: string;
  /** Bytes of VRAM. */
  vram: number;
}

export interface GpuTenant {
  /** Estimated or measured bytes of VRAM that running this model takes. */
  footprint(model: Model): number;
  residents(signal: AbortSignal): Promise<Resident[]>;
  /** Resolves when the memory is measured free, throws `insufficient_vram` when it does not become so. */
  evict(model: string, signal: AbortSignal): Promise<void>;
}
