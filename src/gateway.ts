// The one place where catalog, arbiter, runtimes and runs meet.
import type { Arbiter } from './arbiter/arbiter.ts';
import type { Class } from './arbiter/policy.ts';
import {
  capabilities,
  type CapabilityId,
  type Chunk,
  type Input,
  type Output,
  type Result,
} from './capabilities/index.ts';
import type { Catalog, Route } from './catalog.ts';
import { standIn, toOverflow, toOverflowed, toPassed, toReason, toWarning, WaitTooLong } from './catalog/fallback.ts';
import { GatewayError, toGatewayError } from './error.ts';
import type { ProgressEvent, RunEvent, StatusEvent, WarningEvent } from './event.ts';
import { handle } from './handle.ts';
import type { MediaTools } from './media.ts';
import type { OnDemand, OwnHandlers } from './own.ts';
import { startRun, type Run, type RunContext, type Target } from './run.ts';
import type { Call, InputFile, RelayReply, RelayRequest } from './runtime.ts';
import { untilHeeded } from './timers.ts';
import { createTurns, type Need, type Turn } from './turn.ts';

export interface RunOptions {
  /** The caller left, or gave up. */
  signal: AbortSignal;
  requestId: string;
  /** Whose share of the card it is, and who waits for it; default nobody's, and somebody at the screen. */
  caller?: string;
  class?: Class;
  /** The files of whoever asks, by what the input calls them; without it there are none. */
  file?: (reference: string) => Promise<InputFile>;
}

export interface Relayed extends Target {
  reply: RelayReply;
  /** Models that should have answered and could not. */
  warnings: string[];
  /** To be called when the answer's body has ended or its reader left. */
  release(): void;
}

export interface Gateway {
  readonly catalog: Catalog;
  readonly arbiter: Arbiter;
  /** What a call needs of the card. */
  readonly needOf: NonNullable<GatewayOptions['needOf']>;
  run<Id extends CapabilityId>(id: Id, input: Input<Id>, options: RunOptions): Run<Chunk<Id>, Output<Id>>;
  /**
   * Sends a request on in its own dialect, where the model's runtime speaks it; undefined where it does not.
   * `request` makes the bytes for the model that was chosen.
   */
  relay(
    dialect: 'openai',
    id: CapabilityId,
    model: string | undefined,
    request: (modelId: string) => RelayRequest,
    options: RunOptions,
  ): Promise<Relayed | undefined>;
  /** Throws for what the gateway itself is asked to do and could never do. */
  check<Id extends CapabilityId>(id: Id, input: Input<Id>): Promise<void>;
  /** Whether a model that is not here would be got when a run names it. */
  gets(model: string): boolean;
  /** Runs and relays that have not ended; what the gateway does itself is not among them, for it can be taken up again. */
  active(): number;
  draining(): boolean;
  /** New work is refused from now on; resolves when what runs has ended or `ms` have passed. */
  drain(ms: number): Promise<void>;
}

export interface GatewayOptions {
  catalog: Catalog;
  arbiter: Arbiter;
  maxRuns: number;
  /** Makes a PNG of any picture, for models that read no other kinds; those go as they are if absent. */
  toPng?: MediaTools['toPng'];
  /** Done by the gateway itself: capability → who does it. */
  own?: OwnHandlers;
  /** Gets models that are named and not here; they are not got if absent. */
  onDemand?: OnDemand;
  /** What a call needs of the card; what the tenant says if absent. `work` tells apart what takes differently long. */
  needOf?: (id: CapabilityId, route: Route, input: unknown) => Need;
  /** How long the wait for the card may be before a listed model that is not on it answers, in milliseconds; for ever if absent. */
  overflowMs?: number;
  /** A model did not fit, though it was let in with that many bytes. */
  outgrew?: (runtime: string, model: string, extent: number | undefined, footprint: number) => void;
  /** A runtime did not end what it was told to end: it was left behind, and the card is another's. */
  onIgnored?: (runtime: string, model: string) => void;
  /** How long it has for that, in milliseconds. */
  heedMs?: number;
  /** The arbiter's clock, so that who asks it again keeps the place in the line. */
  now?: () => number;
  /** How long a model shall stay in memory after a call: see `Call.keep`. */
  keepOf?: (runtime: string, model: string) => number | undefined;
  /** A call begins to use a model; what it returns is called when that has ended. */
  use?: (runtime: string, model: string) => () => void;
}

/** What a call knows of the request that it serves. */
type Asked = Pick<Call, 'requestId' | 'file'> & Pick<RunOptions, 'caller' | 'class'>;

const HEED_MS = 10_000;

export function createGateway(options: GatewayOptions): Gateway {
  const { catalog, arbiter, maxRuns, toPng, onDemand } = options;
  const { own = {}, keepOf = () => undefined, use = () => () => {} } = options;
  const { needOf: given = toNeed, overflowMs, outgrew, onIgnored = () => {}, heedMs = HEED_MS, now } = options;
  const turns = createTurns({ arbiter, heedMs, now, onIgnored, outgrew });
  let active = 0;
  let draining = false;
  let onIdle = () => {};

  // What takes how long is told apart by what is asked, where nobody knows better.
  const needOf: Gateway['needOf'] = (id, route, input) => ({ work: id, ...given(id, route, input) });

  function admit(): void {
    if (draining) throw new GatewayError('draining', 'The gateway is shutting down.', { retryAfter: 5 });
    if (active >= maxRuns) {
      throw new GatewayError('overloaded', 'Too many requests are in progress.', {
        retryAfter: 5,
        hint: 'Ask again later, or raise HONO_AI_MAX_RUNS.',
      });
    }
    active++;
  }

  function leave(): void {
    if (--active === 0) onIdle();
  }

  function run<Id extends CapabilityId>(id: Id, input: Input<Id>, { signal, file = noFiles, ...who }: RunOptions) {
    const isOwn = capabilities[id].own !== undefined;
    if (!isOwn) admit();
    else if (draining) throw new GatewayError('draining', 'The gateway is shutting down.', { retryAfter: 5 });
    return startRun<Chunk<Id>, Result<Id>>({
      id: who.requestId,
      signal,
      source: (context) => execute(id, input, context, { ...who, file }),
      ...(isOwn ? {} : { onEnd: leave }),
    }) as Run<Chunk<Id>, Output<Id>>;
  }

  /** Tries the routes in turn; see catalog/fallback.ts for when the next one answers. Never after anything came out of one. */
  async function* execute<Id extends CapabilityId>(
    id: Id,
    input: Input<Id>,
    context: RunContext,
    asked: Asked,
  ): AsyncGenerator<RunEvent<Chunk<Id>, Result<Id>>> {
    if (capabilities[id].own) {
      const mine = own[id];
      if (!mine) throw new GatewayError('not_supported', `This gateway does not offer ${id}.`);
      return yield* mine(input, { ...context, requestId: asked.requestId });
    }
    let routes = yield* findRoutes(id, input, context.signal);
    const since = now?.();
    // What should have answered and did not, each with why.
    const passed = [...(routes[0]!.passed ?? [])];
    if (passed.length > 0) yield { type: 'warning', warning: toWarning(`${passed.join('; ')}.`, routes[0]!) };
    for (let index = 0; ;) {
      const route = routes[index]!;
      let begun = false;
      try {
        const chosen = { ...route, reason: toReason(route, passed) };
        const limitMs = toOverflow(routes, index) === undefined ? undefined : overflowMs;
        for await (const event of onRoute(id, input, chosen, { ...context, since, limitMs }, asked)) {
          begun ||= event.type === 'chunk' || event.type === 'result';
          yield event;
        }
        return;
      } catch (thrown) {
        const error = toGatewayError(thrown);
        if (error.code === 'upstream_unavailable') catalog.markDown(route.runtime, error);
        const next = begun || context.signal.aborted ? undefined : standIn(routes, index, error);
        if (next === undefined) throw error;
        const instead = routes[next]!;
        passed.push(toPassed(route, error));
        yield { type: 'warning', warning: toWarning(error.message, instead) };
        // Where that one cannot, it is waited for after all.
        if (error instanceof WaitTooLong) routes = toOverflowed(routes, index, next);
        index = routes.indexOf(instead);
      }
    }
  }

  /** As the catalog has it, after getting what is named and not here where that is wanted. */
  async function* findRoutes<Id extends CapabilityId>(
    id: Id,
    input: Input<Id>,
    signal: AbortSignal,
  ): AsyncGenerator<StatusEvent | ProgressEvent | WarningEvent, Route[]> {
    const find = async (name: string | undefined) => catalog.resolve(id, name, input);
    const name = input.model;
    if (!onDemand || name === undefined) return find(name);
    let wanted = { name, runtime: undefined as string | undefined };
    let missing: unknown;
    try {
      const routes = await find(name);
      const [route] = routes;
      if (routes.length > 1 || route!.model.state !== 'available') return routes;
      wanted = { name: route!.model.id, runtime: route!.runtime.name };
      if (!onDemand.gets(wanted.name, wanted.runtime)) return routes;
    } catch (thrown) {
      missing = thrown;
      if (!isUnknown(thrown) || !onDemand.gets(name, undefined)) throw thrown;
    }
    try {
      const got = yield* onDemand.get(wanted.name, wanted.runtime, signal);
      return await find(name).catch(() => find(`${got.runtime}/${got.model}`));
    } catch (thrown) {
      // Nobody has it: what the catalog said knows names that look like it.
      throw missing !== undefined && isUnknown(thrown) ? missing : thrown;
    }
  }

  const gets = (model: string) => onDemand?.gets(model, undefined) ?? false;

  async function* onRoute<Id extends CapabilityId>(
    id: Id,
    input: Input<Id>,
    route: Route,
    { signal, setTarget, addCost, since, limitMs }: RunContext & Pick<Turn, 'since' | 'limitMs'>,
    { caller, class: of, ...asked }: Asked,
  ): AsyncGenerator<RunEvent<Chunk<Id>, Result<Id>>> {
    const { runtime, model } = route;
    setTarget({ model: model.id, runtime: runtime.name, reason: route.reason });
    async function* work(until: AbortSignal): AsyncGenerator<RunEvent<Chunk<Id>, Result<Id>>> {
      const unuse = use(runtime.name, model.id);
      try {
        const keep = keepOf(runtime.name, model.id);
        const call: Call = { model, signal: until, ...asked, ...(keep === undefined ? {} : { keep }) };
        yield* handle(id, input, route, call, toPng);
      } finally {
        // The handler's iteration has ended, so the runtime is done with it: readers may still be reading.
        unuse();
      }
    }
    if (!runtime.gpu) {
      const onLeft = () => onIgnored(runtime.name, model.id);
      return yield* untilHeeded(work(signal), signal, { ms: heedMs, onLeft });
    }
    const who = { ...(caller === undefined ? {} : { caller }), ...(of === undefined ? {} : { class: of }) };
    const need = needOf(id, route, input);
    yield* turns.take({ route, need, ...who, since, limitMs, signal, addCost }, work);
  }

  async function relay(
    dialect: 'openai',
    id: CapabilityId,
    model: string | undefined,
    request: (modelId: string) => RelayRequest,
    { signal, requestId }: RunOptions,
  ): Promise<Relayed | undefined> {
    const find = async () => catalog.resolve(id, model);
    const routes = await find().catch((thrown: unknown) => {
      // It is got first, which bytes have no room to tell of.
      if (model !== undefined && isUnknown(thrown) && gets(model)) return undefined;
      throw thrown;
    });
    const first = routes?.[0]?.model;
    if (!routes || (first?.state === 'available' && onDemand?.gets(first.id, routes[0]!.runtime.name)))
      return undefined;
    // Those that somebody listed stand in for each other here only where all of them can.
    const speakers = routes.filter(({ runtime }) => runtime.relays?.[dialect] && !runtime.gpu);
    // A runtime on the card reports its queue in events, which bytes have no room for: it is translated.
    if (routes[0]!.listed ? speakers.length < routes.length : speakers[0] !== routes[0]) return undefined;
    admit();
    let released = false;
    let unuse = () => {};
    const release = () => {
      if (released) return;
      released = true;
      unuse();
      leave();
    };
    const passed = [...(routes[0]!.passed ?? [])];
    const warnings = passed.length > 0 ? [toWarning(`${passed.join('; ')}.`, routes[0]!)] : [];
    for (let index = 0; ;) {
      const route = routes[index]!;
      const { runtime, model: chosen } = route;
      unuse();
      unuse = use(runtime.name, chosen.id);
      try {
        const send = runtime.relays![dialect]!;
        const reply = await send(request(chosen.id), { model: chosen, signal, requestId, file: noFiles });
        return { reply, release, warnings, model: chosen.id, runtime: runtime.name, reason: toReason(route, passed) };
      } catch (thrown) {
        const error = toGatewayError(thrown);
        if (error.code === 'upstream_unavailable') catalog.markDown(runtime, error);
        const next = signal.aborted ? undefined : standIn(routes, index, error);
        if (next === undefined || !route.listed) {
          release();
          // Nobody listed the next one, so it may not speak the dialect: the other path knows how to ask it.
          if (next !== undefined) return undefined;
          throw error;
        }
        passed.push(toPassed(route, error));
        warnings.push(toWarning(error.message, routes[next]!));
        index = next;
      }
    }
  }

  return {
    catalog,
    arbiter,
    needOf,
    run,
    relay,
    check: async (id, input) => own[id]?.check?.(input),
    gets,
    active: () => active,
    draining: () => draining,
    async drain(ms) {
      draining = true;
      if (active === 0) return;
      let timer: ReturnType<typeof setTimeout> | undefined;
      await new Promise<void>((resolve) => {
        onIdle = resolve;
        timer = setTimeout(resolve, ms);
      });
      clearTimeout(timer);
    },
  };
}

function toNeed(_id: CapabilityId, { runtime, model }: Route): Need {
  return { footprint: runtime.gpu!.footprint(model) };
}

function isUnknown(thrown: unknown): boolean {
  return thrown instanceof GatewayError && thrown.code === 'model_not_found';
}

function noFiles(): never {
  throw new GatewayError('not_found', 'There is no such file.');
}
