// Runs the edge Worker in real workerd, as wrangler.toml would deploy it.
import { readFile } from 'node:fs/promises';
import { build } from 'esbuild';
import { Miniflare } from 'miniflare';

export interface RunningWorker {
  /** Without a trailing slash. */
  url: string;
  close(): Promise<void>;
}

/** Bundles adapters/hosts/worker.ts and serves it on 127.0.0.1 with these variables. */
export async function openWorker(bindings: Record<string, string>): Promise<RunningWorker> {
  const miniflare = new Miniflare({
    modules: true,
    script: await bundle(),
    ...(await deployment()),
    bindings,
    host: '127.0.0.1',
    port: 0,
    // Straight to the Worker: miniflare's own front Worker would swallow a caller's hang-up and an origin's cut.
    unsafeDirectSockets: [{ host: '127.0.0.1', port: 0 }],
  });
  const url = await miniflare.unsafeGetDirectURL();
  return { url: url.origin, close: () => miniflare.dispose() };
}

let bundled: Promise<string> | undefined;

function bundle(): Promise<string> {
  bundled ??= build({
    entryPoints: [new URL('../../adapters/hosts/worker.ts', import.meta.url).pathname],
    bundle: true,
    format: 'esm',
    platform: 'neutral',
    write: false,
  }).then((result) => result.outputFiles[0]!.text);
  return bundled;
}

/** The tests must fail when the deployed flags would, so they are read from where wrangler reads them. */
async function deployment(): Promise<{ compatibilityDate: string; compatibilityFlags: string[] }> {
  const toml = await readFile(new URL('../../wrangler.toml', import.meta.url), 'utf8');
  const date = /^compatibility_date = "(.+)"$/m.exec(toml)?.[1];
  const flags = /^compatibility_flags = (\[.*\])$/m.exec(toml)?.[1];
  if (!date || !flags) throw new Error('wrangler.toml has no compatibility_date or compatibility_flags line');
  return { compatibilityDate: date, compatibilityFlags: JSON.parse(flags) as string[] };
}
