// What Ollama has on disk → the gateway's models, with what each can be asked.
import type { CapabilityId } from '../../../src/capabilities/index.ts';
import { GatewayError } from '../../../src/error.ts';
import type { Model } from '../../../src/runtime.ts';
import type { Upstream } from '../../../src/upstream.ts';
import type { Memory } from './memory.ts';
import { toKvPerToken, toParameters } from '../../weights/index.ts';
import { toLicense } from './wire.ts';
import type { ModelDetails, RunningModel, ShowReply, TaggedModel } from './wire.ts';

/** Details asked for at a time, where the list leaves them out. */
const PARALLEL = 4;
/** Models of a server that lists enough for requests whose further details are looked up: those in memory, then the newest. */
const FURTHER = 32;
const TINY_PARAMETERS = 1e9;

interface Facts extends Further {
  capabilities: string[];
  /** Whether it can be shown pictures, where anything tells. */
  vision?: boolean;
  contextWindow?: number;
}

/** What only estimates and people want to know. */
interface Further {
  kvPerToken?: number;
  license?: string;
}

export function createModels(upstream: Upstream, memory: Memory): (signal: AbortSignal) => Promise<Model[]> {
  /** By digest, because a name can be pulled anew while a digest never changes. */
  const known = new Map<string, Facts>();
  let looking = false;

  async function factsOf(tagged: TaggedModel, signal: AbortSignal): Promise<Facts | undefined> {
    const cached = known.get(keyOf(tagged));
    if (cached) return cached;
    if (tellsAll(tagged)) return toFacts(tagged, {});
    try {
      return await look(tagged, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      // Deleted since it was listed; any other failure of one model must not hide the rest.
      if (error instanceof GatewayError && error.code === 'model_not_found') return undefined;
      return toFacts(tagged, {});
    }
  }

  async function look(tagged: TaggedModel, signal?: AbortSignal): Promise<Facts> {
    const json = { model: tagged.name };
    const show = await upstream.control<ShowReply>('/api/show', { json, ...(signal ? { signal } : {}) });
    const facts = toFacts(tagged, show);
    known.set(keyOf(tagged), facts);
    return facts;
  }

  /** Beside the list, which nobody waits longer for because of it; the next list has what was found. */
  async function lookFurther(tagged: TaggedModel[], running: RunningModel[]): Promise<void> {
    if (looking) return;
    looking = true;
    const loaded = tagged.filter((each) => isLoaded(each, running));
    const few = [...new Set([...loaded, ...newest(tagged)])];
    const unknown = few.filter((each) => tellsAll(each) && !each.remote_host && !known.has(keyOf(each)));
    await mapBounded(unknown, PARALLEL, (each) => look(each).catch(() => undefined));
    looking = false;
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
    const keys = new Set(tagged.map(keyOf));
    for (const key of known.keys()) if (!keys.has(key)) known.delete(key);
    void lookFurther(tagged, running);
    return tagged.flatMap((each, index) => {
      const model = facts[index] && toModel(each, facts[index], running);
      return model && model.capabilities.length > 0 ? [model] : [];
    });
  };
}

/** A name can be pulled anew, while a digest never changes. */
function keyOf({ digest, name }: TaggedModel): string {
  return digest ?? name;
}

/** Whether the list says what requests need to know. */
function tellsAll({ capabilities, details }: TaggedModel): boolean {
  return capabilities !== undefined && details?.context_length !== undefined;
}

function newest(tagged: TaggedModel[]): TaggedModel[] {
  if (tagged.length <= FURTHER) return tagged;
  const at = ({ modified_at = '' }: TaggedModel) => Date.parse(modified_at) || 0;
  return tagged.toSorted((one, other) => at(other) - at(one)).slice(0, FURTHER);
}

function isLoaded({ name, digest }: TaggedModel, running: RunningModel[]): boolean {
  return running.some((each) => each.name === name || (each.digest && each.digest === digest));
}

function toFacts(tagged: TaggedModel, show: ShowReply): Facts {
  const details = { ...show.details, ...tagged.details };
  const info = show.model_info ?? {};
  const own = (key: string) => info[`${String(info['general.architecture'])}.${key}`];
  const contextWindow = details.context_length ?? own('context_length');
  const capabilities = tagged.capabilities ?? show.capabilities;
  const vision = capabilities ? capabilities.includes('vision') : guessVision(details);
  const kvPerToken = toKvPerToken(own);
  const license = toLicense(show.license);
  return {
    capabilities: capabilities ?? guessCapabilities(details),
    ...(vision === undefined ? {} : { vision }),
    ...(typeof contextWindow === 'number' ? { contextWindow } : {}),
    ...(kvPerToken === undefined ? {} : { kvPerToken }),
    ...(license === undefined ? {} : { license }),
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
  const modified = Math.floor(Date.parse(tagged.modified_at ?? '') / 1000);
  const parameters = toParameters(tagged.details?.parameter_size);
  const { quantization_level: quantization } = tagged.details ?? {};
  const { contextWindow, kvPerToken, license } = facts;
  return {
    id: tagged.name,
    capabilities,
    state: isLoaded(tagged, running) ? 'loaded' : 'ready',
    ...(tagged.name.endsWith(':latest') ? { aliases: [tagged.name.slice(0, -':latest'.length)] } : {}),
    ...(facts.vision === undefined ? {} : { vision: facts.vision }),
    tools: can('tools'),
    reasoning: can('thinking'),
    ...(can('completion') && parameters !== undefined && parameters < TINY_PARAMETERS ? { tiny: true } : {}),
    ...(contextWindow === undefined ? {} : { contextWindow }),
    ...(kvPerToken === undefined ? {} : { kvPerToken }),
    ...(license === undefined ? {} : { license }),
    ...(parameters === undefined ? {} : { parameters }),
    ...(quantization && quantization !== 'unknown' ? { quantization } : {}),
    ...(tagged.digest ? { digest: toDigest(tagged.digest) } : {}),
    ...toSource(tagged),
    ...(tagged.size === undefined ? {} : { size: tagged.size }),
    // The model that was last pulled or made is the one its owner most likely means.
    ...(Number.isNaN(modified) ? {} : { created: modified, rank: modified }),
  };
}

function toDigest(digest: string): string {
  return digest.startsWith('sha256:') ? digest : `sha256:${digest}`;
}

/** Where it can be got again, as its name tells: names from the hub hold its address. Others may have been made here. */
function toSource({ name, remote_host: remote }: TaggedModel): { source?: string } {
  const repo = /^(?:hf\.co|huggingface\.co)\/([\w.-]+\/[\w.-]+)(?::|$)/.exec(name)?.[1];
  if (repo !== undefined) return { source: `https://huggingface.co/${repo}` };
  return remote ? { source: remote } : {};
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
