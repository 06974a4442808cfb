// llama-swap: starts and stops the servers of its models, each the first time that it is asked.
import { GatewayError } from '../../../../src/error.ts';
import { notOpenAI } from '../failure.ts';
import type { Model } from '../../../../src/runtime.ts';
import { act, inParting, stillThere, toTail, tooSlow, unknownModel, waitFor, worked } from './asking.ts';
import type { Manager, ManagerParts, Program } from './manager.ts';

const UNLOAD_MS = 20_000;
/** Ended, or about to be. */
const GOING = new Set(['stopping', 'stopped', 'shutdown']);

interface Running {
  model: string;
  state: string;
}

export const llamaSwap: Program = {
  async matches({ data = [] }, look) {
    if (data.length > 0 && !data.some((wire) => /^(?:llama-swap|none)?$/.test(wire?.owned_by ?? ''))) return false;
    const said = await look.at<{ running?: unknown }>('/running');
    return Array.isArray(said?.running);
  },
  create: createLlamaSwap,
};

function createLlamaSwap({ name, upstream, limits, pauseMs, list }: ManagerParts): Manager {
  async function running(signal: AbortSignal): Promise<Running[]> {
    const { running: entries } = await upstream.control<{ running?: unknown }>('/running', { signal });
    if (!Array.isArray(entries)) throw notOpenAI(name);
    return entries.flatMap((entry: { model?: unknown; state?: unknown } | null) =>
      typeof entry?.model === 'string' ? [{ model: entry.model, state: String(entry.state) }] : [],
    );
  }

  const stateOf = async (id: string, signal: AbortSignal) =>
    (await running(signal)).find(({ model }) => model === id)?.state;

  async function stop(id: string, signal: AbortSignal): Promise<void> {
    const said = await act(upstream, `/api/models/unload/${toTail(id, name)}`, { method: 'POST', signal });
    if (worked(said)) return;
    // The other route that every version has stops all of them.
    if (said.status === 404) throw tooOld(name);
    throw upstream.failure(said.status, said.text);
  }

  /** A request to the server itself starts it, whatever that server answers to this path. */
  async function start(id: string, signal: AbortSignal): Promise<void> {
    const path = `/upstream/${toTail(id, name)}/health`;
    const said = await act(upstream, path, { method: 'GET', signal });
    const state = await stateOf(id, signal);
    if (state === 'ready') return;
    if (said.status === 404 && state === undefined) throw unknownModel(id, name);
    if (said.status === 409) throw notByPath(id, name);
    if (said.status >= 500 && state !== 'starting') throw notStarted(id, name);
    await waitFor(async (soon) => ((await stateOf(id, soon)) === 'ready' ? true : undefined), {
      signal,
      everyMs: pauseMs,
      ms: limits.firstByteMs,
      late: () => tooSlow(id, name, limits.firstByteMs),
    });
  }

  return {
    program: 'llama-swap',
    memory: {
      /** What its servers take is not told. */
      residents: async (signal) =>
        (await running(signal)).flatMap(({ model, state }) => (state === 'ready' ? [{ model, vram: 0 }] : [])),
      async load({ id }, { signal }) {
        const before = await stateOf(id, signal);
        if (before === 'ready') return;
        const { data = [] } = await list(signal);
        if (before === undefined && !data.some((wire) => wire?.id === id)) throw unknownModel(id, name);
        try {
          await start(id, signal);
        } catch (thrown) {
          if (before === undefined && signal.aborted) await inParting((soon) => stop(id, soon));
          throw thrown;
        }
      },
      async evict(id, signal) {
        const state = await stateOf(id, signal);
        if (state === undefined || state === 'stopped') return;
        if (!GOING.has(state)) await stop(id, signal);
        await waitFor(
          async (soon) => {
            const now = await stateOf(id, soon);
            return now === undefined || now === 'stopped' || now === 'shutdown' ? true : undefined;
          },
          { signal, everyMs: pauseMs, ms: UNLOAD_MS, late: () => stillThere(id, name) },
        );
      },
    },
    async complete(models, signal) {
      const states = new Map((await running(signal)).map(({ model, state }) => [model, state]));
      return models.map((model): Model => {
        const state = states.get(model.id);
        return { ...model, state: state === 'ready' ? 'loaded' : state === 'starting' ? 'loading' : 'ready' };
      });
    },
  };
}

function notStarted(id: string, source: string): GatewayError {
  return new GatewayError('upstream_error', `${source} could not start the server of ${id}.`, {
    source,
    retry: false,
    hint: `Its log tells why: look at /logs of ${source}.`,
  });
}

function notByPath(id: string, source: string): GatewayError {
  return new GatewayError('not_supported', `${source} does not start ${id} when it is asked to.`, {
    source,
    hint: 'Take /health out of upstream.ignorePaths in its configuration.',
  });
}

function tooOld(source: string): GatewayError {
  return new GatewayError('not_supported', `This ${source} cannot stop a single model.`, {
    source,
    hint: 'Update llama-swap.',
  });
}
