// A request that says “or the nearest” → one that a workflow can take: sizes keep their shape, lengths are cut or stretched.
import type { Param } from './binding.ts';
import type { Request } from './request.ts';

export interface Limits {
  min: number;
  max: number;
}

/** Changes the values; returns what that changed, for people. `limitsOf` is undefined for what the workflow has no place for. */
export function fit({ values }: Request, limitsOf: (param: Param) => Limits | undefined, who: string): string[] {
  const warnings: string[] = [];
  const [width, height] = [values.get('width'), values.get('height')];
  const [across, down] = [limitsOf('width'), limitsOf('height')];
  if (typeof width?.value === 'number' && typeof height?.value === 'number' && across && down) {
    const scale = toScale([width.value, across], [height.value, down]);
    const made = [
      within(Math.round(width.value * scale), across),
      within(Math.round(height.value * scale), down),
    ] as const;
    if (made[0] !== width.value || made[1] !== height.value) {
      values.set('width', { ...width, value: made[0] });
      values.set('height', { ...height, value: made[1] });
      warnings.push(`${who} does not make ${width.value}x${height.value}: ${made[0]}x${made[1]} instead.`);
    }
  }
  for (const param of ['frames', 'seconds'] as const) {
    const asked = values.get(param);
    const limits = limitsOf(param);
    if (typeof asked?.value !== 'number' || !limits) continue;
    const value = within(asked.value, limits);
    if (value === asked.value) continue;
    values.set(param, { ...asked, value });
    warnings.push(`${who} does not make ${asked.value} ${param}: ${value} instead.`);
  }
  return warnings;
}

/** What brings both sides within their limits; where no shape is kept by that, the larger limit counts. */
function toScale(...sides: [number, Limits][]): number {
  const least = Math.max(...sides.map(([side, { min }]) => min / side));
  const most = Math.min(...sides.map(([side, { max }]) => max / side));
  return Math.min(Math.max(1, least), most);
}

function within(value: number, { min, max }: Limits): number {
  return Math.min(max, Math.max(min, value));
}
