// Files of the gateway → this machine, for every command that downloads.
import type { Invocation } from './command.ts';
import { checkId } from './ids.ts';
import { saveFile, toPaths, toPlace, type Piece } from './save.ts';
import { toSize } from './sizes.ts';
import { readAnswer, type Answer, type Target } from './target.ts';

export interface Fetched extends Piece {
  /** The job that made it. */
  job?: string;
  sha256?: string;
  size?: number;
  /** What it holds, where that is known already. */
  text?: string;
}

export interface Saved {
  path: string;
  id: string;
  job?: string;
  size: number;
}

/**
 * Saves them where `-o` says and, unless JSON is asked for, prints their paths. With `fresh`, a name in a folder that is taken
 * is changed instead of refused. Throws a CommandFailure.
 */
export async function fetchFiles(
  invocation: Invocation,
  target: Target,
  signal: AbortSignal,
  sources: Fetched[],
  { fresh = false }: { fresh?: boolean } = {},
): Promise<Saved[]> {
  const { out, flags, io } = invocation;
  if (sources.length === 0) return [];
  const place = toPlace(flags['output'] as string | undefined, sources.length);
  if (place.kind === 'stdout') {
    for await (const piece of await openSource(target, sources[0]!, signal)) out.raw(piece);
    return [];
  }
  const force = flags['force'] === true;
  const paths = toPaths(place, sources, fresh && !force);
  const saved: Saved[] = [];
  for (const [index, source] of sources.entries()) {
    const path = paths[index]!;
    const { id, job, sha256, size: whole } = source;
    let shownAt = 0;
    const size = await saveFile(path, () => openSource(target, source, signal), {
      force,
      ...(sha256 === undefined ? {} : { sha256 }),
      onBytes(count) {
        if (!io.stderr.isTTY || performance.now() - shownAt < 100) return;
        shownAt = performance.now();
        out.status(`${path}: ${toSize(count)}${whole === undefined ? '' : ` of ${toSize(whole)}`}`);
      },
    });
    out.clearStatus();
    saved.push({ path, id, ...(job === undefined ? {} : { job }), size });
    if (!flags.json && !flags['json-stream']) out.path(path);
  }
  return saved;
}

async function openSource(target: Target, { id, text }: Fetched, signal: AbortSignal): Promise<Answer['body']> {
  if (text !== undefined) {
    return (async function* () {
      yield new TextEncoder().encode(text);
    })();
  }
  const path = `/artifacts/${checkId(id)}/content`;
  const reply = await target.send({ method: 'GET', path, accept: '*/*', signal });
  if (reply.status !== 200) await readAnswer(reply);
  return reply.body;
}
