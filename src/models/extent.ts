// How large something is that is asked for, where that changes the memory it takes or the time: one number, and one short key.
import type { CapabilityId } from '../capabilities/index.ts';
import { capabilities } from '../capabilities/index.ts';
import type { Model, Usual } from '../runtime.ts';

type Asked = Record<string, unknown>;
type About = Pick<Model, 'usual' | 'contextWindow'>;

/** Above these nothing is told apart: numbers of requests may be anything. */
const MOST = Number.MAX_SAFE_INTEGER;
/** Smaller is no size of anything; a second may be cut into a thousand. */
const LEAST = 0.001;
const MAX_KEY = 80;
/** Of stories. */
const LENGTHS = new Set(['short', 'medium', 'long']);
/** What films are shown at where nobody says. */
const FPS = 16;
/** Lengths of music are told apart by so many seconds. */
const SECONDS = 10;

/**
 * Tokens of context that a text names, pixels of all pictures or frames that are made at once, seconds of music. What the request
 * leaves open is as the model usually makes it; undefined where nobody says, or where it makes no difference.
 */
export function extentOf(capability: CapabilityId, input: unknown, model: About): number | undefined {
  const asked = toAsked(input);
  const { makes } = capabilities[capability];
  if (makes === undefined) return toContext(asked, model);
  const usual = model.usual?.[capability] ?? {};
  if (makes === 'audio') return positive(asked['seconds']) ?? usual.seconds;
  const size = toSize(asked, usual);
  if (!size) return undefined;
  const count =
    makes === 'video' ? toFrames(asked, usual) : Math.min(positive(asked['n']) ?? 1, usual.batch ?? Infinity);
  return count === undefined ? undefined : Math.min(MOST, Math.max(1, Math.round(size.width * size.height * count)));
}

/**
 * Tells apart what takes differently long, such as `image.generate 1024x1024x1 s20`: sizes and steps as they are, tokens by
 * powers of two. Nothing of what is asked in words is in it.
 */
export function workOf(capability: CapabilityId, input: unknown, model: About): string {
  const asked = toAsked(input);
  const { makes } = capabilities[capability];
  const usual = model.usual?.[capability] ?? {};
  const parts: string[] = [capability];
  if (makes === undefined) {
    const tokens = positive(asked['max_tokens']);
    if (tokens !== undefined) parts.push(`t${toPower(tokens)}`);
    const { input: texts, length } = asked;
    if (capability === 'text.embed' && Array.isArray(texts)) parts.push(`n${toPower(texts.length)}`);
    if (typeof length === 'string' && LENGTHS.has(length)) parts.push(length);
  } else {
    const size = toSize(asked, usual);
    const sides = size && `${size.width}x${size.height}`;
    const count =
      makes === 'image' ? (positive(asked['n']) ?? 1) : makes === 'video' ? toFrames(asked, usual) : undefined;
    const shape = [sides, count].filter((part) => part !== undefined).join('x');
    if (shape) parts.push(sides === undefined ? `x${shape}` : shape);
    const seconds = makes === 'audio' ? (positive(asked['seconds']) ?? usual.seconds) : undefined;
    if (seconds !== undefined) parts.push(`${Math.ceil(seconds / SECONDS) * SECONDS}s`);
    const scale = positive(asked['scale']);
    if (scale !== undefined) parts.push(`by${scale}`);
    const steps = positive(asked['steps']) ?? positive(asked['num_inference_steps']) ?? usual.steps;
    if (steps !== undefined) parts.push(`s${steps}`);
  }
  return parts.join(' ').slice(0, MAX_KEY);
}

/** What is beyond the model's own window is not given to it. */
function toContext(asked: Asked, { contextWindow = Infinity }: About): number | undefined {
  const context = positive(asked['context']);
  return context === undefined ? undefined : Math.min(context, contextWindow || Infinity);
}

function toSize(asked: Asked, usual: Usual): { width: number; height: number } | undefined {
  const { size } = asked;
  const [wide, high] = typeof size === 'string' ? size.slice(0, 20).split('x').map(Number) : [];
  const width = positive(wide) ?? positive(asked['width']) ?? usual.width;
  const height = positive(high) ?? positive(asked['height']) ?? usual.height;
  return width === undefined || height === undefined ? undefined : { width, height };
}

function toFrames(asked: Asked, usual: Usual): number | undefined {
  const frames = positive(asked['frames']);
  if (frames !== undefined) return frames;
  const seconds = positive(asked['seconds']);
  if (seconds === undefined) return usual.frames;
  return Math.max(1, Math.round(seconds * (positive(asked['fps']) ?? usual.fps ?? FPS)));
}

function toPower(count: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, count)));
}

function toAsked(input: unknown): Asked {
  return typeof input === 'object' && input !== null ? (input as Asked) : {};
}

function positive(value: unknown): number | undefined {
  return typeof value === 'number' && value >= LEAST && value <= MOST ? value : undefined;
}
