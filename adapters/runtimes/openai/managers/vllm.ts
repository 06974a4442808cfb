// vLLM: one model and its adapters, which can sleep: its weights then lie in main memory and the card is free.
import { GatewayError } from '../../../../src/error.ts';
import { act, stillThere, tooSlow, unknownModel, waitFor, worked } from './asking.ts';
import type { Manager, ManagerParts, Program } from './manager.ts';

/** Weights to main memory; runs that have begun are waited for, where it knows how. */
const SLEEP = '/sleep?level=1&mode=wait';
const ASLEEP_MS = 20_000;

export const vllm: Program = {
  matches: ({ data = [] }) => data.length > 0 && data.every((wire) => wire?.owned_by === 'vllm'),
  create: createVllm,
};

function createVllm({ name, upstream, limits, pauseMs, list }: ManagerParts): Manager {
  /** As far as is known; undefined: nobody looked, or it cannot sleep. */
  let asleep: boolean | undefined;
  let falling = false;
  /** Falling asleep and waking up take turns. */
  let turn: Promise<unknown> = Promise.resolve();

  /** Undefined where it was started without the routes. */
  async function look(signal: AbortSignal): Promise<boolean | undefined> {
    try {
      const said = await upstream.control<{ is_sleeping?: unknown }>('/is_sleeping', { signal });
      asleep = typeof said?.is_sleeping === 'boolean' ? said.is_sleeping : undefined;
    } catch (thrown) {
      if (!(thrown instanceof GatewayError) || thrown.code !== 'model_not_found') throw thrown;
      asleep = undefined;
    }
    return asleep;
  }

  async function served(signal: AbortSignal): Promise<string[]> {
    const { data } = await list(signal);
    return Array.isArray(data) ? data.flatMap((wire) => (typeof wire?.id === 'string' ? [wire.id] : [])) : [];
  }

  async function move(path: string, to: boolean, signal: AbortSignal, ms: number, late: () => GatewayError) {
    const said = await act(upstream, path, { method: 'POST', signal });
    if (said.status === 404) throw cannotSleep(name);
    if (!worked(said)) throw upstream.failure(said.status, said.text);
    await waitFor(async (soon) => ((await look(soon)) === to ? true : undefined), {
      signal,
      everyMs: pauseMs,
      ms,
      late,
    });
  }

  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = turn.then(work, work);
    turn = result.catch(() => {});
    return result;
  }

  const wakeUp = (signal: AbortSignal) =>
    inTurn(async () => {
      if (asleep !== true && (await look(signal)) !== true) return;
      await move('/wake_up', false, signal, limits.firstByteMs, () => tooSlow('its model', name, limits.firstByteMs));
    });

  return {
    program: 'vLLM',
    whole: true,
    memory: {
      /** Bytes are not told, so none are claimed. */
      async residents(signal) {
        if ((await look(signal)) === true) return [];
        return (await served(signal)).map((model) => ({ model, vram: 0 }));
      },
      async load({ id }, { signal }) {
        if (!(await served(signal)).includes(id)) throw unknownModel(id, name);
        await wakeUp(signal);
      },
      evict: (id, signal) =>
        inTurn(async () => {
          if (!(await served(signal)).includes(id)) return;
          const now = await look(signal);
          if (now === undefined) throw cannotSleep(name);
          if (now) return;
          falling = true;
          try {
            await move(SLEEP, true, signal, ASLEEP_MS, () => stillThere(id, name));
          } finally {
            falling = false;
          }
        }),
    },
    async complete(models, signal) {
      const sleeps = await look(signal);
      return models.map((model) => ({ ...model, state: sleeps ? ('ready' as const) : ('loaded' as const) }));
    },
    wake: async (signal) => {
      if (asleep || falling) await wakeUp(signal);
    },
  };
}

function cannotSleep(source: string): GatewayError {
  return new GatewayError('not_supported', `${source} holds its model as long as it runs.`, {
    source,
    hint: 'Start it with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1 in its environment.',
  });
}
