// Shows pictures in the terminal, where that can.
import { readFile } from 'node:fs/promises';
import type { Sharp } from 'sharp';
import type { Flag, Invocation } from './command.ts';
import { detectProtocol, protocols, toIterm, toKitty, type Protocol } from './graphics.ts';
import { toSixel } from './sixel.ts';

export const showFlags: Record<string, Flag> = {
  show: {
    type: 'enum',
    options: ['auto', ...protocols, 'never'],
    valueHint: 'HOW',
    description: 'Show pictures in the terminal: auto where it is known to show some. (default: auto)',
  },
};

/** Pixels; more would be sent than any terminal shows. */
const LARGEST = 1600;
/** A sixel is never made smaller by the terminal. */
const LARGEST_SIXEL = 800;

/** Draws what are pictures among the files. What cannot be drawn is told, and nothing fails for it. */
export async function showPictures(
  invocation: Invocation,
  files: { path: string; media_type: string }[],
): Promise<void> {
  const { out, io } = invocation;
  const protocol = toProtocol(invocation);
  if (!protocol) return;
  for (const { path, media_type } of files) {
    if (!media_type.startsWith('image/')) continue;
    try {
      const columns = (io.stdout.isTTY ? io.stdout : io.stderr).columns;
      out.draw(await toSequence(protocol, await readFile(path), columns));
    } catch (error) {
      out.note(`${path} cannot be shown: ${(error as Error).message}`);
    }
  }
}

function toProtocol({ io, flags }: Invocation): Protocol | undefined {
  const asked = flags['show'] as Protocol | 'auto' | 'never' | undefined;
  if (asked === 'never') return undefined;
  if (asked !== undefined && asked !== 'auto') return asked;
  const seen = io.stdout.isTTY || io.stderr.isTTY;
  if (!seen || flags.json || flags['json-stream'] || flags.quiet) return undefined;
  return detectProtocol(io.env);
}

async function toSequence(protocol: Protocol, bytes: Uint8Array, columns: number): Promise<string> {
  const { default: sharp } = await import('sharp');
  const within = (side: number): Sharp =>
    sharp(bytes).rotate().resize({ width: side, height: side, fit: 'inside', withoutEnlargement: true });
  if (protocol === 'sixel') {
    const few = await within(LARGEST_SIXEL).png({ palette: true, colours: 256 }).toBuffer();
    const { data, info } = await sharp(few).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
    return toSixel({ data, width: info.width, height: info.height });
  }
  const { data, info } = await within(LARGEST).png().toBuffer({ resolveWithObject: true });
  const drawing = { png: data, width: info.width };
  return protocol === 'kitty' ? toKitty(drawing, columns) : toIterm(drawing, columns);
}
