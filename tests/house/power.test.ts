// The power of the card while only background work runs: over trees of /sys and programs in place of nvidia-smi.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { createPower, type PowerOptions } from '../../adapters/house/power.ts';
import { openHardware } from '../../adapters/hardware/index.ts';
import type { View } from '../../src/arbiter/arbiter.ts';
import type { Class } from '../../src/arbiter/policy.ts';
import type { LogEntry } from '../../src/http/context.ts';
import { eventually } from '../support/eventually.ts';
import { loadMachine, openFakeSmi, openMachine, smiRow, FOREVER, type Files } from '../support/machines.ts';
import { createMemoryDocuments } from '../support/open-pulls.ts';
import { asNobody } from '../support/nobody.ts';

const HWMON = '/sys/class/drm/card1/device/hwmon/hwmon3';
const CAP = `${HWMON}/power1_cap`;
const opened: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});
const moment = (ms = 60) => new Promise((resolve) => setTimeout(resolve, ms));

interface Given extends Partial<PowerOptions> {
  files?: Files;
  env?: Record<string, string>;
  machine?: ReturnType<typeof openMachine>;
  documents?: ReturnType<typeof createMemoryDocuments>;
}

function open({ files = {}, env = { PATH: '' }, ...options }: Given = {}) {
  const machine =
    options.machine ??
    openMachine({ ...loadMachine('rx-6750-xt'), [`${HWMON}/power1_cap_min`]: '60000000\n', ...files });
  const hardware = openHardware({ root: machine.root, env });
  const entries: LogEntry[] = [];
  const documents = options.documents ?? createMemoryDocuments();
  const power = createPower({
    watts: 100,
    hardware,
    documents,
    log: (entry) => void entries.push(entry),
    root: machine.root,
    env,
    ...options,
    limits: { calm: 20, idle: 40, ...options.limits },
  });
  const close = async () => {
    await power.close();
    hardware.close();
  };
  opened.push({ close: () => close().then(machine.remove) });
  return {
    machine,
    documents,
    power,
    close,
    warnings: () => entries.filter(({ level }) => level === 'warn'),
    runs: (...classes: Class[]) =>
      power.follow(() => ({
        running: classes.map((of) => ({
          runtime: 'r',
          model: 'm',
          caller: '',
          class: of,
          endsAt: 0,
        })) as View['running'],
      })),
    /** Watts, as the card has it now. */
    cap: () => Number(readFileSync(machine.root + CAP, 'utf8')) / 1e6,
  };
}

describe('an AMD card', () => {
  it('is limited while only background work runs, and as it was when anything else does, nothing does, or at the end', async () => {
    const { runs, cap, close } = open();
    runs('background');
    expect(cap()).toBe(203);
    await eventually('it is limited', () => cap() === 100);
    runs('background', 'background');
    await moment();
    expect(cap()).toBe(100);
    runs('background', 'normal');
    await eventually('somebody waits for it', () => cap() === 203);
    runs('background');
    await eventually('it is limited', () => cap() === 100);
    runs();
    await eventually('nothing runs', () => cap() === 203);
    runs('background');
    await eventually('it is limited', () => cap() === 100);
    await close();
    expect(cap()).toBe(203);
    runs('background');
    await moment();
    expect(cap()).toBe(203);
  });

  it('is not limited for a moment, and not set back for one', async () => {
    const { runs, cap } = open({ limits: { calm: 400, idle: 800 } });
    for (let times = 0; times < 5; times++) {
      runs('background');
      await moment(10);
      runs();
    }
    await moment(450);
    expect(cap()).toBe(203);
    runs('background');
    await eventually('it is limited', () => cap() === 100);
    runs();
    await moment(20);
    runs('background');
    await moment(850);
    expect(cap()).toBe(100);
  });

  it('gets what it takes, with a word about it, and never more than it had', async () => {
    const low = open({ watts: 20 });
    low.runs('background');
    await eventually('it is limited', () => low.cap() === 60);
    expect(low.warnings()).toMatchObject([{ message: expect.stringContaining('no limit below 60 W') }]);
    const high = open({ watts: 300 });
    high.runs('background');
    await moment();
    expect([high.cap(), high.warnings()]).toEqual([203, []]);
  });

  it('keeps what somebody else has set meanwhile', async () => {
    const { runs, cap, machine, documents } = open();
    runs('background');
    await eventually('it is limited', () => cap() === 100);
    machine.change({ [CAP]: '150000000\n' });
    runs('interactive');
    await eventually('it is forgotten', () => documents.size() === 0);
    expect(cap()).toBe(150);
  });

  it('is set back after a crash, by the next gateway, whether that limits anything or not', async () => {
    const first = open();
    first.runs('background');
    await eventually('it is limited', () => first.cap() === 100);
    // Another gateway lives: what it has set is its own.
    const { documents } = first;
    const other = await documents.list<{ pid: number }>('power limit', { limit: 1 });
    const written = other.documents[0]!;
    const put = (pid: number) =>
      documents.put([{ kind: 'power limit', id: written.id, owner: 'gateway', value: { ...written.value, pid } }]);
    await put(process.ppid);
    const second = open({ machine: first.machine, documents, watts: undefined });
    await second.power.load();
    expect(second.cap()).toBe(100);
    await put(spawnSync('true').pid);
    await second.power.load();
    expect([second.cap(), documents.size()]).toEqual([203, 0]);
  });

  it('whose power may not be set is told of once, with what helps', async () => {
    const { runs, warnings, machine, documents } = open();
    chmodSync(machine.root, 0o755);
    chmodSync(machine.root + CAP, 0o444);
    await asNobody(async () => {
      for (let times = 0; times < 3; times++) {
        runs('background');
        await moment();
        runs('interactive');
        await moment(20);
      }
    });
    expect(warnings()).toMatchObject([
      { message: expect.stringContaining('may not set'), hint: expect.stringContaining('udev'), cause: 'EACCES' },
    ]);
    expect(documents.size()).toBe(0);
  });

  it('that tells no limit is told of once', async () => {
    const none = open({ files: { [CAP]: '0\n' } });
    none.runs('background');
    await eventually('it is told', () => none.warnings().length === 1);
    none.runs();
    await moment();
    none.runs('background');
    await moment();
    expect(none.warnings()).toMatchObject([{ message: expect.stringContaining('cannot be set here') }]);
  });
});

/** It knows what its limits are, and sets them only for root. */
const SMI = `
case "$*" in
  *--query-gpu=power.limit*) echo "$(cat "$HERE/cap"), 350.00, 100.00, 400.00"; exit 0;;
  *--query-gpu*) ${FOREVER};;
  *-pl*) [ -f "$HERE/root" ] || { echo "Changing power management limit: Insufficient Permissions"; exit 4; }
     echo "$4.00" > "$HERE/cap"; exit 0;;
esac`;

describe('an NVIDIA card', () => {
  function openNvidia(files: Record<string, string>) {
    const smi = openFakeSmi(SMI, { rows: smiRow(), cap: '350.00\n', ...files });
    const folder = smi.env['PATH']!.split(':')[0]!;
    opened.push({ close: smi.remove });
    const machine = openMachine();
    const cap = () => Number(readFileSync(join(folder, 'cap'), 'utf8'));
    return { ...open({ machine, env: smi.env, watts: 150 }), smi, folder, cap };
  }

  it('is limited and set back', async () => {
    const { runs, cap, smi } = openNvidia({ root: '' });
    runs('background');
    await eventually('it is limited', () => cap() === 150);
    runs('interactive');
    await eventually('it is set back', () => cap() === 350);
    expect(smi.starts().filter((line) => line.includes('-pl'))).toEqual(['-i 0 -pl 150', '-i 0 -pl 350']);
  });

  it('is limited by sudo where that needs no password, else told of once with what helps', async () => {
    const { runs, cap, folder, warnings, documents } = openNvidia({});
    writeFileSync(join(folder, 'sudo'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    runs('background');
    await eventually('it is told', () => warnings().length === 1);
    expect(warnings()[0]).toMatchObject({
      hint: expect.stringContaining('sudoers.d'),
      cause: expect.stringContaining('Insufficient'),
    });
    await eventually('it is forgotten', () => documents.size() === 0);
    writeFileSync(
      join(folder, 'sudo'),
      `#!/bin/sh\n[ "$1" = -n ] || exit 1\nshift\ntouch "${folder}/root"\n"$@"\nend=$?\nrm "${folder}/root"\nexit $end\n`,
    );
    runs('interactive');
    runs('background');
    await eventually('it is limited', () => cap() === 150);
    runs();
    await eventually('it is set back', () => cap() === 350);
    await eventually('sudo has ended', () => !existsSync(join(folder, 'root')));
  });
});

it('costs nothing where nothing is set', async () => {
  const { power, cap } = open({ watts: undefined });
  let asked = 0;
  power.follow(() => {
    asked++;
    return { running: [] };
  });
  await moment();
  expect([asked, cap()]).toEqual([0, 203]);
});
