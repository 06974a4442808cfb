// Brings one file here: goes on where it was cut, waits longer from try to try, and lets nothing be seen that is not whole and right.
import type { ProgressEvent, StatusEvent } from '../../src/event.ts';
import { Unreachable } from '../../src/webhooks/send.ts';
import { Again, noRoom, refused, wrongBytes } from './failures.ts';
import { Dispossessed, type Lock } from './lock.ts';
import { openPart, type Part, type PartFacts } from './part.ts';
import { freeIn } from './places.ts';
import type { Progress } from './progress.ts';
import { toSize, type Answer, type Requests } from './request.ts';
import { insist, type Patience } from './tries.ts';

export interface Transfer {
  url: string;
  /** Where it goes; its folder is there. */
  target: string;
  folder: string;
  label: string;
  /** As its owner or the server told beforehand. */
  size: number | undefined;
  sha256: string | undefined;
}

export interface Means {
  requests: Requests;
  progress: Progress;
  lock: Lock;
  patience: Patience;
  signal: AbortSignal;
}

export interface Done {
  size: number;
  sha256: string;
}

interface State {
  /** Ranges were answered in a way that cannot be: from now on the whole file is asked for. */
  whole: boolean;
  /** Bytes that were there once: only more than these is progress. */
  most: number;
  /** It was put together of several answers. */
  resumed: boolean;
}

/** A file of unknown size is looked after each time so many bytes have come. */
const CHECK_ROOM = 64 * 1024 ** 2;
/** So much is left for others then. */
const RESERVE = 256 * 1024 ** 2;

/** Its size and SHA-256. Throws what `Downloads.fetch` does, and Dispossessed. */
export async function* transfer(file: Transfer, means: Means): AsyncGenerator<ProgressEvent | StatusEvent, Done> {
  for (let round = 0; ; round++) {
    const part = yield* reopen(file, means);
    const state: State = { whole: false, most: part.size, resumed: part.size > 0 };
    let lost = false;
    try {
      yield* fill(part, file, means, state);
      const sha256 = part.digest();
      const { size } = part;
      if (part.facts.sha256 === undefined || part.facts.sha256 === sha256) {
        await means.lock.check();
        await part.finish(file.target);
        return { size, sha256 };
      }
      await part.discard();
      // What had come earlier may be of another version: that is worth one more try, from its beginning.
      if (!state.resumed || round > 0) throw wrongBytes(`The SHA-256 of ${file.label} is not what it should be`);
      yield { type: 'status', state: 'running', message: `What had come of ${file.label} is of no use: once more` };
    } catch (error) {
      lost = error instanceof Dispossessed;
      throw error;
    } finally {
      // An empty one is of no use to anybody.
      await (part.size === 0 && !lost ? part.discard() : part.close(lost));
    }
  }
}

async function* reopen(file: Transfer, { progress, signal }: Means): AsyncGenerator<ProgressEvent, Part> {
  const facts: PartFacts = { url: toIdentity(file.url), etag: undefined, size: file.size, sha256: file.sha256 };
  const opening = openPart(file.target, facts, signal);
  try {
    for (;;) {
      const { done, value } = await opening.next();
      if (done) return value;
      progress.at(value, 0);
      const event = progress.next();
      if (event) yield event;
    }
  } finally {
    await opening.return(undefined as never);
  }
}

/** Ends when all bytes are there; whether they are the right ones is another's question. */
async function* fill(
  part: Part,
  file: Transfer,
  means: Means,
  state: State,
): AsyncGenerator<ProgressEvent | StatusEvent, void> {
  yield* insist(means.patience, file.label, means.signal, async function* (turn) {
    if (part.facts.size !== undefined && part.size === part.facts.size) return;
    const before = state.most;
    try {
      yield* attempt(part, file, means, state);
    } finally {
      turn.brought = state.most > before;
    }
  });
}

async function* attempt(
  part: Part,
  file: Transfer,
  { requests, progress, lock, signal }: Means,
  state: State,
): AsyncGenerator<ProgressEvent, void> {
  const answer = await requests.ask(file.url, { method: 'GET', headers: toHeaders(part, state), signal });
  try {
    await admit(answer, part, state);
    if (part.facts.size !== undefined) progress.learn(part.facts.size);
    progress.at(part.size, 0);
    let checked = part.size;
    for await (const bytes of answer.body()) {
      await lock.check();
      const { size } = part.facts;
      if (size !== undefined && part.size + bytes.byteLength > size) {
        await part.discard();
        throw wrongBytes('More bytes came than the file has');
      }
      await part.append(bytes);
      state.most = Math.max(state.most, part.size);
      progress.at(part.size, bytes.byteLength);
      if (size === undefined && part.size - checked > CHECK_ROOM) {
        checked = part.size;
        if (((await freeIn(file.folder)) ?? Infinity) < RESERVE) throw noRoom(file.label);
      }
      const event = progress.next();
      if (event) yield event;
    }
  } finally {
    answer.drop();
  }
  const { size } = part.facts;
  if (size !== undefined && part.size < size) throw new Unreachable('broken');
}

/** Whether these are bytes of the file, from where on, and what the answer tells of the whole. Throws where they are not. */
async function admit(answer: Answer, part: Part, state: State): Promise<void> {
  const { status } = answer;
  if (status === 416 && part.size > 0) {
    await part.restart({ ...part.facts, etag: undefined });
    throw new Again(wrongBytes('The server no longer has what had come'));
  }
  if (status !== 200 && status !== 206) throw refused(answer);
  const page = /^text\/html\b/i.test(answer.header('content-type') ?? '');
  const coded = !/^(identity)?$/i.test(answer.header('content-encoding') ?? '');
  if ((page && part.facts.sha256 === undefined) || coded) throw wrongBytes('The address gives a page, not a file');
  const given = status === 206 ? toGiven(answer.header('content-range')) : undefined;
  const facts = toFacts(answer, part.facts, given?.total);
  const other = facts.sha256 !== part.facts.sha256 && part.facts.sha256 !== undefined;
  if (other) throw wrongBytes('The server has another file than the one that was asked for');
  if (facts.size !== undefined && part.facts.size !== undefined && facts.size !== part.facts.size) {
    throw wrongBytes(`The file has ${facts.size} bytes instead of ${part.facts.size}`);
  }
  const length = status === 200 ? toSize(answer.header('content-length')) : undefined;
  if (length !== undefined && facts.size !== undefined && length !== facts.size) {
    throw wrongBytes(`The server gives ${length} bytes of ${facts.size}`);
  }
  if (status === 206 && (given?.start !== part.size || isOther(answer, part))) {
    state.whole = true;
    await part.restart({ ...part.facts, etag: undefined });
    throw new Again(wrongBytes('The server gave other bytes than it was asked for'));
  }
  state.resumed = status === 206 && part.size > 0;
  if (status === 200 && part.size > 0) await part.restart(facts);
  else await part.learn(facts);
}

function toFacts(answer: Answer, known: PartFacts, total: number | undefined): PartFacts {
  const length = answer.status === 200 ? toSize(answer.header('content-length')) : total;
  return {
    url: known.url,
    etag: toValidator(answer) ?? (answer.status === 206 ? known.etag : undefined),
    size: answer.linked.size ?? length ?? known.size,
    sha256: answer.linked.sha256 ?? known.sha256,
  };
}

/** Hosts of a content network may each have their own ETag: where the hash is known from whoever sends there, it counts alone. */
function isOther(answer: Answer, { size, facts }: Part): boolean {
  if (size === 0 || facts.etag === undefined || answer.linked.sha256 !== undefined) return false;
  return toValidator(answer) !== facts.etag;
}

/** A whole hash makes sure of what is put together; else only a server that vouches for its version may go on with it. */
function toHeaders(part: Part, state: State): Record<string, string> {
  const { etag, sha256 } = part.facts;
  if (part.size === 0 || state.whole || (etag === undefined && sha256 === undefined)) return {};
  return { range: `bytes=${part.size}-`, ...(sha256 === undefined && { 'if-range': etag! }) };
}

/** What may stand in If-Range. */
export function toValidator(answer: Answer): string | undefined {
  const etag = answer.header('etag');
  if (etag !== undefined && /^"[\x21\x23-\x7e]{1,200}"$/.test(etag)) return etag;
  const date = answer.header('last-modified');
  return etag === undefined && date !== undefined && date.length < 60 && Date.parse(date) > 0 ? date : undefined;
}

function toGiven(header: string | undefined): { start: number; total: number | undefined } | undefined {
  const match = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)$/i.exec(header ?? '');
  return match ? { start: Number(match[1]), total: toSize(match[3]) } : undefined;
}

/** Without query and fragment, where tokens and signatures stand. */
export function toIdentity(url: string): string {
  const { origin, pathname } = new URL(url);
  return origin + pathname;
}
