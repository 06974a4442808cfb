// Pictures, films and music on the command line: asked for, watched while they are made, saved, shown and played.
import { existsSync } from 'node:fs';
import { extname } from 'node:path';
import type { z } from 'zod';
import type { ArtifactView, FileKind } from '../src/capabilities/file.ts';
import type { Flag, Invocation } from './command.ts';
import { readEvents, type AnyEvent } from './events.ts';
import { CommandFailure, exitCodes, usageError } from './exit.ts';
import { fetchFiles, type Saved } from './fetch.ts';
import { playFiles, playFlags } from './play.ts';
import { createProgressLine } from './progress.ts';
import { isThere, saveFlags, toPlace } from './save.ts';
import { showFlags, showPictures } from './show.ts';
import { readAnswer, withTarget, type Target } from './target.ts';

type Fields = Record<string, unknown>;

export interface Order {
  path: string;
  headers: Record<string, string>;
  /** The request, once its files are where the gateway finds them. */
  settle(target: Target): Promise<Fields>;
}

/** Milliseconds of waiting that a log does not tell of. */
const QUEUED_MS = 1000;

/** What an answer says of what was made. */
interface Made extends Fields {
  artifacts: (ArtifactView & { path?: string })[];
}

/** Endings that stand for a format under another name. */
const FORMATS: Record<string, string> = { jpg: 'jpeg', oga: 'ogg' };
/** Endings that promise a format; whatever else follows a dot is part of a name. */
const KNOWN =
  /^(png|jpe?g|webp|gif|avif|bmp|tiff?|heic|jxl|svg|mp4|m4v|mov|mkv|webm|avi|mp3|wav|flac|og[ga]|opus|m4a|aac)$/;

export function makeFlags(makes: FileKind): Record<string, Flag> {
  return { ...saveFlags, ...(makes === 'audio' ? {} : showFlags), ...(makes === 'image' ? {} : playFlags) };
}

/** The request with the format that the name after `-o` asks for. Throws a usage error for a name that asks for another. */
export function withFormat(input: z.ZodObject, body: Fields, output: unknown): Fields {
  const field = 'output_format' in input.shape ? 'output_format' : 'format';
  const format = input.shape[field] as z.ZodType | undefined;
  if (!format || body[field] !== undefined || typeof output !== 'string') return body;
  const ending = extname(output).slice(1).toLowerCase();
  if (!KNOWN.test(ending)) return body;
  const asked = FORMATS[ending] ?? ending;
  if (format.safeParse(asked).success) return { ...body, [field]: asked };
  const { options } = (format as z.ZodOptional<z.ZodEnum>).unwrap();
  throw usageError(`-o ${output}: this makes ${options.join(', ')}, not ${ending}.`);
}

/** Throws for flags that contradict each other or what is on disk: before anything is made, not after. */
export function checkPlan({ flags, io }: Invocation, body: Fields): void {
  const output = flags['output'] as string | undefined;
  if (flags['detach']) {
    const odd = ['output', 'force', 'show', 'play'].find((name) => flags[name] !== undefined);
    if (odd === undefined) return;
    throw usageError(`--${odd} is about files, and with --detach there are none yet.`, 'Later: hono-ai jobs download');
  }
  const place = toPlace(output, Number(body['n'] ?? 1));
  if (place.kind === 'stdout') {
    if (flags.json || flags['json-stream']) throw usageError('-o - and JSON cannot both be on standard output.');
    if (flags['play']) throw usageError('--play needs a file, and -o - makes none.');
    if (io.stdout.isTTY) {
      throw usageError('Standard output is a terminal, which shows no files.', 'Save it with -o FILE, or pipe it on.');
    }
  }
  if (place.kind === 'file' && flags['force'] !== true && existsSync(place.path)) throw isThere(place.path);
}

/** Asks, waits and saves. Throws a CommandFailure; Ctrl-C stops the work all the way to the runtime. */
export async function make(invocation: Invocation, order: Order): Promise<number> {
  const { flags, io } = invocation;
  const files = await withTarget(invocation, async (target, signal) => {
    const { result, job } = await ask(invocation, target, order);
    const saved = await save(invocation, target, signal, result, job);
    tell(invocation, result, saved);
    return saved.flatMap(({ id, path }) => {
      const view = result.artifacts.find((artifact) => artifact.id === id);
      return view ? [{ path, media_type: view.media_type }] : [];
    });
  });
  await showPictures(invocation, files);
  if (flags['play']) await playFiles(invocation, files);
  return io.signal.aborted ? exitCodes.cancelled : exitCodes.ok;
}

async function ask(
  invocation: Invocation,
  target: Target,
  { path, headers, settle }: Order,
): Promise<{ result: Made; job: string | undefined }> {
  const body = await settle(target);
  const reply = await target.send({
    method: 'POST',
    path,
    accept: 'text/event-stream',
    headers,
    body: JSON.stringify({ ...body, stream: true }),
  });
  const job = reply.header('x-job-id');
  if (reply.status !== 200 || !reply.header('content-type')?.startsWith('text/event-stream')) {
    return { result: toMade(await readAnswer(reply)), job };
  }
  const watcher = createWatcher(invocation, job ?? 'job');
  try {
    for await (const event of readEvents(reply.body)) {
      if (event.type === 'result') return { result: toMade(event.result), job };
      watcher.see(event);
    }
  } catch (error) {
    // A gateway that is started again finishes what it had begun.
    const lost = error instanceof CommandFailure && /^upstream_(terminated|truncated)$/.test(error.code);
    if (!lost || job === undefined || 'source' in error.fields) throw error;
    throw withHint(error, `It may go on when the gateway is back: hono-ai jobs wait ${job}`);
  } finally {
    watcher.end();
  }
  throw new CommandFailure(exitCodes.unavailable, 'The answer ended before it was complete.');
}

/** How far it is: a line that is rewritten on a terminal, lines in a log, or each event as JSON. */
function createWatcher(invocation: Invocation, job: string) {
  const { out, flags, io } = invocation;
  const line = createProgressLine(invocation, [job], true);
  let waiting: NodeJS.Timeout | undefined;

  function tell(event: AnyEvent): void {
    const { type, ...data } = event;
    if (type === 'progress') line.onEvent({ type: 'job:progress', data: { id: job, ...data } });
    if (type === 'status') line.onEvent({ type: `job:${event.state}`, data: { job: { id: job, ...data } } });
  }

  return {
    see(event: AnyEvent): void {
      clearTimeout(waiting);
      if (flags['json-stream']) out.jsonLine(event);
      if (event.type === 'warning') out.note(`warning: ${event.warning}`);
      // Everything waits for a moment; in a log only longer is worth a line.
      const brief = event.type === 'status' && event.state === 'queued' && !io.stderr.isTTY;
      if (brief) waiting = setTimeout(tell, QUEUED_MS, event).unref();
      else tell(event);
    },
    end() {
      clearTimeout(waiting);
      line.end();
    },
  };
}

/** What was made is not lost where it cannot be saved. */
async function save(
  invocation: Invocation,
  target: Target,
  signal: AbortSignal,
  { artifacts }: Made,
  job: string | undefined,
): Promise<Saved[]> {
  const sources = artifacts.map(({ id, name, sha256, size }) => ({ id, name, sha256, size }));
  try {
    return await fetchFiles(invocation, target, signal, sources, { fresh: true });
  } catch (error) {
    if (!(error instanceof CommandFailure) || job === undefined) throw error;
    throw withHint(error, `It is made, and kept: hono-ai jobs download ${job}`);
  }
}

function tell({ out, flags }: Invocation, result: Made, saved: Saved[]): void {
  const paths = new Map(saved.map(({ id, path }) => [id, path]));
  const artifacts = result.artifacts.map((view) => {
    const path = paths.get(view.id);
    return path === undefined ? view : { ...view, path };
  });
  const whole = { ...result, artifacts };
  if (flags['json-stream']) out.jsonLine({ type: 'result', result: whole });
  else if (flags.json) out.json(whole);
  for (const warning of (result['warnings'] as string[] | undefined) ?? []) out.note(`warning: ${warning}`);
  out.note(toSummary(result));
}

/** `sdxl on comfyui, 1024x1024, seed 42`. */
function toSummary({ model, runtime, seed, cost_usd, artifacts }: Made): string {
  const { width, height, duration_s } = artifacts[0]?.media ?? {};
  return [
    `${model as string} on ${runtime as string}`,
    width === undefined ? '' : `${width}x${height}`,
    duration_s === undefined ? '' : `${Math.round(duration_s * 10) / 10} s`,
    seed === undefined ? '' : `seed ${seed as number}`,
    cost_usd === undefined ? '' : `$${cost_usd as number}`,
  ]
    .filter(Boolean)
    .join(', ');
}

function toMade(value: unknown): Made {
  if (Array.isArray((value as Partial<Made> | null)?.artifacts)) return value as Made;
  throw new CommandFailure(exitCodes.unavailable, 'The answer tells of no files.', {
    code: 'upstream_invalid',
    hint: 'Is this the address of a hono-ai gateway?',
  });
}

function withHint({ exitCode, message, code, fields }: CommandFailure, hint: string): CommandFailure {
  return new CommandFailure(exitCode, message, { code, fields, hint });
}
