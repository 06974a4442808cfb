// AMD cards by their PCI ids: what they are called, what ROCm calls their architecture, and which are part of a processor.
import type { Tree } from './tree.ts';

export interface AmdModel {
  name: string;
  /** Undefined where the id is not known here. */
  architecture?: string;
  integrated?: boolean;
}

interface Chip {
  gfx: string;
  /** By revision; `*` where a revision is not told. */
  names: Record<string, string>;
  integrated?: true;
}

/** For systems without a list of their own, as in most containers. */
const CHIPS: Record<string, Chip> = {
  '731f': {
    gfx: 'gfx1010',
    names: { c1: 'RX 5700 XT', c4: 'RX 5700', c5: 'RX 5700 XT', ca: 'RX 5600 XT', '*': 'RX 5600/5700 series' },
  },
  '7340': { gfx: 'gfx1012', names: { c5: 'RX 5500 XT', c7: 'RX 5500', '*': 'RX 5500 series' } },
  '73bf': { gfx: 'gfx1030', names: { c0: 'RX 6900 XT', c1: 'RX 6800 XT', c3: 'RX 6800', '*': 'RX 6800/6900 series' } },
  '73af': { gfx: 'gfx1030', names: { '*': 'RX 6900 XT' } },
  '73a5': { gfx: 'gfx1030', names: { '*': 'RX 6950 XT' } },
  '73df': {
    gfx: 'gfx1031',
    names: {
      c0: 'RX 6750 XT',
      c1: 'RX 6700 XT',
      c2: 'RX 6800M',
      c3: 'RX 6800M',
      c5: 'RX 6700 XT',
      cf: 'RX 6700M',
      d5: 'RX 6750 GRE 12GB',
      df: 'RX 6700',
      e5: 'RX 6750 GRE 12GB',
      ff: 'RX 6700',
      '*': 'RX 6700/6750 series',
    },
  },
  '73ef': { gfx: 'gfx1032', names: { c1: 'RX 6650 XT', '*': 'RX 6650 series' } },
  '73ff': { gfx: 'gfx1032', names: { c1: 'RX 6600 XT', c3: 'RX 6600M', c7: 'RX 6600', '*': 'RX 6600 series' } },
  '743f': { gfx: 'gfx1034', names: { c1: 'RX 6500 XT', c7: 'RX 6400', d7: 'RX 6400', '*': 'RX 6400/6500 series' } },
  '744c': {
    gfx: 'gfx1100',
    names: { c8: 'RX 7900 XTX', cc: 'RX 7900 XT', ce: 'RX 7900 GRE', '*': 'RX 7900 series' },
  },
  '747e': {
    gfx: 'gfx1101',
    names: { c8: 'RX 7800 XT', db: 'RX 7700', ff: 'RX 7700 XT', '*': 'RX 7700/7800 series' },
  },
  '7480': { gfx: 'gfx1102', names: { c0: 'RX 7600 XT', cf: 'RX 7600', '*': 'RX 7600 series' } },
  '7550': { gfx: 'gfx1201', names: { c0: 'RX 9070 XT', c2: 'RX 9070 GRE', c3: 'RX 9070', '*': 'RX 9070 series' } },
  '7590': { gfx: 'gfx1200', names: { c0: 'RX 9060 XT', c7: 'RX 9060', '*': 'RX 9060 series' } },
  '1586': { gfx: 'gfx1151', names: { '*': '8060S Graphics' }, integrated: true },
  '150e': { gfx: 'gfx1150', names: { '*': '890M Graphics' }, integrated: true },
  '1114': { gfx: 'gfx1152', names: { '*': '860M Graphics' }, integrated: true },
  '15bf': { gfx: 'gfx1103', names: { '*': '780M Graphics' }, integrated: true },
  '15c8': { gfx: 'gfx1103', names: { '*': '740M Graphics' }, integrated: true },
  '1900': { gfx: 'gfx1103', names: { '*': '780M Graphics' }, integrated: true },
  '1901': { gfx: 'gfx1103', names: { '*': '740M Graphics' }, integrated: true },
  '1681': { gfx: 'gfx1035', names: { '*': '680M Graphics' }, integrated: true },
  '164e': { gfx: 'gfx1036', names: { '*': '610M Graphics' }, integrated: true },
  '13c0': { gfx: 'gfx1036', names: { '*': '610M Graphics' }, integrated: true },
  '1506': { gfx: 'gfx1037', names: { '*': '610M Graphics' }, integrated: true },
  '163f': { gfx: 'gfx1033', names: { '*': 'Graphics of the Steam Deck' }, integrated: true },
  '1435': { gfx: 'gfx1033', names: { '*': 'Graphics of the Steam Deck' }, integrated: true },
  '1638': { gfx: 'gfx90c', names: { '*': 'Vega Graphics' }, integrated: true },
  '1636': { gfx: 'gfx90c', names: { '*': 'Vega Graphics' }, integrated: true },
  '15e7': { gfx: 'gfx90c', names: { '*': 'Vega Graphics' }, integrated: true },
  '164c': { gfx: 'gfx90c', names: { '*': 'Vega Graphics' }, integrated: true },
  '15d8': { gfx: 'gfx902', names: { '*': 'Vega Graphics' }, integrated: true },
  '15dd': { gfx: 'gfx902', names: { '*': 'Vega Graphics' }, integrated: true },
};

/** The list that comes with the graphics libraries of a Linux system; it knows every revision. */
const LIST = '/usr/share/libdrm/amdgpu.ids';

/** Device and revision as the kernel writes them: `0x73df`, `0xc0`. */
export async function toAmdModel(tree: Tree, device: string, revision: string): Promise<AmdModel> {
  const id = hex(device);
  const chip = Object.hasOwn(CHIPS, id) ? CHIPS[id] : undefined;
  const known = chip && (chip.names[hex(revision)] ?? chip.names['*']);
  const listed = fromList(await tree.text(LIST), id, hex(revision));
  return {
    name: listed ?? (known ? `AMD Radeon ${known}` : `AMD GPU 0x${id}`),
    ...(chip ? { architecture: chip.gfx, integrated: chip.integrated === true } : {}),
  };
}

/** Lines of `73DF,⇥C0,⇥AMD Radeon RX 6750 XT`. */
function fromList(list: string | undefined, device: string, revision: string): string | undefined {
  for (const line of list?.split('\n') ?? []) {
    const [id, rev, name] = line.split(/,\s*/, 3);
    if (id?.toLowerCase() === device && rev?.toLowerCase() === revision && name) return name.trim().slice(0, 100);
  }
  return undefined;
}

function hex(text: string): string {
  return text.toLowerCase().replace(/^0x/, '').slice(0, 8);
}
