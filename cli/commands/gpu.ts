// `gpu`: the card: what is on it, who holds how much, and how it does.
import { setTimeout as sleep } from 'node:timers/promises';
import type { GpuView } from '../../src/hardware.ts';
import { defineLeaf, type Invocation } from '../command.ts';
import { toMemory } from '../sizes.ts';
import { askJson, withTarget, type Target } from '../target.ts';

const WATCH_MS = 2000;
const BAR_CELLS = 30;

export const gpu = defineLeaf({
  path: 'gpu',
  summary: 'Show the card: its memory by owner, load, temperature and power',
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
  const { card, budget, owners, others, free, waiting, warnings, why } = view;
  if (card) {
    const { used, total } = card.vram;
    const bar = io.stdout.isTTY ? `${toBar(used / total)} ` : '';
    out.line(out.bold([card.name, card.architecture].filter(Boolean).join(', ')));
    out.line(
      `${bar}${toMemory(used)} of ${toMemory(total)} used${budget === null ? '' : `, ${toMemory(budget)} for models`}`,
    );
    const sensors = [
      card.busy === null ? '' : `${Math.round(card.busy * 100)} % busy`,
      card.temperature_c === null ? '' : `${Math.round(card.temperature_c)} °C`,
      card.power_w === null
        ? ''
        : `${Math.round(card.power_w)} W${card.power_cap_w === null ? '' : ` of ${Math.round(card.power_cap_w)} W`}`,
      card.gtt && card.gtt.used > 0 ? `${toMemory(card.gtt.used)} borrowed of main memory` : '',
    ].filter(Boolean);
    if (sensors.length > 0) out.line(sensors.join(', '));
  }
  const rows = owners.map(({ runtime, model, vram, basis, in_use, pinned }) => [
    model ?? '-',
    runtime,
    `${basis === 'estimated' ? '~' : ''}${toMemory(vram)}`,
    [in_use > 0 ? `in use by ${in_use}` : 'idle', pinned ? 'pinned' : ''].filter(Boolean).join(', '),
  ]);
  if (others > 0) rows.push(['others', '-', toMemory(others), 'not of this gateway']);
  if (free !== null) rows.push(['free', '-', toMemory(free), '']);
  if (rows.length > 0) out.table(['OWNER', 'RUNTIME', 'VRAM', 'STATE'], rows);
  for (const { runtime, model } of waiting) out.note(`waits: ${model} of ${runtime}`);
  for (const warning of warnings) out.note(`warning: ${warning}`);
  if (why !== null) out.note(why);
}

function toBar(share: number): string {
  const filled = Math.max(0, Math.min(BAR_CELLS, Math.round(share * BAR_CELLS)));
  return `${'█'.repeat(filled)}${'░'.repeat(BAR_CELLS - filled)}`;
}
