// LM Studio: models on its disk, and instances of them in memory.
import type { CapabilityId } from '../../../../src/capabilities/index.ts';
import type { Model, ModelMemory } from '../../../../src/runtime.ts';
import { act, stillThere, toCount, tooSlow, unknownModel, waitFor, worked } from './asking.ts';
import { isModel, LIST, listStudio, toFailure } from './lm-studio-list.ts';
import type { StudioModel } from './lm-studio-list.ts';
import { createStudioPuller } from './lm-studio-puller.ts';
import type { Manager, ManagerParts, Program } from './manager.ts';

const UNLOAD_MS = 20_000;
const SCALES: Record<string, number> = { K: 1e3, M: 1e6, B: 1e9, T: 1e12 };
const TEXT: CapabilityId[] = ['text.generate', 'text.chat'];

export const lmStudio: Program = {
  async matches(_, look) {
    const said = await look.at<{ models?: unknown }>(LIST);
    return Array.isArray(said?.models) && said.models.every(isModel);
  },
  create: createLmStudio,
};

function createLmStudio(parts: ManagerParts): Manager {
  const { name, upstream, limits, pauseMs } = parts;
  const find = async (id: string, signal: AbortSignal) => {
    const models = await listStudio(upstream, signal);
    return models.find(({ key }) => key === id) ?? models.find((model) => instancesOf(model).includes(id));
  };

  const memory: ModelMemory = {
    /** It does not say how much of a model is on the card, so none is claimed to be. */
    async residents(signal) {
      const models = await listStudio(upstream, signal);
      return models.flatMap((model) => {
        if (instancesOf(model).length === 0) return [];
        const contextWindow = loadedContext(model);
        return [{ model: model.key, vram: 0, ...(contextWindow ? { contextWindow } : {}) }];
      });
    },
    /** A load that is given up may go on there: it cannot be told to stop. */
    async load({ id }, { signal }) {
      const model = await find(id, signal);
      if (!model) throw unknownModel(id, name);
      if (instancesOf(model).length > 0) return;
      const said = await act(upstream, `${LIST}/load`, { json: { model: model.key }, signal });
      if (!worked(said)) throw toFailure(upstream, said.status, said.text);
      await waitFor(
        async (soon) => {
          const now = await find(id, soon);
          return now && instancesOf(now).length > 0 ? true : undefined;
        },
        { signal, everyMs: pauseMs, ms: limits.controlMs, late: () => tooSlow(id, name, limits.firstByteMs) },
      );
    },
    async evict(id, signal) {
      const loaded = await find(id, signal);
      if (!loaded) return;
      for (const instance of instancesOf(loaded)) {
        const said = await act(upstream, `${LIST}/unload`, { json: { instance_id: instance }, signal });
        // One that is gone by now is none to complain of: what counts is the list.
        if (!worked(said) && said.status !== 404 && said.status !== 400) {
          throw toFailure(upstream, said.status, said.text);
        }
      }
      await waitFor(
        async (soon) => {
          const now = await find(id, soon);
          return now && instancesOf(now).length > 0 ? undefined : true;
        },
        { signal, everyMs: pauseMs, ms: UNLOAD_MS, late: () => stillThere(id, name) },
      );
    },
  };

  return {
    program: 'LM Studio',
    memory,
    puller: createStudioPuller(parts),
    async complete(models, signal) {
      const own = await listStudio(upstream, signal);
      const known = new Map(own.flatMap((each) => [each.key, ...instancesOf(each)].map((id) => [id, each])));
      const listed = new Set(models.map(({ id }) => known.get(id)?.key));
      // Without just-in-time loading, OpenAI's list has only what is loaded.
      const others = own.filter(({ key }) => !listed.has(key));
      return [...models, ...others.map(({ key }): Model => ({ id: key, capabilities: TEXT, state: 'ready' }))].map(
        (model) => {
          const one = known.get(model.id);
          return one ? { ...model, ...toFacts(one) } : model;
        },
      );
    },
  };
}

function instancesOf({ loaded_instances: instances }: StudioModel): string[] {
  if (!Array.isArray(instances)) return [];
  return instances.flatMap((instance) => (typeof instance?.id === 'string' ? [instance.id] : []));
}

function loadedContext({ loaded_instances: instances }: StudioModel): number | undefined {
  return Array.isArray(instances) ? toCount(instances[0]?.config?.context_length) : undefined;
}

function toFacts(model: StudioModel): Partial<Model> {
  const { type, quantization, capabilities } = model;
  const contextWindow = loadedContext(model) ?? toCount(model.max_context_length);
  const size = toCount(model.size_bytes);
  const parameters = toNumber(model.params_string);
  const embeds = type === 'embedding';
  return {
    state: instancesOf(model).length > 0 ? 'loaded' : 'ready',
    ...(embeds ? { capabilities: ['text.embed'] } : {}),
    ...(size ? { size } : {}),
    ...(parameters ? { parameters } : {}),
    ...(contextWindow ? { contextWindow } : {}),
    ...(typeof quantization?.name === 'string' ? { quantization: quantization.name.slice(0, 40) } : {}),
    ...(!embeds && typeof capabilities?.vision === 'boolean' ? { vision: capabilities.vision } : {}),
    ...(typeof capabilities?.trained_for_tool_use === 'boolean' ? { tools: capabilities.trained_for_tool_use } : {}),
    ...(capabilities?.reasoning ? { reasoning: true } : {}),
  };
}

/** `7B` → 7 × 10⁹; of `8x7B` both count. */
export function toNumber(text: unknown): number | undefined {
  const [, times, amount, scale] =
    /^~?(?:(\d{1,3})x)?(\d{1,5}(?:\.\d{1,4})?)\s?([KMBT])$/i.exec(typeof text === 'string' ? text.trim() : '') ?? [];
  if (amount === undefined) return undefined;
  return Math.round(Number(times ?? 1) * Number(amount) * SCALES[scale!.toUpperCase()]!);
}
