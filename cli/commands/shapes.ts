// What the schema of a capability cannot say about its command line.
import { readFileSync } from 'node:fs';
import type { Flag } from '../command.ts';
import { readText } from '../flags.ts';

export interface Shape {
  /** The argument's name in help, where the field's own would mislead. */
  argument?: string;
  about?: string;
  flags?: Record<string, Flag>;
  /** Fields that have no flag because another one stands for them. */
  hides?: string[];
  /** What is piped in follows the words, as in `git diff | hono-ai text gen "Explain this"`. */
  appendsStdin?: boolean;
  /** Fields from flags, and the argument → the request. */
  toBody?(
    fields: Record<string, unknown>,
    argument: string | undefined,
    flags: Record<string, unknown>,
  ): Record<string, unknown>;
}

const image: Flag = {
  type: 'string',
  multiple: true,
  valueHint: 'FILE',
  description: 'A picture for a vision model.',
  completes: 'file',
  read: readImage,
};

export const shapes: Record<string, Shape> = {
  'text.generate': {
    flags: { image },
    hides: ['images'],
    appendsStdin: true,
    toBody(fields, argument, flags) {
      const prompt = argument ?? fields['prompt'];
      return {
        ...fields,
        ...(prompt === undefined ? {} : { prompt }),
        ...(flags['image'] === undefined ? {} : { images: flags['image'] }),
      };
    },
  },
  'text.chat': {
    argument: 'PROMPT',
    about: 'The user’s message; it follows those of --messages.',
    flags: {
      image,
      system: {
        type: 'string',
        alias: 's',
        valueHint: 'TEXT',
        description: 'Instructions that come before all messages.',
      },
    },
    appendsStdin: true,
    toBody(fields, argument, flags) {
      const { messages: given, ...rest } = fields;
      const messages = [
        ...(flags['system'] === undefined ? [] : [{ role: 'system', content: flags['system'] }]),
        ...((given as unknown[] | undefined) ?? []),
        ...toUserMessage(argument, flags['image'] as string[] | undefined),
      ];
      return { ...rest, ...(given || argument !== undefined || flags['image'] ? { messages } : {}) };
    },
  },
  'music.generate': {
    flags: {
      lyrics: {
        type: 'string',
        valueHint: 'TEXT|@FILE',
        description: 'What is sung; [verse] and [chorus] part it. Instrumental if absent.',
        completes: 'file',
        read: (text) => (text.startsWith('@') ? readText(text.slice(1)) : text),
      },
    },
  },
};

function toUserMessage(text: string | undefined, images: string[] = []) {
  if (text === undefined && images.length === 0) return [];
  if (images.length === 0) return [{ role: 'user', content: text }];
  const parts = images.map((url) => ({ type: 'image_url', image_url: { url } }));
  return [{ role: 'user', content: [...(text === undefined ? [] : [{ type: 'text', text }]), ...parts] }];
}

/** A file → a data: URL, its type read from its first bytes: names lie. */
function readImage(file: string): string {
  if (file.startsWith('data:')) return file;
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch {
    throw new Error(`a file that can be read: ${file} cannot`);
  }
  const type = imageType(bytes);
  if (!type) throw new Error(`a PNG, JPEG, GIF or WebP file: ${file} is none`);
  return `data:${type};base64,${bytes.toString('base64')}`;
}

function imageType(bytes: Buffer): string | undefined {
  const head = bytes.toString('latin1', 0, 12);
  if (head.startsWith('\x89PNG\r\n\x1a\n')) return 'image/png';
  if (head.startsWith('\xff\xd8\xff')) return 'image/jpeg';
  if (/^GIF8[79]a/.test(head)) return 'image/gif';
  return /^RIFF.{4}WEBP$/s.test(head) ? 'image/webp' : undefined;
}
