// What the policy is shown, and what it says to that.

/** Who waits for the answer: somebody at the screen, somebody who comes back for it, or nobody. */
export type Class = 'interactive' | 'normal' | 'background';

/** A model that somebody wants to run. */
export interface Want {
  runtime: string;
  model: string;
  /** Bytes of VRAM. */
  footprint: number;
  /** How large what is made is, where that changes the footprint: tokens of context, or pixels of all frames at once. */
  extent?: number;
}

/** Times are in milliseconds on the arbiter's clock, durations in milliseconds. */
export interface Waiting extends Want {
  /** Grows with every arrival. */
  id: number;
  /** The same small number for all who wait for one model; it spares looking that up by name. */
  line?: number;
  caller: string;
  class: Class;
  since: number;
  /** Until then others may go before; what stands in its way is drained in time. */
  dueAt: number;
  /** How long its model is expected to load where it is not there, and how long it runs. */
  loadMs: number;
  runMs: number;
}

/** A model on the card, or promised to be there. */
export interface Held extends Want {
  /** Leases that use it now. */
  leases: number;
  /** Of the last lease. 0: it came to the card some other way. */
  usedAt: number;
  /** When it came, or while it is loading when that began. */
  since: number;
  /** On its way to the card. */
  loading: boolean;
  /** What bringing it back would take. */
  loadMs: number;
  /** On its way off the card: nothing can be done with it now. */
  leaving: boolean;
  /** It would not leave, and is not asked again for a while. */
  stuck: boolean;
}

/** A lease that is in use. */
export interface Running {
  runtime: string;
  model: string;
  /** When it is expected to end; it may be past. */
  endsAt: number;
  class?: Class;
}

/** The card is nobody's for now. */
export interface Closed {
  until: number | undefined;
  because: string;
}

export interface Snapshot {
  now: number;
  /** In the order of arrival. */
  waiting: readonly Waiting[];
  held: readonly Held[];
  running: readonly Running[];
  /** Bytes of VRAM that models may use; undefined where nobody knows, and then the card holds one model at a time. */
  budget: number | undefined;
  /** The same if nobody else held any; the budget if absent. What fits that is waited for rather than refused. */
  most?: number | undefined;
  /** Nothing larger may come to the card: somebody said so. Else it gets the card for itself, for estimates err and runtimes can put a part elsewhere. */
  isFirm?: boolean;
  /** A model is on its way to the card or off it: memory is neither free nor taken. */
  swapping: boolean;
  /** Never unloaded to make room. */
  isPinned?: (model: Pick<Want, 'runtime' | 'model'>) => boolean;
  /** How many requests of one model, and of all models of a runtime, are let in at the same time. */
  slots?: (runtime: string) => { model: number; runtime: number };
  /** How much of the card a caller has used lately, against its share: who has used least goes first. */
  usage?: (caller: string) => number;
  /** How often a model was asked for lately: requests, each counting less the longer it is ago. */
  demand?: (model: Pick<Want, 'runtime' | 'model'>) => number;
  /** Background work that runs may be ended for somebody at the screen. */
  preempts?: boolean;
  /** Nothing begins. */
  closed?: Closed | undefined;
  /** Nothing of the background begins. */
  quiet?: Closed | undefined;
}

export interface Swap {
  for: Waiting;
  /** Idle, to be sent away first; empty where it fits beside what is there. */
  victims: readonly Held[];
  because: string;
}

export interface Refusal {
  waiting: Waiting;
  because: string;
  remedy?: string;
}

export interface Decision {
  /** Of models that are there: they may begin now. */
  grant: readonly Waiting[];
  /** One model that is not there comes next. */
  swap?: Swap;
  refuse: readonly Refusal[];
  /** What runs there is to be ended, and begun again later. */
  preempt?: readonly Held[];
  /** Why the others wait, by `toKey` of their model. */
  because: ReadonlyMap<string, string>;
  /** Milliseconds on the arbiter's clock: the decision may be another then, though nothing has happened. */
  wakeAt?: number;
}

export type Policy = (snapshot: Snapshot) => Decision;

export function toKey({ runtime, model }: Pick<Want, 'runtime' | 'model'>): string {
  return `${runtime} ${model}`;
}
