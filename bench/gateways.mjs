// The servers under test: ours, nginx as the physical limit, and bare Hono as what one would write in an afternoon.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { start } from './processes.mjs';

const root = path.resolve(import.meta.dirname, '..');
const anchor = (file) => path.join(import.meta.dirname, 'anchors', file);
const apiKey = 'sk-bench-0123456789';
export const authorization = `Bearer ${apiKey}`;

// Bun's fetch opens 256 connections at most unless told otherwise, which would queue most of 1000 streams.
const bunLimit = { BUN_CONFIG_MAX_HTTP_REQUESTS: '65535' };
const hosts = [
  { name: 'node', command: installed('node/bin/node') ?? process.execPath, args: [], env: {} },
  { name: 'bun', command: installed('bun/bin/bun.exe') ?? onPath('bun'), args: ['run'], env: bunLimit },
  { name: 'deno', command: installed('deno/deno') ?? onPath('deno'), args: ['run', '-A', '--no-lock'], env: {} },
];

/**
 * All gateways that this machine can start, and the names and reasons of those left out. `paths` says where each kind of cell
 * goes; without the key the gateway does not do it. `launch()` starts it afresh; `direct` is the mock itself and has none.
 */
export function gatewaysFor({ folder, upstreamPort, ports }) {
  const upstream = `http://127.0.0.1:${upstreamPort}`;
  const list = [{ name: 'direct', port: upstreamPort, paths: { chat: '/v1/chat/completions' } }];
  const leftOut = [];
  const add = (name, paths, missing, toStart) => {
    if (missing) {
      leftOut.push(`${name} (${missing})`);
      return;
    }
    const port = ports.pop();
    const { command, args, env } = toStart(port);
    const log = path.join(folder, `${name}.log`);
    list.push({ name, port, paths, log, launch: () => start('gateway', command, args, { env, cwd: root, log }) });
  };

  const nginx = onPath('nginx');
  add('nginx', { chat: '/v1/chat/completions' }, nginx ? '' : 'nginx is not on PATH', (port) =>
    nginxOn(nginx, folder, port, upstreamPort),
  );
  for (const host of hosts) {
    const paths = { chat: '/v1/chat/completions', ollama: '/ollama/v1/chat/completions' };
    add(`hono-${host.name}`, paths, missingHost(host), (port) => ({
      command: host.command,
      args: [...host.args, anchor('hono-proxy.mjs')],
      env: { ...host.env, PORT: port, UPSTREAM: upstream },
    }));
  }
  const cli = path.join(root, 'cli', 'main.ts');
  for (const host of hosts) {
    const paths = { chat: '/v1/chat/completions', ollama: '/v1/chat/completions' };
    const missing = fs.existsSync(cli) ? missingHost(host) : 'no cli/main.ts';
    add(host.name === 'node' ? 'ours' : `ours-${host.name}`, paths, missing, (port) => ({
      command: host.command,
      args: [...host.args, cli, 'serve'],
      env: { ...host.env, ...ourEnv(folder, host.name, port, upstream) },
    }));
  }
  return { list, leftOut };
}

/** The smallest server of each host, to compare a cold start with. */
export function bareServersFor({ folder, ports }) {
  return hosts
    .filter((host) => host.command)
    .map((host) => {
      const port = ports.pop();
      const name = `bare-${host.name}`;
      const args = [...host.args, anchor('bare-server.mjs')];
      const options = { env: { PORT: port }, cwd: root, log: path.join(folder, `${name}.log`) };
      return { name, port, paths: { chat: '/' }, launch: () => start('gateway', host.command, args, options) };
    });
}

function ourEnv(folder, host, port, upstream) {
  const state = fs.mkdtempSync(path.join(folder, `state-${host}-`));
  const config = path.join(folder, 'config.yaml');
  fs.writeFileSync(
    config,
    `runtimes:
  - { name: mock, kind: openai, url: "${upstream}/v1" }
  - { name: ollama, kind: ollama, url: "${upstream}" }
`,
  );
  return {
    HOST: '127.0.0.1',
    PORT: port,
    HONO_AI_CONFIG: config,
    HONO_AI_STATE_DIR: state,
    HONO_AI_API_KEY: apiKey,
    HONO_AI_DISCOVER: 'false',
    // Room for all of the mock's models at once: evicting them is not what is measured.
    HONO_AI_VRAM: '64GB',
    HONO_AI_LOG_LEVEL: 'error',
  };
}

function nginxOn(command, folder, port, upstreamPort) {
  const prefix = path.join(folder, 'nginx');
  fs.mkdirSync(prefix);
  const config = fs
    .readFileSync(anchor('nginx.conf.tpl'), 'utf8')
    .replaceAll('@PORT@', String(port))
    .replaceAll('@UPSTREAM@', String(upstreamPort))
    .replaceAll('@DIR@', prefix);
  fs.writeFileSync(path.join(prefix, 'nginx.conf'), config);
  return { command, args: ['-p', prefix, '-c', path.join(prefix, 'nginx.conf')], env: {} };
}

function missingHost(host) {
  return host.command ? '' : `${host.name} is not installed`;
}

function installed(file) {
  const at = path.join(root, 'node_modules', file);
  return fs.existsSync(at) ? at : undefined;
}

function onPath(name) {
  const folders = [...(process.env.PATH ?? '').split(path.delimiter), '/usr/sbin'];
  const found = folders.map((folder) => path.join(folder, name)).find((file) => fs.existsSync(file));
  return found && spawnSync(found, ['-v']).error === undefined ? found : undefined;
}
