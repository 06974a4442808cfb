// speaches: models that hear and speak, each loaded by itself and got from Hugging Face.
import { GatewayError } from '../../../../src/error.ts';
import type { Offer, PullWant } from '../../../../src/puller.ts';
import type { Model, ModelMemory } from '../../../../src/runtime.ts';
import { cancelled, notOpenAI } from '../failure.ts';
import { act, stillThere, toTail, tooSlow, unknownModel, waitFor, worked } from './asking.ts';
import type { Manager, ManagerParts, Program } from './manager.ts';
import { toRepository } from './wanted.ts';

const UNLOAD_MS = 20_000;
const PULL_MS = 86_400_000;
const MAX_OFFERS = 200;
/** What runs in CTranslate2, Kokoro and Piper goes by these names. */
const ITS_OWN = /faster[-_]?(?:distil[-_]?)?whisper|ctranslate2|[-_/]ct2\b|kokoro.*onnx|\/piper-/i;

export const speaches: Program = {
  async matches({ data }, look) {
    const said = await look.at<{ models?: unknown }>('/api/ps');
    if (!Array.isArray(said?.models) || !said.models.every((each) => typeof each === 'string')) return false;
    if (said.models.length > 0) return true;
    // With nothing in memory Ollama says the same, but not what its models are for, and it has no registry to show.
    return (Array.isArray(data) && data.some(isTask)) || look.knows('/v1/registry');
  },
  create: createSpeaches,
};

function createSpeaches({ name, upstream, open, limits, pauseMs, list }: ManagerParts): Manager {
  /** As of the last look. */
  let registry: string[] = [];

  async function inMemory(signal: AbortSignal): Promise<string[]> {
    const { models } = await upstream.control<{ models?: unknown }>('/api/ps', { signal });
    if (!Array.isArray(models)) throw notOpenAI(name);
    return models.filter((each) => typeof each === 'string');
  }

  async function here(signal: AbortSignal): Promise<Set<string>> {
    const { data } = await list(signal);
    return new Set(Array.isArray(data) ? data.flatMap((wire) => (typeof wire?.id === 'string' ? [wire.id] : [])) : []);
  }

  const memory: ModelMemory = {
    /** It does not say where they lie nor how large they are. It sends them away by itself when they are idle. */
    residents: async (signal) => (await inMemory(signal)).map((model) => ({ model, vram: 0 })),
    /** A load that is given up goes on there: it cannot be told to stop. */
    async load({ id }, { signal }) {
      const path = `/api/ps/${toTail(id, name)}`;
      if ((await inMemory(signal)).includes(id)) return;
      if (!(await here(signal)).has(id)) throw unknownModel(id, name);
      const said = await act(upstream, path, { method: 'POST', signal });
      if (!worked(said) && said.status !== 409) throw upstream.failure(said.status, said.text);
      await waitFor(async (soon) => ((await inMemory(soon)).includes(id) ? true : undefined), {
        signal,
        everyMs: pauseMs,
        ms: limits.controlMs,
        late: () => tooSlow(id, name, limits.controlMs),
      });
    },
    async evict(id, signal) {
      const path = `/api/ps/${toTail(id, name)}`;
      if (!(await inMemory(signal)).includes(id)) return;
      const said = await act(upstream, path, { method: 'DELETE', signal });
      if (said.status === 409) throw inUse(id, name);
      if (!worked(said) && said.status !== 404) throw upstream.failure(said.status, said.text);
      await waitFor(async (soon) => ((await inMemory(soon)).includes(id) ? undefined : true), {
        signal,
        everyMs: pauseMs,
        ms: UNLOAD_MS,
        late: () => stillThere(id, name),
      });
    },
  };

  return {
    program: 'speaches',
    memory,
    async complete(models, signal) {
      const loaded = new Set(await inMemory(signal));
      return models.map((model): Model => ({
        ...model,
        state: loaded.has(model.id) ? 'loaded' : 'ready',
        source: `https://huggingface.co/${model.id}`,
      }));
    },
    puller: {
      claims(want) {
        if (want.kind !== undefined) return undefined;
        const wanted = toRepository(want);
        if (!wanted || wanted.tag !== undefined) return undefined;
        if (registry.includes(wanted.repo)) return 100;
        return ITS_OWN.test(wanted.repo) ? 60 : undefined;
      },
      async plan(want, signal) {
        const id = toId(want, name);
        const present = (await here(signal)).has(id);
        return {
          model: id,
          files: [],
          ...(present ? { bytes: 0 } : {}),
          source: `https://huggingface.co/${id}`,
          facts: {},
          warnings: present ? [] : [`${name} downloads it itself and tells neither its size nor how far it is.`],
        };
      },
      async *pull(want, signal) {
        if (signal.aborted) throw cancelled();
        const id = toId(want, name);
        yield { type: 'status', state: 'running', message: `${name} downloads ${id}` };
        yield {
          type: 'warning',
          warning: `${name} tells nothing on the way and cannot be told to stop: a download that is cancelled here goes on there.`,
        };
        // It answers when it is done. Cut, it goes on, and whoever asks again waits for the same files.
        const patient = open({ firstByteMs: PULL_MS });
        const said = await act(patient, `/v1/models/${toTail(id, name)}`, { method: 'POST', signal });
        if (said.status === 401 || said.status === 403) throw gated(id, name);
        if (!worked(said)) throw upstream.failure(said.status, said.text);
        if (!(await here(signal)).has(id)) throw notListed(id, name);
        yield { type: 'pulled', model: id, files: [] };
      },
      async search(words, signal) {
        const { data } = await upstream.control<{ data?: unknown }>('/v1/registry', { signal });
        const entries = (Array.isArray(data) ? data : []).filter((each): each is { id: string } => {
          return typeof (each as { id?: unknown } | null)?.id === 'string';
        });
        registry = entries.map(({ id }) => id);
        const present = await here(signal);
        const parts = words.toLowerCase().split(/\s+/);
        const matching = registry.filter((id) => parts.every((part) => id.toLowerCase().includes(part)));
        return matching.slice(0, MAX_OFFERS).map((id): Offer => ({
          model: id,
          capabilities: [],
          present: present.has(id),
          source: `https://huggingface.co/${id}`,
        }));
      },
      async remove(id, signal) {
        const path = `/v1/models/${toTail(id, name)}`;
        // It deletes whatever lies in its cache of Hugging Face, its own models or not.
        if (!(await here(signal)).has(id)) throw unknownModel(id, name);
        await memory.evict!(id, signal);
        const said = await act(upstream, path, { method: 'DELETE', signal });
        if (!worked(said)) throw upstream.failure(said.status, said.text);
        return { freed: undefined, files: [] };
      },
    },
  };
}

function isTask(wire: object | null | undefined): boolean {
  const { task } = (wire ?? {}) as { task?: unknown };
  return task === 'automatic-speech-recognition' || task === 'text-to-speech';
}

function toId(want: PullWant, source: string): string {
  const wanted = toRepository(want);
  if (wanted && wanted.tag === undefined) return wanted.repo;
  throw new GatewayError('not_supported', `${source} gets only whole repositories of Hugging Face.`, {
    source,
    param: 'source',
    hint: 'Name one, for example Systran/faster-whisper-small.',
  });
}

function inUse(id: string, source: string): GatewayError {
  return new GatewayError('conflict', `${source} is using ${id}.`, {
    source,
    hint: 'Try again when it has answered.',
  });
}

function gated(id: string, source: string): GatewayError {
  return new GatewayError('model_unavailable', `Hugging Face does not give ${id} to ${source}.`, {
    source,
    hint: 'Accept its terms on the hub, and set HF_TOKEN where the server runs.',
    retry: false,
  });
}

function notListed(id: string, source: string): GatewayError {
  return new GatewayError('model_not_found', `${source} got ${id}, but cannot run it.`, {
    source,
    param: 'model',
    hint: 'Choose one that its registry names: hono-ai models search whisper',
  });
}
