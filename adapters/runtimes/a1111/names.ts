// What a server has beside its checkpoints: samplers, schedulers, LoRAs and upscalers, asked for when they are needed.
import { GatewayError } from '../../../src/error.ts';
import type { Upstream } from '../../../src/upstream.ts';
import { ifThere, type Named } from './wire.ts';

const KEEP_MS = 30_000;
/** Of the names that are there, in an error. */
const TOLD = 12;
/** They stretch; nothing was trained for it. */
const STRETCH = /^(none|lanczos|nearest|bicubic|latent)/i;

export interface Names {
  /** As the server names it. Throws invalid_request for one that it does not have. Undefined where it has no such list. */
  find(list: 'samplers' | 'schedulers', name: string, signal: AbortSignal): Promise<string | undefined>;
  /** As prompts name it. Throws model_not_found. */
  lora(name: string, signal: AbortSignal): Promise<string>;
  /** Networks that enlarge, by the names that they are asked by. */
  upscalers(signal: AbortSignal): Promise<string[]>;
}

export function createNames(upstream: Upstream): Names {
  const known = new Map<string, { until: number; list: Promise<Named[] | undefined> }>();

  function read(path: string, signal: AbortSignal): Promise<Named[] | undefined> {
    const kept = known.get(path);
    if (kept && kept.until > Date.now()) return kept.list;
    const list = ifThere(upstream.control<Named[]>(`/sdapi/v1/${path}`, { signal })).then((all) =>
      Array.isArray(all) ? all.filter((one) => typeof one?.name === 'string') : undefined,
    );
    known.set(path, { until: Date.now() + KEEP_MS, list });
    list.catch(() => known.delete(path));
    return list;
  }

  return {
    async find(list, name, signal) {
      const all = await read(list, signal);
      if (!all?.length) return undefined;
      // Elsewhere what is called k_euler here is just euler.
      const found = all.find((one) => isCalled(one, name)) ?? all.find((one) => isCalled(one, `k_${name}`));
      if (found) return found.name;
      const param = list.slice(0, -1);
      throw new GatewayError('invalid_request', `${param}: ${upstream.name} has no “${name}”.`, {
        param,
        source: upstream.name,
        hint: tell(all),
      });
    },
    async lora(name, signal) {
      const all = (await read('loras', signal)) ?? [];
      const found = all.find(
        (one) => isCalled(one, name) || isCalled(one, name.replace(/\.(safetensors|pt|ckpt)$/, '')),
      );
      if (found) return found.name;
      throw new GatewayError('model_not_found', `loras: ${upstream.name} has no “${name}”.`, {
        param: 'loras',
        source: upstream.name,
        hint: all.length > 0 ? tell(all) : 'Put it into models/Lora of the server.',
      });
    },
    async upscalers(signal) {
      return ((await read('upscalers', signal)) ?? []).map(({ name }) => name).filter((name) => !STRETCH.test(name));
    },
  };
}

function isCalled({ name, label, alias, aliases }: Named, wanted: string): boolean {
  const lower = wanted.toLowerCase();
  return [name, label, alias, ...(aliases ?? [])].some((one) => one?.toLowerCase() === lower);
}

function tell(all: Named[]): string {
  const more = all.length > TOLD ? ', …' : '';
  return `There are ${all
    .slice(0, TOLD)
    .map(({ name }) => name)
    .join(', ')}${more}.`;
}
