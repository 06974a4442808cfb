// Which models lie in the memory of this process and its workers, and moving them in and out.
import { readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GatewayError } from '../../../src/error.ts';
import type { ModelMemory, Resident } from '../../../src/runtime.ts';
import type { Entry } from './catalogue.ts';
import type { Lane } from './lane.ts';
import type { Found } from './models.ts';
import type { LoadTask } from './wire.ts';

/** The one model that needs no worker. */
export interface TinyMemory {
  id: string;
  dir: string;
  loaded(): boolean;
  load(): Promise<unknown>;
  drop(): void;
}

export interface MemoryParts {
  lanes: Record<LoadTask['as'], Lane>;
  tiny: TinyMemory;
  /** Throws model_not_found. */
  find(id: string): Promise<Found>;
  /** Throws model_unavailable where a model that ships with the project is damaged. */
  verify(id: string): Promise<void>;
}

const LANES: Record<Entry['kind'], LoadTask['as']> = {
  chat: 'generate',
  base: 'generate',
  embed: 'embed',
  picture: 'paint',
};

export function createMemory({ lanes, tiny, find, verify }: MemoryParts): Required<ModelMemory> {
  const all = Object.values(lanes);

  /** Nobody measures: what its files take on disk stands for what it takes in memory. */
  async function toResident(id: string, lane: Lane): Promise<Resident> {
    const size = (await find(id).catch(() => undefined))?.size;
    const expiresAt = lane.expiresAt();
    return {
      model: id,
      vram: 0,
      ...(size === undefined ? {} : { ram: size }),
      ...(expiresAt === undefined ? {} : { expiresAt }),
      ...(lane.uses(id) ? { busy: true } : {}),
    };
  }

  return {
    device: () => 'processor',
    async residents() {
      const held = all.flatMap((lane) => lane.loaded().map((id) => toResident(id, lane)));
      const small = tiny.loaded() ? [{ model: tiny.id, vram: 0, ram: await sizeOf(tiny.dir) }] : [];
      return [...(await Promise.all(held)), ...small];
    },
    async load(model, { signal, keep }) {
      if (signal.aborted) throw left();
      const { entry, files } = await find(model.id);
      if (entry.origin === 'builtin') await verify(entry.id);
      if (signal.aborted) throw left();
      if (entry.id === tiny.id) await tiny.load();
      else if (!files) throw notHere(entry);
      else await lanes[LANES[entry.kind]].load(files, LANES[entry.kind], signal, keep);
    },
    async evict(model, signal) {
      if (signal.aborted) throw left();
      if (model === tiny.id) tiny.drop();
      for (const lane of all) await lane.unload(model, signal);
      if (all.some((lane) => lane.loaded().includes(model))) throw stillThere(model);
    },
  };
}

/** Bytes of the files in a folder, and in those below it. */
export async function sizeOf(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const sizes = await Promise.all(
    names.map(async (name) => {
      const found = await stat(join(folder, name)).catch(() => undefined);
      return found?.isFile() ? found.size : 0;
    }),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Where the files of a model lie. */
export function folderOf({ files }: Found): string | undefined {
  return files && (files.format === 'onnx' ? files.dir : dirname(files.path));
}

function left(): GatewayError {
  return new GatewayError('client_closed', 'The request was cancelled.', { source: 'embedded' });
}

function notHere({ id, origin }: Entry): GatewayError {
  return new GatewayError('model_unavailable', `${id} is not on this machine.`, {
    source: 'embedded',
    hint:
      origin === 'hub'
        ? `Get it first: hono-ai models pull ${id}`
        : 'Restore the models folder of this installation, for example with: git checkout -- models',
    retry: false,
  });
}

function stillThere(id: string): GatewayError {
  return new GatewayError('insufficient_vram', `The worker was told to unload ${id} and still holds it.`, {
    source: 'embedded',
    retryAfter: 5,
  });
}
