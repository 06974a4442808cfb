// POST /api/pull → how far it is: the layers added up, and every way in which it ends as one failure.
import { GatewayError } from '../../../src/error.ts';
import type { ErrorCode } from '../../../src/error.ts';
import type { PulledFile } from '../../../src/capabilities/model/fields.ts';
import type { PullEvent } from '../../../src/puller.ts';
import { errorText } from '../../../src/upstream.ts';
import type { Upstream } from '../../../src/upstream.ts';
import { readLines } from '../ndjson.ts';
import { notOllama, toFailure } from './wire.ts';

export interface PullLimits {
  signal: AbortSignal;
  /** Milliseconds without anything new until it is given up. */
  stallMs: number;
}

interface PullLine {
  digest?: unknown;
  total?: unknown;
  completed?: unknown;
  status?: unknown;
  error?: unknown;
}

const MAX_LINE = 1_000_000;
const MAX_LAYERS = 5000;
/** Hashing what has come is silent, and slow on a slow disk. */
const CHECK_MS = 20 * 60_000;
/** Ollama asks for a part again that has brought nothing for half a minute; it is left the time to. */
const PATIENCE = 3;
const CHECKING: PullEvent = { type: 'status', state: 'running', message: 'checking what has come' };

/** Ends with `success` said, or throws. `upstream` must not end silent answers by itself before `stallMs`. */
export async function* followPull(
  upstream: Upstream,
  { model, insecure }: { model: string; insecure: boolean },
  { signal, stallMs }: PullLimits,
): AsyncGenerator<PullEvent, PulledFile[]> {
  const watch = createWatch(stallMs, upstream.name);
  const layers = createLayers();
  let succeeded = false;
  try {
    const joined = AbortSignal.any([signal, watch.signal]);
    // Versions of before 2024 know `name` only.
    const json = { model, name: model, stream: true, ...(insecure ? { insecure } : {}) };
    const reply = await upstream.send('/api/pull', { json, signal: joined });
    if (reply.status !== 200) throw toPullFailure(upstream, reply.status, await reply.text(), model);
    let plain = 0;
    for await (const text of readLines(reply.body, MAX_LINE, upstream.name)) {
      const line = toLine(text, upstream.name);
      if (line.error !== undefined) throw toPullFailure(upstream, 200, text, model);
      if (line.status === 'success') succeeded = true;
      const grown = layers.add(line);
      if (grown) yield { type: 'progress', ...layers.sum(), unit: 'bytes' };
      // The first line without a digest is about the manifest, the others come when all bytes are here.
      const checking = typeof line.digest !== 'string' && ++plain > 1;
      if (checking && plain === 2) yield CHECKING;
      // Read to its end all the same: only then does Ollama list the model.
      watch.saw(grown || succeeded, checking && !succeeded);
    }
    if (!succeeded) throw cut(upstream.name);
  } catch (error) {
    if (signal.aborted) throw error;
    if (!succeeded && watch.signal.aborted) throw watch.signal.reason;
    const broken = error instanceof GatewayError && error.code === 'upstream_terminated' && !error.hint;
    if (!succeeded) throw broken ? cut(upstream.name, error) : error;
  } finally {
    watch.stop();
  }
  // What comes fast is not told to its end, or not at all.
  const { total } = layers.sum();
  if (total > 0) yield { type: 'progress', done: total, total, unit: 'bytes' };
  return layers.files();
}

/** Lines come by the dozen a second whether bytes do or not, so both are watched. */
function createWatch(stallMs: number, source: string) {
  const abort = new AbortController();
  const now = Date.now();
  const last = { line: now, news: now };
  let checking = false;
  let timer: ReturnType<typeof setTimeout>;
  const look = () => {
    const silent = Date.now() - last.line;
    const idle = Date.now() - last.news;
    const limit = checking ? CHECK_MS : stallMs;
    if (silent >= limit || (!checking && idle >= limit * PATIENCE))
      abort.abort(stalled(silent >= limit ? limit : limit * PATIENCE, source));
    else timer = setTimeout(look, Math.max(1, Math.min(stallMs, limit - silent)));
  };
  timer = setTimeout(look, stallMs);
  return {
    signal: abort.signal,
    /** A line has come. `news`: with more bytes than before. `check`: all bytes are here, and are hashed in silence. */
    saw(news: boolean, check: boolean) {
      checking = check;
      last.line = Date.now();
      if (news || check) last.news = last.line;
    },
    stop: () => clearTimeout(timer),
  };
}

function createLayers() {
  const layers = new Map<string, { total: number; completed: number }>();
  return {
    /** true where more has come, or more is known to come. */
    add({ digest, total, completed }: PullLine): boolean {
      if (typeof digest !== 'string' || digest.length > 200) return false;
      const before = layers.get(digest);
      if (!before && layers.size >= MAX_LAYERS) return false;
      const whole = Math.max(toBytes(total), before?.total ?? 0);
      const come = Math.min(toBytes(completed), whole);
      layers.set(digest, { total: whole, completed: come });
      return before?.total !== whole || before.completed !== come;
    },
    sum() {
      let [done, all] = [0, 0];
      for (const { total, completed } of layers.values()) {
        done += completed;
        all += total;
      }
      return { done, total: all };
    },
    files: () =>
      [...layers].map(([digest, { total }]): PulledFile => {
        const sha256 = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
        return sha256 === undefined ? { name: 'model', size: total } : toBlob(sha256, total);
      }),
  };
}

/** A layer as it lies among Ollama's models. */
export function toBlob(sha256: string, size: number): PulledFile {
  return { name: `sha256-${sha256}`, folder: 'blobs', size, sha256 };
}

function toBytes(value: unknown): number {
  return Number.isSafeInteger(value) && (value as number) > 0 ? (value as number) : 0;
}

function toLine(text: string, source: string): PullLine {
  try {
    const line = JSON.parse(text) as PullLine | null;
    if (typeof line === 'object' && line !== null) return line;
  } catch (cause) {
    throw notOllama(source, cause);
  }
  throw notOllama(source);
}

/** What Ollama says when a pull fails: before the first byte, or in a line of a stream that began well. */
export function toPullFailure(upstream: Upstream, status: number, body: string, model: string): GatewayError {
  const text = errorText(body);
  const known = rules.find(({ says }) => says.test(text));
  if (!known) return toKeepFailure(upstream, status, body, model);
  const { code, message, ...details } = known;
  return new GatewayError(code, message(model, upstream.name), { source: upstream.name, ...details });
}

/** What it says when it cannot keep what has come. */
export function toKeepFailure(upstream: Upstream, status: number, body: string, model: string): GatewayError {
  const source = upstream.name;
  const text = errorText(body);
  if (/no space left|not enough space|disk (is )?full|quota exceeded|ENOSPC/i.test(text)) {
    return new GatewayError('storage_full', `${source} has no room on its disk for ${model}.`, {
      source,
      hint: 'Remove models that are not used (`models rm`), or set OLLAMA_MODELS to a larger disk.',
    });
  }
  if (/digest mismatch/i.test(text)) {
    return new GatewayError(
      'digest_mismatch',
      `What came for ${model} is not what its digest says; it was thrown away.`,
      {
        source,
        hint: 'Pull it again; if it happens twice, something between here and the registry changes the bytes.',
      },
    );
  }
  if (/not in GGUF format|validate GGUF|unknown type|unsupported (architecture|model)/i.test(text)) {
    return new GatewayError('not_supported', `${source} cannot run what has come for ${model}.`, {
      source,
      retry: false,
      hint: 'It runs GGUF files of models that write or embed; a newer Ollama may know more of them.',
    });
  }
  if (/invalid model name|is not a valid|is invalid/i.test(text)) {
    return new GatewayError('invalid_request', `${source} takes no models of such a name.`, { source, param: 'model' });
  }
  return toFailure(upstream, status === 200 ? 500 : status, body, model);
}

interface Rule {
  says: RegExp;
  code: ErrorCode;
  message(model: string, source: string): string;
  hint: string;
  param?: string;
  retry?: boolean;
}

/** The first that fits counts. */
const rules: Rule[] = [
  {
    says: /is not GGUF|not compatible with llama/i,
    code: 'not_supported',
    message: (model, source) => `${model} holds nothing that ${source} can run.`,
    hint: 'Look for a repository with GGUF files: `models search`.',
  },
  {
    says: /newer version of ollama|requires a newer/i,
    code: 'model_unavailable',
    message: (model) => `${model} needs a newer Ollama.`,
    hint: 'Update Ollama, then pull again.',
  },
  {
    says: /manifest.{0,20}file does not exist|manifest unknown|tag is not available|manifest: (400|404)\b/i,
    code: 'model_not_found',
    message: (model) => `There is no model ${model} in the registry.`,
    hint: 'Look for its name with `models search`, or at ollama.com/library; of the hub, check the quantization.',
    param: 'model',
  },
  {
    says: /unauthorized|access denied|manifest: 40[13]\b|forbidden|gated/i,
    code: 'model_unavailable',
    message: (model, source) => `The registry does not give ${model} to ${source}.`,
    hint: 'Check its name and accept its terms where it is offered; for the hub set HF_TOKEN and name the file: hf:org/repo/file.gguf.',
    retry: false,
  },
  {
    says: /\bMLX\b/,
    code: 'not_supported',
    message: (model) => `${model} runs on Apple’s MLX only.`,
    hint: 'Pull another tag of it.',
  },
  {
    says: /dial tcp|no such host|connection (refused|reset)|time(d )?out|\bEOF\b|TLS|max retries|stalled|unreachable|context canceled|: (429|5\d\d)\b/i,
    code: 'upstream_terminated',
    message: (model, source) => `${source} lost the registry while it pulled ${model}.`,
    hint: 'Check that Ollama reaches the internet; what has come is kept.',
  },
];

function stalled(ms: number, source: string): GatewayError {
  return new GatewayError('upstream_idle', `${source} has brought nothing new for ${ms / 1000} s.`, {
    source,
    hint: 'What has come is kept; the pull goes on where it was.',
  });
}

function cut(source: string, cause?: unknown): GatewayError {
  return new GatewayError('upstream_terminated', `${source} ended the pull before it was complete.`, {
    source,
    cause,
    hint: 'What has come is kept; the pull goes on where it was.',
  });
}
