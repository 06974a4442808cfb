// Text, and what a run cost → what a header may hold.
import type { Cost } from '../arbiter/leases.ts';

/** Names and warnings may hold anything; headers only printable ASCII. */
export function toHeader(text: string): string {
  return text
    .replace(/[’‘]/g, "'")
    .replace(/[“”]/g, '"')
    .replace(/[^\x20-\x7e]/g, '?');
}

/** Longer lists of names help nobody. */
const MAX_NAMES = 1000;

/** What a run cost, in seconds, as a structured-field dictionary: `queue=1.2, swap=4, run=6.1, evicted="sdxl"`. `run` once it has ended. */
export function toGpuHeader({ queueMs, swapMs, runMs, evicted }: Cost, ended: boolean): string {
  const seconds = (ms: number) => Math.round(Math.max(0, ms) / 100) / 10;
  const names = toHeader(evicted.map(({ model }) => model).join(' '))
    .slice(0, MAX_NAMES)
    .replace(/["\\]/g, '\\$&');
  return [
    `queue=${seconds(queueMs)}`,
    `swap=${seconds(swapMs)}`,
    ...(ended ? [`run=${seconds(runMs)}`] : []),
    ...(names === '' ? [] : [`evicted="${names}"`]),
  ].join(', ');
}
