// The disk: room for files and models, folders that can be written, and what cut-off downloads left behind.
import { readdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { may, type Check, type Draft } from './check.ts';

const AREA = 'disk' as const;
const GB = 1e9;
const LITTLE = 5 * GB;
const NOTHING = GB;
/** Milliseconds after which nobody will go on with a download. */
const OLD_MS = 7 * 86_400_000;
/** Entries of a folder that are looked at: a look must end. */
const MAX_ENTRIES = 20_000;

export const checkDisk: Check = async (options, signal) => {
  const { stateDir, cacheDir, config } = options;
  const dirs = Object.entries(config.model_dirs as Record<string, string>);
  const places: [name: string, path: string][] = [['state', stateDir], ...dirs];
  const rooms = await Promise.all(places.map(([name, path]) => checkRoom(name, path)));
  const folders = await Promise.all(dirs.map(([name, path]) => checkFolder(name, path)));
  const partial = /\.part(\.json|\.lock)?$/;
  const left = await findLeft([cacheDir, ...dirs.map(([, path]) => path)], partial, signal);
  // What was on its way to a runtime and never got there: nothing else is kept in that folder.
  left.push(...(await findLeft([join(stateDir, 'pulls')], /./, signal)));
  return [...rooms, ...folders.flat(), ...toLeft(left)];
};

async function checkRoom(name: string, path: string): Promise<Draft> {
  const about = { id: `disk.${name}`, area: AREA };
  const found = await statfs(path).catch(() => undefined);
  if (!found) return { ...about, level: 'info', message: `Nobody can say how much room there is for ${name}.` };
  const free = found.bavail * found.bsize;
  const told = `${(free / GB).toFixed(1)} GB are free for ${name}.`;
  if (free >= LITTLE) return { ...about, level: 'ok', message: told };
  return {
    ...about,
    level: free < NOTHING ? 'fail' : 'warn',
    message: told,
    fix: 'Delete what nobody uses: hono-ai models rm NAME, hono-ai artifacts rm ID; or move it to a larger disk.',
  };
}

async function checkFolder(name: string, path: string): Promise<Draft[]> {
  if (await may(path, 'use')) return [];
  const there = await may(path, 'exist');
  return [
    {
      id: `models.${name}`,
      area: AREA,
      level: 'fail',
      message: `The folder of ${name} in HONO_AI_MODEL_DIRS ${there ? 'cannot be written by this user' : 'is not there'}.`,
      fix: there ? `sudo chown -R "$USER" ${path}` : `mkdir -p ${path}, or correct HONO_AI_MODEL_DIRS.`,
    },
  ];
}

interface Left {
  path: string;
  size: number;
}

/** Files of such names that nobody has touched for long. Links are not followed. */
async function findLeft(roots: string[], names: RegExp, signal: AbortSignal): Promise<Left[]> {
  const left: Left[] = [];
  let entries = 0;
  async function visit(folder: string, depth: number): Promise<void> {
    for (const item of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
      if (signal.aborted || ++entries > MAX_ENTRIES) return;
      const path = join(folder, item.name);
      if (item.isDirectory() && depth < 6) await visit(path, depth + 1);
      else if (item.isFile() && names.test(item.name)) {
        const { size, mtimeMs } = await stat(path);
        if (Date.now() - mtimeMs > OLD_MS) left.push({ path, size });
      }
    }
  }
  for (const root of new Set(roots)) await visit(root, 0);
  return left;
}

function toLeft(left: Left[]): Draft[] {
  if (left.length === 0) return [];
  const size = left.reduce((sum, file) => sum + file.size, 0);
  return [
    {
      id: 'disk.partial',
      area: AREA,
      level: 'warn',
      message: `Downloads that were cut off more than a week ago hold ${(size / GB).toFixed(1)} GB in ${left.length} files.`,
      fix: 'hono-ai doctor --fix deletes them; pulling the model again would go on with them.',
      mend: async () => {
        for (const { path } of left) await rm(path, { force: true });
      },
    },
  ];
}
