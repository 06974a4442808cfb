// What Ollama has on disk → the gateway's models, with what each can be asked.
import type { CapabilityId } from '../../../src/capabilities/index.ts';
import { GatewayError } from '../../../src/error.ts';
import type { Model } from '../../../src/runtime.ts';
import type { Upstream } from '../../../src/upstream.ts';
import type { Memory } from './memory.ts';
import type { ModelDetails, RunningModel, ShowReply, TaggedModel } from './wire.ts';

/** Details asked for at a time, where the list leaves them out. */
const PARALLEL = 4;
const TINY_PARAMETERS = 1e9;

interface Facts {
  capabilities: string[];
  /** Whether it can be shown pictures, where anything tells. */
  vision?: boolean;
  contextWindow?: number;
}

export function createModels(upstream: Upstream, memory: Memory): (signal: AbortSignal) => Promise<Model[]> {
  /** By digest, because a name can be pulled anew while a digest never changes. */
  const known = new Map<string, Facts>();

  async function factsOf(tagged: TaggedModel, signal: AbortSignal): Promise<Facts | undefined> {
    const listed = tagged.details?.context_length;
    if (tagged.capabilities !== undefined && listed !== undefined) {
      const { capabilities } = tagged;
      return { capabilities, vision: capabilities.includes('vision'), contextWindow: listed };
    }
    const digest = tagged.digest ?? tagged.name;
    const cached = known.get(digest);
    if (cached) return cached;
    try {
      const show = await upstream.control<ShowReply>('/api/show', { json: { model: tagged.name }, signal });
      const facts = toFacts(tagged, show);
      known.set(digest, facts);
      return facts;
    } catch (error) {
      if (signal.aborted) throw error;
      // Deleted since it was listed; any other failure of one model must not hide the rest.
      if (error instanceof GatewayError && error.code === 'model_not_found') return undefined;
      return toFacts(tagged, {});
    }
  }

  return async (signal) => {
    const [tags, running] = await Promise.all([
      upstream.control<{ models?: TaggedModel[] | null }>('/api/tags', { signal }),
      // A server too old for the list of running models still has models.
      memory.running(signal).catch(() => []),
    ]);
    const tagged = tags.models ?? [];
    memory.setRemote(tagged.filter((each) => each.remote_host).map((each) => each.name));
    const facts = await mapBounded(tagged, PARALLEL, (each) => factsOf(each, signal));
    const digests = new Set(tagged.map((each) => each.digest ?? each.name));
    for (const digest of known.keys()) if (!digests.has(digest)) known.delete(digest);
    return tagged.flatMap((each, index) => {
      const model = facts[index] && toModel(each, facts[index], running);
      return model && model.capabilities.length > 0 ? [model] : [];
    });
  };
}

function toFacts(tagged: TaggedModel, show: ShowReply): Facts {
  const details = { ...show.details, ...tagged.details };
  const info = show.model_info ?? {};
  const contextWindow = details.context_length ?? info[`${String(info['general.architecture'])}.context_length`];
  const capabilities = tagged.capabilities ?? show.capabilities;
  const vision = capabilities ? capabilities.includes('vision') : guessVision(details);
  return {
    capabilities: capabilities ?? guessCapabilities(details),
    ...(vision === undefined ? {} : { vision }),
    ...(typeof contextWindow === 'number' ? { contextWindow } : {}),
  };
}

/** For servers older than the field: the encoders among Ollama's models are all of the BERT family. */
function guessCapabilities({ family = '', families }: ModelDetails): string[] {
  return [family, ...(families ?? [])].some((name) => name.includes('bert')) ? ['embedding'] : ['completion'];
}

/** Then a model's eyes are a family of their own; one without them may be of a family that has them built in. */
function guessVision({ families }: ModelDetails): boolean | undefined {
  return families?.some((name) => /clip|mllama/.test(name)) ? true : undefined;
}

function toModel(tagged: TaggedModel, facts: Facts, running: RunningModel[]): Model {
  const can = (what: string) => facts.capabilities.includes(what);
  const capabilities: CapabilityId[] = [];
  if (can('completion')) capabilities.push('text.generate', 'text.chat');
  if (can('embedding')) capabilities.push('text.embed');
  const loaded = running.some(({ name, digest }) => name === tagged.name || (digest && digest === tagged.digest));
  const modified = Math.floor(Date.parse(tagged.modified_at ?? '') / 1000);
  const parameters = toNumber(tagged.details?.parameter_size);
  return {
    id: tagged.name,
    capabilities,
    state: loaded ? 'loaded' : 'ready',
    ...(tagged.name.endsWith(':latest') ? { aliases: [tagged.name.slice(0, -':latest'.length)] } : {}),
    ...(facts.vision === undefined ? {} : { vision: facts.vision }),
    tools: can('tools'),
    reasoning: can('thinking'),
    ...(can('completion') && parameters < TINY_PARAMETERS ? { tiny: true } : {}),
    ...(facts.contextWindow === undefined ? {} : { contextWindow: facts.contextWindow }),
    ...(tagged.size === undefined ? {} : { size: tagged.size }),
    // The model that was last pulled or made is the one its owner most likely means.
    ...(Number.isNaN(modified) ? {} : { created: modified, rank: modified }),
  };
}

/** `3.2B` and `494.03M` → a count; NaN where it is not told. */
function toNumber(size = ''): number {
  const [, digits = '', unit = ''] = /^([\d.]+)\s*([KMBT])$/i.exec(size) ?? [];
  const scale = { K: 1e3, M: 1e6, B: 1e9, T: 1e12 }[unit.toUpperCase()];
  return scale === undefined ? Number.NaN : Number(digits) * scale;
}

async function mapBounded<In, Out>(items: In[], limit: number, convert: (item: In) => Promise<Out>): Promise<Out[]> {
  const results: Out[] = [];
  const queue = items.entries();
  const worker = async () => {
    for (const [index, item] of queue) results[index] = await convert(item);
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return results;
}
