// Translates image.generate into a task for the picture worker, and its pixels into PNG files.
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { toKnobs, toSize } from '../../../src/capabilities/image/fields.ts';
import type { Input } from '../../../src/capabilities/index.ts';
import { GatewayError } from '../../../src/error.ts';
import type { RunEvent } from '../../../src/event.ts';
import type { MediaTools } from '../../../src/media.ts';
import { SIDE, SLOTS } from './flow.ts';
import type { Lane } from './lane.ts';
import type { FlowFiles, PaintTask, Pixels } from './wire.ts';
import { understand, vocabulary } from './words.ts';

type PictureInput = Input<'image.generate'>;
type PictureEvent = RunEvent<never, { seed: number }>;

const STEPS = 20;
const GUIDANCE = 2.5;
/** Pixels on a side where the caller leaves it open. */
const DEFAULT_SIDE = 256;
const MAX_SIDE = 1024;
const PREVIEW_EVERY = 4;
const SEEDS = Number.MAX_SAFE_INTEGER + 1;
/** Words of a prompt that are named in a warning, and characters of each. */
const NAMED = 12;
const NAMED_LENGTH = 30;

/** Yields what is not honoured first, then how far it is, then the pictures. */
export async function* paint(
  input: PictureInput,
  files: FlowFiles,
  parts: { lane: Lane; tools: MediaTools; signal: AbortSignal },
): AsyncGenerator<PictureEvent> {
  const { lane, tools, signal } = parts;
  const { side, warnings } = prepare(input, files.id);
  for (const warning of warnings) yield { type: 'warning', warning };
  const task = await toTask(input, files);
  for await (const event of lane.run(task, signal)) {
    if (event.type === 'status' || event.type === 'warning') yield event;
    else if (event.type === 'step') yield { type: 'progress', done: event.done, total: event.total, unit: 'steps' };
    else if (event.type === 'look') {
      const bytes = await toPng(event.pixels, Math.min(side, DEFAULT_SIDE), tools);
      yield { type: 'preview', media_type: 'image/png', bytes };
    } else if (event.type === 'painted') {
      const pictures = await Promise.all(event.pictures.map((pixels) => toPng(pixels, side, tools)));
      const name = (at: number) => (pictures.length === 1 ? `${files.id}.png` : `${files.id}-${at + 1}.png`);
      yield {
        type: 'result',
        result: { seed: task.seeds[0]! },
        files: pictures.map((bytes, at) => ({ name: name(at), bytes })),
      };
    }
  }
}

function prepare(input: PictureInput, id: string): { side: number; warnings: string[] } {
  const { negative_prompt, sampler, scheduler, loras } = toKnobs(input);
  const { side, warning } = toSide(toSize(input), id);
  const ignored = [
    negative_prompt && 'negative_prompt',
    sampler && sampler !== 'euler' && 'sampler',
    scheduler && 'scheduler',
    loras?.length && 'loras',
  ].filter(Boolean);
  return {
    side,
    warnings: [
      ...tellWords(input.prompt, id),
      ...(warning === undefined ? [] : [warning]),
      ...(ignored.length > 0 ? [`${id} has no such knobs: ${ignored.join(', ')} ignored.`] : []),
    ],
  };
}

async function toTask(input: PictureInput, model: FlowFiles): Promise<PaintTask> {
  const { seed, steps = STEPS, guidance = GUIDANCE } = toKnobs(input);
  const known = await readWords(model);
  const words = understand(input.prompt).used.map((word) => known.indexOf(word));
  // Reported with the answer, so that a good one can be had again.
  const first = seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
  return {
    kind: 'paint',
    model,
    words: Array.from({ length: SLOTS }, (_, at) => Math.max(0, words[at] ?? 0)),
    seeds: Array.from({ length: input.n }, (_, at) => (first + at) % SEEDS),
    steps,
    guidance,
    previewEvery: PREVIEW_EVERY,
  };
}

async function readWords({ id, path }: FlowFiles): Promise<string[]> {
  try {
    const { words } = JSON.parse(await readFile(join(dirname(path), 'words.json'), 'utf8')) as { words: string[] };
    return words;
  } catch (cause) {
    throw new GatewayError('model_unavailable', `The word list of ${id} is missing or damaged.`, {
      source: 'embedded',
      hint: 'Restore the models folder of this installation, for example with: git checkout -- models',
      cause,
    });
  }
}

/** The network makes one size; others are that one, scaled a whole number of times. */
function toSide(asked: { width: number; height: number } | undefined, id: string): { side: number; warning?: string } {
  if (!asked) return { side: DEFAULT_SIDE };
  const { width, height } = asked;
  const nearest = Math.round(Math.sqrt(width * height) / SIDE) * SIDE;
  const side = Math.min(MAX_SIDE, Math.max(SIDE, nearest));
  if (side === width && side === height) return { side };
  const warning = `${id} makes squares of ${SIDE} to ${MAX_SIDE} pixels in steps of ${SIDE}: ${side}x${side} instead of ${width}x${height}.`;
  return { side, warning };
}

function tellWords(prompt: string, id: string): string[] {
  const { used, surplus, unknown } = understand(prompt);
  const { colour, object, scene } = vocabulary;
  const knows = `${colour.length} colours, ${object.length} objects and ${scene.length} scenes`;
  const took = used.length > 0 ? used.join(', ') : 'nothing, so that anything may be seen';
  const warnings = [
    `${id} is a toy: it paints ${SIDE}x${SIDE} pixels and knows ${knows}. Of the prompt it took ${took}.`,
  ];
  if (surplus.length > 0) {
    warnings.push(`${id} paints one colour, one object and one scene: ${surplus.join(', ')} left out.`);
  }
  if (unknown.length > 0) {
    const list = [...colour, ...object, ...scene].join(', ');
    warnings.push(`${id} does not know ${name(unknown)}: ignored. It knows ${list}.`);
  }
  return warnings;
}

function name(words: string[]): string {
  const shown = words.slice(0, NAMED).map((word) => [...word].slice(0, NAMED_LENGTH).join(''));
  const more = words.length - shown.length;
  return shown.join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function toPng(pixels: Pixels, side: number, tools: MediaTools): Promise<Uint8Array<ArrayBuffer>> {
  return tools.fromPixels(pixels, SIDE, SIDE, side / SIDE);
}
