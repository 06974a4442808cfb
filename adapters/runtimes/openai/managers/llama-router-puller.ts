// Models for llama-server’s router: it downloads them from Hugging Face itself and tells how far it is.
import { GatewayError } from '../../../../src/error.ts';
import type { Puller, PullEvent, PullWant } from '../../../../src/puller.ts';
import type { ModelMemory } from '../../../../src/runtime.ts';
import { cancelled } from '../failure.ts';
import { pause } from '../films.ts';
import { act, inParting, toCount, unknownModel, worked } from './asking.ts';
import { followDownload } from './llama-router-events.ts';
import type { Download } from './llama-router-events.ts';
import { listEntries } from './llama-router-list.ts';
import type { RouterEntry } from './llama-router-list.ts';
import type { ManagerParts } from './manager.ts';
import { takesWeights, toRepository } from './wanted.ts';

/** Looks until a download that was begun must have shown itself. */
const PATIENCE = 20;
const SURE = 60;
const A_TRY = 10;

export function createRouterPuller(
  { name, upstream, limits, pauseMs }: ManagerParts,
  memory: ModelMemory,
): Omit<Puller, 'runtime'> {
  const find = async (id: string, signal: AbortSignal) => {
    const entries = await listEntries(upstream, signal);
    return entries.find((entry) => entry.id === id) ?? entries.find((entry) => entry.id.startsWith(`${id}:`));
  };

  async function begin(id: string, signal: AbortSignal): Promise<void> {
    const said = await act(upstream, '/models', { json: { model: id }, signal });
    if (worked(said)) return;
    if (said.status === 404 || said.status === 405) throw tooOld(name);
    if (isComing(await find(id, signal))) return;
    const failure = upstream.failure(said.status, said.text);
    const unknown = /not found|no such|does not exist|40[14]|failed to get manifest/i.test(failure.message);
    throw unknown ? notAtHub(id, name) : failure;
  }

  async function* follow(id: string, download: Download, signal: AbortSignal): AsyncGenerator<PullEvent> {
    let misses = 0;
    let seen = false;
    let last = { done: 0, at: Date.now() };
    for (;;) {
      await pause(pauseMs, signal);
      const entry = await find(id, signal);
      if (entry && !isComing(entry)) {
        if (entry.status.failed) throw cut(id, name);
        return yield { type: 'pulled', model: entry.id, files: [...download.files.values()] };
      }
      if (!entry) {
        if (!seen && !download.over() && ++misses <= PATIENCE) continue;
        // It takes any name, and lets go of it where there is nothing to be had.
        throw download.told() && download.files.size === 0 ? notAtHub(id, name) : cut(id, name);
      }
      seen = true;
      download.add(entry.status.progress);
      const progress = download.sum();
      if (progress.done !== last.done) {
        last = { done: progress.done, at: Date.now() };
        if (progress.total > 0) yield progress;
      } else if (download.told() && Date.now() - last.at > limits.idleMs) throw stalled(id, name, limits.idleMs);
    }
  }

  async function* pull(want: PullWant, signal: AbortSignal): AsyncGenerator<PullEvent> {
    if (signal.aborted) throw cancelled();
    const id = toId(want, name);
    const before = await find(id, signal);
    if (before && !isComing(before)) return yield { type: 'pulled', model: before.id, files: [] };
    let ended = false;
    const left = new AbortController();
    const listening = AbortSignal.any([signal, left.signal]);
    try {
      const download = followDownload(upstream, id, pauseMs, listening);
      if (!before) await begin(id, signal);
      yield { type: 'status', state: 'running', message: `${name} downloads ${id}` };
      yield* follow(id, download, signal);
      ended = true;
    } finally {
      left.abort();
      // What has come stays with it; asked again, it goes on from there.
      if (!ended) await inParting((soon) => act(upstream, '/models/unload', { json: { model: id }, signal: soon }));
    }
  }

  return {
    claims(want) {
      const wanted = takesWeights(want) ? toRepository(want) : undefined;
      return wanted && (wanted.named && /gguf/i.test(wanted.repo) ? SURE : A_TRY);
    },
    async plan(want, signal) {
      const id = toId(want, name);
      const entry = await find(id, signal);
      const present = entry !== undefined && !isComing(entry);
      return {
        model: entry?.id ?? id,
        files: [],
        ...(present ? { bytes: 0 } : {}),
        source: `https://huggingface.co/${id.split(':')[0]}`,
        facts: {},
        warnings: present ? [] : [`${name} downloads it itself and tells its size only then.`],
      };
    },
    pull,
    async remove(id, signal) {
      const entry = (await listEntries(upstream, signal)).find((each) => each.id === id);
      if (!entry) throw unknownModel(id, name);
      if (entry.can_remove === false) throw notItsOwn(id, name);
      await memory.evict!(id, signal);
      const path = `/models?model=${encodeURIComponent(id)}`;
      const said = await act(upstream, path, { method: 'DELETE', signal });
      if (worked(said)) return { freed: toCount(entry.meta?.size), files: [] };
      if (said.status === 404 || said.status === 405) throw tooOld(name);
      throw /not removable/i.test(said.text) ? notItsOwn(id, name) : upstream.failure(said.status, said.text);
    },
  };
}

const isComing = (entry: RouterEntry | undefined): boolean => entry?.status.value === 'downloading';

function toId(want: PullWant, source: string): string {
  const wanted = takesWeights(want) ? toRepository(want) : undefined;
  if (wanted) return wanted.tag === undefined ? wanted.repo : `${wanted.repo}:${wanted.tag}`;
  throw new GatewayError('not_supported', `${source} gets only whole repositories of Hugging Face.`, {
    source,
    param: 'source',
    hint: 'Name one, for example hf.co/ggml-org/gemma-3-4b-it-GGUF:Q4_K_M.',
  });
}

function notAtHub(id: string, source: string): GatewayError {
  return new GatewayError('model_not_found', `${source} does not find ${id} at Hugging Face.`, {
    source,
    param: 'model',
    hint: 'Check the name, the quantization after the colon and the network of its machine; gated models need HF_TOKEN there.',
  });
}

function notItsOwn(id: string, source: string): GatewayError {
  return new GatewayError('conflict', `${source} does not delete ${id}: it deletes only what it downloaded.`, {
    source,
    hint: 'Delete its file by hand, or take it out of the presets that the server was started with.',
  });
}

function cut(id: string, source: string): GatewayError {
  return new GatewayError('upstream_terminated', `${source} gave up downloading ${id}.`, {
    source,
    hint: `Ask again: it goes on where it was. The log of ${source} tells why it ended.`,
  });
}

function stalled(id: string, source: string, ms: number): GatewayError {
  return new GatewayError('upstream_idle', `The download of ${id} brought nothing for ${Math.round(ms / 1000)} s.`, {
    source,
    hint: 'Check the network of the machine that it runs on, and ask again.',
  });
}

function tooOld(source: string): GatewayError {
  return new GatewayError('not_supported', `This ${source} cannot download or delete models.`, {
    source,
    hint: 'Update llama.cpp; its router has learnt it.',
  });
}
