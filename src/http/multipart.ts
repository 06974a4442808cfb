// Reads multipart forms: fields in memory within limits, files passed on as they arrive and never faster than they are taken.
import { make, type MultipartError, type PartInfo } from 'multipasta';
import { GatewayError } from '../error.ts';
import type { AppContext } from './context.ts';
import { createIntake, type Intake } from './intake.ts';
import { toFileName, toPartHead, type PartHead } from './part-head.ts';
import { readSteadily } from './upload.ts';

export interface FormFile {
  /** Of the field. */
  name: string;
  /** Without folders, never empty. */
  filename: string;
  /** What the sender says it is; undefined where nothing was said. */
  mediaType: string | undefined;
  /** To be read once. Throws where the form breaks off or goes wrong: then nothing of the file is to be kept. */
  bytes: AsyncIterable<Uint8Array>;
}

export interface FormOptions<T> {
  /** Takes a file; reading goes on as fast as `bytes` is read. What it throws ends the reading and is thrown. */
  onFile(file: FormFile): Promise<T>;
  /** Largest single file, in bytes. */
  fileLimit: number;
  /** Names that may come several times; those that end with [] always may. */
  repeatable?: readonly string[];
  limits?: Partial<FormLimits>;
}

export interface FormLimits {
  parts: number;
  /** Bytes of one part's headers. */
  header: number;
  /** Bytes of one field's value. */
  field: number;
  /** Bytes of the whole body. */
  total: number;
  /** Milliseconds of waiting after which the sender must not have been slower than 1 KiB/s. */
  slowMs: number;
}

export interface Form<T> {
  fields: Map<string, string[]>;
  files: { name: string; value: T }[];
}

const DEFAULTS = { parts: 100, header: 8192, field: 65_536, slowMs: 15_000 };
/** Beside the files: fields, headers and boundaries. */
const OVERHEAD = 8 * 1024 * 1024;
/** So much is parsed before the takers of files are waited for. */
const SLICE = 65_536;
/** What may come before the end of the first part's headers. */
const MAX_PREAMBLE = 2 * SLICE;
/** What may follow the closing boundary. */
const MAX_EPILOGUE = 4096;
const DASH = 45;

/**
 * The form of a request. Throws unsupported_media_type, invalid_request (malformed, broken off, a name twice),
 * body_too_large (any limit), request_timeout (too slow), client_closed, and what `onFile` throws; by then every
 * `onFile` has settled.
 */
export async function readForm<T>(c: AppContext, options: FormOptions<T>): Promise<Form<T>> {
  const { total } = toLimits(options);
  try {
    if (Number(c.req.header('content-length') ?? 0) > total) throw tooLarge(`more than ${total} bytes`);
    return await parseForm(c.req.header('content-type'), c.req.raw.body, options);
  } catch (error) {
    // What is left of the body is not read: the connection cannot be used again.
    c.var.headers['connection'] = 'close';
    throw error;
  }
}

/** The form in a body of this content type. */
export async function parseForm<T>(
  contentType: string | undefined,
  body: ReadableStream<Uint8Array> | null,
  options: FormOptions<T>,
): Promise<Form<T>> {
  const limits = toLimits(options);
  const parser = createParser(toBoundary(contentType), limits, options);
  try {
    for await (const piece of slices(fromSender(body, limits.slowMs), limits.total)) {
      parser.write(piece);
      await parser.taken();
    }
    parser.end();
    await parser.taken();
    return { fields: parser.fields, files: await parser.files() };
  } catch (error) {
    await parser.fail(error);
    throw error;
  }
}

function createParser<T>(boundary: string, limits: FormLimits, options: FormOptions<T>) {
  const fields = new Map<string, string[]>();
  const taking: { name: string; intake: Intake; work: Promise<T> }[] = [];
  const seen = new Set<string>();
  let head: PartHead | undefined;
  let size = 0;
  let done = false;
  let epilogue = 0;
  let preamble = 0;
  let dashes: Uint8Array = new Uint8Array();

  function begin(info: PartInfo): boolean {
    preamble = -Infinity;
    head = toPartHead(info.headers, limits.header);
    const { name, filename } = head;
    if (seen.has(name) && !name.endsWith('[]') && !options.repeatable?.includes(name)) {
      throw malformed(`"${name}" is there twice.`, name);
    }
    seen.add(name);
    size = 0;
    return filename !== undefined;
  }

  function openFile(): (chunk: Uint8Array | null) => void {
    const { name, filename, mediaType } = head!;
    const intake = createIntake();
    const work = options.onFile({ name, filename: toFileName(filename!), mediaType, bytes: intake.bytes });
    work.then(intake.close, intake.close);
    taking.push({ name, intake, work });
    return (chunk) => {
      if (!chunk) return intake.end();
      size += chunk.byteLength;
      if (size > options.fileLimit) throw tooLarge(`"${name}" is larger than ${options.fileLimit} bytes`, name);
      intake.push(chunk);
    };
  }

  const parser = make({
    headers: { 'content-type': `multipart/form-data; boundary="${boundary}"` },
    isFile: begin,
    onFile: openFile,
    onField(_, value) {
      // A part without a body is told with what is known of the part before it.
      if (!head) throw malformed('A part has no body.');
      const { name } = head;
      fields.set(name, [...(fields.get(name) ?? []), toText(value, name)]);
      head = undefined;
    },
    onError: (error) => {
      throw toError(error, limits);
    },
    onDone: () => void (done = true),
    maxParts: limits.parts,
    maxFieldSize: limits.field,
  });

  function feed(bytes: Uint8Array): void {
    if (done) {
      if ((epilogue += bytes.byteLength) > MAX_EPILOGUE) throw malformed('Something follows the closing boundary.');
      return;
    }
    if ((preamble += bytes.byteLength) > MAX_PREAMBLE) throw malformed('The form begins with no part.');
    try {
      parser.write(bytes);
    } catch (error) {
      // It trips over some broken headers in ways of its own.
      throw error instanceof GatewayError ? error : malformed('A part has headers that cannot be read.');
    }
  }

  return {
    fields,
    write(piece: Uint8Array): void {
      // The two dashes that close a form are recognised only where they come together.
      const bytes = join(dashes, piece);
      const held = trailingDashes(bytes);
      dashes = bytes.slice(bytes.byteLength - held);
      feed(bytes.subarray(0, bytes.byteLength - held));
    },
    end(): void {
      feed(dashes);
      if (!done) parser.end();
      if (!done) throw malformed('The form ends before its closing boundary.');
    },
    /** Resolves when what was written has been taken; throws what a taker throws. */
    async taken(): Promise<void> {
      for (const { intake, work } of taking) if (!intake.idle()) await Promise.race([intake.drained(), work]);
      for (const { intake, work } of taking) if (intake.isClosed()) await work;
    },
    files: () => Promise.all(taking.map(async ({ name, work }) => ({ name, value: await work }))),
    async fail(error: unknown): Promise<void> {
      for (const { intake } of taking) intake.fail(error);
      await Promise.allSettled(taking.map(({ work }) => work));
    },
  };
}

/** A body that ends before its time is the sender's doing. */
async function* fromSender(body: ReadableStream<Uint8Array> | null, slowMs: number): AsyncGenerator<Uint8Array> {
  try {
    yield* readSteadily(body, slowMs);
  } catch (error) {
    if (error instanceof GatewayError) throw error;
    throw new GatewayError('client_closed', 'The form broke off.', { cause: error });
  }
}

async function* slices(pieces: AsyncIterable<Uint8Array>, limit: number): AsyncGenerator<Uint8Array> {
  let total = 0;
  for await (const piece of pieces) {
    total += piece.byteLength;
    if (total > limit) throw tooLarge(`more than ${limit} bytes`);
    for (let at = 0; at < piece.byteLength; at += SLICE) yield piece.subarray(at, at + SLICE);
  }
}

function toLimits({ limits, fileLimit }: Pick<FormOptions<unknown>, 'limits' | 'fileLimit'>): FormLimits {
  return { ...DEFAULTS, total: fileLimit + OVERHEAD, ...limits };
}

function toBoundary(contentType = ''): string {
  if (!/^multipart\/form-data\s*(;|$)/i.test(contentType.slice(0, 100))) {
    throw new GatewayError('unsupported_media_type', 'Send a form: multipart/form-data.');
  }
  // At most 70 characters, as the standard has it, and none that would need quoting once more.
  const [, quoted, plain] =
    /;\s*boundary=(?:"([\w'()+,./:=? -]{1,70})"|([\w'()+,./:=?-]{1,70})(?=\s*(?:;|$)))/i.exec(
      contentType.slice(0, 1000),
    ) ?? [];
  const boundary = quoted ?? plain;
  if (boundary === undefined) throw malformed('The content type names no boundary that could be one.');
  return boundary;
}

function trailingDashes(bytes: Uint8Array): number {
  const last = bytes.byteLength - 1;
  if (bytes[last] !== DASH) return 0;
  return bytes[last - 1] === DASH ? 2 : 1;
}

function join(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.byteLength === 0) return second;
  const both = new Uint8Array(first.byteLength + second.byteLength);
  both.set(first);
  both.set(second, first.byteLength);
  return both;
}

function toText(value: Uint8Array, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(value);
  } catch {
    throw malformed(`"${name}" is not UTF-8 text.`, name);
  }
}

function toError(error: MultipartError, limits: FormLimits): GatewayError {
  if (error._tag === 'ReachedLimit') {
    return error.limit === 'MaxParts'
      ? tooLarge(`more than ${limits.parts} parts`)
      : tooLarge(`a field is larger than ${limits.field} bytes`);
  }
  if (error._tag === 'BadHeaders') {
    const { reason } = error.error;
    if (reason === 'HeaderTooLarge' || reason === 'TooManyHeaders') return tooLarge('a part has too many headers');
    return malformed('A part has headers that cannot be read.');
  }
  if (error._tag === 'EndNotReached') return malformed('The form ends before its closing boundary.');
  return malformed('A part has no name.');
}

function malformed(message: string, param?: string): GatewayError {
  return new GatewayError('invalid_request', message, {
    ...(param === undefined ? {} : { param }),
    hint: 'Send a multipart/form-data body as curl -F or a browser would.',
  });
}

function tooLarge(what: string, param?: string): GatewayError {
  return new GatewayError('body_too_large', `The form is too large: ${what}.`, param === undefined ? {} : { param });
}
