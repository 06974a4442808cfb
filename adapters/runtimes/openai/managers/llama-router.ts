// llama-server as a router: one process in front, a process for each model that is loaded.
import { GatewayError } from '../../../../src/error.ts';
import type { Model, ModelMemory, Resident } from '../../../../src/runtime.ts';
import { act, inParting, stillThere, toCount, tooSlow, unknownModel, waitFor, worked } from './asking.ts';
import { isEntry, listEntries } from './llama-router-list.ts';
import type { RouterEntry } from './llama-router-list.ts';
import { createRouterPuller } from './llama-router-puller.ts';
import type { Manager, ManagerParts, Program } from './manager.ts';

/** Asleep, a model has given its memory back and only its process is left. */
const IN_MEMORY = new Set<unknown>(['loaded', 'loading', 'sleeping']);
/** It kills a process that does not end by itself within ten seconds. */
const UNLOAD_MS = 20_000;
const STALE_LOOKS = 5;
const QUANTIZATION = /(?:^|[:._-])((?:UD-)?I?Q\d[\w]{0,12}|MXFP4(?:_MOE)?|BF16|FP?16|F32)$/i;

export const llamaRouter: Program = {
  async matches({ data }, look) {
    if (!Array.isArray(data)) return false;
    // llama-swap tells of a status too.
    if (data.length > 0 && !data.some((wire) => wire?.status?.value && wire.owned_by !== 'llama-swap')) return false;
    if (data.length === 0) return (await look.at<{ role?: unknown }>('/props'))?.role === 'router';
    const listed = await look.at<{ data?: unknown }>('/models');
    return Array.isArray(listed?.data) && listed.data.some(isEntry);
  },
  create: createLlamaRouter,
};

function createLlamaRouter(parts: ManagerParts): Manager {
  const { name, upstream, limits, pauseMs } = parts;
  const entryOf = async (id: string, signal: AbortSignal) =>
    (await listEntries(upstream, signal)).find((entry) => entry.id === id);

  /** Unloading also ends a model that is only on its way. */
  async function unload(id: string, signal: AbortSignal): Promise<void> {
    const said = await act(upstream, '/models/unload', { json: { model: id }, signal });
    if (worked(said) || !IN_MEMORY.has((await entryOf(id, signal))?.status.value)) return;
    throw upstream.failure(said.status, said.text);
  }

  /** One that sleeps is woken by what needs it, and loading it anew is refused. */
  async function begin({ id, status }: RouterEntry, signal: AbortSignal): Promise<void> {
    const said =
      status.value === 'sleeping'
        ? await act(upstream, '/tokenize', { json: { model: id, content: '.' }, signal })
        : await act(upstream, '/models/load', { json: { model: id }, signal });
    if (worked(said)) return;
    const now = await entryOf(id, signal);
    if (!now) throw unknownModel(id, name);
    if (now.status.value !== 'loaded' && now.status.value !== 'loading') {
      throw /limit reached/i.test(said.text) ? tooMany(id, name) : upstream.failure(said.status, said.text);
    }
  }

  const memory: ModelMemory = {
    async residents(signal) {
      const entries = await listEntries(upstream, signal);
      return entries.flatMap((entry) => (entry.status.value === 'loaded' ? [toResident(entry)] : []));
    },
    async load({ id }: Model, { signal }) {
      const before = await entryOf(id, signal);
      if (!before) throw unknownModel(id, name);
      if (before.status.value === 'loaded') return;
      const ours = before.status.value !== 'loading';
      try {
        if (ours) await begin(before, signal);
        let seen = false;
        // An earlier failure may still stand there when the first looks are taken.
        let stale = before.status.failed ? STALE_LOOKS : 0;
        await waitFor(
          async (soon) => {
            const entry = await entryOf(id, soon);
            if (!entry) throw unknownModel(id, name);
            const { value } = entry.status;
            if (value === 'loaded') return true;
            const failed = entry.status.failed && --stale < 0;
            if (value !== 'loading' && (seen || failed)) throw notLoaded(entry, name);
            seen ||= value === 'loading';
            return undefined;
          },
          { signal, everyMs: pauseMs, ms: limits.firstByteMs, late: () => tooSlow(id, name, limits.firstByteMs) },
        );
      } catch (thrown) {
        if (ours && signal.aborted) await inParting((soon) => unload(id, soon));
        throw thrown;
      }
    },
    async evict(id, signal) {
      if (!IN_MEMORY.has((await entryOf(id, signal))?.status.value)) return;
      await unload(id, signal);
      await waitFor(async (soon) => (IN_MEMORY.has((await entryOf(id, soon))?.status.value) ? undefined : true), {
        signal,
        everyMs: pauseMs,
        ms: UNLOAD_MS,
        late: () => stillThere(id, name),
      });
    },
  };

  return {
    program: 'llama-server',
    memory,
    puller: createRouterPuller(parts, memory),
    complete: async (models) => models.map((model) => ({ ...toFacts(model.id), ...model })),
  };
}

/**
 * Nobody measures: the size of its weights stands for its memory. It puts all on the card that it can, where its command line does
 * not keep it off.
 */
function toResident({ id, status, meta }: RouterEntry): Resident {
  const args = Array.isArray(status.args) ? status.args.map(String) : [];
  const layers = argument(args, ['-ngl', '--gpu-layers', '--n-gpu-layers']);
  const onCard = layers !== '0' && argument(args, ['-dev', '--device']) !== 'none';
  const context = toCount(Number(argument(args, ['-c', '--ctx-size']) ?? meta?.n_ctx));
  const vram = (onCard && toCount(meta?.size)) || 0;
  const guess = vram > 0 ? { estimated: true } : {};
  return { model: id, vram, ...guess, ...(context ? { contextWindow: context } : {}) };
}

function argument(args: string[], names: string[]): string | undefined {
  const at = args.findLastIndex((arg) => names.includes(arg));
  return at === -1 ? undefined : args[at + 1];
}

function toFacts(id: string): Partial<Model> {
  const quantization = QUANTIZATION.exec(id)?.[1];
  const repo = /^([\w.-]+\/[\w.-]+)(?::|$)/.exec(id)?.[1];
  return {
    ...(quantization ? { quantization: quantization.toUpperCase() } : {}),
    ...(repo ? { source: `https://huggingface.co/${repo}` } : {}),
  };
}

/** Those that it holds are all at work: it sends only idle ones away. */
function tooMany(id: string, source: string): GatewayError {
  return new GatewayError('insufficient_vram', `${source} holds as many models as it may, and all of them work.`, {
    source,
    retryAfter: 10,
    hint: `Try again when one has answered, or start ${source} with a higher --models-max; ${id} was not loaded.`,
  });
}

function notLoaded({ id, status }: RouterEntry, source: string): GatewayError {
  const code = toCount(status.exit_code);
  const why = status.failed
    ? `its process ended${code === undefined ? '' : ` with exit code ${code}`}`
    : 'somebody unloaded it on the way';
  return new GatewayError('upstream_error', `${source} could not load ${id}: ${why}.`, {
    source,
    retry: false,
    hint: `Look at the log of ${source}; most often there is too little memory for it, or its file is damaged.`,
  });
}
