// How much memory the card has, where the system says so without privileges.
import { readdirSync, readFileSync } from 'node:fs';

/** Left to the desktop and to what runtimes take beyond their models, in bytes. */
const HEADROOM = 1024 ** 3;

/** Bytes of VRAM that models may use on the largest AMD card, from amdgpu's sysfs; undefined where there is none. */
export function detectVram(drm = '/sys/class/drm'): number | undefined {
  let largest = 0;
  for (const card of list(drm)) {
    if (!/^card\d+$/.test(card)) continue;
    const total = Number(read(`${drm}/${card}/device/mem_info_vram_total`));
    if (total > largest) largest = total;
  }
  // An APU's carve-out is too small to plan with; what runs there runs in system memory.
  return largest > 2 * HEADROOM ? largest - HEADROOM : undefined;
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
