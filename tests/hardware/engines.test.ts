// No card, no runtime, no network: every route answers at once and says what to do, on every engine; and nvidia-smi is nobody's to keep.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { gpuView, hardwareView, offeredView } from '../../src/hardware.ts';
import { engines, openInProcess, openServed, root, type Engine } from '../support/gateway.ts';
import { eventually } from '../support/eventually.ts';
import { FOREVER, loadMachine, openFakeSmi, openMachine, smiRow } from '../support/machines.ts';

const env = { HONO_AI_EMBEDDED: 'false' };
const names = Object.keys(engines) as Engine[];

describe.each(['in process', ...names] as const)('%s', (engine) => {
  it('answers at once with nothing there', async () => {
    const gateway = await (engine === 'in process' ? openInProcess({ env }) : openServed(engine, { env }));
    try {
      const get = async (path: string) => {
        const before = performance.now();
        const response = await gateway.request(path);
        expect(response.status, path).toBe(200);
        expect(performance.now() - before, path).toBeLessThan(10_000);
        return response.json();
      };
      const [hardware, gpu, offered] = await Promise.all(['/system/hardware', '/gpu', '/system/capabilities'].map(get));
      const { cpu, ram, cards, why } = hardwareView.parse(hardware);
      expect(cpu.cores).toBeGreaterThan(0);
      expect(ram.total).toBeGreaterThan(ram.used);
      // A machine that runs the tests may have a card.
      if (!cards.some(({ chosen }) => chosen)) expect(why).toMatch(/\w{3}/);
      expect(gpuView.parse(gpu)).toMatchObject({ owners: [], waiting: [] });
      for (const capability of offeredView.parse(offered).capabilities) {
        expect(capability).toMatchObject({ offered: false, why: expect.any(String), remedy: expect.any(String) });
      }
    } finally {
      await gateway.close();
    }
  });
});

async function runScript(engine: Engine, args: readonly string[], machine: string, env: Record<string, string>) {
  const child = spawn(engines[engine].command, [...args, 'tests/support/read-hardware.ts', machine], {
    cwd: root,
    env: { HOME: process.env['HOME'], ...env } as NodeJS.ProcessEnv,
  });
  let said = '';
  for (const pipe of [child.stdout, child.stderr]) pipe.on('data', (bytes) => (said += bytes));
  const [code] = await once(child, 'close');
  expect(code, said).toBe(0);
  return JSON.parse(said.trim()) as { cards: [string, number][]; why?: string };
}

describe.each(names)('%s', (engine) => {
  it('reads both kinds of cards, ends although nobody closed anything, and leaves no process behind', async () => {
    const smi = openFakeSmi(FOREVER, { rows: smiRow() });
    const machine = openMachine(loadMachine('rx-6750-xt'));
    try {
      const { cards } = await runScript(engine, engines[engine].args, machine.root, smi.env);
      expect(cards).toEqual([
        ['AMD Radeon RX 6750 XT', 1203453952],
        ['NVIDIA GeForce RTX 3090', 1024 ** 3],
      ]);
      expect(smi.starts()).toHaveLength(1);
      await eventually('nvidia-smi is gone', () => smi.alive().length === 0);
    } finally {
      smi.remove();
      machine.remove();
    }
  });
});

it('Deno without permission is told which it needs', async () => {
  const machine = openMachine(loadMachine('rx-6750-xt'));
  try {
    const { PATH = '' } = process.env;
    const args = ['run', '--no-prompt', `--allow-read=${root}`, '--allow-env'];
    const { cards, why } = await runScript('deno', args, machine.root, { PATH });
    expect(cards).toEqual([]);
    expect(why).toContain('--allow-read=/sys,/proc');
  } finally {
    machine.remove();
  }
});
