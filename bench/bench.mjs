// What every benchmark needs before it starts: a temporary folder, the two C tools, the mock upstream, free ports; and one request driven.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cells, mockModels, toBody } from './cells.mjs';
import { authorization } from './gateways.mjs';
import { freePorts, onExit, pinSelf, start } from './processes.mjs';

/** Builds the tools and starts the mock; everything it makes is gone when this process ends. Exits where it cannot run. */
export async function openBench() {
  if (process.platform !== 'linux') fail('the benchmark reads /proc and uses epoll: it runs on Linux only');
  if (spawnSync('cc', ['--version']).error)
    fail('the benchmark compiles two small C tools: install a C compiler named cc');
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hono-ai-bench-'));
  onExit(() => fs.rmSync(folder, { recursive: true, force: true }));
  pinSelf();
  for (const tool of ['mock', 'load'])
    execFileSync('cc', ['-O2', '-o', path.join(folder, tool), path.join(import.meta.dirname, 'tools', `${tool}.c`)]);
  const ports = await freePorts(16);
  const upstreamPort = ports.pop();
  const mock = start('driver', path.join(folder, 'mock'), [String(upstreamPort), ...mockModels]);
  const bench = { folder, ports, upstreamPort, mock };
  if (!(await answers(bench, { name: 'mock', port: upstreamPort, paths: { chat: '/v1/chat/completions' } }, 5000)).ok)
    fail('the mock upstream did not start');
  return bench;
}

/** Posts one small chat until it is answered with 200 or the time is up; `why` says what came instead. */
export async function answers(bench, gateway, withinMs, pauseMs = 50, child = undefined) {
  const until = performance.now() + withinMs;
  let why = 'no connection';
  while (performance.now() < until) {
    if (child && child.exitCode !== null) return { ok: false, why: `it ended with exit code ${child.exitCode}` };
    const answer = await ask(gateway, cells[0], withinMs);
    if (answer?.status === 200) return { ok: true };
    if (answer) why = answer.text;
    await sleep(pauseMs);
  }
  return { ok: false, why };
}

/** Posts a cell's request once: the status, and a line that says what came; undefined when nothing did. */
export async function ask(gateway, cell, withinMs) {
  try {
    const answer = await fetch(`http://127.0.0.1:${gateway.port}${gateway.paths[cell.kind]}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization, connection: 'close' },
      body: toBody(cell),
      signal: AbortSignal.timeout(withinMs),
    });
    return { status: answer.status, text: `HTTP ${answer.status} ${(await answer.text()).slice(0, 200)}` };
  } catch {
    return undefined;
  }
}

/** Runs the load driver with the cell's request; resolves to its report, or undefined when it gave none. */
export async function drive(bench, gateway, cell, { connections, requests, seconds }) {
  const file = path.join(bench.folder, `${gateway.name}-${cell.name}.http`);
  fs.writeFileSync(file, toRequest(gateway, cell));
  const amount = requests ? ['-n', String(requests)] : ['-d', String(seconds)];
  const args = ['-p', String(gateway.port), '-f', file, '-c', String(connections), ...amount, '-T', '60'];
  const child = start('driver', path.join(bench.folder, 'load'), args, { stdout: true });
  let report = '';
  child.stdout.on('data', (text) => (report += text));
  await child.ended;
  return report ? JSON.parse(report) : undefined;
}

function toRequest(gateway, cell) {
  const body = toBody(cell);
  return [
    `POST ${gateway.paths[cell.kind]} HTTP/1.1`,
    `Host: 127.0.0.1:${gateway.port}`,
    'User-Agent: bench/1',
    'Accept: */*',
    `Authorization: ${authorization}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    '',
    body,
  ].join('\r\n');
}

function fail(why) {
  console.error(`bench: ${why}`);
  process.exit(1);
}
