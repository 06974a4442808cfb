// Which program a server is: found out by what it answers, when somebody first needs to know, and again after it was down.
import { GatewayError, isAbort } from '../../../../src/error.ts';
import type { Puller } from '../../../../src/puller.ts';
import type { Model, ModelMemory } from '../../../../src/runtime.ts';
import { createUpstream } from '../../../../src/upstream.ts';
import type { WireModels } from '../wire.ts';
import { llamaRouter } from './llama-router.ts';
import { llamaSwap } from './llama-swap.ts';
import { createLoads } from './loads.ts';
import { lmStudio } from './lm-studio.ts';
import type { Look, Manager, ManagerOptions, ManagerParts } from './manager.ts';
import { speaches } from './speaches.ts';
import { createUses } from './uses.ts';
import type { Uses } from './uses.ts';
import { vllm } from './vllm.ts';

export interface Managers {
  /** Finds out which program it is, if that is not known, and adds what its own lists tell. Never throws but for a caller who left. */
  complete(models: Model[], listed: WireModels, signal: AbortSignal): Promise<Model[]>;
  /** The server did not answer: another may do so next time. */
  forget(): void;
  /** Undefined once it is known that the program moves no memory. */
  memory(): ModelMemory | undefined;
  puller: Puller;
  uses: Uses;
  /** To be awaited before a model is asked. */
  wake(signal: AbortSignal): Promise<void> | undefined;
}

const PROGRAMS = [vllm, llamaSwap, llamaRouter, lmStudio, speaches];
/** Milliseconds for all looks together: a list of models must not wait long for what it can do without. */
const LOOK_MS = 800;
const AGAIN_MS = 30_000;
/** They say so of all that they list, and none of them has anything to be moved. */
const WITHOUT = /^(?:openai|openai-internal|openai-dev|system|sd-?cpp|stable-diffusion\.cpp)$/i;

/** `options.baseUrl` is the one of OpenAI's routes. */
export function createManagers(options: ManagerOptions): Managers {
  const { name, limits, pauseMs, list } = options;
  const baseUrl = options.baseUrl.replace(/\/+$/, '').replace(/\/v1$/, '');
  const upstream = createUpstream({ ...options, baseUrl });
  const parts: ManagerParts = {
    name,
    upstream,
    open: (others) => createUpstream({ ...options, baseUrl, limits: { ...limits, ...others } }),
    limits,
    pauseMs,
    list,
  };
  const uses = createUses();
  const loads = createLoads();
  /** undefined: nobody has found out; null: none of them. */
  let known: Manager | null | undefined;
  let knownBy: string | undefined;
  let finding: Promise<Manager | null | undefined> | undefined;
  let foundAt = -Infinity;

  /** Undefined where it cannot be told now. */
  async function find(listed: WireModels): Promise<Manager | null | undefined> {
    const owners = listed.data?.map((wire) => wire?.owned_by ?? '') ?? [];
    if (owners.length > 0 && owners.every((owner) => WITHOUT.test(owner))) return null;
    const look = toLook(parts);
    const found = await Promise.allSettled(PROGRAMS.map(async (program) => program.matches(listed, look)));
    const at = found.findIndex((one) => one.status === 'fulfilled' && one.value);
    if (at !== -1) return PROGRAMS[at]!.create(parts);
    return found.some((one) => one.status === 'rejected') ? undefined : null;
  }

  async function settle(listed: WireModels, patient: boolean): Promise<Manager | null | undefined> {
    const by = signatureOf(listed);
    if (known !== undefined && knownBy === by) return known;
    // A server that leaves looks unanswered would hold up every list.
    if (known === undefined && !finding && !patient && Date.now() - foundAt < AGAIN_MS) return undefined;
    finding ??= find(listed).finally(() => {
      finding = undefined;
      foundAt = Date.now();
    });
    const found = await finding;
    // The same program stays the same manager: it remembers what it has done.
    if (!known || !found || known.program !== found.program) known = found;
    knownBy = by;
    return known;
  }

  const now = async (signal: AbortSignal) => known ?? (await settle(await list(signal), true)) ?? undefined;

  /** What a program that does not answer as itself leaves behind is looked at anew. */
  async function over<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (thrown) {
      if (thrown instanceof GatewayError && LOST.has(thrown.code)) forget();
      throw thrown;
    }
  }

  function forget(): void {
    known = undefined;
    knownBy = undefined;
    foundAt = -Infinity;
  }

  const load: NonNullable<ModelMemory['load']> = (model, { signal, ...rest }) =>
    over(async () => {
      const manager = await now(signal);
      const own = manager?.memory?.load;
      if (!own) throw cannot('load models', name);
      await loads.join(model.id, signal, (shared) => own(model, { ...rest, signal: shared }));
    });

  const evict: NonNullable<ModelMemory['evict']> = (model, signal) =>
    over(async () => {
      const manager = await now(signal);
      if (!manager?.memory?.evict) throw cannot('unload models', name);
      if (manager.whole ? uses.any() : uses.busy(model)) throw inUse(model, name);
      await manager.memory.evict(model, signal);
    });

  const memory: ModelMemory = {
    residents: (signal) =>
      over(async () => {
        const residents = (await (await now(signal))?.memory?.residents(signal)) ?? [];
        return residents.map((one) => (uses.busy(one.model) ? { ...one, busy: true } : one));
      }),
    load,
    evict,
  };

  return {
    uses,
    forget,
    async complete(models, listed, signal) {
      try {
        const manager = await settle(listed, false);
        return manager ? await over(() => manager.complete(models, signal)) : models;
      } catch (thrown) {
        if (signal.aborted || !(thrown instanceof GatewayError || isAbort(thrown))) throw thrown;
        return models;
      }
    },
    memory: () => (known === null || (known && !known.memory) ? undefined : memory),
    puller: toPuller(name, {
      known: () => known ?? undefined,
      now,
      ready: async (signal) => known === undefined && (await now(signal)),
      over,
      assertIdle(id) {
        if (uses.busy(id)) throw inUse(id, name);
      },
    }),
    wake: (signal) => known?.wake?.(signal),
  };
}

const LOST = new Set(['upstream_unavailable', 'upstream_invalid']);

/** What cannot be done is missing as soon as that is known; until then it is found out by trying. */
function toPuller(
  runtime: string,
  parts: {
    known(): Manager | undefined;
    now(signal: AbortSignal): Promise<Manager | undefined>;
    ready(signal: AbortSignal): Promise<unknown>;
    over<T>(work: () => Promise<T>): Promise<T>;
    assertIdle(model: string): void;
  },
): Puller {
  const { known, now, ready, over, assertIdle } = parts;
  const own = async (signal: AbortSignal) => {
    const puller = (await over(() => now(signal)))?.puller;
    if (puller) return puller;
    throw cannot('get models', runtime);
  };
  const remove: NonNullable<Puller['remove']> = async (model, signal) => {
    const puller = await own(signal);
    if (!puller.remove) throw cannot('delete models', runtime);
    assertIdle(model);
    return over(() => puller.remove!(model, signal));
  };
  const search: NonNullable<Puller['search']> = (words, signal) =>
    over(async () => (await own(signal)).search?.(words, signal) ?? []);
  return {
    runtime,
    claims: (want) => known()?.puller?.claims(want),
    ready,
    plan: (want, signal) => over(async () => (await own(signal)).plan(want, signal)),
    async *pull(want, signal) {
      yield* (await own(signal)).pull(want, signal);
    },
    get search() {
      return known()?.puller?.search ? search : undefined;
    },
    get remove() {
      return known()?.puller?.remove ? remove : undefined;
    },
  } as Puller;
}

function toLook({ open }: ManagerParts): Look {
  const quick = open({ controlMs: LOOK_MS, firstByteMs: LOOK_MS });
  return {
    async at<T>(path: string) {
      try {
        const said = await quick.control<unknown>(path);
        return typeof said === 'object' && said !== null && !Array.isArray(said) ? (said as T) : undefined;
      } catch (thrown) {
        if (thrown instanceof GatewayError && NO.has(thrown.code)) return undefined;
        throw thrown;
      }
    },
    async knows(path) {
      const reply = await quick.send(path, { method: 'HEAD', signal: AbortSignal.timeout(LOOK_MS) });
      await reply.text();
      return reply.status === 200 || reply.status === 405;
    },
  };
}

/** Answers of servers that do not have the path. */
const NO = new Set(['model_not_found', 'invalid_request', 'provider_auth', 'upstream_invalid', 'upstream_error']);

/** Changes when another program may be answering. */
function signatureOf({ data }: WireModels): string {
  const owners = new Set((Array.isArray(data) ? data : []).map((wire) => `${wire?.owned_by} ${wire?.status != null}`));
  return [...owners].toSorted().join('\n');
}

function cannot(what: string, source: string): GatewayError {
  return new GatewayError('not_supported', `${source} cannot be told to ${what}.`, {
    source,
    hint: 'The llama-server router, LM Studio, vLLM, speaches and llama-swap can.',
  });
}

function inUse(model: string, source: string): GatewayError {
  return new GatewayError('conflict', `${model} is in use.`, { source, hint: 'Try again when it has answered.' });
}
