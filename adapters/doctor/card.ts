// The card: whether there is one, whether its driver is loaded, and whether this user may use it.
import { stat } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { chosenCard, runsAsAnother, type Card } from '../../src/hardware.ts';
import { listNames, may, type Check, type Draft, type DoctorOptions } from './check.ts';

const AREA = 'card' as const;

export const checkCard: Check = async (options) => {
  const reading = await options.hardware.read();
  const card = chosenCard(reading);
  const findings = reading.problems.map((problem) => toDraft(problem, { id: 'card.reading' }));
  if (!card) {
    const { why = 'There is no card that models could run on.' } = reading;
    return reading.problems.includes(why) ? findings : [...findings, toDraft(why, { id: 'card' })];
  }
  const gib = (card.vram.total / 1024 ** 3).toFixed(1);
  findings.push({ id: 'card', area: AREA, level: 'ok', message: `${card.name}, ${gib} GiB.` });
  if (card.vendor === 'amd') findings.push(...(await checkAmd(card, options)));
  if (card.gtt && card.gtt.total > 0 && card.gtt.used > card.gtt.total / 2) {
    findings.push({
      id: 'card.spill',
      area: AREA,
      level: 'warn',
      message: 'The card borrows much main memory, which makes everything on it many times slower.',
      fix: 'hono-ai models unload --all',
    });
  }
  return findings;
};

/** What the hardware's reader says ends with its remedy. */
function toDraft(said: string, about: Pick<Draft, 'id'>): Draft {
  const at = said.lastIndexOf(': ');
  if (at < 0) return { ...about, area: AREA, level: 'info', message: said };
  return { ...about, area: AREA, level: 'warn', message: `${said.slice(0, at)}.`, fix: said.slice(at + 2) };
}

/** What ROCm needs: /dev/kfd and a render node, and a group that may use them. */
async function checkAmd(card: Card, { root = '', env }: DoctorOptions): Promise<Draft[]> {
  const findings: Draft[] = [];
  const nodes = (await listNames(`${root}/dev/dri`)).filter((name) => name.startsWith('renderD'));
  const paths = [`${root}/dev/kfd`, ...nodes.map((name) => `${root}/dev/dri/${name}`)];
  if (!(await may(paths[0]!, 'exist'))) {
    findings.push({
      id: 'card.devices',
      area: AREA,
      level: 'warn',
      message: 'There is no /dev/kfd here: ROCm does not run on this side.',
      fix: 'Give the containers of runtimes devices: [/dev/kfd, /dev/dri], or use Vulkan, which needs /dev/dri alone.',
    });
  }
  for (const path of paths) {
    if (!(await may(path, 'exist')) || (await may(path, 'use'))) continue;
    const { gid } = await stat(path);
    findings.push({
      id: 'card.groups',
      area: AREA,
      level: 'fail',
      message: `${path.slice(root.length)} belongs to group ${gid}, and ${toUser()} is not in it.`,
      fix: `sudo usermod -aG render,video ${toUser()}; then log in again. In a container: group_add: ["${gid}"]`,
    });
  }
  if (findings.length === 0)
    findings.push({ id: 'card.devices', area: AREA, level: 'ok', message: 'This user may use the card.' });
  if (runsAsAnother(card) && env['HSA_OVERRIDE_GFX_VERSION'] === undefined) {
    findings.push({
      id: 'card.override',
      area: AREA,
      level: 'info',
      message: `ROCm is not built for ${card.architecture}; it runs as gfx1030 where that is said.`,
      fix: 'Set HSA_OVERRIDE_GFX_VERSION=10.3.0 for Ollama and ComfyUI (not for Vulkan, nor for builds of their own for this card).',
    });
  }
  return findings;
}

function toUser(): string {
  try {
    return userInfo().username;
  } catch {
    return 'this user';
  }
}
