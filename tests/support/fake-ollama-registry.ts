// A fake of Ollama's registry over real HTTP: manifests, blobs that another host serves, and manifests nobody should follow.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { hashOf, openFakeFiles, type FakeFiles } from './fake-files.ts';
import { listen } from './fake-http.ts';

export interface FakeLayer {
  digest: string;
  size: number;
  mediaType: string;
}

export interface PublishedModel {
  weights: Uint8Array;
  license?: string;
  config?: { model_type?: string; file_type?: string };
}

export interface FakeOllamaRegistry {
  url: string;
  /** As the name of a model takes it: `127.0.0.1:4711`. */
  host: string;
  /** Its content network: what was asked of it and served, and its troubles. */
  cdn: FakeFiles;
  /** Both, as origins that may be reached. */
  origins: string[];
  /** `METHOD path` of every request to the registry itself. */
  requests: string[];
  /** Answers every manifest with this status. */
  status: number | undefined;
  /** Publishes `name:tag` of the namespace `library`, or `namespace/name:tag`. */
  publish(name: string, content: PublishedModel): FakeLayer[];
  /** Serves this in place of a manifest. */
  publishManifest(name: string, manifest: unknown): void;
  close(): Promise<void>;
}

const MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
const CONFIG = 'application/vnd.docker.container.image.v1+json';
const IMAGE = 'application/vnd.ollama.image';

export async function openFakeOllamaRegistry(): Promise<FakeOllamaRegistry> {
  const manifests = new Map<string, unknown>();
  const cdn = await openFakeFiles();
  // Under another name than the registry's, as clients go on only where that changes.
  const cdnUrl = cdn.url.replace('127.0.0.1', 'localhost');

  function answer(request: IncomingMessage, response: ServerResponse): unknown {
    registry.requests.push(`${request.method} ${request.url}`);
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://registry').pathname);
    const [, name, kind, what = ''] = /^\/v2\/([^/]+\/[^/]+)\/(manifests|blobs)\/(.+)$/.exec(path) ?? [];
    if (kind === 'manifests') {
      if (registry.status !== undefined) return response.writeHead(registry.status).end('trouble');
      const manifest = manifests.get(`${name}:${what}`);
      if (manifest !== undefined) {
        return response.writeHead(200, { 'content-type': MANIFEST }).end(JSON.stringify(manifest));
      }
      response.writeHead(404, { 'content-type': 'application/json' });
      return response.end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}');
    }
    const bytes = cdn.files.get(what);
    if (kind !== 'blobs' || !bytes) return response.writeHead(404).end();
    // It tells the size itself; the bytes are elsewhere, at an address that is good for a while.
    if (request.method === 'HEAD') return response.writeHead(200, { 'content-length': bytes.length }).end();
    return response.writeHead(307, { location: `${cdnUrl}/${what}?expires=1&signature=abc` }).end();
  }

  function keep(bytes: Uint8Array, mediaType: string): FakeLayer {
    const digest = `sha256:${hashOf('sha256', bytes)}`;
    cdn.files.set(digest, bytes);
    return { digest, size: bytes.length, mediaType };
  }

  const own = await listen(answer);
  const registry: FakeOllamaRegistry = {
    url: `http://127.0.0.1:${own.port}`,
    host: `127.0.0.1:${own.port}`,
    cdn,
    origins: [`http://127.0.0.1:${own.port}`, cdnUrl],
    requests: [],
    status: undefined,
    publish(name, { weights, license, config = {} }) {
      const layers = [keep(weights, `${IMAGE}.model`)];
      if (license !== undefined) layers.push(keep(Buffer.from(license), `${IMAGE}.license`));
      const about = { model_format: 'gguf', model_family: 'llama', os: 'linux', architecture: 'amd64', ...config };
      const last = keep(Buffer.from(JSON.stringify(about)), CONFIG);
      manifests.set(toFull(name), { schemaVersion: 2, mediaType: MANIFEST, config: last, layers });
      return [...layers, last];
    },
    publishManifest: (name, manifest) => void manifests.set(toFull(name), manifest),
    async close() {
      await Promise.all([own.stop(), cdn.close()]);
    },
  };
  return registry;
}

function toFull(name: string): string {
  const tagged = name.includes(':') ? name : `${name}:latest`;
  return tagged.includes('/') ? tagged : `library/${tagged}`;
}
