// Finds OpenAI-compatible servers and ComfyUI on the local ports where they usually are.
import { ofetch } from 'ofetch';
import { ConfigError } from '../src/config.ts';

/** Port → the name it gets. Several programs share some of them; what matters is that it speaks the protocol. */
const USUAL = [
  [8080, 'llama-server'],
  [9931, 'llama-server-9931'],
  [1234, 'lm-studio'],
  [8000, 'vllm'],
] as const;

const PROBE_MS = 400;

export interface Found {
  name: string;
  /** With /v1. */
  url: string;
}

/** Ports of `taken` addresses are not probed. A closed port answers at once, a mute one costs 400 ms. */
export async function discover(
  taken: string[],
  ports: readonly (readonly [number, string])[] = USUAL,
): Promise<Found[]> {
  const busy = new Set(taken.map((address) => new URL(address).port));
  const probes = ports
    .filter(([port]) => !busy.has(String(port)))
    .map(async ([port, name]) => {
      const url = `http://127.0.0.1:${port}/v1`;
      return (await speaksOpenAI(url)) ? [{ name, url }] : [];
    });
  return (await Promise.all(probes)).flat();
}

async function speaksOpenAI(url: string): Promise<boolean> {
  try {
    const { _data: body, headers } = await ofetch.raw<{ data?: unknown }>(`${url}/models`, {
      retry: 0,
      timeout: PROBE_MS,
      redirect: 'error',
    });
    // Another gateway of ours would send requests round in circles. A server that wants a key is for its owner to add.
    return Array.isArray(body?.data) && !headers.has('x-hono-ai');
  } catch {
    return false;
  }
}

/** ComfyUI's own port; another program may have it. */
export async function speaksComfyUI(url: string): Promise<boolean> {
  try {
    const stats = await ofetch<{ system?: { comfyui_version?: string } }>(`${url}/system_stats`, {
      retry: 0,
      timeout: PROBE_MS,
      redirect: 'error',
    });
    return typeof stats?.system?.comfyui_version === 'string';
  } catch {
    return false;
  }
}

/** OLLAMA_HOST as Ollama reads it: a host, host:port or an address; 0.0.0.0 means this machine. */
export function toOllamaUrl(value: string): string {
  const text = value.trim().replace(/\/+$/, '');
  const address = /^https?:\/\//i.test(text) ? text : `http://${text}`;
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    throw new ConfigError('ollama_url (OLLAMA_HOST): not an address');
  }
  if (url.hostname === '0.0.0.0' || url.hostname === '[::]') url.hostname = '127.0.0.1';
  if (url.port === '' && !/^https?:\/\//i.test(text)) url.port = '11434';
  return url.origin + url.pathname.replace(/\/+$/, '');
}
