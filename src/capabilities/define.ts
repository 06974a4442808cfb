// How a capability is written down: one value that HTTP, OpenAPI, the CLI and the adapters all read.
import { z } from 'zod';
import type { RunEvent } from '../event.ts';
import { artifactView } from './file.ts';

/** What the gateway adds to every result, so that an answer always says what really ran. */
export const envelope = {
  model: z.string().describe('The model that really ran.'),
  runtime: z.string().describe('The runtime that ran it.'),
  warnings: z.array(z.string()).describe('What was asked for and could not be honoured.'),
};

/** What a model may be able to do beyond the plain form of its capabilities. */
export type Ability = 'vision' | 'mask' | 'animate';

export interface Definition<
  Id extends string,
  In extends z.ZodObject,
  Res extends z.ZodObject,
  Chunk extends z.ZodType,
> {
  /** `noun.verb`. */
  id: Id;
  /** Native HTTP path (POST). */
  path: `/${string}`;
  summary: string;
  description: string;
  input: In;
  /** What a handler returns; callers get it with `model`, `runtime` and `warnings` added. */
  result: Res;
  /** One piece of a streamed answer. */
  chunk: Chunk;
  cli: CliShape<z.output<Res>, z.output<Chunk>>;
  /** What kind of files come out. It then always runs as a job, so that they are kept. */
  makes?: 'image' | 'video' | 'audio';
  /** What a model must be able to do for this request; without one, for any request. */
  needs?: (input: z.output<In> | undefined) => Ability[];
  /**
   * Done by the gateway itself, not by a model: always a job, which goes on when its caller leaves, takes no place from work on
   * the card, and may be begun and run for as long as this.
   */
  own?: { attempts: number; runMs: number };
  /** How to do it through other capabilities, for runtimes that do not offer it themselves. */
  derive?: Derivation<z.output<In>, z.output<Chunk>, z.output<Res>>;
}

/** The command line of a capability: which words call it and what a person sees. */
export interface CliShape<Result, Chunk> {
  command: readonly [noun: string, verb: string];
  /** The input field that takes the positional words, or standard input. */
  argument: string;
  /** What is printed of a chunk, and of the result when nothing was streamed. */
  showChunk: (chunk: Chunk) => string;
  showResult: (result: Result) => string;
}

/** The capabilities a derivation may use, on the same model and under the same lease. */
export interface Ask {
  offers(id: string): boolean;
  run<In extends z.ZodObject, Res extends z.ZodObject, Chunk extends z.ZodType>(
    capability: Definition<string, In, Res, Chunk>,
    input: z.input<In>,
  ): AsyncIterable<RunEvent<z.output<Chunk>, z.output<Res>>>;
  /** The file that a field of the input names, as a data: URL. */
  inline(reference: string): Promise<string>;
  /** Facts about the model that is asked. */
  readonly model: { id: string; tiny?: boolean; echo?: boolean };
}

export interface Derivation<In, Chunk, Res> {
  /** Any one of these on a model makes the derived capability available there. */
  from: readonly string[];
  run(input: In, ask: Ask): AsyncIterable<RunEvent<Chunk, Res>>;
}

export interface Capability<
  Id extends string,
  In extends z.ZodObject,
  Res extends z.ZodObject,
  Chunk extends z.ZodType,
> extends Definition<Id, In, Res, Chunk> {
  /** `result` plus the envelope: the schema of the answer. */
  output: z.ZodObject;
}

export function defineCapability<
  Id extends string,
  In extends z.ZodObject,
  Res extends z.ZodObject,
  Chunk extends z.ZodType,
>(definition: Definition<Id, In, Res, Chunk>): Capability<Id, In, Res, Chunk> {
  return { ...definition, output: definition.result.extend(envelope) };
}

const nothing = z.never();

/** A capability whose answer is files: nothing of it is streamed but how far it is and first looks. */
export function defineMaker<Id extends string, In extends z.ZodObject, Res extends z.ZodObject>({
  cli,
  ...definition
}: Omit<Definition<Id, In, Res, typeof nothing>, 'chunk' | 'cli' | 'derive'> & {
  makes: 'image' | 'video' | 'audio';
  cli: Pick<CliShape<never, never>, 'command' | 'argument'>;
}): Capability<Id, In, Res, typeof nothing> {
  return {
    ...definition,
    chunk: nothing,
    cli: { ...cli, showChunk: () => '', showResult: () => '' },
    output: definition.result.extend({ ...envelope, artifacts: z.array(artifactView) }),
  };
}
