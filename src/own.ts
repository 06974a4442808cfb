// What the gateway does itself, beside what it has runtimes do: capabilities of its own, and getting models that requests name.
import type { CapabilityId, Chunk, Input, Result } from './capabilities/index.ts';
import type { ProgressEvent, RunEvent, StatusEvent, WarningEvent } from './event.ts';
import type { Target } from './run.ts';

/** Gets models because requests name them. `runtime`: of its list; undefined where no runtime has it. */
export interface OnDemand {
  gets(name: string, runtime: string | undefined): boolean;
  /** Ends when it is here. Throws what pulls throw. */
  get(
    name: string,
    runtime: string | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<StatusEvent | ProgressEvent | WarningEvent, Target>;
}

/** What a capability of the gateway's own is given beside its input. */
export interface OwnCall {
  signal: AbortSignal;
  requestId: string;
  setTarget(target: Target): void;
}

export interface OwnHandler<Id extends CapabilityId> {
  (input: Input<Id>, call: OwnCall): AsyncIterable<RunEvent<Chunk<Id>, Result<Id>>>;
  /** Throws for what could never be done, so that it is refused before it is taken as a job. */
  check?(input: Input<Id>): Promise<void>;
}

export type OwnHandlers = { [Id in CapabilityId]?: OwnHandler<Id> };
