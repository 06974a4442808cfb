// Several files → their folders: what there is and whether it fits is found out first, then one after the other is brought.
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ProgressEvent, StatusEvent } from '../../src/event.ts';
import { nameTaken } from './failures.ts';
import type { Fetched, RemoteFile, Wanted } from './index.ts';
import { Dispossessed, takeLock } from './lock.ts';
import { toParts, UNFINISHED } from './names.ts';
import { countKept, hashFile, tidy } from './part.ts';
import { checkRoom, locate, makeFolders } from './places.ts';
import { createProgress, type Progress } from './progress.ts';
import type { Requests } from './request.ts';
import { toIdentity, transfer, type Transfer } from './transfer.ts';
import { insist, type Patience } from './tries.ts';

export interface FetchParts {
  requests: Requests;
  patience: Patience;
  /** One try. */
  look(url: string, signal: AbortSignal): Promise<RemoteFile>;
}

interface Job extends Transfer {
  root: string;
  parts: string[];
  /** Bytes of it that came earlier. */
  kept: number;
  mayReplace: boolean;
}

type Event = ProgressEvent | StatusEvent;

/** Milliseconds between two looks at what another process does. */
const LOOK_MS = 300;
/** Files whose hash is remembered, so that it is not read again. */
const MAX_KNOWN = 10_000;

export function createFetch({ requests, patience, look }: FetchParts) {
  /** Path → which file was there, and its hash. */
  const known = new Map<string, { stamp: string; sha256: string }>();

  function remember(path: string, stamp: string, sha256: string): void {
    known.delete(path);
    if (known.size >= MAX_KNOWN) known.delete(known.keys().next().value!);
    known.set(path, { stamp, sha256 });
  }

  /** The file, if it is there and what it should be. Throws conflict for another one that has to stay. */
  async function* findPresent(job: Job, signal: AbortSignal): AsyncGenerator<StatusEvent, Fetched | undefined> {
    const found = await stat(job.target).catch(() => undefined);
    if (!found?.isFile()) return undefined;
    if (job.size === undefined ? job.sha256 === undefined : found.size !== job.size) return other(job);
    const stamp = `${found.ino} ${found.size} ${found.mtimeMs}`;
    const entry = known.get(job.target);
    let sha256 = entry?.stamp === stamp ? entry.sha256 : undefined;
    if (sha256 === undefined) {
      yield { type: 'status', state: 'running', message: `Checking ${job.label}, which is here already` };
      sha256 = await hashFile(job.target, signal);
      remember(job.target, stamp, sha256);
    }
    if (job.sha256 !== undefined && sha256 !== job.sha256) return other(job);
    await tidy(job.target);
    return { path: job.target, size: found.size, sha256, already: true };
  }

  async function* toJob(wanted: Wanted, signal: AbortSignal): AsyncGenerator<StatusEvent, Job> {
    const { url, root } = wanted;
    const parts = toParts(wanted.path);
    const target = await locate(root, parts);
    const label = parts.at(-1)!;
    let { size } = wanted;
    let sha256 = wanted.sha256?.toLowerCase();
    if (size === undefined) {
      const told = yield* insist(patience, label, signal, async function* (): AsyncGenerator<StatusEvent, RemoteFile> {
        yield { type: 'status', state: 'running', message: `Looking for ${label}` };
        return await look(url, signal);
      });
      size = told.size;
      sha256 ??= told.sha256;
    }
    const facts = { url: toIdentity(url), etag: undefined, size, sha256 };
    const kept = await countKept(target, facts);
    const mayReplace = wanted.replace !== false;
    return { url, root, parts, target, folder: dirname(target), label, size, sha256, kept, mayReplace };
  }

  /** Alone among all processes; where another is at it, what it brings is taken. */
  async function* bring(job: Job, progress: Progress, signal: AbortSignal): AsyncGenerator<Event, Fetched> {
    for (let turn = 0; ; turn++) {
      signal.throwIfAborted();
      await makeFolders(job.root, job.parts);
      const lock = await takeLock(job.target + UNFINISHED.lock);
      if (!lock) {
        if (turn === 0) yield { type: 'status', state: 'running', message: `Another download of ${job.label} goes on` };
        const { size } = (await stat(job.target + UNFINISHED.part).catch(() => undefined)) ?? { size: 0 };
        progress.at(Math.min(size, job.size ?? size), 0);
        const event = progress.next();
        if (event) yield event;
        await sleep(LOOK_MS, undefined, { signal });
        continue;
      }
      try {
        const present = turn > 0 || !job.mayReplace ? yield* findPresent(job, signal) : undefined;
        if (present) return { ...present, already: false };
        const done = yield* transfer(job, { requests, progress, lock, patience, signal });
        const { ino, size, mtimeMs } = await stat(job.target);
        remember(job.target, `${ino} ${size} ${mtimeMs}`, done.sha256);
        return { path: job.target, ...done, already: false };
      } catch (error) {
        if (!(error instanceof Dispossessed)) throw error;
      } finally {
        await lock.release();
      }
    }
  }

  return async function* fetch(files: Wanted[], signal: AbortSignal): AsyncGenerator<Event, Fetched[]> {
    signal.throwIfAborted();
    for (const { url, path } of files) {
      requests.check(url);
      toParts(path);
    }
    const jobs: Job[] = [];
    for (const wanted of files) jobs.push(yield* toJob(wanted, signal));
    const present = new Map<Job, Fetched>();
    for (const job of jobs) {
      const found = yield* findPresent(job, signal);
      if (found) present.set(job, found);
    }
    const missing = jobs.filter((job) => !present.has(job));
    await checkRoom(
      missing.map(({ folder, size, kept }) => ({ folder, bytes: Math.max(0, (size ?? 0) - kept) })),
      missing[0]?.label ?? '',
    );
    const progress = createProgress(jobs.map((job) => present.get(job)?.size ?? job.size));
    const fetched: Fetched[] = [];
    for (const job of jobs) {
      progress.begin(job.label, job.size);
      const file = present.get(job) ?? (yield* bring(job, progress, signal));
      progress.end(file.size);
      fetched.push(file);
    }
    if (missing.length > 0) yield progress.now();
    return fetched;
  };
}

/** What is there is another file. */
function other({ mayReplace, label }: Job): undefined {
  if (!mayReplace) throw nameTaken(label);
}
