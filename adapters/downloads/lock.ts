// One writer per file, among all processes that share the folder: a lock file that shows signs of life, taken over from the dead.
import { randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { link, open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';

export interface Lock {
  /** Throws where another process has taken it, which it does from one that showed no sign of life for long. */
  check(): Promise<void>;
  release(): Promise<void>;
}

interface Holder {
  id: string;
  /** The machine and, in containers, the world of process ids that `pid` belongs to. */
  place: string;
  pid: number;
  /** When that process began: a pid is given to others later. */
  start: string;
}

/** A holder that showed no sign of life for so many milliseconds is taken for dead. */
const STALE = 20_000;
const BEAT = 4_000;

export class Dispossessed extends Error {}

/** Undefined while another holds it. */
export async function takeLock(path: string): Promise<Lock | undefined> {
  const holder: Holder = { id: randomUUID(), place: place(), pid: process.pid, start: startOf(process.pid) };
  for (let attempt = 0; attempt < 3; attempt++) {
    // Looked at first: who waits asks often, and should write nothing.
    if (await stat(path).catch(() => undefined)) {
      if (!(await isAbandoned(path))) return undefined;
      await putAside(path);
    }
    if (await create(path, holder)) return hold(path, holder);
  }
  return undefined;
}

function hold(path: string, { id }: Holder): Lock {
  let seen = Date.now();
  let lost = false;
  const beat = async () => {
    if (lost || (await read(path))?.id !== id) {
      lost = true;
      return;
    }
    const now = new Date();
    await utimes(path, now, now);
    seen = now.getTime();
  };
  const timer = setInterval(() => void beat().catch(() => {}), BEAT);
  timer.unref();
  return {
    async check() {
      if (!lost && Date.now() - seen > STALE / 2) await beat();
      if (lost) throw new Dispossessed('another process has taken over');
    },
    async release() {
      clearInterval(timer);
      if (!lost && (await read(path))?.id === id) await rm(path, { force: true });
    },
  };
}

/** Whole or not at all: nobody ever reads half a holder. */
async function create(path: string, holder: Holder): Promise<boolean> {
  const draft = beside(path);
  try {
    const file = await open(draft, 'wx');
    try {
      await file.writeFile(JSON.stringify(holder));
    } finally {
      await file.close();
    }
    return await link(draft, path).then(
      () => true,
      (error: { code?: string }) => {
        if (error.code === 'EEXIST') return false;
        // Disks without hard links (exFAT, some shares).
        return createPlainly(path, holder);
      },
    );
  } finally {
    await rm(draft, { force: true });
  }
}

async function createPlainly(path: string, holder: Holder): Promise<boolean> {
  const file = await open(path, 'wx').catch((error: { code?: string }) => {
    if (error.code === 'EEXIST') return undefined;
    throw error;
  });
  await file?.writeFile(JSON.stringify(holder)).finally(() => file.close());
  return file !== undefined;
}

async function isAbandoned(path: string): Promise<boolean> {
  const [holder, found] = await Promise.all([read(path), stat(path).catch(() => undefined)]);
  if (!found) return true;
  if (Date.now() - found.mtimeMs > STALE) return true;
  return holder !== undefined && holder.place === place() && !lives(holder);
}

/** Moved away and then looked at once more: it may be a new one, of somebody who took over a moment earlier. */
async function putAside(path: string): Promise<void> {
  const aside = beside(path);
  try {
    await rename(path, aside);
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return;
    throw error;
  }
  if (!(await isAbandoned(aside))) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
}

async function read(path: string): Promise<Holder | undefined> {
  try {
    const { id, place, pid, start } = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
    if (typeof id !== 'string' || typeof place !== 'string' || typeof start !== 'string') return undefined;
    return Number.isSafeInteger(pid) && (pid as number) > 0 ? { id, place, pid: pid as number, start } : undefined;
  } catch {
    return undefined;
  }
}

function lives({ pid, start }: Holder): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as { code?: string }).code === 'ESRCH') return false;
  }
  const now = startOf(pid);
  return now === '' || start === '' || now === start;
}

/** Ticks since the machine began, where the system tells them. */
function startOf(pid: number): string {
  try {
    // The name in brackets may hold anything, brackets too.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\)\s*/s, '');
    return fields.split(' ')[19] ?? '';
  } catch {
    return '';
  }
}

/** Of its own, for the name of a file may be as long as names can be. */
function beside(path: string): string {
  return join(dirname(path), `.${randomUUID()}.part`);
}

let known: string | undefined;

function place(): string {
  return (known ??= [
    hostname(),
    ask(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')),
    ask(() => readlinkSync('/proc/self/ns/pid')),
  ].join(' '));
}

function ask(read: () => string): string {
  try {
    return read().trim();
  } catch {
    return '';
  }
}
