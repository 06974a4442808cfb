// The one place where catalog, arbiter, runtimes and runs meet.
import type { Arbiter, Lease } from './arbiter/arbiter.ts';
import {
  capabilities,
  type CapabilityId,
  type Chunk,
  type Input,
  type Output,
  type Result,
} from './capabilities/index.ts';
import type { Ask, Derivation } from './capabilities/define.ts';
import type { Catalog, Route } from './catalog.ts';
import { GatewayError, toGatewayError } from './error.ts';
import type { RunEvent, StatusEvent } from './event.ts';
import type { MediaTools } from './media.ts';
import { startRun, type Run, type RunContext, type Target } from './run.ts';
import type { Call, InputFile, RelayReply, RelayRequest } from './runtime.ts';
import { toDataUrl } from './base64.ts';

export interface RunOptions {
  /** The caller left, or gave up. */
  signal: AbortSignal;
  requestId: string;
  /** The files of whoever asks, by what the input calls them; without it there are none. */
  file?: (reference: string) => Promise<InputFile>;
}

export interface Relayed extends Target {
  reply: RelayReply;
  /** To be called when the answer's body has ended or its reader left. */
  release(): void;
}

export interface Gateway {
  readonly catalog: Catalog;
  readonly arbiter: Arbiter;
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
  /** Runs and relays that have not ended. */
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
  /** A runtime fetches a model before it can run it: how far that is, in bytes. */
  onPull?: (pull: Target & { done: number; total: number }) => void;
}

/** What a call knows of the request that it serves. */
type Asked = Pick<Call, 'requestId' | 'file'>;

export function createGateway(options: GatewayOptions): Gateway {
  const { catalog, arbiter, maxRuns, toPng, onPull = () => {} } = options;
  let active = 0;
  let draining = false;
  let onIdle = () => {};

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

  function run<Id extends CapabilityId>(id: Id, input: Input<Id>, { signal, requestId, file = noFiles }: RunOptions) {
    admit();
    return startRun<Chunk<Id>, Result<Id>>({
      id: requestId,
      signal,
      source: (context) => execute(id, input, context, { requestId, file }),
      onEnd: leave,
    }) as Run<Chunk<Id>, Output<Id>>;
  }

  /** Tries the routes in turn. Only a default may move on, and only before anything came out of a runtime. */
  async function* execute<Id extends CapabilityId>(id: Id, input: Input<Id>, context: RunContext, asked: Asked) {
    const routes = await catalog.resolve(id, input.model, input);
    for (const [index, route] of routes.entries()) {
      let begun = false;
      try {
        for await (const event of onRoute(id, input, route, context, asked)) {
          begun ||= event.type === 'chunk' || event.type === 'result';
          if (event.type === 'progress' && event.unit === 'bytes') {
            onPull({ model: route.model.id, runtime: route.runtime.name, done: event.done, total: event.total });
          }
          yield event;
        }
        return;
      } catch (thrown) {
        const error = toGatewayError(thrown);
        if (error.code === 'upstream_unavailable') catalog.markDown(route.runtime, error);
        const next = routes[index + 1];
        if (begun || error.code !== 'upstream_unavailable' || !next || context.signal.aborted) throw error;
        yield {
          type: 'warning' as const,
          warning: `${error.message} ${next.model.id} on ${next.runtime.name} answers instead.`,
        };
      }
    }
  }

  async function* onRoute<Id extends CapabilityId>(
    id: Id,
    input: Input<Id>,
    route: Route,
    { signal, setTarget }: RunContext,
    asked: Asked,
  ): AsyncGenerator<RunEvent<Chunk<Id>, Result<Id>>> {
    setTarget({ model: route.model.id, runtime: route.runtime.name });
    const lease = yield* takeLease(route, signal);
    try {
      yield* handle(id, input, route, { model: route.model, signal, ...asked }, toPng);
    } finally {
      // The handler's iteration has ended, so the runtime is done with it: readers may still be reading.
      lease?.release();
    }
  }

  async function* takeLease(
    { runtime, model }: Route,
    signal: AbortSignal,
  ): AsyncGenerator<StatusEvent, Lease | undefined> {
    if (!runtime.gpu) return undefined;
    const footprint = runtime.gpu.footprint(model);
    return yield* arbiter.acquire({ runtime: runtime.name, model: model.id, footprint, tenant: runtime.gpu, signal });
  }

  async function relay(
    dialect: 'openai',
    id: CapabilityId,
    model: string | undefined,
    request: (modelId: string) => RelayRequest,
    { signal, requestId }: RunOptions,
  ): Promise<Relayed | undefined> {
    const [route] = await catalog.resolve(id, model);
    const send = route!.runtime.relays?.[dialect];
    // A runtime on the card reports its queue in events, which bytes have no room for: it is translated.
    if (!send || route!.runtime.gpu) return undefined;
    admit();
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      leave();
    };
    try {
      const reply = await send(request(route!.model.id), { model: route!.model, signal, requestId, file: noFiles });
      return { reply, release, model: route!.model.id, runtime: route!.runtime.name };
    } catch (thrown) {
      release();
      const error = toGatewayError(thrown);
      if (error.code === 'upstream_unavailable') {
        catalog.markDown(route!.runtime, error);
        // Nobody named this model: the other path knows who can stand in.
        if (model === undefined) return undefined;
      }
      throw error;
    }
  }

  return {
    catalog,
    arbiter,
    run,
    relay,
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

/** Kinds of pictures that every model that sees can read. */
const EVERYBODY_READS = /^image\/(png|jpeg)$/;

/** The runtime's own handler, or the capability's derivation over the handlers it has. */
function handle<Id extends CapabilityId>(
  id: Id,
  input: Input<Id>,
  route: Route,
  call: Call,
  toPng: GatewayOptions['toPng'],
): AsyncIterable<RunEvent<Chunk<Id>, Result<Id>>> {
  const { runtime, model } = route;
  const own = runtime.handles[id];
  if (own && model.capabilities.includes(id)) return own(input, call);
  const derive = capabilities[id].derive as Derivation<Input<Id>, Chunk<Id>, Result<Id>> | undefined;
  if (!derive) throw new GatewayError('not_supported', `${model.id} does not offer ${id}.`, { source: runtime.name });
  const ask: Ask = {
    model,
    async inline(reference) {
      const file = await call.file(reference);
      const bytes = await file.bytes();
      if (!toPng || EVERYBODY_READS.test(file.media_type)) return toDataUrl(file.media_type, bytes);
      return toDataUrl('image/png', (await toPng(bytes)).bytes);
    },
    offers: (other) => other in runtime.handles && model.capabilities.includes(other as CapabilityId),
    run: (capability, raw) => {
      const handler = runtime.handles[capability.id as CapabilityId];
      if (!handler)
        throw new GatewayError('not_supported', `${model.id} does not offer ${capability.id}.`, {
          source: runtime.name,
        });
      // The capability's own schema has just made the input; the two type parameters cannot see each other.
      return (handler as unknown as (input: unknown, call: Call) => ReturnType<Ask['run']>)(
        capability.input.parse(raw),
        call,
      ) as never;
    },
  };
  return derive.run(input, ask);
}

function noFiles(): never {
  throw new GatewayError('not_found', 'There is no such file.');
}
