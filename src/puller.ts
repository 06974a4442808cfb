// How models are got: the contract of whoever brings them to this machine.
import type { PulledFile, PullKind } from './capabilities/model/fields.ts';
import type { ProgressEvent, StatusEvent, WarningEvent } from './event.ts';
import type { Model } from './runtime.ts';

/** What somebody wants to have here. */
export interface PullWant {
  /** As asked for, without the runtime's name before it: `qwen3:8b`, `sdxl`, `hf.co/org/repo:Q4_K_M`, the name a file shall have. */
  model: string;
  /** Where it is to be got, if said: an https address, or `hf:org/repo[@revision][/path]`. */
  source?: string | undefined;
  /** Of the one file that `source` names; lower-case hexadecimal. */
  sha256?: string | undefined;
  kind?: PullKind | undefined;
}

/** What getting it takes, found out before the first byte. */
export interface PullPlan {
  /** The id that it will have in its runtime. */
  model: string;
  files: (PulledFile & { present: boolean })[];
  /** Bytes still to come; undefined where nobody says. */
  bytes?: number;
  /** Bytes that are free where they go; undefined where nobody says. */
  free?: number;
  license?: string;
  source?: string;
  /** What an estimate of its memory is made of, where that is known beforehand. */
  facts: Pick<Model, 'size' | 'vram' | 'kvPerToken' | 'contextWindow' | 'parameters' | 'quantization'>;
  /** What the caller should know: node classes that are missing, terms to accept. */
  warnings: string[];
}

/** Something that could be got. */
export interface Offer {
  /** What `pull` would be asked for. */
  model: string;
  title?: string;
  capabilities: string[];
  /** Bytes to download, and of VRAM while it runs; undefined where nobody says. */
  size?: number;
  vram?: number;
  license?: string;
  source?: string;
  /** It is here already. */
  present: boolean;
  /** Higher is better known: downloads, or a rank of ours. */
  popularity?: number;
}

export type PullEvent =
  | StatusEvent
  | WarningEvent
  /** In bytes, over all files; `total` may grow while more becomes known. */
  | ProgressEvent
  /** The last one: it is on disk, checked and visible. */
  | {
      type: 'pulled';
      model: string;
      files: PulledFile[];
      /** Nothing had to be fetched; where that is not said, no progress means it. */
      already?: boolean;
    };

export interface Puller {
  /** The runtime that will have it. */
  readonly runtime: string;
  /**
   * How surely it is this one that gets such a thing, without asking anybody: 100 for what it knows by name, 60 for a source of a
   * kind that is its own, 10 where it can only try; undefined: it cannot.
   */
  claims(want: PullWant): number | undefined;
  /** Finds out what it has to know before it can claim. Waited for a moment, once, before anybody is asked for a model. */
  ready?(signal: AbortSignal): Promise<unknown>;
  /** Throws model_not_found, not_supported, invalid_request, model_unavailable with a hint. */
  plan(want: PullWant, signal: AbortSignal): Promise<PullPlan>;
  /**
   * Begins, or goes on where it was cut. Nothing is visible before it is whole and its hash is right. An abort keeps what has come.
   * Throws what `plan` does, storage_full before the first byte where there is no room, digest_mismatch, upstream failures.
   */
  pull(want: PullWant, signal: AbortSignal): AsyncIterable<PullEvent>;
  /** What can be got whose name or title holds the words. Offline it tells what it knows by itself. */
  search?(words: string, signal: AbortSignal): Promise<Offer[]>;
  /** Deletes a model of the runtime from disk; the bytes that became free. Throws model_not_found, conflict (built in, or shared). */
  remove?(model: string, signal: AbortSignal): Promise<{ freed: number | undefined; files: PulledFile[] }>;
}
