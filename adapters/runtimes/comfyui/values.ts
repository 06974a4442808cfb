// Numbers of a request → numbers that a graph can take: within limits, and rounded where it counts in steps.
import { GatewayError } from '../../../src/error.ts';
import type { ParamPlace } from './binding.ts';
import type { InputSpec } from './info.ts';

interface About {
  /** The parameter, for people. */
  what: string;
  /** The field of the request. */
  field: string;
  /** The workflow. */
  who: string;
  /** The runtime. */
  source: string;
}

/** What both the binding and the server allow. */
export function toRange(
  { min, max, scale = 1 }: ParamPlace,
  spec: InputSpec | undefined,
): { min: number; max: number } {
  const server = spec?.kind === 'number' ? spec : { min: -Infinity, max: Infinity };
  return { min: Math.max(min ?? -Infinity, server.min / scale), max: Math.min(max ?? Infinity, server.max / scale) };
}

/** Throws invalid_request that names the field and the range. */
export function bringInto(
  asked: number,
  place: ParamPlace,
  spec: InputSpec | undefined,
  { what, field, who, source }: About,
): { value: number; warning?: string } {
  const { min, max } = toRange(place, spec);
  const refuse = (told: string) =>
    new GatewayError('invalid_request', `${field}: ${who} takes ${told}.`, { param: field, source });
  if (place.enum && !place.enum.map(Number).includes(asked)) throw refuse(`${what} ${place.enum.join(', ')}`);
  if (!Number.isFinite(asked) || asked < min || asked > max) throw refuse(toTold(what, min, max));
  const { step, offset = 0 } = place;
  const whole = spec?.kind === 'number' && spec.whole && place.scale === undefined;
  if (step === undefined) {
    const value = whole ? Math.round(asked) : asked;
    return { value, ...(value === asked ? {} : { warning: `${who} takes whole ${what}: ${asked} became ${value}.` }) };
  }
  let value = offset + Math.round((asked - offset) / step) * step;
  if (value > max) value -= step;
  if (value < min) value += step;
  if (value === asked) return { value };
  const counted = offset === 0 ? `multiples of ${step}` : `multiples of ${step} and ${offset} more`;
  // Seconds hardly ever are a number of frames that fits: that they are met as well as can be is no news.
  if (field === 'seconds') return { value };
  return { value, warning: `${who} takes ${what} in ${counted}: ${asked} became ${value}.` };
}

function toTold(what: string, min: number, max: number): string {
  const sides = what === 'size' ? 'sides' : what;
  if (max === Infinity) return `${sides} of at least ${min}`;
  return min === -Infinity ? `${sides} of at most ${max}` : `${sides} from ${min} to ${max}`;
}
