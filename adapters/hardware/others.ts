// Cards that neither amdgpu nor nvidia-smi tell of: Intel's from /sys, Apple's from the system, and any that `systeminformation` finds.
import { arch, cpus, totalmem, freemem, platform } from 'node:os';
import { MEMORY, toMemory, type Findings, type Found } from './checked.ts';
import { toNumber, type Tree } from './tree.ts';

const DRM = '/sys/class/drm';
const INTEL = '0x8086';
/** Where i915 and xe tell the memory of a card that has its own. */
const LOCAL_MEMORY = ['lmem_total_bytes', 'device/tile0/physical_vram_size_bytes'];
const PACKAGE = 'systeminformation';
const MIB = 1024 ** 2;

/** What is taken of that package. */
interface SystemInformation {
  graphics(): Promise<{ controllers?: Controller[] }>;
}

interface Controller {
  vendor?: string;
  model?: string;
  bus?: string;
  /** MiB. */
  vram?: number | null;
  memoryTotal?: number;
  memoryUsed?: number;
  driverVersion?: string;
}

export async function readIntel(tree: Tree): Promise<Findings> {
  const cards: Found[] = [];
  for (const name of await tree.list(DRM)) {
    const folder = `${DRM}/${name}`;
    if (!/^card\d+$/.test(name) || (await tree.text(`${folder}/device/vendor`)) !== INTEL) continue;
    const [device = '', uevent = '', ...memory] = await Promise.all([
      tree.text(`${folder}/device/device`),
      tree.text(`${folder}/device/uevent`),
      ...LOCAL_MEMORY.map((file) => tree.text(`${folder}/${file}`)),
    ]);
    const total = memory.map((text) => toNumber(text, MEMORY)).find(Boolean) ?? 0;
    const slot = /^PCI_SLOT_NAME=([0-9a-f:.]{7,16})$/im.exec(uevent)?.[1]?.toLowerCase();
    cards.push({
      ...SILENT,
      id: slot ?? `intel-${cards.length}`,
      index: cards.length,
      vendor: 'intel',
      name: `Intel GPU ${/^0x[0-9a-f]{4}$/i.test(device) ? device : ''}`.trim(),
      kind: total > 0 ? 'discrete' : 'integrated',
      driver: /^DRIVER=(i915|xe)$/m.exec(uevent)?.[1] ?? null,
      vram: { total, used: 0 },
    });
  }
  return { cards, problems: [] };
}

/** Apple's chips have one memory for all. */
export function readApple(): Found[] {
  if (platform() !== 'darwin' || arch() !== 'arm64') return [];
  const total = totalmem();
  const name = cpus()[0]?.model ?? 'Apple GPU';
  return [
    {
      ...SILENT,
      id: 'apple-0',
      index: 0,
      vendor: 'apple',
      name,
      kind: 'unified',
      vram: { total, used: Math.max(0, total - freemem()) },
    },
  ];
}

/** Looked for once: these are programs that are run, and facts that do not change. */
export function createPackaged(load: () => Promise<unknown> = () => import(String(PACKAGE))): () => Promise<Findings> {
  let asked: Promise<Findings> | undefined;
  return () =>
    (asked ??= (async () => {
      const loaded = (await load().catch(() => undefined)) as
        | (SystemInformation & { default?: SystemInformation })
        | undefined;
      const information = loaded?.default ?? loaded;
      if (!information) {
        return {
          cards: [],
          problems: [`Cards of this system are told by the package ${PACKAGE}: npm install ${PACKAGE}`],
        };
      }
      const { controllers = [] } = await information.graphics().catch(() => ({ controllers: [] }));
      const cards = controllers.slice(0, 16).map(toCard);
      const problems = cards
        .filter(({ vram }) => vram.total > 0 && vram.used === 0)
        .map(
          ({ name }) =>
            `How much memory of ${name} is in use cannot be read here: set HONO_AI_VRAM to what models may use.`,
        );
      return { cards, problems };
    })());
}

function toCard(controller: Controller, index: number): Found {
  const { vendor = '', model, bus, vram, memoryTotal, memoryUsed, driverVersion } = controller;
  const total = toMib(memoryTotal) ?? toMib(vram ?? undefined) ?? 0;
  return {
    ...SILENT,
    id: `system-${index}`,
    index,
    vendor: toVendor(vendor),
    name: (model ?? 'unknown').slice(0, 100),
    kind: bus === 'Built-In' ? 'integrated' : 'discrete',
    driver: driverVersion?.slice(0, 40) || null,
    vram: toMemory(total, toMib(memoryUsed), undefined),
  };
}

function toVendor(text: string): Found['vendor'] {
  if (/nvidia/i.test(text)) return 'nvidia';
  if (/amd|advanced micro|\bati\b/i.test(text)) return 'amd';
  if (/intel/i.test(text)) return 'intel';
  return /apple/i.test(text) ? 'apple' : 'unknown';
}

function toMib(mib: number | undefined): number | undefined {
  const bytes = Math.round((mib ?? 0) * MIB);
  return bytes > 0 && bytes <= MEMORY.max! ? bytes : undefined;
}

const SILENT = {
  architecture: null,
  driver: null,
  gtt: null,
  busy: null,
  temperature_c: null,
  power_w: null,
  power_cap_w: null,
  fan_rpm: null,
} satisfies Partial<Found>;
