// `gpu`: what is on the card, who waits for it, and how it does.
import { setTimeout as sleep } from 'node:timers/promises';
import type { GpuView, HoldView } from '../../../src/hardware.ts';
import { defineLeaf, type Invocation } from '../../command.ts';
import { toSpan } from '../../progress.ts';
import { toMemory } from '../../sizes.ts';
import { askJson, withTarget, type Target } from '../../target.ts';
import { toLine } from './log.ts';

const WATCH_MS = 2000;
const BAR_CELLS = 30;

export const show = defineLeaf({
  path: 'gpu',
  summary: 'Show the card: its memory by owner, load, temperature and power, and who waits for it',
  flags: {
    watch: {
      type: 'boolean',
      alias: 'w',
      description: 'Again every two seconds, until Ctrl-C. With --json a line each.',
    },
  },
  run: (invocation) =>
    withTarget(invocation, async (target, signal) => {
      if (!invocation.flags['watch']) return print(invocation, await read(target, true));
      for (;;) {
        const view = await read(target, false);
        if (invocation.flags.json) invocation.out.jsonLine(view);
        else {
          // From the top of the screen each time, where there is one.
          if (invocation.io.stdout.isTTY) invocation.io.stdout.write('\x1b[H\x1b[J');
          print(invocation, view);
        }
        await sleep(WATCH_MS, undefined, { signal });
      }
    }),
});

const read = (target: Target, history: boolean) =>
  askJson<GpuView>(target, { method: 'GET', path: `/gpu${history ? '' : '?history=0'}` });

function print({ out, flags, io }: Invocation, view: GpuView): void {
  if (flags.json) return out.json(view);
  const { card, budget, hold, waiting, swaps, warnings, why } = view;
  if (card) {
    const { used, total } = card.vram;
    const bar = io.stdout.isTTY ? `${toBar(used / total)} ` : '';
    out.line(out.bold([card.name, card.architecture].filter(Boolean).join(', ')));
    out.line(
      `${bar}${toMemory(used)} of ${toMemory(total)} used${budget === null ? '' : `, ${toMemory(budget)} for models`}`,
    );
    const sensors = toSensors(card);
    if (sensors !== '') out.line(sensors);
  }
  const rows = toRows(view);
  if (rows.length > 0) out.table(['OWNER', 'RUNTIME', 'VRAM', 'STATE'], rows);
  if (hold) out.note(toHold(hold));
  for (const waits of waiting) out.note(toWait(waits));
  for (const swap of swaps.toReversed()) out.note(`swap: ${toLine(swap)}`);
  for (const warning of warnings) out.note(`warning: ${warning}`);
  if (why !== null) out.note(why);
}

/** `lent until 21:30 (gaming), 25 min more`, in the time of whoever reads it. */
export function toHold({ until, left_s, reason }: HoldView): string {
  const time = new Date(until).toLocaleTimeString('sv-SE', { hour: '2-digit', minute: '2-digit' });
  return `lent until ${time}${reason === null ? '' : ` (${reason})`}, ${toSpan(left_s)} more`;
}

function toWait({ position, model, runtime, class: of, caller, eta_s, why }: GpuView['waiting'][number]): string {
  const about = [
    of === 'interactive' ? '' : of,
    caller === null ? '' : `for ${caller}`,
    eta_s === null ? '' : `done in about ${toSpan(eta_s)}`,
  ].filter(Boolean);
  const details = about.length > 0 ? `, ${about.join(', ')}` : '';
  return `waits: ${position}. ${model} of ${runtime}${details}${why === null ? '' : `: ${why}`}`;
}

function toRows({ owners, others, free }: GpuView): string[][] {
  const rows = owners.map(({ runtime, model, vram, basis, in_use, pinned }) => [
    model ?? '-',
    runtime,
    `${basis === 'estimated' ? '~' : ''}${toMemory(vram)}`,
    [in_use > 0 ? `in use by ${in_use}` : 'idle', pinned ? 'pinned' : ''].filter(Boolean).join(', '),
  ]);
  if (others > 0) rows.push(['others', '-', toMemory(others), 'not of this gateway']);
  if (free !== null) rows.push(['free', '-', toMemory(free), '']);
  return rows;
}

function toSensors(card: NonNullable<GpuView['card']>): string {
  return [
    card.busy === null ? '' : `${Math.round(card.busy * 100)} % busy`,
    card.temperature_c === null ? '' : `${Math.round(card.temperature_c)} °C`,
    card.power_w === null
      ? ''
      : `${Math.round(card.power_w)} W${card.power_cap_w === null ? '' : ` of ${Math.round(card.power_cap_w)} W`}`,
    card.gtt && card.gtt.used > 0 ? `${toMemory(card.gtt.used)} borrowed of main memory` : '',
  ]
    .filter(Boolean)
    .join(', ');
}

function toBar(share: number): string {
  const filled = Math.max(0, Math.min(BAR_CELLS, Math.round(share * BAR_CELLS)));
  return `${'█'.repeat(filled)}${'░'.repeat(BAR_CELLS - filled)}`;
}
