// AMD cards, from amdgpu's files in /sys: no privileges, no program, no library.
import { MEMORY, toCelsius, toMemory, toRpm, toShare, toWatts, type Findings, type Found } from './checked.ts';
import { toAmdModel, type AmdModel } from './amd-names.ts';
import { toNumber, type Tree } from './tree.ts';

const DRM = '/sys/class/drm';
const KFD = '/sys/class/kfd/kfd/topology/nodes';
const VENDOR = '0x1002';
/** The part of main memory that a processor's graphics keep for themselves is smaller than this, in bytes. */
const CARVE_OUT = 4 * 1024 ** 3;

export function createAmd(tree: Tree): () => Promise<Findings> {
  const models = new Map<string, AmdModel>();
  let before = new Map<string, Found>();

  async function modelOf(device: string, revision: string): Promise<AmdModel> {
    const key = `${device}:${revision}`;
    const known = models.get(key) ?? (await toAmdModel(tree, device, revision));
    models.set(key, known);
    return known;
  }

  async function readCard(folder: string, index: number, nodes: Node[]): Promise<Found> {
    const [device = '', revision = '', uevent = '', asleep, total, used, gttTotal, gttUsed] = await Promise.all([
      tree.text(`${folder}/device`),
      tree.text(`${folder}/revision`),
      tree.text(`${folder}/uevent`),
      tree.text(`${folder}/power/runtime_status`),
      tree.number(`${folder}/mem_info_vram_total`, MEMORY),
      tree.number(`${folder}/mem_info_vram_used`, MEMORY),
      tree.number(`${folder}/mem_info_gtt_total`, MEMORY),
      tree.number(`${folder}/mem_info_gtt_used`, MEMORY),
    ]);
    const slot = /^PCI_SLOT_NAME=([0-9a-f:.]{7,16})$/im.exec(uevent)?.[1]?.toLowerCase();
    const id = slot ?? `amd-${index}`;
    // Asking the sensors of a card that sleeps would wake it, every time.
    const sensors = asleep === 'suspended' ? NO_SENSORS : await readSensors(folder);
    const model = await modelOf(device, revision);
    const last = before.get(id);
    const vram = toMemory(total ?? 0, used, last?.vram.used);
    const gtt = gttTotal === undefined ? null : toMemory(gttTotal, gttUsed, last?.gtt?.used);
    const node =
      nodes.find(({ location }) => location === slot) ??
      nodes.find(({ minor }) => minor !== undefined && sensors.minor === minor);
    const integrated =
      sensors === NO_SENSORS && last
        ? last.kind === 'integrated'
        : isIntegrated(model, sensors, vram.total, gtt?.total ?? 0);
    return {
      id,
      index,
      vendor: 'amd',
      name: model.name,
      kind: integrated ? 'integrated' : 'discrete',
      architecture: node?.gfx ?? model.architecture ?? null,
      driver: await readDriver(),
      vram,
      gtt,
      busy: sensors.busy,
      temperature_c: sensors.temperature,
      power_w: sensors.power,
      power_cap_w: sensors.cap,
      fan_rpm: sensors.fan,
    };
  }

  async function readSensors(folder: string): Promise<Sensors> {
    const names = await tree.list(`${folder}/hwmon`);
    const found = await Promise.all(names.map((name) => tree.text(`${folder}/hwmon/${name}/name`)));
    const hwmon = `${folder}/hwmon/${names[Math.max(0, found.indexOf('amdgpu'))] ?? 'hwmon0'}`;
    const read = (name: string) => tree.text(`${hwmon}/${name}`);
    const [busy, average, input, cap, fan, bridge, drm, ...temperatures] = await Promise.all([
      tree.text(`${folder}/gpu_busy_percent`),
      read('power1_average'),
      read('power1_input'),
      read('power1_cap'),
      read('fan1_input'),
      read('in1_label'),
      tree.list(`${folder}/drm`),
      ...[1, 2, 3].map(async (n) => ({ label: await read(`temp${n}_label`), value: await read(`temp${n}_input`) })),
    ]);
    const labelled = (label: string) => temperatures.find((one) => one.label === label)?.value;
    const minor = toNumber(drm.find((name) => /^renderD\d+$/.test(name))?.slice('renderD'.length));
    return {
      busy: toShare(busy),
      temperature: toCelsius(labelled('edge') ?? labelled('junction') ?? temperatures[0]?.value, 1000),
      power: toWatts(average, 1e6) ?? toWatts(input, 1e6),
      cap: toWatts(cap, 1e6),
      fan: toRpm(fan),
      hasOwnPower: cap !== undefined || fan !== undefined,
      hasBridge: bridge === 'vddnb',
      ...(minor === undefined ? {} : { minor }),
    };
  }

  async function readDriver(): Promise<string | null> {
    const [own, kernel] = await Promise.all([
      tree.text('/sys/module/amdgpu/version'),
      tree.text('/proc/sys/kernel/osrelease'),
    ]);
    const version = own ?? kernel;
    return version === undefined ? null : `amdgpu ${version.slice(0, 80)}`;
  }

  return async () => {
    const folders: string[] = [];
    for (const name of await tree.list(DRM)) {
      if (!/^card\d+$/.test(name)) continue;
      const folder = `${DRM}/${name}/device`;
      if ((await tree.text(`${folder}/vendor`)) === VENDOR) folders.push(folder);
    }
    const nodes = folders.length > 0 ? await readNodes(tree) : [];
    const cards = await Promise.all(folders.map((folder, index) => readCard(folder, index, nodes)));
    before = new Map(cards.map((card) => [card.id, card]));
    const problems = cards
      .filter(({ vram }) => vram.total === 0)
      .map(({ name }) => `${name} does not tell its memory: load the amdgpu driver for it, then restart the gateway.`);
    return { cards, problems };
  };
}

interface Sensors {
  busy: number | null;
  temperature: number | null;
  power: number | null;
  cap: number | null;
  fan: number | null;
  /** A power limit or a fan: what is part of a processor has neither. */
  hasOwnPower: boolean;
  /** The voltage of a north bridge: only what is part of a processor has one. */
  hasBridge: boolean;
  /** Of its render node. */
  minor?: number;
}

const NO_SENSORS: Sensors = {
  busy: null,
  temperature: null,
  power: null,
  cap: null,
  fan: null,
  hasOwnPower: false,
  hasBridge: false,
};

function isIntegrated(model: AmdModel, sensors: Sensors, vram: number, gtt: number): boolean {
  if (model.integrated !== undefined) return model.integrated;
  if (sensors.hasOwnPower) return false;
  return sensors.hasBridge || (vram <= CARVE_OUT && gtt >= 2 * vram);
}

interface Node {
  gfx: string;
  /** PCI address. */
  location: string;
  minor: number | undefined;
}

/** What the compute driver calls the architectures of its cards. */
async function readNodes(tree: Tree): Promise<Node[]> {
  const texts = await Promise.all(
    (await tree.list(KFD)).slice(0, 64).map((name) => tree.text(`${KFD}/${name}/properties`)),
  );
  return texts.flatMap((text) => {
    const property = (name: string) => toNumber(new RegExp(`^${name} (\\d+)$`, 'm').exec(text ?? '')?.[1]);
    const version = property('gfx_target_version') ?? 0;
    // Processors are nodes as well, of version 0.
    if (version < 10_000 || version > 999_999) return [];
    const at = property('location_id') ?? 0;
    const part = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
    const location = `${part(property('domain') ?? 0, 4)}:${part((at >> 8) & 255, 2)}:${part((at >> 3) & 31, 2)}.${at & 7}`;
    return [{ gfx: toGfx(version), location, minor: property('drm_render_minor') }];
  });
}

/** 100301 → gfx1031, 90010 → gfx90a. */
function toGfx(version: number): string {
  const [minor, step] = [Math.floor(version / 100) % 100, version % 100];
  return `gfx${Math.floor(version / 10_000)}${minor.toString(16)}${step.toString(16)}`;
}
