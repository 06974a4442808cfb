// The doctor over machines that are made of files: every finding has its line, its fix, and nothing hangs on what hangs.
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { isOlder, type DoctorOptions } from '../../adapters/doctor/check.ts';
import { createDoctor } from '../../adapters/doctor/index.ts';
import { openHardware } from '../../adapters/hardware/index.ts';
import { loadConfig } from '../../adapters/settings.ts';
import type { Finding } from '../../src/doctor.ts';
import { GatewayError } from '../../src/error.ts';
import type { Card, Hardware } from '../../src/hardware.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { openInProcess } from '../support/gateway.ts';

const folders: string[] = [];
const makeFolder = () => {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-doctor-'));
  folders.push(folder);
  return folder;
};
afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

const CARD: Card = {
  id: '0000:03:00.0',
  index: 0,
  vendor: 'amd',
  name: 'Radeon RX 6750 XT',
  kind: 'discrete',
  chosen: true,
  architecture: 'gfx1031',
  driver: null,
  vram: { total: 12_868_124_672, used: 1e9 },
  gtt: { total: 16e9, used: 1e8 },
  busy: 0,
  temperature_c: 40,
  power_w: 10,
  power_cap_w: 250,
  fan_rpm: null,
};

let state: string;
let root: string;
beforeEach(() => {
  state = makeFolder();
  root = makeFolder();
  chmodSync(state, 0o700);
});

function toHardware(cards: Card[], problems: string[] = []): Hardware {
  const machine = { os: 'linux', cpu: { name: 'x', cores: 2, load: 0 }, ram: { total: 1, used: 0 }, container: false };
  const reading = { at: 0, cards, machine, problems };
  return { read: async () => reading, latest: () => reading, history: () => [], start() {}, close() {} };
}

const well: RuntimeAdapter = {
  name: 'well',
  priority: 1,
  models: async () => [],
  handles: {},
  health: async () => ({ version: '1.2.3' }),
};

function open(options: Partial<DoctorOptions> = {}, env: Record<string, string> = {}) {
  // A port where nobody listens: nothing of this machine is to be found by chance.
  const full = { PORT: '0', HF_ENDPOINT: 'http://127.0.0.1:9', HONO_AI_OLLAMA_REGISTRY: 'http://127.0.0.1:9', ...env };
  const { config } = loadConfig(full);
  return createDoctor({
    config,
    env: full,
    stateDir: state,
    cacheDir: join(state, 'models'),
    hardware: toHardware([]),
    runtimes: [well],
    statuses: async () => [{ name: 'well', ok: true, models: 3 }],
    health: async () => ({ ok: true, problems: [] }),
    version: '0.0.0',
    root,
    ...options,
  });
}

async function examine(options: Partial<DoctorOptions> = {}, env?: Record<string, string>, fix = false) {
  const checkup = await open(options, env).examine({ fix, signal: new AbortController().signal });
  const byId = Object.fromEntries(checkup.findings.map((finding) => [finding.id, finding]));
  return { ...checkup, byId: byId as Record<string, Finding | undefined> };
}

describe('a machine that is well', () => {
  it('has findings, none of which failed', async () => {
    const { ok, byId } = await examine();
    expect(ok).toBe(true);
    expect(byId['runtime.well']).toMatchObject({ level: 'ok', message: 'well 1.2.3 answers.' });
    expect(byId['state']!.level).toBe('ok');
    expect(byId['card']).toMatchObject({ level: 'info', message: expect.stringContaining('no card') });
    expect(byId['network.huggingface']).toMatchObject({ level: 'info', fix: expect.stringContaining('HF_ENDPOINT') });
  });
});

describe('the gateway', () => {
  it('mends a state directory that others can read, when it is told to', async () => {
    chmodSync(state, 0o755);
    expect((await examine()).byId['state']).toMatchObject({ level: 'warn', fixable: true, fix: `chmod 700 ${state}` });
    expect(statSync(state).mode & 0o777).toBe(0o755);
    const { byId, fixed } = await examine({}, {}, true);
    expect(fixed).toEqual(['state']);
    expect(byId['state']!.level).toBe('ok');
    expect(statSync(state).mode & 0o777).toBe(0o700);
  });

  it('tells of a port that another program has, and of a store that is ill', async () => {
    const other = createServer((_, response) => response.end('someone else'));
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const port = String((other.address() as AddressInfo).port);
    const health = async () => ({ ok: false, problems: ['The disk is full.'] });
    const { ok, byId } = await examine({ health }, { PORT: port });
    other.close();
    other.closeAllConnections();
    expect(ok).toBe(false);
    expect(byId['port']).toMatchObject({ level: 'fail', fix: expect.stringContaining('PORT=') });
    expect(byId['store']).toMatchObject({ level: 'fail', message: 'The disk is full.' });
  });

  it('knows its own port', async () => {
    const own = createServer((_, response) => response.setHeader('x-hono-ai', '1').end());
    await new Promise<void>((resolve) => own.listen(0, '127.0.0.1', resolve));
    const { byId } = await examine({}, { PORT: String((own.address() as AddressInfo).port) });
    own.close();
    own.closeAllConnections();
    expect(byId['port']!.level).toBe('ok');
  });
});

describe('runtimes', () => {
  const down = (name: string): RuntimeAdapter => ({
    ...well,
    name,
    health: async () => {
      throw new GatewayError('upstream_unavailable', `${name} cannot be reached.`, { hint: `Start ${name}.` });
    },
  });

  it('that were asked for and do not answer fail, with their own remedy', async () => {
    const { byId, ok } = await examine({ runtimes: [well, down('comfyui')] });
    expect(ok).toBe(false);
    expect(byId['runtime.comfyui']).toMatchObject({ level: 'fail', fix: 'Start comfyui.' });
  });

  it('that nobody asked for are no failure: not installed, or installed and started when told to', async () => {
    const bin = makeFolder();
    const PATH = bin;
    expect((await examine({ runtimes: [well, down('ollama')] }, { PATH })).byId['runtime.ollama']).toMatchObject({
      level: 'info',
      fixable: false,
    });
    let up = false;
    const ollama = { ...down('ollama') };
    const refuse = ollama.health;
    ollama.health = async (signal) => {
      up ||= existsSync(join(bin, 'started'));
      return up ? undefined : refuse(signal);
    };
    writeFileSync(
      join(bin, 'ollama'),
      `#!/bin/sh\necho "$1 $HF_TOKEN$HONO_AI_API_KEY $OLLAMA_MODELS" > ${bin}/started\n`,
      { mode: 0o755 },
    );
    expect((await examine({ runtimes: [well, ollama] }, { PATH })).byId['runtime.ollama']).toMatchObject({
      level: 'fail',
      fixable: true,
      fix: 'ollama serve',
    });
    const secrets = { HF_TOKEN: 'hf_1', HONO_AI_API_KEY: 'a-key-of-sixteen-or-more' };
    const { fixed } = await examine({ runtimes: [well, ollama] }, { PATH, OLLAMA_MODELS: 'here', ...secrets }, true);
    expect(fixed).toContain('runtime.ollama');
    expect(readFileSync(join(bin, 'started'), 'utf8')).toBe('serve  here\n');
  });

  it('that are too old are told so, and a machine without any model fails', async () => {
    const old = { ...well, name: 'ollama', health: async () => ({ version: '0.5.7' }) };
    const { byId } = await examine({
      runtimes: [old],
      statuses: async () => [{ name: 'ollama', ok: true, models: 0 }],
    });
    expect(byId['runtime.ollama']).toMatchObject({ level: 'warn', message: expect.stringContaining('older than') });
    expect(byId['models']).toMatchObject({ level: 'fail', fix: expect.stringContaining('hono-ai models pull') });
  });

  it('that never answer do not keep it', { timeout: 60_000 }, async () => {
    const mute = { ...well, name: 'mute', health: () => new Promise<void>(() => {}) };
    const { findings } = await examine({ runtimes: [mute] });
    expect(findings).toContainEqual(expect.objectContaining({ id: 'runtimes', level: 'warn' }));
  });
});

describe('the card', () => {
  it('may be used by this user, or says by which group', async () => {
    mkdirSync(join(root, 'dev/dri'), { recursive: true });
    writeFileSync(join(root, 'dev/kfd'), '');
    writeFileSync(join(root, 'dev/dri/renderD128'), '');
    const hardware = toHardware([CARD]);
    const { byId } = await examine({ hardware });
    expect(byId['card']).toMatchObject({ level: 'ok', message: 'Radeon RX 6750 XT, 12.0 GiB.' });
    expect(byId['card.devices']!.level).toBe('ok');
    expect(byId['card.override']).toMatchObject({ level: 'info', fix: expect.stringContaining('10.3.0') });
    expect((await examine({ hardware }, { HSA_OVERRIDE_GFX_VERSION: '10.3.0' })).byId['card.override']).toBeUndefined();
    rmSync(join(root, 'dev/kfd'));
    expect((await examine({ hardware })).byId['card.devices']).toMatchObject({ level: 'warn' });
  });

  it('that spills into main memory is told', async () => {
    const hardware = toHardware([{ ...CARD, gtt: { total: 16e9, used: 9e9 } }]);
    expect((await examine({ hardware })).byId['card.spill']).toMatchObject({ level: 'warn' });
  });

  it('that is there without a driver is told of by its maker, in the words of whoever looked for it', async () => {
    const device = join(root, 'sys/bus/pci/devices/0000:03:00.0');
    mkdirSync(device, { recursive: true });
    writeFileSync(join(device, 'class'), '0x030000\n');
    writeFileSync(join(device, 'vendor'), '0x1002\n');
    const look = async () => {
      const hardware = openHardware({ root, env: {} });
      const { byId } = await examine({ hardware });
      hardware.close();
      return byId['card'];
    };
    const amd = {
      level: 'warn',
      message: expect.stringContaining('AMD'),
      fix: expect.stringContaining('modprobe amdgpu'),
    };
    expect(await look()).toMatchObject(amd);
    writeFileSync(join(device, 'vendor'), '0x10de\n');
    expect(await look()).toMatchObject({ level: 'warn', fix: expect.stringContaining('modprobe nvidia') });
  });
});

describe('the disk', () => {
  it('is rid of old partial downloads when told to, and of nothing else', async () => {
    const models = join(state, 'models/org/name');
    mkdirSync(models, { recursive: true });
    const old = join(models, 'a.gguf.part');
    const fresh = join(models, 'b.gguf.part');
    const whole = join(models, 'c.gguf');
    mkdirSync(join(state, 'pulls/some-model'), { recursive: true });
    const lost = join(state, 'pulls/some-model/weights.gguf');
    for (const path of [old, fresh, whole, lost]) writeFileSync(path, 'x'.repeat(1000));
    const month = Date.now() / 1000 - 30 * 86_400;
    for (const path of [old, whole, lost]) utimesSync(path, month, month);
    expect((await examine()).byId['disk.partial']).toMatchObject({ level: 'warn', fixable: true });
    expect(existsSync(old)).toBe(true);
    await examine({}, {}, true);
    expect([old, fresh, whole, lost].map((path) => existsSync(path))).toEqual([false, true, true, false]);
  });

  it('tells of folders of models that are not there', async () => {
    const { byId, ok } = await examine({}, { HONO_AI_MODEL_DIRS: `comfyui:${join(root, 'nowhere')}` });
    expect(ok).toBe(false);
    expect(byId['models.comfyui']).toMatchObject({ level: 'fail', fix: expect.stringContaining('HONO_AI_MODEL_DIRS') });
  });
});

it('compares versions as numbers, and takes what is none for nothing', () => {
  expect([isOlder('0.9.0', '0.12.0'), isOlder('0.12.0', '0.12.0'), isOlder('v0.33.0-rc2', '0.12')]).toEqual([
    true,
    false,
    false,
  ]);
  expect(['', 'unknown', '0.0.0'].map((version) => isOlder(version, '1'))).toEqual([false, false, false]);
  expect(isOlder('22.19', '22.19.0')).toBe(false);
});

it('is for the owner alone, over HTTP', async () => {
  const owner = 'the-key-of-the-owner';
  const gateway = await openInProcess({
    env: { HONO_AI_API_KEY: owner, HONO_AI_CALLERS: 'guest:the-key-of-the-guest' },
  });
  try {
    const ask = (key: string, init: RequestInit = {}) =>
      gateway.request('/system/doctor', { ...init, headers: { authorization: `Bearer ${key}` } });
    expect((await ask('the-key-of-the-guest')).status).toBe(403);
    const response = await ask(owner);
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ object: 'checkup', findings: expect.any(Array), fixed: [] });
    expect((await ask(owner, { method: 'POST', body: '{"fix":"yes"}' })).status).toBe(400);
  } finally {
    await gateway.close();
  }
});
