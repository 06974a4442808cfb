// What the doctor says of power that cannot be set, and of commands that are not there.
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { DoctorOptions } from '../../adapters/doctor/check.ts';
import { checkHouse } from '../../adapters/doctor/house.ts';
import { openHardware } from '../../adapters/hardware/index.ts';
import { loadConfig } from '../../adapters/settings.ts';
import { loadMachine, openFakeSmi, openMachine, smiRow, FOREVER } from '../support/machines.ts';
import { asNobody } from '../support/nobody.ts';

const CAP = '/sys/class/drm/card1/device/hwmon/hwmon3/power1_cap';
const opened: (() => void)[] = [];
afterEach(() => opened.splice(0).forEach((close) => close()));

async function examine(settings: Record<string, string>, files: Record<string, string | null> = {}, path?: string) {
  const machine = openMachine(path === undefined ? loadMachine('rx-6750-xt') : {});
  machine.change(files);
  const env = { PATH: path ?? '', ...settings };
  const hardware = openHardware({ root: machine.root, env });
  opened.push(() => (hardware.close(), machine.remove()));
  const { config } = loadConfig(settings);
  const runtimes = [{ name: 'ollama' }, { name: 'comfyui' }];
  const options = { config, env, hardware, runtimes, root: machine.root } as unknown as DoctorOptions;
  const drafts = await checkHouse(options, new AbortController().signal);
  return Object.fromEntries(drafts.map(({ id, level, message, fix }) => [id, { level, message, fix }]));
}

describe('the power of the card', () => {
  it('is no matter where nothing is set', async () => {
    expect(await examine({})).toEqual({});
  });

  it('can be set, or not so low', async () => {
    expect(await examine({ HONO_AI_BACKGROUND_POWER_W: '100' })).toEqual({
      'card.power': { level: 'ok', message: 'Background work runs at 100 W.', fix: undefined },
    });
    expect(await examine({ HONO_AI_BACKGROUND_POWER_W: '100' }, { [`${CAP}_min`]: '120000000\n' })).toMatchObject({
      'card.power': { level: 'warn', fix: 'Set HONO_AI_BACKGROUND_POWER_W=120.' },
    });
  });

  it('cannot be set where the driver has no such file', async () => {
    expect(await examine({ HONO_AI_BACKGROUND_POWER_W: '100' }, { [CAP]: null })).toMatchObject({
      'card.power': { level: 'warn', message: expect.stringContaining('cannot be set from here') },
    });
  });

  it('may not be set by this user: with NVIDIA only by root, or by sudo without a password', async () => {
    const script = `case "$*" in *--query-gpu=power*) echo 350, 350, 100, 400; exit;; *-pl*) exit 4;; esac\n${FOREVER}`;
    const smi = openFakeSmi(script, { rows: smiRow() });
    const folder = smi.env['PATH']!.split(':')[0]!;
    opened.push(smi.remove);
    const sudo = (line: string) => writeFileSync(join(folder, 'sudo'), `#!/bin/sh\n${line}\n`, { mode: 0o755 });
    const look = () => asNobody(() => examine({ HONO_AI_BACKGROUND_POWER_W: '150' }, {}, smi.env['PATH']));
    chmodSync(folder, 0o777);
    sudo('exit 1');
    const refused = (await look())['card.power'];
    expect(refused).toMatchObject({ level: 'warn', fix: expect.stringContaining('sudoers.d') });
    // To sudo a `*` stands for any further words, also those that have nvidia-smi write a file.
    expect(refused!.fix).toMatch(/NOPASSWD: \S+ -i 0 -pl \[0-9\]\[0-9\], [^*]+'/);
    sudo('[ "$1 $2" = "-n -l" ]');
    expect((await look())['card.power']).toMatchObject({ level: 'ok', message: 'Background work runs at 150 W.' });
  });
});

it('commands that restart runtimes are there, or the runtime is not', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-restart-'));
  opened.push(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'again'), '#!/bin/sh\n', { mode: 0o755 });
  const restart = (value: string) => examine({ HONO_AI_RESTART: value, PATH: folder });
  expect(await restart('ollama:again the one,comfyui:ignore')).toMatchObject({
    'restart.ollama': { level: 'ok' },
    'restart.comfyui': { level: 'ok' },
  });
  expect(await restart('ollama:systemctl restart ollama,forge:again')).toMatchObject({
    'restart.ollama': { level: 'fail', message: 'The command that restarts ollama is not there.' },
    'restart.forge': { level: 'warn', fix: 'In HONO_AI_RESTART, name one of ollama, comfyui.' },
  });
});

it('shares are of callers that there are', async () => {
  const callers = `guest:${'k'.repeat(32)}`;
  const found = await examine({ HONO_AI_CALLERS: callers, HONO_AI_SHARES: 'owner:2,guest:0.5,gost:3' });
  expect(found).toEqual({
    'shares.gost': {
      level: 'warn',
      message: 'There is no caller gost to have a share of the card.',
      fix: 'In HONO_AI_SHARES, name one of owner, guest.',
    },
  });
});
