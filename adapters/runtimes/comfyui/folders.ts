// Where the model files of a ComfyUI lie on this machine: where a setting says, or where it says itself and that can be believed.
import { access, constants, lstat, realpath } from 'node:fs/promises';
import { basename, isAbsolute, join, relative, sep } from 'node:path';
import type { PullKind } from '../../../src/capabilities/model/fields.ts';
import { GatewayError } from '../../../src/error.ts';
import { findFile } from '../../shelves/files.ts';
import type { Client } from './client.ts';
import { baseName } from './names.ts';

/** A folder on this machine, and the way from there to where files are put; empty for the folder itself. */
export interface Place {
  root: string;
  way: string;
}

export interface ModelFolders {
  /**
   * Where files of this folder of `models` are put. Undefined where nobody knows. Throws not_supported for one that cannot be
   * written or leads elsewhere.
   */
  place(folder: string, signal: AbortSignal): Promise<Place | undefined>;
  /** Where a file lies that the server lists under this name, or would. */
  find(
    folder: string,
    name: string,
    signal: AbortSignal,
  ): Promise<(Place & { path: string; size: number }) | undefined>;
  /** The next who asks looks anew. */
  forget(): void;
}

/** Kind of a file → the folder that its loaders look into. */
export const folderOfKind: Record<Exclude<PullKind, 'gguf'>, string> = {
  checkpoint: 'checkpoints',
  diffusion_model: 'diffusion_models',
  text_encoder: 'text_encoders',
  vae: 'vae',
  lora: 'loras',
  controlnet: 'controlnet',
  upscaler: 'upscale_models',
  motion_module: 'animatediff_models',
  motion_lora: 'animatediff_motion_lora',
  clip_vision: 'clip_vision',
  embedding: 'embeddings',
};

/** Other names of the same folder. */
const ALSO: Record<string, string[]> = {
  diffusion_models: ['unet'],
  text_encoders: ['clip'],
  controlnet: ['t2i_adapter'],
};
/** Folders that the server runs code or configurations from. */
const DENIED = new Set(['custom_nodes', 'configs', 'datasets']);
const KEEP_MS = 60_000;
/** Files of a folder that are looked for before it is believed to be the server's. */
const SAMPLE = 20;

export function isModelFolder(folder: string): boolean {
  return /^[a-z\d][\w-]{0,63}$/i.test(folder) && !DENIED.has(folder.toLowerCase());
}

export function createFolders(options: {
  /** What the setting says; nobody then asks the server. */
  dir: string | undefined;
  baseUrl: string;
  client: Pick<Client, 'folderPaths' | 'files'>;
  source: string;
}): ModelFolders {
  const { dir, baseUrl, client, source } = options;
  const isHere = isLoopback(baseUrl);
  let paths: { told: Promise<Record<string, string[]>>; at: number } | undefined;
  const believed = new Map<string, { places: Promise<Place[]>; at: number }>();

  /** What the server says; nothing where it does not. */
  function askPaths(): Promise<Record<string, string[]>> {
    if (!paths || performance.now() - paths.at > KEEP_MS) {
      const told = client.folderPaths().catch(() => ({}));
      paths = { told, at: performance.now() };
    }
    return paths.told;
  }

  /** Its folders as far as they are here: a container tells of folders that are not, or that are others of the same name. */
  async function believe(folder: string): Promise<Place[]> {
    const told = (await askPaths())[folder] ?? [];
    const here = await Promise.all(
      told.filter((path) => isAbsolute(path)).map((path) => realpath(path).catch(() => undefined)),
    );
    const roots = [...new Set(here.flatMap((path) => path ?? []))];
    if (roots.length === 0) return [];
    const listed = await client.files(folder).catch(() => undefined);
    if (!listed) return [];
    for (const name of listed.slice(0, SAMPLE)) {
      const found = await Promise.all(roots.map((root) => isThere(root, name)));
      if (!found.includes(true)) return [];
    }
    const named = (root: string) => (basename(root) === folder ? 0 : 1);
    return roots.toSorted((a, b) => named(a) - named(b)).map((root) => ({ root, way: '' }));
  }

  async function ofServer(folder: string): Promise<Place[]> {
    if (!isHere) return [];
    const known = believed.get(folder);
    if (known && performance.now() - known.at <= KEEP_MS) return known.places;
    const places = believe(folder);
    believed.set(folder, { places, at: performance.now() });
    return places;
  }

  /** The setting names the folder of all models; what leads out of it was not named. */
  async function ofSetting(folder: string): Promise<Place[]> {
    const root = await realpath(dir!).catch(() => undefined);
    if (root === undefined) throw unusable(source, 'The folder of models that is set is not there.');
    return [folder, ...(ALSO[folder] ?? [])].map((way) => ({ root, way }));
  }

  const all = (folder: string) => (dir === undefined ? ofServer(folder) : ofSetting(folder));

  return {
    async place(folder, signal) {
      if (!isModelFolder(folder)) return undefined;
      const places = await all(folder);
      signal.throwIfAborted();
      for (const place of places) {
        if (dir !== undefined) await expectInside(place, source);
        if (await isWritable(place)) return place;
      }
      if (places.length > 0) throw unusable(source, 'The folder of models cannot be written.');
      return undefined;
    },
    async find(folder, name, signal) {
      if (!isModelFolder(folder)) return undefined;
      const places = await all(folder).catch(() => []);
      signal.throwIfAborted();
      const plain = name.replaceAll('\\', '/');
      for (const place of places) {
        for (const wanted of new Set([plain, baseName(plain)])) {
          const path = place.way === '' ? wanted : `${place.way}/${wanted}`;
          const found = await findFile(place.root, path).catch(() => undefined);
          if (found) return { ...place, path, size: found.size };
        }
      }
      return undefined;
    },
    forget() {
      paths = undefined;
      believed.clear();
    },
  };
}

/** Of a server elsewhere the same paths may be here, and mean something else. */
function isLoopback(url: string): boolean {
  const { hostname } = new URL(url);
  return (
    hostname === 'localhost' ||
    hostname.endsWith('.localhost') ||
    hostname === '[::1]' ||
    /^127\.\d+\.\d+\.\d+$/.test(hostname)
  );
}

async function isThere(root: string, name: string): Promise<boolean> {
  const path = join(root, ...name.split(/[/\\]/));
  if (relative(root, path).startsWith(`..${sep}`)) return false;
  return lstat(path).then(
    () => true,
    () => false,
  );
}

/** A link on the way is not followed: what it leads to was never named. */
async function expectInside({ root, way }: Place, source: string): Promise<void> {
  const about = await lstat(join(root, way)).catch(() => undefined);
  if (!about || about.isDirectory()) return;
  throw new GatewayError('not_supported', `models/${way} is no folder but leads elsewhere.`, {
    source,
    hint: `Mount what it leads to in its place, or take ${source} out of HONO_AI_MODEL_DIRS: if it runs here, it is asked.`,
  });
}

async function isWritable({ root, way }: Place): Promise<boolean> {
  const may = (path: string) =>
    access(path, constants.W_OK).then(
      () => true,
      (error: { code?: string }) => (error.code === 'ENOENT' ? undefined : false),
    );
  return (await may(join(root, way))) ?? (way !== '' && (await may(root)) === true);
}

function unusable(source: string, message: string): GatewayError {
  return new GatewayError('not_supported', message, {
    source,
    hint: `Set HONO_AI_MODEL_DIRS=${source}:/path/to/ComfyUI/models, a folder that the gateway may write to.`,
  });
}
