// What Ollama could run and does not have: from a list of ours at once, and from the hub where that answers in time.
import type { CapabilityId } from '../../../src/capabilities/index.ts';
import type { Offer } from '../../../src/puller.ts';
import type { Upstream } from '../../../src/upstream.ts';
import type { Hub, HubRepo } from '../../downloads/hub.ts';
import { library } from './library.ts';
import { toFullName } from './wire.ts';
import type { TaggedModel } from './wire.ts';

const HUB_MS = 2000;
const HUB_LIMIT = 20;

export async function searchModels(
  words: string,
  { upstream, hub }: { upstream: Upstream; hub: Hub },
  signal: AbortSignal,
): Promise<Offer[]> {
  const asked = words.trim().toLowerCase().split(/\s+/).filter(Boolean).slice(0, 8);
  const [installed, found] = await Promise.all([
    upstream
      .control<{ models?: TaggedModel[] | null }>('/api/tags', { signal })
      .then(({ models }) => new Set((models ?? []).map(({ name }) => toFullName(name))))
      .catch(() => new Set<string>()),
    asked.length === 0
      ? []
      : hub
          .search(
            asked.join(' '),
            { filter: 'gguf', limit: HUB_LIMIT },
            AbortSignal.any([signal, AbortSignal.timeout(HUB_MS)]),
          )
          .catch(() => []),
  ]);
  signal.throwIfAborted();
  const fits = (text: string) => asked.every((word) => text.toLowerCase().includes(word));
  const known = library
    .filter(({ name, title, capabilities }) => fits(`${name} ${title} ${capabilities.join(' ')}`))
    .filter(({ name }) => !installed.has(toFullName(name)))
    .map(({ name, ...facts }): Offer => ({ model: name, ...facts, source: toLibraryAddress(name), present: false }));
  const has = (id: string) =>
    [...installed].some((name) => name.toLowerCase().startsWith(`hf.co/${id.toLowerCase()}:`));
  return [...known, ...found.filter(({ id }) => !has(id)).map(toOffer)];
}

export function toLibraryAddress(name: string): string {
  const bare = name.split(':')[0]!;
  return `https://ollama.com/${bare.includes('/') ? bare : `library/${bare}`}`;
}

function toOffer({ id, license, task, downloads, gated }: HubRepo): Offer {
  return {
    model: `hf.co/${id}`,
    title: gated ? `${id} (its terms have to be accepted)` : id,
    capabilities: toCapabilities(task),
    ...(license === undefined ? {} : { license }),
    source: `https://huggingface.co/${id}`,
    present: false,
    popularity: downloads,
  };
}

/** Of a repository that does not say what it is for, most are models that write. */
function toCapabilities(task = 'text-generation'): CapabilityId[] {
  if (/feature-extraction|sentence-similarity/.test(task)) return ['text.embed'];
  if (/image-text-to-text|any-to-any|image-to-text/.test(task)) return ['text.generate', 'text.chat', 'image.describe'];
  return /text|conversational|translation/.test(task) ? ['text.generate', 'text.chat'] : [];
}
