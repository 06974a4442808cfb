// Reads request bodies: counted while they arrive, never beyond the limit, and checked by a schema.
import type { z } from 'zod';
import { GatewayError } from '../error.ts';
import type { AppContext } from './context.ts';

/** The raw bytes of a request, at most `limit` of them, read once. Throws body_too_large before reading what is announced too large. */
export async function readBytes(c: AppContext, limit: number): Promise<Uint8Array<ArrayBuffer>> {
  const known = c.var.bytes;
  if (known) return known;
  const bytes = await inTime(c, readAll(c, limit));
  c.set('bytes', bytes);
  return bytes;
}

/** A sender that trickles its body must not keep a connection for ever. */
async function inTime<T>(c: AppContext, reading: Promise<T>): Promise<T> {
  const { request_ms } = c.var.app.config;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      c.var.headers['connection'] = 'close';
      reject(new GatewayError('request_timeout', 'The request took too long to arrive.'));
    }, request_ms);
  });
  reading.catch(() => {});
  return Promise.race([reading, late]).finally(() => clearTimeout(timer));
}

async function readAll(c: AppContext, limit: number): Promise<Uint8Array<ArrayBuffer>> {
  const announced = c.req.header('content-length');
  if (announced !== undefined) {
    if (Number(announced) > limit) throw tooLarge(limit);
    // The HTTP parser holds the sender to what was announced.
    return new Uint8Array(await c.req.arrayBuffer());
  }
  const body = c.req.raw.body;
  if (!body) return new Uint8Array();
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of body) {
    size += piece.byteLength;
    if (size > limit) throw tooLarge(limit);
    pieces.push(piece);
  }
  const whole = new Uint8Array(size);
  let offset = 0;
  for (const piece of pieces) {
    whole.set(piece, offset);
    offset += piece.byteLength;
  }
  return whole;
}

const decoder = new TextDecoder('utf-8', { fatal: true });

/** JSON whatever the content type says: curl -d sends a form's, and the Origin guard already keeps forms of other sites out. */
export function toJson(bytes: Uint8Array): unknown {
  if (bytes.byteLength === 0) {
    throw new GatewayError('invalid_json', 'The request has no body.', { hint: 'Send a JSON object.' });
  }
  try {
    return JSON.parse(decoder.decode(bytes));
  } catch {
    throw new GatewayError('invalid_json', 'The request body is not valid JSON.', {
      hint: 'Check quotes and commas; text must be UTF-8.',
    });
  }
}

export async function readJson<T extends z.ZodType>(c: AppContext, schema: T): Promise<z.output<T>> {
  return toInput(schema, toJson(await readBytes(c, c.var.app.config.max_body)));
}

/** Throws invalid_request that names the first field at fault. */
export function toInput<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = deepest(parsed.error.issues[0]!);
  const param = issue.path.map(String).join('.');
  throw new GatewayError(
    'invalid_request',
    param ? `${param}: ${issue.message}` : issue.message,
    param ? { param } : {},
  );
}

/** A union reports only that nothing fitted; the branch that came furthest says what is wrong. */
function deepest(issue: z.core.$ZodIssue): z.core.$ZodIssue {
  if (issue.code !== 'invalid_union') return issue;
  const branches = issue.errors
    .map((issues) => issues[0])
    .filter((inner) => inner !== undefined)
    .map(deepest);
  const best = branches.toSorted((a, b) => b.path.length - a.path.length)[0];
  if (!best || best.path.length === 0) return issue;
  return { ...best, path: [...issue.path, ...best.path] };
}

function tooLarge(limit: number): GatewayError {
  return new GatewayError('body_too_large', `The request body is larger than ${limit} bytes.`, {
    hint: 'Send less, or raise HONO_AI_MAX_BODY.',
  });
}
