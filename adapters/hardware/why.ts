// Why there is no card that models could run on, and what mends it, in one line.
import type { Tree } from './tree.ts';

const PCI = '/sys/bus/pci/devices';
/** Devices that are looked at; a machine has fewer. */
const MAX_DEVICES = 512;
const DRIVERS: Record<string, string> = {
  '0x1002': 'An AMD card is here, but amdgpu does not drive it: sudo modprobe amdgpu, then look at sudo dmesg.',
  '0x10de': 'An NVIDIA card is here, but its driver is not loaded: install it, then sudo modprobe nvidia.',
};
const ON_PROCESSOR = 'models run on the processor';

export interface Around {
  container: boolean;
  /** Names of the cards that were found, none of which tells its memory. */
  seen: string[];
}

/** Machines are not opened while they run, so it is looked for again only now and then. */
const GOOD_MS = 30_000;

export function createWhy(tree: Tree): (around: Around) => Promise<string> {
  let known: { text: string; about: string; at: number } | undefined;
  return async (around) => {
    const about = JSON.stringify(around);
    if (known?.about === about && performance.now() - known.at < GOOD_MS) return known.text;
    const text = await toWhy(tree, around);
    known = { text, about, at: performance.now() };
    return text;
  };
}

async function toWhy(tree: Tree, { container, seen }: Around): Promise<string> {
  if (tree.denied()) {
    return 'This process may not look for a card: start Deno with --allow-read=/sys,/proc --allow-sys --allow-run=nvidia-smi.';
  }
  if (seen.length > 0) {
    return `${seen.join(' and ')} does not tell how much memory it has, so ${ON_PROCESSOR}; if they run on it, set HONO_AI_VRAM.`;
  }
  if (process.platform !== 'linux')
    return `No card was found on this system, so ${ON_PROCESSOR}; if there is one, set HONO_AI_VRAM.`;
  const idle = await undriven(tree);
  if (idle) return idle;
  if (await tree.has('/dev/dxg')) {
    return 'Windows lends its card to this Linux, but nothing here tells of it: install NVIDIA’s driver on Windows; for another card, set HONO_AI_VRAM.';
  }
  if (container) {
    return 'No card can be seen from this container: load its driver on the host, add --device /dev/kfd --device /dev/dri (AMD) or --gpus all (NVIDIA), or set HONO_AI_VRAM.';
  }
  return `This machine has no graphics card that models could run on, so ${ON_PROCESSOR}; smaller ones are quick there too.`;
}

/** A card on the bus without its driver. */
async function undriven(tree: Tree): Promise<string | undefined> {
  for (const slot of (await tree.list(PCI)).slice(0, MAX_DEVICES)) {
    const kind = await tree.text(`${PCI}/${slot}/class`);
    if (!kind?.startsWith('0x03')) continue;
    const vendor = (await tree.text(`${PCI}/${slot}/vendor`)) ?? '';
    if (Object.hasOwn(DRIVERS, vendor)) return DRIVERS[vendor];
  }
  return undefined;
}
