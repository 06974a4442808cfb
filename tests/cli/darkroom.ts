// A runtime that makes real small pictures, films and sounds as its prompt says, and tells what it was given.
import { setTimeout as sleep } from 'node:timers/promises';
import { openMediaTools } from '../../adapters/media/index.ts';
import type { CapabilityId } from '../../src/capabilities/index.ts';
import { toUsage } from '../../src/capabilities/text/fields.ts';
import { GatewayError } from '../../src/error.ts';
import type { MadeFile, RunEvent } from '../../src/event.ts';
import type { Call, InputFile, Model, RuntimeAdapter } from '../../src/runtime.ts';

type Given = Record<string, unknown>;

export interface Asked {
  capability: CapabilityId;
  input: Given;
  /** Its files, by field. */
  files: Record<string, Omit<InputFile, 'bytes' | 'id'>[]>;
}

export interface Darkroom {
  runtime: RuntimeAdapter;
  asked: Asked[];
  aborts: number;
  /** Lets what is held go on. */
  release(): void;
}

/** Where a runtime on the card lists models, this one has one that can do everything. */
const MODEL: Model = {
  id: 'enlarger',
  capabilities: [
    'image.generate',
    'image.edit',
    'image.vary',
    'image.upscale',
    'video.generate',
    'music.generate',
    'text.chat',
  ],
  state: 'ready',
  vision: true,
  mask: true,
  animate: true,
};

const tools = openMediaTools({ maxPixels: 1_000_000 });

/** A picture that is red on the left and blue on the right. */
export function paint(width: number, height: number): Promise<Uint8Array<ArrayBuffer>> {
  const pixels = new Uint8Array(width * height * 3);
  for (let at = 0; at < width * height; at++) pixels[at * 3 + (at % width < width / 2 ? 0 : 2)] = 255;
  return tools.fromPixels(pixels, width, height);
}

/** Silence of one second. */
export function hush(): Uint8Array<ArrayBuffer> {
  const rate = 8000;
  const bytes = new Uint8Array(44 + rate);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode('RIFF____WAVEfmt '));
  view.setUint32(4, 36 + rate, true);
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate, true);
  view.setUint16(32, 1, true);
  view.setUint16(34, 8, true);
  bytes.set(new TextEncoder().encode('data'), 36);
  view.setUint32(40, rate, true);
  return bytes.fill(128, 44);
}

/**
 * A prompt is words: `half` tells that five of ten steps are done and shows a preview, `hold` waits for release, `fail` fails
 * for good, `name:NAME` calls the file so.
 */
export function openDarkroom(): Darkroom {
  let gate = Promise.withResolvers<void>();

  function held(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = () => {
        room.aborts++;
        reject(new GatewayError('client_closed', 'The request was cancelled.', { source: 'darkroom' }));
      };
      if (signal.aborted) return stop();
      signal.addEventListener('abort', stop, { once: true });
      void gate.promise.then(() => {
        signal.removeEventListener('abort', stop);
        resolve();
      });
    });
  }

  async function note(capability: CapabilityId, input: Given, call: Call): Promise<void> {
    const files: Asked['files'] = {};
    for (const field of ['image', 'mask']) {
      if (input[field] === undefined) continue;
      const opened = await Promise.all([input[field]].flat().map((id) => call.file(id as string)));
      files[field] = opened.map(({ media_type, size, sha256, media }) => ({ media_type, size, sha256, media }));
    }
    room.asked.push({ capability, input, files });
  }

  function makes(capability: CapabilityId, toFile: (input: Given) => Promise<Uint8Array>) {
    return async function* (input: Given, call: Call): AsyncGenerator<RunEvent<never, { seed: number }>> {
      await note(capability, input, call);
      yield { type: 'status', state: 'running' };
      let name: string | undefined;
      for (const word of String(input['prompt'] ?? '').split(' ')) {
        if (word === 'half') {
          // Sooner after the last news, watchers would not be told.
          await sleep(150);
          yield { type: 'progress', done: 5, total: 10, unit: 'steps' };
          yield { type: 'preview', media_type: 'image/png', bytes: await paint(2, 2) };
        }
        if (word === 'hold') await held(call.signal);
        if (word === 'fail') throw new GatewayError('unusable_output', 'The film is black.', { source: 'darkroom' });
        if (word.startsWith('name:')) name = word.slice(5);
      }
      const files: MadeFile[] = [];
      for (let index = 0; index < Number(input['n'] ?? 1); index++) {
        files.push({ bytes: await toFile(input), ...(name === undefined ? {} : { name }) });
      }
      yield { type: 'result', result: { seed: Number(input['seed'] ?? 7) }, files };
    };
  }

  const picture = ({ size }: Given) => {
    const [width, height] = ((size as string | undefined) ?? '32x16').split('x').map(Number);
    return paint(width!, height!);
  };
  const room: Darkroom = {
    asked: [],
    aborts: 0,
    release() {
      gate.resolve();
      gate = Promise.withResolvers();
    },
    runtime: {
      name: 'darkroom',
      priority: 50,
      models: async () => [MODEL],
      health: async () => {},
      handles: {
        'image.generate': makes('image.generate', picture),
        'image.edit': makes('image.edit', picture),
        'image.vary': makes('image.vary', picture),
        'image.upscale': makes('image.upscale', () => paint(64, 32)),
        'video.generate': makes('video.generate', picture),
        'music.generate': makes('music.generate', async () => hush()),
        async *'text.chat'({ messages }) {
          const parts = messages.at(-1)!.content as { type: string; text?: string }[];
          const seen = parts.filter(({ type }) => type === 'image_url').length;
          const content = `${seen} seen: ${parts.find(({ text }) => text)?.text}`;
          yield { type: 'chunk', chunk: { text: content } };
          const message = { role: 'assistant' as const, content };
          yield { type: 'result', result: { message, finish_reason: 'stop', usage: toUsage(1, 1) } };
        },
      },
    },
  };
  return room;
}
