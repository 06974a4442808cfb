// AMD cards from trees of /sys: one, two, one beside a processor's own, and garbage.
import fc from '../support/property.ts';
import { afterEach, describe, expect, it } from 'vitest';
import { openHardware, type HardwareOptions } from '../../adapters/hardware/index.ts';
import { chosenCard, type Reading } from '../../src/hardware.ts';
import { amdCard, loadMachine, openMachine, type Files } from '../support/machines.ts';

const GIB = 1024 ** 3;
const open: { close(): void }[] = [];
afterEach(() => open.splice(0).forEach((each) => each.close()));

function start(files: Files, options: HardwareOptions = {}) {
  const machine = openMachine(files);
  const hardware = openHardware({ root: machine.root, env: {}, ...options });
  open.push({ close: () => (hardware.close(), machine.remove()) });
  return { machine, hardware };
}

describe('one RX 6750 XT', () => {
  it('is told with all that amdgpu knows', async () => {
    const { hardware } = start(loadMachine('rx-6750-xt'));
    const { cards, problems, why } = await hardware.read();
    expect(cards).toEqual([
      {
        id: '0000:0b:00.0',
        index: 0,
        vendor: 'amd',
        name: 'AMD Radeon RX 6750 XT',
        kind: 'discrete',
        chosen: true,
        architecture: 'gfx1031',
        driver: 'amdgpu 6.11.0-19-generic',
        vram: { total: 12868124672, used: 1203453952 },
        gtt: { total: 16781404160, used: 98566144 },
        busy: 0.07,
        temperature_c: 43,
        power_w: 9,
        power_cap_w: 203,
        fan_rpm: 0,
      },
    ]);
    expect(problems).toEqual([]);
    expect(why).toBeUndefined();
  });

  it('is called as the system’s own list has it', async () => {
    const list = '# device_id,\trevision_id,\tproduct_name\n\n1.0.0\n73DF,\tC0,\tAMD Radeon RX 6750 XT (listed)\n';
    const { hardware } = start({ ...loadMachine('rx-6750-xt'), '/usr/share/libdrm/amdgpu.ids': list });
    expect((await hardware.read()).cards[0]!.name).toBe('AMD Radeon RX 6750 XT (listed)');
  });

  it('keeps its architecture where the compute driver does not tell it', async () => {
    const { machine, hardware } = start(loadMachine('rx-6750-xt'));
    machine.change({ '/sys/class/kfd': null });
    expect((await hardware.read()).cards[0]!.architecture).toBe('gfx1031');
  });

  it('loses only what cannot be read at the moment', async () => {
    const folder = '/sys/class/drm/card1/device';
    const { machine, hardware } = start(loadMachine('rx-6750-xt'));
    await hardware.read();
    machine.change({
      [`${folder}/gpu_busy_percent`]: '',
      [`${folder}/mem_info_vram_used`]: null,
      [`${folder}/hwmon/hwmon3/temp1_input`]: '-273000\n',
      [`${folder}/hwmon/hwmon3/power1_average`]: '4294967295000000\n',
      [`${folder}/hwmon/hwmon3/fan1_input`]: '65535\n',
    });
    const [card] = (await hardware.read(0)).cards;
    expect(card).toMatchObject({ busy: null, temperature_c: null, power_w: null, fan_rpm: null, power_cap_w: 203 });
    // A figure that is gone for a moment is taken as it was.
    expect(card!.vram).toEqual({ total: 12868124672, used: 1203453952 });
  });

  it('is not woken by its sensors when it sleeps', async () => {
    const { machine, hardware } = start(loadMachine('rx-6750-xt'));
    machine.change({ '/sys/class/drm/card1/device/power/runtime_status': 'suspended\n' });
    const [card] = (await hardware.read()).cards;
    expect(card).toMatchObject({ kind: 'discrete', busy: null, temperature_c: null, power_w: null });
    expect(card!.vram.total).toBe(12868124672);
  });
});

describe('several', () => {
  const two = {
    ...amdCard({ n: 0, slot: '0000:03:00.0', device: '0x73ff', revision: '0xc7', vram: 8 * GIB }),
    ...amdCard({ n: 1, slot: '0000:0c:00.0', device: '0x73bf', revision: '0xc1', vram: 16 * GIB }),
  };
  const pick = async (files: Files, card?: string) => {
    const reading = await start(files, { card }).hardware.read();
    return { name: chosenCard(reading)?.name, problems: reading.problems, cards: reading.cards };
  };

  it('a card of its own is chosen before a processor’s graphics', async () => {
    const { cards } = await pick(loadMachine('apu-and-dgpu'));
    expect(cards.map(({ name, kind, chosen, architecture }) => [name, kind, chosen, architecture])).toEqual([
      ['AMD Radeon 610M Graphics', 'integrated', false, 'gfx1036'],
      ['AMD Radeon RX 7900 XTX', 'discrete', true, 'gfx1100'],
    ]);
    expect(cards[0]).toMatchObject({ power_w: 31.028, power_cap_w: null, driver: 'amdgpu 6.10.5' });
  });

  it('even one with less memory than the processor lends its graphics', async () => {
    const strix = amdCard({ n: 0, slot: '0000:c4:00.0', device: '0x1586', vram: 96 * GIB, gtt: 16 * GIB });
    const small = amdCard({ n: 1, slot: '0000:03:00.0', device: '0x743f', vram: 4 * GIB, gtt: 16 * GIB });
    expect((await pick({ ...strix, ...small })).name).toContain('6400/6500');
    expect((await pick(strix)).name).toContain('8060S');
  });

  it('the one with most memory is chosen, or the one that the setting names', async () => {
    expect((await pick(two)).name).toBe('AMD Radeon RX 6800 XT');
    for (const setting of ['0', '0000:03:00.0', '03:00.0', 'rx 6600']) {
      expect(await pick(two, setting), setting).toMatchObject({ name: 'AMD Radeon RX 6600', problems: [] });
    }
  });

  it('a setting that names none is said, with those there are', async () => {
    const { name, problems } = await pick(two, 'RTX 4090');
    expect(name).toBe('AMD Radeon RX 6800 XT');
    expect(problems).toEqual([
      expect.stringMatching(/HONO_AI_GPU.*0000:03:00\.0 for AMD Radeon RX 6600, or 0000:\S+ for AMD Radeon RX 6800 XT/),
    ]);
  });

  it('what hides the chosen one is said, what hides another is not', async () => {
    const problems = async (env: Record<string, string>) => (await start(two, { env }).hardware.read()).problems;
    expect(await problems({ ROCR_VISIBLE_DEVICES: '0' })).toEqual([expect.stringContaining('ROCR_VISIBLE_DEVICES=1')]);
    expect(await problems({ HIP_VISIBLE_DEVICES: '-1' })).toHaveLength(1);
    expect(await problems({ ROCR_VISIBLE_DEVICES: '0, 1', CUDA_VISIBLE_DEVICES: '7' })).toEqual([]);
    expect(await problems({ ROCR_VISIBLE_DEVICES: 'GPU-1234abcd' })).toEqual([]);
  });
});

describe('graphics of a processor', () => {
  const kindOf = async (card: Partial<Parameters<typeof amdCard>[0]>) => {
    const base = { n: 0, slot: '0000:05:00.0', device: '0xffee', vram: GIB / 2, gtt: 16 * GIB };
    return (await start(amdCard({ ...base, ...card })).hardware.read()).cards[0]!;
  };

  it('are known by what only they have, whatever their id', async () => {
    expect((await kindOf({})).kind).toBe('integrated');
    expect((await kindOf({ vram: 32 * GIB, hwmon: { in1_label: 'vddnb' } })).kind).toBe('integrated');
    expect((await kindOf({ hwmon: { power1_cap: '50000000' } })).kind).toBe('discrete');
    expect((await kindOf({ vram: 8 * GIB })).kind).toBe('discrete');
    expect((await kindOf({})).name).toBe('AMD GPU 0xffee');
  });

  it('are chosen where there is nothing else', async () => {
    expect((await kindOf({ device: '0x15bf' })).chosen).toBe(true);
  });
});

describe('garbage', () => {
  const folder = '/sys/class/drm/card1/device';
  const sound = ({ cards }: Reading) => {
    for (const { vram, gtt, busy, temperature_c, power_w, power_cap_w, fan_rpm } of cards) {
      for (const memory of [vram, gtt ?? vram]) {
        expect(memory.used).toBeLessThanOrEqual(memory.total);
        expect(Number.isSafeInteger(memory.total) && memory.used >= 0).toBe(true);
      }
      for (const value of [temperature_c, power_w, power_cap_w, fan_rpm]) expect(value ?? 0).toBeLessThan(30_001);
      expect(busy ?? 0).toBeGreaterThanOrEqual(0);
      expect(busy ?? 0).toBeLessThanOrEqual(1);
    }
  };

  it('of any kind, in any file, makes figures that a card can have', async () => {
    const files = loadMachine('rx-6750-xt');
    const { machine, hardware } = start(files);
    const paths = Object.keys(files).filter((path) => !path.endsWith('/'));
    const nonsense = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 60 }),
      fc.constantFrom('', '-1', 'NaN', '1e99', '0x10', '99999999999999999999', '18446744073709551615', 'N/A', '3.5.1'),
      fc.integer().map(String),
    );
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.constantFrom(...paths), nonsense, { maxKeys: 12 }), async (changed) => {
        machine.change(changed);
        sound(await hardware.read(0));
        machine.change(files);
      }),
      { numRuns: 60 },
    );
  });

  it('in place of a size leaves a card that is never chosen, and says so', async () => {
    const { machine, hardware } = start(loadMachine('rx-6750-xt'));
    machine.change({ [`${folder}/mem_info_vram_total`]: '999999999999999999\n' });
    const reading = await hardware.read();
    expect(chosenCard(reading)).toBeUndefined();
    expect(reading.problems).toEqual([expect.stringMatching(/RX 6750 XT does not tell its memory.*amdgpu/)]);
    expect(reading.why).toBe(reading.problems[0]);
  });

  it('more in use than there is counts as not known', async () => {
    const { machine, hardware } = start(loadMachine('rx-6750-xt'));
    machine.change({ [`${folder}/mem_info_vram_used`]: '13000000000\n' });
    expect((await hardware.read()).cards[0]!.vram.used).toBe(0);
  });
});

describe('readings', () => {
  it('are shared by those who ask at the same time, and good for a second', async () => {
    let now = 1_000_000;
    const { hardware } = start(loadMachine('rx-6750-xt'), { now: () => now });
    const [one, two] = await Promise.all([hardware.read(), hardware.read(0)]);
    expect(two).toBe(one);
    now += 900;
    expect(await hardware.read()).toBe(one);
    now += 200;
    expect(await hardware.read()).not.toBe(one);
    expect(hardware.latest()?.at).toBe(now);
  });

  it('are kept for a quarter of an hour, however often they are asked for', async () => {
    let now = Date.parse('2026-01-01T00:00:00Z');
    const { machine, hardware } = start(loadMachine('rx-6750-xt'), { now: () => now });
    for (let second = 0; second <= 1000; second += 100) {
      await hardware.read(0);
      now += 10;
      await hardware.read(0);
      now += 99_990;
    }
    machine.change({ '/sys/class/drm/card1/device/mem_info_vram_used': '5000000000\n' });
    await hardware.read(0);
    const history = hardware.history();
    expect(history).toHaveLength(9);
    expect(history[0]!.at).toBe('2026-01-01T00:05:00.000Z');
    expect(history.at(-1)).toEqual({
      at: '2026-01-01T00:18:20.000Z',
      used: 5_000_000_000,
      gtt_used: 98566144,
      busy: 0.07,
      temperature_c: 43,
      power_w: 9,
    });
  });

  it('go on when a card vanishes, with the next one', async () => {
    const { machine, hardware } = start(loadMachine('apu-and-dgpu'));
    expect(chosenCard(await hardware.read())?.kind).toBe('discrete');
    machine.change({ '/sys/class/drm/card1': null });
    const reading = await hardware.read(0);
    expect(reading.cards).toHaveLength(1);
    expect(chosenCard(reading)?.kind).toBe('integrated');
    expect(hardware.history()).toHaveLength(1);
    expect(hardware.history()[0]!.used).toBe(48234496);
    machine.change({ '/sys/class/drm/card0': null });
    expect((await hardware.read(0)).why).toContain('no graphics card');
  });
});

describe('where there is no card, the reading says why', () => {
  const pci = (vendor: string) => ({
    '/sys/bus/pci/devices/0000:00:00.0/class': '0x060000\n',
    '/sys/bus/pci/devices/0000:01:00.0/class': '0x030000\n',
    '/sys/bus/pci/devices/0000:01:00.0/vendor': `${vendor}\n`,
  });
  const intel = {
    '/sys/class/drm/card0/device/vendor': '0x8086\n',
    '/sys/class/drm/card0/device/device': '0x4680\n',
    '/sys/class/drm/card0/device/uevent': 'DRIVER=i915\nPCI_SLOT_NAME=0000:00:02.0\n',
  };

  it.each([
    ['an AMD card without its driver', pci('0x1002'), /sudo modprobe amdgpu/],
    ['an NVIDIA card without its driver', pci('0x10de'), /driver is not loaded.*modprobe nvidia/],
    ['NVIDIA’s driver without nvidia-smi', { '/proc/driver/nvidia/version': 'NVRM' }, /no nvidia-smi.*--gpus all/],
    ['Linux on Windows', { '/dev/dxg': '' }, /Windows.*HONO_AI_VRAM/],
    ['a container', { '/.dockerenv': '' }, /container.*--device \/dev\/kfd/],
    ['nothing', {}, /no graphics card.*processor/],
    ['only an Intel without memory of its own', intel, /Intel GPU 0x4680 does not tell.*HONO_AI_VRAM/],
  ])('%s', async (_, files, why) => {
    const reading = await start(files).hardware.read();
    expect(chosenCard(reading)).toBeUndefined();
    expect(reading.why).toMatch(why);
    expect(reading.why).not.toContain('\n');
  });

  it('an Intel card with memory of its own is a card', async () => {
    const { hardware } = start({ ...intel, '/sys/class/drm/card0/lmem_total_bytes': `${16 * GIB}\n` });
    expect((await hardware.read()).cards).toEqual([
      expect.objectContaining({ id: '0000:00:02.0', vendor: 'intel', kind: 'discrete', driver: 'i915', chosen: true }),
    ]);
  });
});
