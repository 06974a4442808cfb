// Files that a command line names: a file, standard input, an id, a link or a data: URL → what a request can carry.
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { fileFields, type FileKind } from '../src/capabilities/file.ts';
import { sniff } from '../src/artifacts/sniff.ts';
import type { z } from 'zod';
import type { Invocation } from './command.ts';
import { usageError } from './exit.ts';
import { readStdinBytes } from './stdin.ts';
import type { Target } from './target.ts';
import { openFile, uploadFile, type Upload } from './upload.ts';

type Fields = Record<string, unknown>;

/** Enough to tell what a file is. */
const HEAD_BYTES = 8192;
const REFERENCE = /^(art_[0-9a-f]{32}$|data:|(https?:\/\/[^\s]*)?\/artifacts\/art_[0-9a-f]{32}(\/content)?(\?|$))/i;
const PICTURE_NAME = /\.(png|jpe?g|webp|gif|avif|tiff?|bmp)$/i;
const KINDS: Record<FileKind, string> = { image: 'picture', audio: 'sound', video: 'film' };

/**
 * Opens the files that fields of a request name, and looks at what they are, before anybody is asked. What it gives uploads them
 * and names their ids in the request. Throws a CommandFailure.
 */
export async function openGiven(
  invocation: Invocation,
  input: z.ZodObject,
  body: Fields,
): Promise<(target: Target) => Promise<Fields>> {
  const opened = new Map<string, { given: (string | Upload)[]; many: boolean }>();
  const known = fileFields(input);
  const words = [...known.keys()].flatMap((field) => toWords(body[field]));
  if (words.filter((word) => word === '-').length > 1) {
    throw usageError('Standard input (-) can be one file, not several.');
  }
  for (const [field, { kind, many }] of known) {
    const given: (string | Upload)[] = [];
    for (const word of toWords(body[field])) given.push(await open(invocation, word, kind));
    if (given.length > 0) opened.set(field, { given, many });
  }
  // The same request under the same key has to be the same request: ids would be others each time.
  const inline = invocation.flags['idempotency-key'] !== undefined;
  return async (target) => {
    const settled = { ...body };
    for (const [field, { given, many }] of opened) {
      const sent: string[] = [];
      for (const one of given) {
        if (typeof one === 'string') sent.push(one);
        else sent.push(inline ? await toDataUrl(one) : (await uploadFile(target, one)).id);
      }
      settled[field] = many ? sent : sent[0];
    }
    return settled;
  };
}

/** Whether a word is meant as a picture: it names one, or is called like one. */
export async function namesPicture(word: string): Promise<boolean> {
  if (word === '-' || REFERENCE.test(word) || PICTURE_NAME.test(word)) return true;
  const about = await stat(word).catch(() => undefined);
  // What a pipe holds is gone once it is looked at.
  if (!about?.isFile()) return about?.isFIFO() ?? false;
  const body = await openFile(word).catch(() => undefined);
  return body !== undefined && (await toType(body)).startsWith('image/');
}

async function open(invocation: Invocation, word: string, kind: FileKind): Promise<string | Upload> {
  if (REFERENCE.test(word)) return word;
  if (/^https?:/i.test(word)) {
    throw usageError(
      `${word} is elsewhere, and the gateway fetches nothing from elsewhere.`,
      `Fetch it yourself, and give it as -: curl -fsSL URL | hono-ai …`,
    );
  }
  const [body, name, called] =
    word === '-'
      ? [new Blob([new Uint8Array(await readStdinBytes(invocation))]), 'stdin', 'Standard input']
      : [await openFile(word), basename(word), word];
  const type = await toType(body);
  if (!type.startsWith(`${kind}/`)) {
    throw usageError(`${called} is ${body.size === 0 ? 'empty' : type}, not a ${KINDS[kind]}.`);
  }
  return { name, body, type, purpose: 'input' };
}

async function toType(body: Blob): Promise<string> {
  return (await sniff(new Uint8Array(await body.slice(0, HEAD_BYTES).arrayBuffer()))).mediaType;
}

async function toDataUrl({ body, type }: Upload): Promise<string> {
  return `data:${type};base64,${Buffer.from(await body.arrayBuffer()).toString('base64')}`;
}

function toWords(value: unknown): string[] {
  return value === undefined ? [] : ([value].flat() as string[]);
}
