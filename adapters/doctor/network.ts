// The network: whether the places that models come from can be reached. Nothing else needs it.
import type { Check, Draft } from './check.ts';

const PROBE_MS = 3000;

export const checkNetwork: Check = async ({ config }, signal) => {
  const places = [
    ['huggingface', config.hf_endpoint, 'HF_ENDPOINT'],
    ['ollama-library', config.ollama_registry, 'HONO_AI_OLLAMA_REGISTRY'],
  ] as const;
  return Promise.all(places.map(([name, url, setting]) => probe(name, url, setting, signal)));
};

async function probe(name: string, url: string, setting: string, signal: AbortSignal): Promise<Draft> {
  const about = { id: `network.${name}`, area: 'network' as const };
  try {
    const reply = await fetch(url, {
      method: 'HEAD',
      redirect: 'manual',
      signal: AbortSignal.any([signal, AbortSignal.timeout(PROBE_MS)]),
    });
    await reply.body?.cancel();
    return { ...about, level: 'ok', message: `${name} can be reached.` };
  } catch {
    return {
      ...about,
      level: 'info',
      message: `${name} cannot be reached: models cannot be got from there. All that is here works.`,
      fix: `Look at the network of this machine, or set ${setting} to a mirror.`,
    };
  }
}
