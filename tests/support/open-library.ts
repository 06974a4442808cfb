// A fake Ollama and the registry that it pulls from, for gateways that pull through them.
import { openFakeOllamaRegistry } from './fake-ollama-registry.ts';
import { openFakeOllama } from './fake-ollama.ts';
import type { GatewayOptions } from './gateway.ts';

/** Bytes of every model. */
export const SIZE = 1_500_000;

export async function openLibrary() {
  const registry = await openFakeOllamaRegistry();
  const ollama = await openFakeOllama({ registry: registry.url });
  let count = 0;
  return {
    ollama,
    options: {
      runtimes: [{ name: 'ollama', kind: 'ollama', url: ollama.url }],
      env: { HONO_AI_OLLAMA_REGISTRY: registry.url, HONO_AI_EMBEDDED: 'false', HONO_AI_HEARTBEAT_MS: '300' },
    } satisfies GatewayOptions,
    /** A model that nobody has asked for yet, and the digest of its weights. */
    publish(): { model: string; digest: string } {
      const model = `new-${++count}:1b`;
      const weights = new Uint8Array(SIZE).fill(count);
      return { model, digest: registry.publish(model, { weights })[0]!.digest };
    },
    /** Downloads of the weights that Ollama has begun or taken up again. */
    downloads: (digest: string) => ollama.library.downloads.filter((each) => each === digest).length,
    /** Bytes of them that lie there, of a download that is not complete. */
    come: (digest: string) => (ollama.library.partial.get(digest) ?? []).reduce((sum, { length }) => sum + length, 0),
    /** Downloads that begin now take more than a second; those that begin after `hurry` do not. */
    slowly: () => void (registry.cdn.trouble = { kind: 'slow', bytesPerSecond: 1_200_000 }),
    hurry: () => void (registry.cdn.trouble = undefined),
    async close() {
      await ollama.close();
      await registry.close();
    },
  };
}

export type Library = Awaited<ReturnType<typeof openLibrary>>;
