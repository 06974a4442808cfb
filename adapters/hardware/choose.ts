// Which of several cards models run on, and what to say where the setting or the environment has it otherwise.
import type { Card } from '../../src/hardware.ts';
import { toAddress } from './nvidia-rows.ts';
import type { Findings, Found } from './checked.ts';

/** What the programs of a vendor hear which cards they may see by. */
const VISIBLE: Partial<Record<Card['vendor'], string[]>> = {
  amd: ['ROCR_VISIBLE_DEVICES', 'HIP_VISIBLE_DEVICES'],
  nvidia: ['CUDA_VISIBLE_DEVICES'],
};

export interface Choice {
  cards: Card[];
  problems: string[];
}

/** The one that `setting` names; else the one with most memory of its own; else one that shares the machine's. */
export function choose(found: Found[], setting: string | undefined, env: Record<string, string | undefined>): Choice {
  const problems: string[] = [];
  // A card that tells no memory may be no more than an output for a screen.
  const able = found.filter(({ vram }) => vram.total > 0);
  const named = setting === undefined ? able : able.filter((card) => isNamed(card, setting.trim()));
  if (setting !== undefined && named.length === 0 && able.length > 0) {
    const list = able.map((card) => `${card.id} for ${card.name}`).join(', or ');
    problems.push(`HONO_AI_GPU names no card of this machine: set it to ${list}.`);
  }
  const [chosen] = (named.length > 0 ? named : able).toSorted(
    (a, b) => Number(a.kind === 'integrated') - Number(b.kind === 'integrated') || b.vram.total - a.vram.total,
  );
  if (chosen) problems.push(...hidden(chosen, env));
  return { cards: found.map((card) => ({ ...card, chosen: card === chosen })), problems };
}

function isNamed(card: Found, setting: string): boolean {
  if (/^\d{1,3}$/.test(setting)) return card.index === Number(setting);
  const address = toAddress(setting) ?? toAddress(`0000:${setting}`);
  if (address !== undefined) return card.id === address;
  return card.id === setting.toLowerCase() || card.name.toLowerCase().includes(setting.toLowerCase());
}

/** Only what is started with this environment is concerned, but that is often everything. */
function hidden({ vendor, index, name }: Found, env: Record<string, string | undefined>): string[] {
  return (VISIBLE[vendor] ?? []).flatMap((variable) => {
    const value = env[variable];
    // Names of cards, in place of numbers, say nothing here.
    if (value === undefined || /[a-z]/i.test(value)) return [];
    const seen = value.split(',').map((part) => part.trim());
    if (seen.includes(String(index))) return [];
    return [
      `${variable}=${value.slice(0, 40)} hides ${name} (${index}) from what is started like this: unset it, or set ${variable}=${index}.`,
    ];
  });
}

/** The same card may be found by two readers; the first one knows more. */
export function merge(findings: Findings[]): Found[] {
  const cards: Found[] = [];
  for (const card of findings.flatMap((each) => each.cards)) {
    if (!cards.some(({ id }) => id === card.id)) cards.push(card);
  }
  return cards;
}
