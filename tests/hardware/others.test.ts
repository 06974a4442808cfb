// Cards of systems that tell little: by a package that may be installed, asked once.
import { expect, it } from 'vitest';
import { createPackaged } from '../../adapters/hardware/others.ts';

const MIB = 1024 ** 2;

it('are told by the package where it is installed', async () => {
  let asked = 0;
  const controllers = [
    { vendor: 'Advanced Micro Devices, Inc.', model: 'AMD Radeon RX 6750 XT', bus: 'PCI', vram: 12272 },
    { vendor: 'Intel Corporation', model: 'Intel UHD', bus: 'Built-In', vram: null },
    { vendor: 'NVIDIA', model: 'x'.repeat(500), bus: 'PCI', memoryTotal: 8192, memoryUsed: 100, vram: 4095 },
    { vendor: 'Somebody', vram: -5 },
  ];
  const graphics = async () => (asked++, { controllers });
  const read = createPackaged(async () => ({ default: { graphics } }));
  const [{ cards, problems }] = await Promise.all([read(), read()]);
  expect(asked).toBe(1);
  expect(cards.map(({ id, vendor, kind, vram }) => [id, vendor, kind, vram.total, vram.used])).toEqual([
    ['system-0', 'amd', 'discrete', 12272 * MIB, 0],
    ['system-1', 'intel', 'integrated', 0, 0],
    ['system-2', 'nvidia', 'discrete', 8192 * MIB, 100 * MIB],
    ['system-3', 'unknown', 'discrete', 0, 0],
  ]);
  expect(cards[2]!.name).toHaveLength(100);
  expect(problems).toEqual([expect.stringMatching(/RX 6750 XT.*cannot be read.*HONO_AI_VRAM/)]);
});

it('are none without the package, or where it fails; what to install is said', async () => {
  const missing = createPackaged(() => Promise.reject(new Error('Cannot find package')));
  expect(await missing()).toEqual({ cards: [], problems: [expect.stringContaining('npm install systeminformation')] });
  const broken = createPackaged(async () => ({ graphics: () => Promise.reject(new Error('x')) }));
  expect(await broken()).toEqual({ cards: [], problems: [] });
});
