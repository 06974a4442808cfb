// Files of the interactive documents page, from the installed swagger-ui-dist.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

/** What the page asks for, and nothing else of the package. */
const FILES: Record<string, string> = {
  'swagger-ui.css': 'text/css; charset=utf-8',
  'swagger-ui-bundle.js': 'text/javascript; charset=utf-8',
};

export interface Asset {
  bytes: Uint8Array<ArrayBuffer>;
  contentType: string;
}

const require = createRequire(import.meta.url);
const loaded = new Map<string, Promise<Asset>>();

/** undefined for a name that is not offered. Throws where the package is not installed. */
export async function loadAsset(name: string): Promise<Asset | undefined> {
  const contentType = Object.hasOwn(FILES, name) ? FILES[name] : undefined;
  if (contentType === undefined) return undefined;
  let asset = loaded.get(name);
  if (!asset) {
    asset = readFile(require.resolve(`swagger-ui-dist/${name}`)).then((file) => ({
      bytes: new Uint8Array(file),
      contentType,
    }));
    loaded.set(name, asset);
    // A failure is not kept: the package may be installed while the gateway runs.
    asset.catch(() => loaded.delete(name));
  }
  return asset;
}
