// The container files, as far as they can be tried without a container engine: what they open, need and say, and their scripts, run.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { settings } from '../src/settings.ts';

const root = resolve(import.meta.dirname, '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');

interface Service {
  profiles?: string[];
  image?: string;
  build?: { context: string; dockerfile: string; args?: Record<string, string> };
  ports?: string[];
  networks?: unknown;
  network_mode?: string;
  devices?: string[];
  group_add?: string[];
  security_opt?: string[];
  privileged?: boolean;
  volumes?: string[];
  environment?: Record<string, string>;
  healthcheck?: { test: string[] };
  command?: string[];
}

const composeText = read('infra/docker-compose.yml');
const compose = parse(composeText, { merge: true }) as { services: Record<string, Service>; volumes: object };
const { gateway, pull, ...ollamas } = compose.services as Record<'gateway' | 'pull', Service> & Record<string, Service>;
const rocm = ollamas['ollama-rocm']!;
const vulkan = ollamas['ollama-vulkan']!;

/** `${NAME:-default}` → default; a required one becomes a word. */
const filled = (text: string) => text.replace(/\$\{\w+:-([^}]*)\}/g, '$1').replace(/\$\{\w+:\?[^}]*\}/g, 'required');

describe('docker-compose.yml', () => {
  it('opens one door: the gateway, on loopback unless told otherwise', () => {
    expect(gateway.ports).toEqual(['${GATEWAY_BIND:-127.0.0.1}:${TEXT_PORT:-11000}:8787']);
    expect(gateway.environment!['PORT']).toBe('8787');
    for (const [name, service] of Object.entries(compose.services)) {
      if (name !== 'gateway') expect(service.ports, name).toBeUndefined();
      expect(service.network_mode, name).toBeUndefined();
      expect(service.privileged, name).toBeUndefined();
    }
  });

  it('does not start without a key, because the container listens on every address', () => {
    expect(gateway.environment!['HOST']).toBe('0.0.0.0');
    expect(gateway.environment!['HONO_AI_API_KEY']).toMatch(/^\$\{HONO_AI_API_KEY:\?.+\}$/);
  });

  it('fixes settings that exist, and reaches Ollama by the name that every profile gives it', () => {
    const known = new Set(Object.values(settings).map((setting) => setting.env));
    for (const name of Object.keys(gateway.environment!)) expect(known, name).toContain(name);
    const { hostname, port } = new URL(gateway.environment!['OLLAMA_HOST']!);
    for (const [name, { networks, environment }] of Object.entries(ollamas)) {
      expect(networks, name).toEqual({ private: { aliases: [hostname] } });
      expect(environment!['OLLAMA_HOST'], name).toBe(`0.0.0.0:${port}`);
    }
    expect(pull.environment!['OLLAMA_HOST']).toBe(gateway.environment!['OLLAMA_HOST']);
  });

  it('has exactly one Ollama in each profile, and the pull with it', () => {
    const profiles = Object.values(ollamas).flatMap((service) => service.profiles ?? ['always']);
    expect(profiles.toSorted()).toEqual(['cpu', 'rocm', 'vulkan']);
    expect(pull.profiles!.toSorted()).toEqual(profiles.toSorted());
    expect(gateway.profiles).toBeUndefined();
  });

  it('gives ROCm its devices, numeric groups, override and system calls, and Vulkan only /dev/dri', () => {
    const host = (service: Service) => service.devices!.map((device) => device.split(':')[0]);
    expect(host(rocm)).toEqual(['/dev/kfd', '/dev/dri']);
    expect(host(vulkan)).toEqual(['/dev/dri']);
    for (const service of [rocm, vulkan]) {
      expect(service.group_add).toHaveLength(2);
      for (const group of service.group_add!) {
        expect(group).toMatch(/^\$\{(VIDEO|RENDER)_GID:-/);
        expect(filled(group)).toMatch(/^\d+$/);
      }
    }
    expect(filled(rocm.environment!['HSA_OVERRIDE_GFX_VERSION']!)).toBe('10.3.0');
    expect(rocm.security_opt).toEqual(['seccomp=unconfined']);
    expect(vulkan.environment).not.toHaveProperty('HSA_OVERRIDE_GFX_VERSION');
    expect(vulkan.security_opt).toBeUndefined();
  });

  it('checks health with what the images hold', () => {
    for (const [name, { healthcheck }] of Object.entries(ollamas)) {
      expect(healthcheck!.test, name).toEqual(['CMD', 'ollama', 'list']);
    }
    expect(composeText.replace(/#.*/g, '')).not.toMatch(/\b(curl|wget)\b/);
  });

  it('keeps state in volumes that it declares, and pins every image', () => {
    const used = Object.values(compose.services).flatMap((service) => service.volumes ?? []);
    expect(Object.keys(compose.volumes)).toEqual(expect.arrayContaining(used.map((volume) => volume.split(':')[0])));
    expect(used.length).toBeGreaterThan(2);
    const images = Object.values(compose.services).flatMap(({ image, build }) => [
      image,
      ...Object.values(build?.args ?? {}),
    ]);
    for (const image of images) expect(filled(image!)).toMatch(/:(?!latest$)[\w.-]+$/);
  });

  it('builds from files that are there', () => {
    for (const { build } of Object.values(compose.services)) {
      if (build) expect(existsSync(join(root, 'infra', build.context, build.dockerfile)), build.dockerfile).toBe(true);
    }
  });
});

describe('compose.env.example', () => {
  const example = read('infra/compose.env.example');
  const documented = new Map([...example.matchAll(/^(?:# )?([A-Z_]+)=(.*)$/gm)].map((match) => [match[1]!, match[2]!]));
  const used = new Map(
    [...composeText.matchAll(/\$\{(\w+)(?::[-?]([^}]*))?\}/g)].map((match) => [match[1]!, match[2] ?? '']),
  );

  it('documents every variable of the compose file, with its default, and no other', () => {
    expect([...documented.keys()].toSorted()).toEqual([...used.keys(), 'COMPOSE_PROFILES'].toSorted());
    for (const [name, value] of used) {
      if (name !== 'HONO_AI_API_KEY') expect(documented.get(name), name).toBe(value);
    }
  });

  it('suggests a profile that exists and holds no key', () => {
    expect(Object.values(ollamas).flatMap((service) => service.profiles)).toContain(documented.get('COMPOSE_PROFILES'));
    expect(documented.get('HONO_AI_API_KEY')).toBe('');
  });
});

describe('gateway.Dockerfile', () => {
  const text = read('infra/gateway.Dockerfile');
  const copied = [...text.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap((match) => match[1]!.split(' '));

  it('copies what exists, and the ignore file lets it through and keeps secrets out', () => {
    const ignore = read('infra/gateway.Dockerfile.dockerignore').split('\n');
    expect(ignore.find((line) => line && !line.startsWith('#'))).toBe('*');
    for (const path of copied) {
      expect(existsSync(join(root, path)), path).toBe(true);
      expect(ignore).toContain(`!${path}`);
    }
    expect(
      ignore
        .filter((line) => line.startsWith('!'))
        .map((line) => line.slice(1))
        .toSorted(),
    ).toEqual([...new Set(copied)].toSorted());
  });

  it('copies every folder that the program imports from', () => {
    const folders = copied.filter((path) => !path.includes('.'));
    const sources = folders.flatMap((folder) => globSync(`${folder}/**/*.{ts,mjs}`, { cwd: root }));
    expect(sources.length).toBeGreaterThan(20);
    for (const source of sources) {
      for (const [, target] of read(source).matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)) {
        const path = relative(root, resolve(root, dirname(source), target!));
        expect(
          copied.some((each) => path === each || path.startsWith(`${each}/`)),
          `${source} imports ${path}`,
        ).toBe(true);
      }
    }
  });

  it('runs as nobody special, from an entry that exists', () => {
    expect(text).toMatch(/^USER node$/m);
    const entry = JSON.parse(/^CMD (\[.*\])$/m.exec(text)![1]!) as string[];
    expect(entry).toEqual(['node', 'cli/main.ts', 'serve']);
    expect(existsSync(join(root, entry[1]!))).toBe(true);
  });

  it('is healthy when /health says so, and only then', async () => {
    const command = JSON.parse(/HEALTHCHECK[\s\S]*?CMD (\[.*\])/.exec(text)![1]!) as string[];
    let status = 200;
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(request.url!);
      response.writeHead(status).end();
    });
    const port = await listen(server);
    const probe = async () => (await run(process.execPath, command.slice(1), { PORT: String(port) })).code;
    expect(await probe()).toBe(0);
    status = 503;
    expect(await probe()).toBe(1);
    expect(asked).toEqual(['/health', '/health']);
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
    expect(await probe()).toBe(1);
  }, 20_000);
});

describe('scripts', () => {
  let folder: string;
  let card = { size: 2000, size_vram: 2000 };
  let loaded: string | undefined;
  let port: number;
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += String(chunk)));
    request.on('end', () => {
      if (request.url === '/api/generate') loaded = (JSON.parse(body) as { model: string }).model;
      const models = loaded ? [{ name: loaded, size: card.size, digest: 'x', size_vram: card.size_vram }] : [];
      response.end(JSON.stringify(request.url === '/api/ps' ? { models } : { done: true }));
    });
  });

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'hono-ai-infra-'));
    // Stands in for Ollama's own command: lists from a file, notes what it is told to pull, fails for `missing`.
    const fake = `#!/bin/sh
case "$1" in
  list) [ -f "$FAKE/up" ] && cat "$FAKE/list" ;;
  pull) echo "$2" >> "$FAKE/pulled"; [ "$2" != missing ] ;;
esac
`;
    writeFileSync(join(folder, 'ollama'), fake);
    chmodSync(join(folder, 'ollama'), 0o755);
    writeFileSync(join(folder, 'up'), '');
    writeFileSync(
      join(folder, 'list'),
      'NAME ID SIZE MODIFIED\nbig:8b a1 5.2 GB 2 days ago\nsmall:1b a2 900 MB 2 days ago\n',
    );
    port = await listen(server);
  });

  afterAll(async () => {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
    rmSync(folder, { recursive: true });
  });

  const env = (more: Record<string, string>) => ({ FAKE: folder, PATH: `${folder}:${process.env['PATH']}`, ...more });
  const check = (more: Record<string, string> = {}) =>
    run('bash', [join(root, 'infra/rocm/gpu-check.sh')], {
      ...env({
        OLLAMA_HOST: `0.0.0.0:${port}`,
        GPU_CHECK_DEVICE: '/dev/null',
        GPU_CHECK_PAUSE: '0.1',
        GPU_CHECK_SECONDS: '8',
        ...more,
      }),
    });

  it('gpu-check loads the smallest model and is content when it is on the card', async () => {
    [loaded, card] = [undefined, { size: 2000, size_vram: 2000 }];
    const { code, stdout, stderr } = await check();
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain('on the GPU (2000 bytes)');
    expect(loaded).toBe('small:1b');
  });

  it('gpu-check shouts when the card was not taken, and says what to do', async () => {
    [loaded, card] = [undefined, { size: 2000, size_vram: 0 }];
    const { code, stderr } = await check({ HSA_OVERRIDE_GFX_VERSION: '9.0.0' });
    expect(code).toBe(1);
    expect(stderr).toMatch(/!{60}/);
    expect(stderr).toContain('The GPU was NOT taken');
    expect(stderr).toContain("'9.0.0'");
    expect(stderr).toContain('COMPOSE_PROFILES=vulkan');
  });

  it('gpu-check tells a model that is only partly on the card', async () => {
    [loaded, card] = [undefined, { size: 2000, size_vram: 1500 }];
    const { code, stderr } = await check();
    expect(code).toBe(2);
    expect(stderr).toContain('Only 75 %');
  });

  it('gpu-check says that the device is missing, and gives up where no model comes', async () => {
    loaded = undefined;
    writeFileSync(join(folder, 'list'), 'NAME ID SIZE MODIFIED\n');
    const { code, stderr } = await check({ GPU_CHECK_DEVICE: '/dev/no-kfd', GPU_CHECK_SECONDS: '1' });
    expect(code).toBe(3);
    expect(stderr).toContain('/dev/no-kfd is missing');
    expect(stderr).toContain('RENDER_GID');
  });

  it('pull takes every model that is named, and fails when one does', async () => {
    // Compose itself turns $$ into $.
    const script = pull.command![0]!.replaceAll('$$', '$');
    const models = (list: string) => run('sh', ['-c', script], env({ MODELS: list }));
    expect((await models('a:1b, b:2b  c')).code).toBe(0);
    expect(readFileSync(join(folder, 'pulled'), 'utf8')).toBe('a:1b\nb:2b\nc\n');
    expect((await models('missing,d')).code).toBe(1);
    expect(readFileSync(join(folder, 'pulled'), 'utf8')).toContain('missing\nd\n');
  });
});

async function run(command: string, args: string[], env: Record<string, string>) {
  const child = spawn(command, args, {
    env: { PATH: process.env['PATH']!, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += String(chunk)));
  child.stderr.on('data', (chunk: Buffer) => (stderr += String(chunk)));
  const [code] = (await once(child, 'close')) as [number];
  return { code, stdout, stderr };
}

async function listen(server: ReturnType<typeof createServer>): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}
