// What a program behind OpenAI's routes can do with its models beside answering for them.
import type { Puller } from '../../../../src/puller.ts';
import type { Model, ModelMemory } from '../../../../src/runtime.ts';
import type { Upstream, UpstreamLimits, UpstreamOptions } from '../../../../src/upstream.ts';
import type { WireModels } from '../wire.ts';

/** One program. A member that is missing cannot be done there. */
export interface Manager {
  /** As its makers write it. */
  program: string;
  memory?: ModelMemory;
  puller?: Omit<Puller, 'runtime'>;
  /** Memory is moved for all of its models at once. */
  whole?: boolean;
  /** What its own lists tell of the models that OpenAI's list has, and of others that it has too. */
  complete(models: Model[], signal: AbortSignal): Promise<Model[]>;
  /** Makes it able to answer where it would not do so by itself. */
  wake?(signal: AbortSignal): Promise<void>;
}

export interface ManagerParts {
  /** Of the runtime. */
  name: string;
  /** Of the program's own routes, which lie beside `/v1`. */
  upstream: Upstream;
  /** The same address under other limits. */
  open(limits: Partial<UpstreamLimits>): Upstream;
  limits: UpstreamLimits;
  /** Milliseconds between two looks at what takes its time. */
  pauseMs: number;
  /** OpenAI's list. */
  list(signal: AbortSignal): Promise<WireModels>;
}

/** A program, and how it is told from the others. */
export interface Program {
  matches(listed: WireModels, look: Look): Promise<boolean> | boolean;
  create(parts: ManagerParts): Manager;
}

/** Throws where no answer came, which tells nothing. */
export interface Look {
  /** Undefined where there is no such path, or no JSON behind it. */
  at<T>(path: string): Promise<T | undefined>;
  /** Whether there is such a path, without having done what it is for. */
  knows(path: string): Promise<boolean>;
}

export type ManagerOptions = UpstreamOptions & {
  pauseMs: number;
  list(signal: AbortSignal): Promise<WireModels>;
};
